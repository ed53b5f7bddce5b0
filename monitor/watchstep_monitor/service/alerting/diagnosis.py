"""What is wrong with a run and how far it has come: told of an incident at its edges.

A healthy update never comes here. At an edge the newest updates are read back from the store,
so that no run has to keep them in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from watchstep.core.diagnosis import NOT_ENOUGH, Cause, conditions, diagnose
from watchstep.core.stages import Story, story
from watchstep.core.updates import TRAINING, Action, Transition, Update
from watchstep_monitor.service.run_state.records import (
    SEVERITIES,
    STAGES,
    AlertRecord,
    IncidentRecord,
    RunRecord,
)
from watchstep_monitor.service.run_state.run_cache import LiveRun
from watchstep_monitor.service.run_state.unit_of_work import UnitOfWork

log = logging.getLogger(__name__)

HISTORY_UPDATES = 300
"""Updates that a diagnosis looks at; reading and weighing them takes up to 25 ms."""

AGAIN_UPDATES = 10
"""Least updates between two diagnoses of one incident without worse news: an alert that comes
and goes with every update must not hold up everyone's commits."""

CONDITION_UPDATES = 50
"""Updates of a well run between two looks at what it may turn into: it takes as long as a
diagnosis, and what is looked for lasts for dozens of updates."""

MOST_TOLD = 5
"""Causes kept with an incident, likeliest first."""


def diagnosed(change: UnitOfWork, incident: IncidentRecord, *, worse: bool) -> IncidentRecord:
    """The incident with its causes, stages and bounds as the newest updates tell them.

    Args:
        change: Whose run; its newest update is the last one looked at.
        worse: Whether it opened just now, grew worse, or the run ended; else it may be too
            soon to look again.
    """
    record, before = change.live.record, change.live.diagnosed
    if incident.attempt != record.attempt:
        return incident
    if not worse and record.last_seq - incident.diagnosed_seq < AGAIN_UPDATES:
        return incident
    if before is not None and before.id != incident.id and _is_fresh(before, incident, record):
        return replace(
            incident,
            diagnosis=before.diagnosis,
            confidence=before.confidence,
            causes=before.causes,
            diagnosed_seq=before.diagnosed_seq,
        )
    incident = replace(incident, diagnosed_seq=record.last_seq)
    history = change.newest(HISTORY_UPDATES)
    if not history or history[0].seq > incident.first_bad:
        # Its beginning has left what is looked at, and with it the reasons.
        return incident
    alerts = list(_transitions(change.live))
    try:
        causes = diagnose(change.live.rules, history, alerts)
        story_so_far = story(change.live.rules, alerts, history)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        # Readings are anyone's numbers: a diagnosis that stumbles over them must not keep an
        # update from being stored or an alert from being told.
        log.exception("an incident could not be diagnosed", extra={"run": incident.run})
        return incident
    incident = _with_story(_with_causes(incident, causes), story_so_far, history)
    change.live.diagnosed = incident
    return incident


def note_condition(change: UnitOfWork) -> None:
    """Note in the timeline of a well run what may turn into an incident, once while it lasts."""
    live = change.live
    newest = live.record.last_seq
    if newest < live.condition_seq:
        live.condition, live.condition_seq = "", 0  # another attempt
    if live.incident is not None or newest - live.condition_seq < CONDITION_UPDATES:
        return
    live.condition_seq = newest
    if not any(live.rules.role(name) == "reward" for name in live.training.latest):
        return
    try:
        condition = next(iter(conditions(live.rules, change.newest(HISTORY_UPDATES))), None)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        log.exception("a run's condition could not be told", extra={"run": live.record.run})
        return
    name = condition.name if condition else ""
    if condition is not None and name != live.condition:
        text = f"{condition.title}. {condition.watch}"
        change.tell("event", {"kind": "log", "level": "info", "text": text, "condition": name})
    live.condition = name


def _is_fresh(before: IncidentRecord, incident: IncidentRecord, record: RunRecord) -> bool:
    """Whether the incident before was as bad and diagnosed only just now."""
    return (
        before.attempt == record.attempt
        and record.last_seq - before.diagnosed_seq < AGAIN_UPDATES
        and SEVERITIES.index(before.worst) >= SEVERITIES.index(incident.worst)
    )


def _with_causes(incident: IncidentRecord, causes: Sequence[Cause]) -> IncidentRecord:
    best = causes[0]
    is_named = best.name != NOT_ENOUGH
    return replace(
        incident,
        diagnosis=best.title if is_named else "",
        confidence=best.confidence if is_named else 0.0,
        causes=tuple(_cause_json(cause) for cause in causes[:MOST_TOLD]),
    )


def _cause_json(cause: Cause) -> dict[str, Any]:
    return {
        "cause": cause.name,
        "kind": cause.kind,
        "title": cause.title,
        "confidence": cause.confidence,
        "evidence": list(cause.evidence),
        "against": list(cause.against),
        "page": cause.page,
    }


def _with_story(
    incident: IncidentRecord, story: Story, history: Sequence[Update]
) -> IncidentRecord:
    first_bad = story.first_bad_update
    if first_bad is None:
        return incident
    good = incident.last_good if story.last_good_update is None else story.last_good_update
    step = next((update.step for update in history if update.seq == first_bad), None)
    phases = tuple(
        {
            "stage": phase.stage,
            "first_update": phase.first_update,
            "last_update": phase.last_update,
        }
        for phase in story.phases
    )
    stage = story.phases[-1].stage if story.phases else incident.stage
    return replace(
        incident,
        stage=max(stage, incident.stage, key=STAGES.index),
        first_bad=first_bad,
        first_bad_step=incident.first_bad_step if step is None else step,
        # Where the first update was bad already, none was good.
        last_good=good if good is not None and good < first_bad else None,
        damage=story.damage_update,
        phases=phases,
    )


def _transitions(live: LiveRun) -> Iterable[Transition]:
    """The incident's alerts of the training as the transitions that they were, in their order."""
    place = (live.record.attempt, TRAINING)
    members = [alert for alert in live.members.values() if (alert.attempt, alert.source) == place]
    fired = [(_fired_at(live, alert), alert) for alert in members if alert.state != "pending"]
    fired.sort(key=lambda pair: pair[0])
    for seq, alert in fired:
        yield Transition(
            rule=alert.rule,
            change="firing",
            attempt=alert.attempt,
            seq=seq,
            step=0,
            time=alert.since.timestamp(),
            metric=alert.metric,
            reading=alert.reading,
            reason=alert.reason,
            severity=alert.severity,
            action=Action[alert.action.upper()],
            subject=alert.subject,
        )


def _fired_at(live: LiveRun, alert: AlertRecord) -> int:
    """The update at which an alert fired; a resolved one remembers only when it began."""
    if alert.state == "firing":
        return alert.last_seq
    at = live.rules.index.get(alert.rule)
    waited = (live.rules.rules[at].hold.updates or 1) - 1 if at is not None else 0
    return min(alert.first_seq + waited, alert.last_seq)
