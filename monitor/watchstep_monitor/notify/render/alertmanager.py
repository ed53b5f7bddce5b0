"""Alerts with labels and annotations, as Alertmanager and its kin know them.

Pushed to an Alertmanager, its own routes and silences take over from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from watchstep_monitor.notify.config import ReceiverConfig
from watchstep_monitor.notify.render.plain import clip, dumped, line, number
from watchstep_monitor.service.ports import AlertView, Notice

ZERO_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time: what Alertmanager writes for the end of an alert that still fires."""

HOLD = timedelta(hours=24)
"""How long Alertmanager keeps a firing alert that it hears no more of.

Without an end it would resolve one after five minutes, since Prometheus, which it is made
for, repeats each alert every minute and we tell only edges and reminders.
"""

_TEXT_CHARS = 1000
_LABEL_CHARS = 256


def body(notice: Notice, receiver: ReceiverConfig) -> str:
    """What `POST /api/v2/alerts` takes: a list of alerts."""
    return dumped([_alert(alert, notice) for alert in notice.alerts])


def labels(alert: AlertView) -> dict[str, str]:
    """What identifies an alert.

    No attempt and no id: an alert goes on over a resume, and must stay the same alert.
    """
    own = {
        "alertname": clip(line(alert.rule), _LABEL_CHARS),
        "project": clip(line(alert.project), _LABEL_CHARS),
        "run": clip(line(alert.run), _LABEL_CHARS),
        "severity": alert.severity,
    }
    return {**own, "metric": clip(line(alert.subject), _LABEL_CHARS)} if alert.subject else own


def explanations(alert: AlertView) -> dict[str, str]:
    """What explains an alert; empty ones are left out."""
    texts = {
        "summary": alert.summary or alert.reason,
        "description": alert.description,
        "reason": alert.reason,
        "cause": alert.cause,
        "runbook_url": alert.runbook_url,
        "metric": alert.metric,
        "reading": number(alert.reading) if alert.metric else "",
        "action": alert.action,
        "first_update": str(alert.first_update),
        "last_update": str(alert.last_update),
        "alert_id": alert.id,
    }
    return {name: clip(line(text), _TEXT_CHARS) for name, text in texts.items() if text}


def fingerprint(of: Mapping[str, str]) -> str:
    """Sixteen hexadecimal digits that only the labels decide."""
    text = "\xff".join(f"{name}\xfe{value}" for name, value in sorted(of.items()))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def moment(at: datetime) -> str:
    """RFC 3339, UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def is_firing(alert: AlertView) -> bool:
    """Whether Alertmanager would call it firing."""
    return alert.state != "resolved"


def link(notice: Notice, *names: str) -> str:
    """The first of the named links that there is, or ""."""
    return next((notice.links[name] for name in names if notice.links.get(name)), "")


def _alert(alert: AlertView, notice: Notice) -> dict[str, object]:
    ends = notice.at + HOLD if is_firing(alert) else alert.resolved_at or notice.at
    return {
        # Empty labels do not exist for Prometheus' kin.
        "labels": {name: text for name, text in labels(alert).items() if text},
        "annotations": explanations(alert),
        "startsAt": moment(alert.since),
        # An end before the start is refused, with every other alert of the message.
        "endsAt": moment(max(ends, alert.since)),
        "generatorURL": link(notice, "run"),
    }
