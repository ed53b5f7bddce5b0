"""Incidents: one open at a time per run, with its stage, its first bad update and its causes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from watchstep.core.updates import TRAINING
from watchstep_monitor.service.alerting.diagnosis import diagnosed
from watchstep_monitor.service.alerting.notifications import (
    TellingPolicy,
    counts,
    inhibited,
    is_silent,
    rank,
    tell_resolved,
)
from watchstep_monitor.service.run_state.records import (
    STAGES,
    AlertRecord,
    IncidentRecord,
    Stage,
    short_id,
)
from watchstep_monitor.service.run_state.unit_of_work import UnitOfWork


def fold_incident(change: UnitOfWork, edges: Sequence[AlertRecord], policy: TellingPolicy) -> None:
    """Let alerts that began or ceased to fire open, change or resolve the run's incident.

    Alerts of severity info are kept with an incident that others opened, and neither open one,
    nor keep one open, nor cause a message. What is due is told by `tell_if_due` at the end of
    the change, so that one message says all that the change knows; only what is over is told here.
    """
    before = change.live.incident
    # The worst first: it opens the incident, and milder ones join it.
    for alert in sorted(edges, key=lambda alert: -rank(alert.severity)):
        if alert.state == "firing":
            _join(change, alert, policy)
    if before is None and change.live.incident is not None:
        _take_in_infos(change, change.live.incident)
    _look_again(change, before, edges)
    _advance_stage(change, before)
    incident = change.live.incident
    firing = any(alert.state == "firing" and counts(alert) for alert in change.live.alerts.values())
    if incident is not None and not firing:
        over = replace(incident, state="resolved", resolved_at=change.now, due_at=None, due_edge="")
        change.keep_incident(tell_resolved(change, policy, over))


def note_halt(change: UnitOfWork, policy: TellingPolicy) -> None:
    """Let those who were told of the incident hear that its trainer stopped."""
    incident = change.live.incident
    if incident is None or not incident.told:
        return
    if incident.due_at is not None and incident.due_edge != "repeat":
        return
    due = _change_due(change.now, incident, policy, rises=False)
    change.keep_incident(replace(incident, due_at=due, due_edge="changed"))


def _join(change: UnitOfWork, alert: AlertRecord, policy: TellingPolicy) -> None:
    incident = change.live.incident
    if incident is not None:
        incident = _grown(change, incident, alert, policy)
    elif counts(alert):
        incident = _opened(change, alert, policy)
    else:
        return
    change.keep_incident(incident)
    change.keep_alert(replace(alert, incident=incident.id))


def _take_in_infos(change: UnitOfWork, incident: IncidentRecord) -> None:
    """What was noticed before belongs to the picture."""
    for alert in list(change.live.alerts.values()):
        if alert.state == "firing" and alert.incident != incident.id:
            change.keep_alert(replace(alert, incident=incident.id))


def _look_again(
    change: UnitOfWork, before: IncidentRecord | None, edges: Sequence[AlertRecord]
) -> None:
    incident = change.live.incident
    if incident is None:
        return
    further = STAGES.index(_stage(change, incident)) > STAGES.index(incident.stage)
    # What ceases to fire is no evidence of a cause.
    if not further and not any(counts(alert) and alert.state == "firing" for alert in edges):
        return
    worse = further or before is None or rank(incident.worst) > rank(before.worst)
    change.keep_incident(diagnosed(change, incident, worse=worse))


def _opened(change: UnitOfWork, alert: AlertRecord, policy: TellingPolicy) -> IncidentRecord:
    record = change.live.record
    first_bad = _first_bad(change, alert)
    return IncidentRecord(
        id=short_id("in", record.run, alert.id),
        run=record.run,
        project=record.project,
        attempt=alert.attempt,
        state="open",
        stage="early signs",
        opened_at=change.now,
        first_bad=first_bad,
        first_bad_step=record.step,
        last_good=first_bad - 1 if first_bad > 1 else None,
        worst=alert.severity,
        due_at=change.now + timedelta(seconds=policy.group_wait_s),
        due_edge="opened",
    )


def _grown(
    change: UnitOfWork, incident: IncidentRecord, alert: AlertRecord, policy: TellingPolicy
) -> IncidentRecord:
    rises = rank(alert.severity) > rank(incident.worst)
    grown = replace(incident, worst=alert.severity) if rises else incident
    first_bad = _first_bad(change, alert)
    if incident.attempt == alert.attempt and first_bad < incident.first_bad:
        good = first_bad - 1 if first_bad > 1 else None
        grown = replace(grown, first_bad=first_bad, last_good=good)
    if not counts(alert) or inhibited(change.live, alert):
        return grown
    due = _change_due(change.now, incident, policy, rises=rises)
    if incident.due_at is not None and incident.due_edge != "repeat":
        # A message is on its way already; it will tell of this alert too.
        return replace(grown, due_at=min(incident.due_at, due))
    return replace(grown, due_at=due, due_edge="changed")


def _first_bad(change: UnitOfWork, alert: AlertRecord) -> int:
    """The training's update at which an alert began: incidents count in those alone."""
    return alert.first_seq if alert.source == TRAINING else change.live.record.last_seq


def _change_due(
    now: datetime, incident: IncidentRecord, policy: TellingPolicy, *, rises: bool
) -> datetime:
    due = now + timedelta(seconds=policy.group_wait_s)
    if rises or incident.noticed_at is None:
        return due
    return max(due, incident.noticed_at + timedelta(seconds=policy.group_interval_s))


def _advance_stage(change: UnitOfWork, before: IncidentRecord | None) -> None:
    incident = change.live.incident
    if incident is None:
        return
    stage = max(_stage(change, incident), incident.stage, key=STAGES.index)
    if before is None or stage != before.stage:
        change.keep_incident(replace(incident, stage=stage))
        change.tell("stage", {"incident": incident.id, "stage": stage})


def _stage(change: UnitOfWork, incident: IncidentRecord) -> Stage:
    live = change.live
    if live.record.ended_at is not None or live.record.attempt > incident.attempt:
        return "aftermath"
    if is_silent(live):
        return "aftermath"
    health = live.health()
    if health == "diverged":
        return "divergence"
    return "explosion" if health == "exploded" else "early signs"
