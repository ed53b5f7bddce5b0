"""The generic webhook: Alertmanager's webhook body, version 4, plus what only we know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from watchstep_monitor.notify.config import ReceiverConfig
from watchstep_monitor.notify.render import alertmanager
from watchstep_monitor.notify.render.plain import dumped, line
from watchstep_monitor.notify.render.wording import weight, worded
from watchstep_monitor.service.ports import AlertView, Notice

# Standard Webhooks advises less than 20 kB; thirty alerts with their texts come near.
_ALERTS = 30
_READINGS = 64


def body(notice: Notice, receiver: ReceiverConfig) -> str:
    """The JSON text; non-finite readings are the strings NaN, Infinity and -Infinity."""
    alerts = [_alert(alert, notice) for alert in notice.alerts[:_ALERTS]]
    groups = {"project": line(notice.project), "run": line(notice.run)}
    return dumped(
        {
            "version": "4",
            "groupKey": f'{{}}:{{incident="{line(notice.incident)}"}}',
            "truncatedAlerts": len(notice.alerts) - len(alerts),
            "status": _status(notice),
            "receiver": receiver.name,
            "groupLabels": groups,
            "commonLabels": _common([alert["labels"] for alert in alerts]),
            "commonAnnotations": _common([alert["annotations"] for alert in alerts]),
            "externalURL": alertmanager.link(notice, "service", "run"),
            "alerts": alerts,
            "watchstep": _extra(notice),
        }
    )


def _status(notice: Notice) -> str:
    firing = any(alertmanager.is_firing(alert) for alert in notice.alerts)
    return "firing" if firing and notice.edge != "resolved" else "resolved"


def _alert(alert: AlertView, notice: Notice) -> dict[str, Mapping[str, str] | str]:
    firing = alertmanager.is_firing(alert)
    labels = alertmanager.labels(alert)
    return {
        "status": "firing" if firing else "resolved",
        "labels": labels,
        "annotations": alertmanager.explanations(alert),
        "startsAt": alertmanager.moment(alert.since),
        "endsAt": alertmanager.ZERO_TIME
        if firing
        else alertmanager.moment(alert.resolved_at or notice.at),
        "generatorURL": alertmanager.link(notice, "run"),
        "fingerprint": alertmanager.fingerprint(labels),
    }


def _common(several: Sequence[object]) -> dict[str, object]:
    shared: dict[str, object] = {}
    for index, texts in enumerate(several):
        assert isinstance(texts, Mapping)
        shared = (
            dict(texts) if index == 0 else {k: v for k, v in shared.items() if texts.get(k) == v}
        )
    return shared


def _extra(notice: Notice) -> dict[str, object]:
    words = worded(notice)
    return {
        "id": notice.id,
        "edge": notice.edge,
        "run": notice.run,
        "project": notice.project,
        "attempt": notice.attempt,
        "incident": notice.incident,
        "severity": weight(notice),
        "status": notice.status,
        "stage": notice.stage,
        "diagnosis": notice.diagnosis,
        "confidence": notice.confidence,
        "readings": dict(list(notice.readings.items())[:_READINGS]),
        "checkpoint": notice.checkpoint,
        "trainer_did": notice.trainer_did,
        "title": words.title,
        "advice": dict(words.points).get("Do", ""),
        "links": dict(notice.links),
        "at": alertmanager.moment(notice.at),
    }
