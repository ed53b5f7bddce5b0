"""Who is told what about an incident: notices and their rows in the outbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from watchstep.core.rules import filled
from watchstep.core.updates import TRAINING, Severity
from watchstep_monitor.service.alerting.links import LinkSigner
from watchstep_monitor.service.alerting.notice import notice_to_json
from watchstep_monitor.service.alerting.silences import labels_of, matches, silencing
from watchstep_monitor.service.ports import AlertView, Edge, Notice, RunStatus
from watchstep_monitor.service.run_state.records import (
    SEVERITIES,
    AlertRecord,
    IncidentRecord,
    Matcher,
    NewDelivery,
    SilenceRecord,
    short_id,
)
from watchstep_monitor.service.run_state.rulebook import former_names, rule_named
from watchstep_monitor.service.run_state.run_cache import LiveRun
from watchstep_monitor.service.run_state.unit_of_work import UnitOfWork
from watchstep_monitor.settings.schema import RunEdge

EVENTS_BACK = 20
"""Updates that are looked at for the words of a trainer that died; it says nothing after them."""

MOST_ALERTS = 50
"""Alerts in one message; the worst come first, and no one reads more."""


@dataclass(frozen=True, slots=True)
class Route:
    """Which incidents a receiver hears of, and which steps of a run's life."""

    receiver: str
    min_severity: Severity = "warning"
    matchers: tuple[Matcher, ...] = ()
    notify_on: tuple[RunEdge, ...] = ()


@dataclass(frozen=True, slots=True)
class TellingPolicy:
    """When and whom to tell; times in seconds.

    Attributes:
        routes: Gives the receivers of now; one that is gone is no longer among them.
        silences: Gives the silences of now, those of other replicas too.
        base_url: Without a slash at its end, for links.
        signer: Makes the links that act; None for none.
    """

    group_wait_s: float
    group_interval_s: float
    repeat_interval_s: float
    routes: Callable[[], Iterable[Route]]
    silences: Callable[[], Iterable[SilenceRecord]]
    base_url: str
    signer: LinkSigner | None = None


def rank(severity: Severity) -> int:
    """0 for the mildest."""
    return SEVERITIES.index(severity)


def counts(alert: AlertRecord) -> bool:
    """Whether an alert can open an incident and be a reason to tell someone."""
    return alert.severity != "info"


def inhibited(live: LiveRun, alert: AlertRecord) -> bool:
    """Whether a firing rule makes telling about this alert needless.

    Where a reading is critical, warnings about other readings of the run are explained by it; those
    about no reading, such as a silent trainer, are something else.
    """
    firing = live.firing()
    if alert.severity == "warning" and alert.metric and any(map(_explains, firing)):
        return True
    rule = rule_named(live.rules, alert.rule)
    names = set() if rule is None else set(rule.inhibited_by)
    return any(each.rule in names for each in firing)


def _explains(alert: AlertRecord) -> bool:
    return alert.severity == "critical" and bool(alert.metric)


def is_silent(live: LiveRun) -> bool:
    """Whether a rule about silence fires: only such rules hear the clock."""
    clocked = {live.rules.rules[at].name for at in live.rules.clocked}
    return any(alert.rule in clocked for alert in live.firing())


def alert_view(alert: AlertRecord, *, last_seq: int | None, silenced: bool) -> AlertView:
    """An alert as people see it; `last_seq` is the run's newest, for one that still fires."""
    still = alert.state == "firing" and alert.source == TRAINING
    value = f"{alert.reading:.4g}"
    texts = {name: filled(text, alert.metric, value) for name, text in alert.annotations.items()}
    return AlertView(
        id=alert.id,
        rule=alert.rule,
        severity=alert.severity,
        state=alert.state,
        run=alert.run,
        project=alert.project,
        attempt=alert.attempt,
        since=alert.since,
        first_update=alert.first_seq,
        last_update=last_seq if still and last_seq is not None else alert.last_seq,
        resolved_at=alert.resolved_at,
        metric=alert.metric,
        reading=alert.reading,
        action=alert.action,
        reason=alert.reason,
        summary=texts.get("summary", "") or alert.rule,
        description=texts.get("description", ""),
        cause=texts.get("cause", ""),
        runbook_url=texts.get("runbook_url", ""),
        acknowledged=alert.acknowledged_at is not None,
        silenced=silenced,
        subject=alert.subject,
    )


