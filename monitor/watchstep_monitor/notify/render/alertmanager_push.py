"""Alerts pushed to an Alertmanager, whose own routes and silences take over from there."""

from __future__ import annotations

from datetime import timedelta

from watchstep_monitor.notify.config import ReceiverConfig
from watchstep_monitor.notify.render import alertmanager
from watchstep_monitor.notify.render.plain import dumped
from watchstep_monitor.service.alerting.notice import AlertView, Notice

HOLD = timedelta(hours=24)
"""How long Alertmanager keeps a firing alert that it hears no more of.

Without an end it would resolve one after five minutes, since Prometheus, which it is made
for, repeats each alert every minute and we tell only edges and reminders.
"""


def body(notice: Notice, receiver: ReceiverConfig) -> str:  # noqa: ARG001 - the shape of every renderer
    """What `POST /api/v2/alerts` takes: a list of alerts."""
    return dumped([_alert(alert, notice) for alert in notice.alerts])


def _alert(alert: AlertView, notice: Notice) -> dict[str, object]:
    ends = notice.at + HOLD if alertmanager.is_firing(alert) else alert.resolved_at or notice.at
    return {
        # Empty labels do not exist for Prometheus' kin.
        "labels": {name: text for name, text in alertmanager.labels(alert).items() if text},
        "annotations": alertmanager.explanations(alert),
        "startsAt": alertmanager.moment(alert.since),
        # An end before the start is refused, with every other alert of the message.
        "endsAt": alertmanager.moment(max(ends, alert.since)),
        "generatorURL": alertmanager.link(notice, "run"),
    }
