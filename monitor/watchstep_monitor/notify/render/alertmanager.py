"""Alerts with labels and annotations, as Alertmanager and its kin know them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime

from watchstep_monitor.notify.render.plain import clip, line, number
from watchstep_monitor.service.alerting.notice import AlertView, Notice

ZERO_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time: what Alertmanager writes for the end of an alert that still fires."""

_TEXT_CHARS = 1000
_LABEL_CHARS = 256


def labels(alert: AlertView) -> dict[str, str]:
    """What identifies an alert.

    No attempt and no id: an alert goes on over a resume, and must stay the same alert.
    """
    return {
        "alertname": clip(line(alert.rule), _LABEL_CHARS),
        "project": clip(line(alert.project), _LABEL_CHARS),
        "run": clip(line(alert.run), _LABEL_CHARS),
        "severity": alert.severity,
    }


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