def run_links(base_url: str, run: str) -> dict[str, str]:
    """Where a run's page and status are."""
    name = quote(run, safe="")
    return {"run": f"{base_url}/runs/{name}", "status": f"{base_url}/api/v1/runs/{name}"}


def tell_if_due(change: UnitOfWork, policy: TellingPolicy) -> None:
    """Write the message of the run's incident if its time has come."""
    incident = change.live.incident
    if incident is None or incident.due_at is None or incident.due_at > change.now:
        return
    if incident.due_edge == "repeat" and change.live.record.ended_at is not None:
        # Nobody needs reminding of a run that nobody can stop any more.
        change.keep_incident(replace(incident, due_at=None))
        return
    loud, wait_until = _loud(change, policy, is_reminder=incident.due_edge == "repeat")
    if not any(counts(alert) for alert in loud):
        change.keep_incident(replace(incident, due_at=wait_until))
        return
    worst = max((alert.severity for alert in loud), key=rank)
    routes = [
        route
        for route in policy.routes()
        if rank(worst) >= rank(route.min_severity)
        and any(
            matches(route.matchers, labels_of(alert), former_names(change.live.rules, alert.rule))
            for alert in loud
        )
    ]
    edge: Edge = incident.due_edge or "changed"
    receivers = dict.fromkeys((*incident.told, *(route.receiver for route in routes)))
    repeat_at = change.now + timedelta(seconds=policy.repeat_interval_s)
    change.keep_incident(
        _send(
            change,
            policy,
            replace(incident, told=tuple(receivers), due_at=repeat_at, due_edge="repeat"),
            edge,
            [route.receiver for route in routes],
        )
    )


def tell_life(change: UnitOfWork, policy: TellingPolicy) -> None:
    """Tell those who asked for it that the run finished, was preempted or began again."""
    seen, record = change.seen, change.live.record
    edge: RunEdge
    if seen is not None and 0 < seen.attempt < record.attempt:
        edge = "resumed"
    elif record.status in {"finished", "preempted"} and (seen is None or seen.ended_at is None):
        edge = "finished" if record.status == "finished" else "preempted"
    else:
        return
    labels = {"run": record.run, "project": record.project}
    receivers = [
        route.receiver
        for route in policy.routes()
        if edge in route.notify_on and matches(route.matchers, labels)
    ]
    if not receivers:
        return
    life = short_id("rn", record.run, record.attempt)
    notice = Notice(
        id=short_id("nt", life, edge, record.last_seq),
        incident=life,
        edge=edge,
        stage="",
        diagnosis="",
        confidence=0.0,
        alerts=(),
        readings={},
        links=run_links(policy.base_url, record.run),
        **_about_run(change),
    )
    _enqueue(change, notice, 1, receivers)


def tell_resolved(
    change: UnitOfWork, policy: TellingPolicy, incident: IncidentRecord
) -> IncidentRecord:
    """Tell those who heard of an incident that it is over; returns it with the count raised."""
    if not incident.told:
        return incident
    receivers = {route.receiver for route in policy.routes()}
    return _send(
        change, policy, incident, "resolved", [name for name in incident.told if name in receivers]
    )


def _loud(
    change: UnitOfWork, policy: TellingPolicy, *, is_reminder: bool
) -> tuple[list[AlertRecord], datetime | None]:
    """Firing alerts that someone should hear of; if none, when that may change.

    Whoever acknowledges an alert wants no reminders, but wants to hear of a halt.
    """
    silences = list(policy.silences())
    loud: list[AlertRecord] = []
    ends: list[datetime] = []
    for alert in change.live.alerts.values():
        if alert.state != "firing" or inhibited(change.live, alert):
            continue
        silence = silencing(silences, alert, change.now, change.live.rules)
        if silence is not None:
            ends.append(silence.ends_at)
        elif alert.acknowledged_at is None or not is_reminder:
            loud.append(alert)
    return loud, min(ends, default=None)


