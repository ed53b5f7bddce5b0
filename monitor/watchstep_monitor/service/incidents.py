"""Incidents: one open at a time per run, with its stage, its first bad update and its cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from watchstep_monitor.service.change import Change
from watchstep_monitor.service.records import (
    STAGES,
    AlertRecord,
    IncidentRecord,
    Stage,
    short_id,
)
from watchstep_monitor.service.status import shows_divergence
from watchstep_monitor.service.telling import (
    TellingPolicy,
    inhibited,
    rank,
    tell_if_due,
    tell_resolved,
)


def fold_incident(change: Change, edges: Sequence[AlertRecord], policy: TellingPolicy) -> None:
    """Let alerts that began or ceased to fire open, change or resolve the run's incident."""
    before = change.live.incident
    for alert in edges:
        if alert.state == "firing":
            _join(change, alert, policy)
    _advance_stage(change, opened=before is None)
    tell_if_due(change, policy)
    incident = change.live.incident
    firing = any(alert.state == "firing" for alert in change.live.alerts.values())
    if incident is not None and not firing:
        over = replace(incident, state="resolved", resolved_at=change.now, due_at=None, due_edge="")
        change.keep_incident(tell_resolved(change, policy, over))


def _join(change: Change, alert: AlertRecord, policy: TellingPolicy) -> None:
    incident = change.live.incident
    if incident is None:
        incident = _opened(change, alert, policy)
    else:
        incident = _grown(change, incident, alert, policy)
    change.keep_incident(incident)
    change.keep_alert(replace(alert, incident=incident.id))
    change.keep_incident(_diagnosed(change, incident))


def _opened(change: Change, alert: AlertRecord, policy: TellingPolicy) -> IncidentRecord:
    record = change.live.record
    return IncidentRecord(
        id=short_id("in", record.run, alert.id),
        run=record.run,
        project=record.project,
        attempt=alert.attempt,
        state="open",
        stage="early signs",
        opened_at=change.now,
        first_bad=alert.first_seq,
        first_bad_step=record.step,
        last_good=alert.first_seq - 1 if alert.first_seq > 1 else None,
        worst=alert.severity,
        due_at=change.now + timedelta(seconds=policy.group_wait_s),
        due_edge="opened",
    )


def _grown(
    change: Change, incident: IncidentRecord, alert: AlertRecord, policy: TellingPolicy
) -> IncidentRecord:
    rises = rank(alert.severity) > rank(incident.worst)
    grown = replace(incident, worst=alert.severity) if rises else incident
    if incident.attempt == alert.attempt and alert.first_seq < incident.first_bad:
        good = alert.first_seq - 1 if alert.first_seq > 1 else None
        grown = replace(grown, first_bad=alert.first_seq, last_good=good)
    if inhibited(change.live, alert):
        return grown
    due = _change_due(change.now, incident, policy, rises=rises)
    if incident.due_at is not None and incident.due_edge != "repeat":
        # A message is on its way already; it will tell of this alert too.
        return replace(grown, due_at=min(incident.due_at, due))
    return replace(grown, due_at=due, due_edge="changed")


def _change_due(
    now: datetime, incident: IncidentRecord, policy: TellingPolicy, *, rises: bool
) -> datetime:
    due = now + timedelta(seconds=policy.group_wait_s)
    if rises or incident.noticed_at is None:
        return due
    return max(due, incident.noticed_at + timedelta(seconds=policy.group_interval_s))


def _diagnosed(change: Change, incident: IncidentRecord) -> IncidentRecord:
    """The cause that the worst, then earliest, alert with one names.

    A rule can say in its label `confidence` how sure its cause is; without one a critical
    rule's counts as even odds and a milder one's as less.
    """
    firing = [alert for alert in change.live.members.values() if alert.state == "firing"]
    firing.sort(key=lambda alert: (-rank(alert.severity), alert.first_seq))
    for alert in firing:
        cause = alert.annotations.get("cause", "")
        if cause:
            return replace(incident, diagnosis=cause, confidence=_confidence(alert))
    return incident


def _confidence(alert: AlertRecord) -> float:
    try:
        stated = float(alert.labels.get("confidence", ""))
    except ValueError:
        return 0.5 if alert.severity == "critical" else 0.3
    return stated if 0.0 <= stated <= 1.0 else 0.5


def _advance_stage(change: Change, *, opened: bool) -> None:
    incident = change.live.incident
    if incident is None:
        return
    stage = max(_stage(change, incident), incident.stage, key=STAGES.index)
    if opened or stage != incident.stage:
        change.keep_incident(replace(incident, stage=stage))
        change.tell("stage", {"incident": incident.id, "stage": stage})


def _stage(change: Change, incident: IncidentRecord) -> Stage:
    live = change.live
    if live.record.ended_at is not None or live.record.attempt > incident.attempt:
        return "aftermath"
    firing = [alert for alert in live.alerts.values() if alert.state == "firing"]
    if live.bad_core or any(shows_divergence(alert) for alert in firing):
        return "divergence"
    if any(alert.severity == "critical" for alert in firing):
        return "explosion"
    return "early signs"
