"""What a message says, before any vendor's form: short enough for 3 a.m."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from watchstep.core.updates import Severity
from watchstep_monitor.notify.render.plain import clip, is_link, line, number
from watchstep_monitor.service.ports import AlertView, Notice

_READINGS_SHOWN = 6
_ALERTS_NAMED = 3
_POINT_CHARS = 400
_CONDITIONS = {"halted": "halted", "failed": "died", "stalled": "silent"}
"""States of a run that change what a person has to do."""

_FIRST = {
    "halted": "remove the cause, then",
    "failed": "read the trainer's error, then",
    "stalled": "see whether its process lives and reaches the service; if it does not live,",
}
"""What to do before starting again, by the run's status."""


@dataclass(frozen=True, slots=True)
class Wording:
    """A message's parts, each one line of harmless but unescaped text.

    Attributes:
        title: State, run, stage and the worst alert.
        points: What a person asks, in that order, and the answers: what happened, since
            when, how sure, what the trainer did, which checkpoint is safe, what to do.
        readings: Metric and value, the first of them the one that shows the fault.
        links: Name and address, http(s) only.
        footer: Which run, attempt and incident.
    """

    title: str
    points: tuple[tuple[str, str], ...]
    readings: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...]
    footer: str


def worded(notice: Notice) -> Wording:
    """The notice in words."""
    asked = (
        ("Was" if notice.edge == "resolved" else "What", _what(notice)),
        ("Since", _since(notice)),
        ("Likely cause", _cause(notice)),
        ("Trainer", _trainer(notice)),
        ("Checkpoint", _checkpoint(notice)),
        ("Do", _advice(notice)),
    )
    footer = f"run {notice.run} · attempt {notice.attempt} · incident {notice.incident}"
    if notice.project:
        footer = f"project {notice.project} · {footer}"
    return Wording(
        title=clip(line(title(notice)), 150),
        points=tuple((label, clip(line(text), _POINT_CHARS)) for label, text in asked if text),
        readings=_readings(notice),
        links=_links(notice),
        footer=clip(line(footer), 300),
    )


def title(notice: Notice) -> str:
    """One line that a phone's lock screen can show."""
    worst = weight(notice).upper()
    now = _CONDITIONS.get(notice.status, "")
    state = {
        "opened": f"{worst}, {now}" if now else worst,
        "changed": f"{worst}, {now or 'changed'}",
        "repeat": f"{worst}, still {now or 'open'}",
        "resolved": "RESOLVED",
        "test": "TEST",
    }[notice.edge]
    # How far it went matters no more once it is over, and the state says when its run is.
    is_over = notice.edge == "resolved" or notice.stage == "aftermath"
    stage = "" if is_over else notice.stage
    alerts = _audible(notice)
    more = len(alerts) - 1
    rules = alerts[0].rule + (f" and {more} more" if more else "") if alerts else ""
    subject = f"{stage} ({rules})" if stage and rules else stage or rules or "notice"
    return f"[{state}] {notice.run}: {subject}"


def weight(notice: Notice) -> Severity:
    """The worst severity that fires now; once nothing does, the worst there was.

    `Notice.severity` alone would call an incident critical long after its critical alert
    resolved and only warnings were left.
    """
    return (
        replace(notice, alerts=tuple(_open(notice))).severity if _open(notice) else notice.severity
    )


def _audible(notice: Notice) -> list[AlertView]:
    """Without those that somebody silenced, unless nothing is left then."""
    kept = [alert for alert in notice.alerts if not alert.silenced]
    return kept or list(notice.alerts)


def _what(notice: Notice) -> str:
    alerts = _audible(notice)
    if not alerts:
        return ""
    worst = alerts[0]
    # Without a metric the reason is the rule's own expression, which says nothing to a person.
    reason = worst.reason if worst.metric or not worst.summary else ""
    first = ". ".join(dict.fromkeys(s.rstrip(". ") for s in (worst.summary, reason) if s))
    others = [alert.rule for alert in alerts[1 : 1 + _ALERTS_NAMED]]
    left = len(alerts) - 1 - len(others)
    if not others:
        return first
    also = ", ".join(others) + (f" and {left} more" if left else "")
    return f"{first}. Also: {also}" if first else also