def _send(
    change: UnitOfWork,
    policy: TellingPolicy,
    incident: IncidentRecord,
    edge: Edge,
    receivers: list[str],
) -> IncidentRecord:
    if not receivers:
        return incident
    numbered = replace(incident, notices=incident.notices + 1, noticed_at=change.now)
    notice = _notice(change, policy, numbered, edge)
    _enqueue(change, notice, numbered.notices, receivers)
    return numbered


def _enqueue(change: UnitOfWork, notice: Notice, number: int, receivers: Iterable[str]) -> None:
    written = notice_to_json(notice)
    for receiver in receivers:
        change.deliveries.append(
            NewDelivery(
                id=short_id("dl", notice.id, receiver),
                run=notice.run,
                incident=notice.incident,
                receiver=receiver,
                number=number,
                notice=written,
                at=change.now,
            )
        )


def _notice(
    change: UnitOfWork, policy: TellingPolicy, incident: IncidentRecord, edge: Edge
) -> Notice:
    live = change.live
    silences = list(policy.silences())
    members = sorted(
        live.members.values(),
        key=lambda alert: (alert.state != "firing", -rank(alert.severity), alert.first_seq),
    )[:MOST_ALERTS]
    last_seq = live.record.last_seq
    views = tuple(
        alert_view(
            alert,
            last_seq=last_seq,
            silenced=silencing(silences, alert, change.now, change.live.rules) is not None,
        )
        for alert in members
    )
    links = run_links(policy.base_url, incident.run)
    runbook = next((view.runbook_url for view in views if view.runbook_url), "")
    if runbook:
        links["runbook"] = runbook
    if policy.signer is not None:
        is_open = edge != "resolved"
        links |= policy.signer.links(incident.run, incident.id, change.now, open_=is_open)
    return Notice(
        id=short_id("nt", incident.id, incident.notices, edge),
        incident=incident.id,
        edge=edge,
        stage=incident.stage,
        diagnosis=incident.diagnosis,
        confidence=incident.confidence,
        alerts=views,
        readings=_readings(live.readings(), views),
        links=links,
        first_step=incident.first_bad_step,
        first_update=incident.first_bad,
        **_about_run(change),
    )


def _about_run(change: UnitOfWork) -> dict[str, Any]:
    """Fields of a notice that are the run's own."""
    record = change.live.record
    death: Mapping[str, Any] = {}
    if record.status == "failed":
        events = (
            update.event or {}
            for source in change.live.folds()
            for update in reversed(change.newest(EVENTS_BACK, source))
        )
        death = next((event for event in events if event.get("kind") == "failed"), {})

    def last_words(name: str) -> str:
        return death[name] if isinstance(death.get(name), str) else ""

    return {
        "run": record.run,
        "project": record.project,
        "attempt": record.attempt,
        "checkpoint": record.checkpoint,
        "trainer_did": record.trainer_did,
        "at": change.now,
        "status": _status(change.live),
        "last_step": record.step,
        "heard_at": record.heard_at,
        "host": last_words("host") or record.place("host"),
        "user": last_words("user") or record.place("user"),
        "error": record.error,
        "traceback": last_words("traceback"),
        "oom": last_words("oom"),
        "ended_by": last_words("ended_by"),
        "hung": record.hung,
    }


def _status(live: LiveRun) -> RunStatus:
    """The run's status where only rules have heard the clock."""
    record = live.record
    if record.status != "running":
        return record.status
    if record.hung is not None:
        return "stalled"
    return "lost" if is_silent(live) else "running"


def _readings(latest: Mapping[str, float], views: Iterable[AlertView]) -> dict[str, float]:
    metrics = dict.fromkeys(view.metric for view in views if view.metric)
    return {metric: latest[metric] for metric in metrics if metric in latest}