def _since(notice: Notice) -> str:
    if not notice.alerts or notice.edge == "test":
        return ""
    # Sequence numbers begin again with each attempt: compare them within one only.
    first = min(notice.alerts, key=lambda alert: (alert.attempt, alert.first_update))
    begun = min(alert.since for alert in notice.alerts)
    text = f"update {first.first_update}, {_moment(begun)}"
    if notice.edge == "resolved":
        return f"{text}, over after {_span(notice.at - begun)}"
    lasted = (notice.at - begun).total_seconds()
    return f"{text} ({_span(notice.at - begun)} ago)" if lasted >= 60 else text


def _cause(notice: Notice) -> str:
    if notice.edge == "test":
        return ""
    if notice.diagnosis:
        sure = notice.confidence
        percent = f" ({sure * 100:.0f} % sure)" if math.isfinite(sure) and 0 < sure <= 1 else ""
        return notice.diagnosis.rstrip(". ") + percent
    noted = next((alert.cause for alert in notice.alerts if alert.cause), "")
    return f"{noted.rstrip('. ')} (the rule's note; nothing diagnosed)" if noted else ""


def _trainer(notice: Notice) -> str:
    if notice.edge == "test":
        return ""
    if notice.status == "stalled":
        heard = max(alert.last_update for alert in notice.alerts)
        return f"has said nothing since update {heard}"
    if notice.trainer_did:
        return notice.trainer_did
    asked = [alert for alert in _open(notice) if alert.action in {"halt", "rollback", "skip"}]
    if asked:
        return f"was asked to {asked[0].action} by {asked[0].rule}; has not said what it did"
    return "was not asked to do anything" if notice.edge != "resolved" else ""


def _checkpoint(notice: Notice) -> str:
    pinned = notice.checkpoint
    if pinned is None:
        critical = weight(notice) == "critical" and notice.edge not in {"resolved", "test"}
        return "none is pinned" if critical else ""
    step = f" of step {pinned['step']}" if pinned.get("step") is not None else ""
    digest = str(pinned.get("sha256") or "")[:12]
    checksum = f", sha256 {digest}…" if digest else ""
    return f"pinned and finite{step}: {pinned.get('path', 'path not reported')}{checksum}"


def _advice(notice: Notice) -> str:
    if notice.edge == "test":
        return "nothing"
    if notice.edge == "resolved":
        return "nothing now; the run's timeline shows what happened"
    resume = _resume(notice)
    first = _FIRST.get(notice.status)
    if first is None and weight(notice) == "critical":
        first = f"stop it unless you expected this (watchstep halt {notice.run}), then"
    if first is None:
        return "look at the readings when you can; nothing has to stop yet"
    return f"{first} {resume}"


def _resume(notice: Notice) -> str:
    if notice.checkpoint is not None:
        return "start again; watch.restore() takes the pinned checkpoint"
    # A death without a sign in the readings spoils no checkpoint.
    bad = [alert.first_update for alert in notice.alerts if alert.metric]
    if not bad:
        return "start again from the newest checkpoint"
    return f"start again from a checkpoint older than update {min(bad)}"


def _readings(notice: Notice) -> tuple[tuple[str, str], ...]:
    shown = dict(notice.readings)
    # What raised the alert stands first, with the value that raised it.
    raised = {a.metric: a.reading for a in notice.alerts if a.metric}
    ordered = {**raised, **{name: value for name, value in shown.items() if name not in raised}}
    pairs = [(clip(line(name), 128), number(value)) for name, value in ordered.items()]
    return tuple(pairs[:_READINGS_SHOWN])


def _links(notice: Notice) -> tuple[tuple[str, str], ...]:
    links = dict(notice.links)
    runbook = next((alert.runbook_url for alert in notice.alerts if alert.runbook_url), "")
    if runbook:
        links.setdefault("runbook", runbook)
    return tuple((clip(line(name), 40), url) for name, url in links.items() if is_link(url))[:5]


def _open(notice: Notice) -> list[AlertView]:
    return [alert for alert in notice.alerts if alert.state != "resolved"]


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _span(length: timedelta) -> str:
    seconds = max(0, int(length.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
