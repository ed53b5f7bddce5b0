"""Answers: what the contract shows of each record, as plain JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, TypeVar, cast

from starlette.responses import Response

from watchstep.core.engine import RuleSet
from watchstep.wire import ROWS_TYPE
from watchstep_monitor.http.answer_types import (
    Alert,
    Begun,
    Cause,
    Command,
    Delivery,
    Incident,
    Phase,
    Point,
    Reading,
    Receipt,
    Rules,
    Run,
    RunBase,
    RunDetail,
    Silence,
)
from watchstep_monitor.service import series
from watchstep_monitor.service.alerting.notifications import alert_view
from watchstep_monitor.service.clock import rfc3339, rfc3339_or_none
from watchstep_monitor.service.ingest import ingest
from watchstep_monitor.service.json_values import number, plain
from watchstep_monitor.service.ports import RunStatus
from watchstep_monitor.service.run_state.records import (
    AlertRecord,
    CommandRecord,
    DeliveryRecord,
    IncidentRecord,
    Page,
    RunRecord,
    SilenceRecord,
    TimelineEntry,
)
from watchstep_monitor.service.run_state.run_cache import RunView

R = TypeVar("R")


def answer(document: Any, status: int = 200) -> Response:
    """A JSON answer; non-finite numbers as the contract's words."""
    body = json.dumps(plain(document), allow_nan=False, separators=(",", ":")).encode()
    return Response(body, status, media_type="application/json")


def page(found: Page[R], shown: Callable[[R], Mapping[str, Any]]) -> Response:
    """One page of a list."""
    return answer(
        {"items": [shown(item) for item in found.items], "next_cursor": found.next_cursor}
    )


def receipt_json(receipt: ingest.Receipt) -> Receipt:
    """What became of a batch."""
    return {
        "accepted": receipt.accepted,
        "duplicates": receipt.duplicates,
        "rejected": [
            {
                "index": one.index,
                "errors": [{"loc": list(one.loc), "type": one.kind, "msg": one.reason}],
            }
            for one in receipt.rejected
        ],
        "last_seq": receipt.last_seq,
        "commands": [command_json(command) for command in receipt.commands],
    }


def begun_json(record: RunRecord, rules: RuleSet) -> Begun:
    """The answer to a trainer that began or resumed an attempt."""
    return {
        "run": record.run,
        "project": record.project,
        "attempt": record.attempt,
        "last_seq": record.last_seq,
        "rules": {
            "fingerprint": rules.fingerprint,
            "names": [rule.name for rule in rules.rules],
        },
        "accepts": [ROWS_TYPE],
    }


def run_json(record: RunRecord, status: RunStatus) -> Run:
    """A run as lists show it."""
    return {
        **_run_base(record, status),
        "counts": {"updates": record.updates, "lost": record.lost},
    }


def status_json(
    view: RunView, status: RunStatus, is_silenced: Callable[[AlertRecord], bool]
) -> RunDetail:
    """A run with its readings, alerts and incident."""
    record, zones = view.record, view.zones()
    firing = [alert for alert in view.alerts if alert.state == "firing"]
    return {
        **_run_base(record, status),
        "counts": {
            "updates": record.updates,
            "lost": record.lost,
            "firing": len(firing),
            "pending": sum(alert.state == "pending" for alert in view.alerts),
        },
        "config": dict(record.config),
        "readings": {
            name: Reading(value=number(value), zone=zones.get(name))
            for name, value in view.latest.items()
        },
        "alerts": [
            alert_json(
                alert,
                record.last_seq if alert.attempt == record.attempt else None,
                silenced=is_silenced(alert),
            )
            for alert in firing
        ],
        "incident": None if view.incident is None else incident_json(view.incident),
        "commands": [command_json(command) for command in view.commands],
        "rules": view.rules.fingerprint,
    }


def _run_base(record: RunRecord, status: RunStatus) -> RunBase:
    return {
        "run": record.run,
        "project": record.project,
        "status": status,
        "attempt": record.attempt,
        "step": record.step,
        "last_seq": record.last_seq,
        "tags": dict(record.tags),
        "trainer": record.trainer,
        "created_at": rfc3339(record.created_at),
        "last_update_at": _moment(record.heard_at),
        "last_update_time": rfc3339_or_none(record.time) if record.last_seq else None,
        "ended_at": _moment(record.ended_at),
        "checkpoint": None if record.checkpoint is None else dict(record.checkpoint),
        "trainer_did": record.trainer_did,
        "error": record.error,
    }


def alert_json(alert: AlertRecord, last_seq: int | None, *, silenced: bool) -> Alert:
    """An alert."""
    view = alert_view(alert, last_seq=last_seq, silenced=silenced)
    return {
        "id": view.id,
        "run": view.run,
        "project": view.project,
        "attempt": view.attempt,
        "rule": view.rule,
        "severity": view.severity,
        "state": view.state,
        "since": rfc3339(view.since),
        "first_update": view.first_update,
        "last_update": view.last_update,
        "resolved_at": _moment(view.resolved_at),
        "metric": view.metric,
        "reading": number(view.reading) if view.metric else None,
        "reason": view.reason,
        "action": view.action,
        "acknowledged": view.acknowledged,
        "acknowledged_by": alert.acknowledged_by,
        "silenced": view.silenced,
        "summary": view.summary,
        "description": view.description,
        "cause": view.cause,
        "runbook_url": view.runbook_url,
        "labels": dict(alert.labels),
        "incident": alert.incident,
    }


def incident_json(incident: IncidentRecord) -> Incident:
    """An incident."""
    return {
        "id": incident.id,
        "run": incident.run,
        "project": incident.project,
        "attempt": incident.attempt,
        "state": incident.state,
        "stage": incident.stage,
        "severity": incident.worst,
        "opened_at": rfc3339(incident.opened_at),
        "resolved_at": _moment(incident.resolved_at),
        "first_bad_update": incident.first_bad,
        "first_bad_step": incident.first_bad_step,
        "last_good_update": incident.last_good,
        "damage_update": incident.damage,
        "stages": cast(list[Phase], list(incident.phases)),
        "diagnosis": incident.diagnosis,
        "confidence": incident.confidence,
        "causes": cast(list[Cause], list(incident.causes)),
        "notices": incident.notices,
    }


def command_json(command: CommandRecord) -> Command:
    """A command."""
    return {
        "id": command.id,
        "run": command.run,
        "attempt": command.attempt,
        "kind": command.kind,
        "reason": command.reason,
        "created_at": rfc3339(command.created_at),
        "expires_at": rfc3339(command.expires_at),
    }


def point_json(point: series.Point) -> Point:
    """One reading of a series."""
    return {
        "attempt": point.attempt,
        "seq": point.seq,
        "step": point.step,
        "time": rfc3339_or_none(point.time),
        "value": number(point.value),
    }


def entry_json(entry: TimelineEntry, first_sign: TimelineEntry | None) -> dict[str, Any]:
    """One thing that happened.

    Args:
        entry: What to show.
        first_sign: The first alert of the attempt that fired, or None; how far an entry lies
            behind it is the time that a person had.
    """
    lead = None
    if first_sign is not None and entry.attempt == first_sign.attempt:
        lead = {
            "updates": entry.seq - first_sign.seq,
            "seconds": (entry.at_us - first_sign.at_us) / 1_000_000,
        }
    return {
        "id": entry.at_us,
        "kind": entry.kind,
        "at": rfc3339_or_none(entry.at_us / 1_000_000),
        "attempt": entry.attempt,
        "seq": entry.seq,
        "step": entry.step,
        "time": rfc3339_or_none(entry.time),
        "since_first_sign": lead,
        # An event has fields of the trainer's own, which must not pass for ours.
        **({"event": entry.detail} if entry.kind == "event" else entry.detail),
    }


def silence_json(silence: SilenceRecord, now: datetime) -> Silence:
    """A silence."""
    return {
        "id": silence.id,
        "state": _silence_state(silence, now),
        "matchers": [
            {
                "name": matcher.name,
                "value": matcher.value,
                "isRegex": matcher.op.endswith("~"),
                "isEqual": not matcher.op.startswith("!"),
            }
            for matcher in silence.matchers
        ],
        "starts_at": rfc3339(silence.starts_at),
        "ends_at": rfc3339(silence.ends_at),
        "comment": silence.comment,
        "created_by": silence.created_by,
        "created_at": rfc3339(silence.created_at),
    }


def _silence_state(
    silence: SilenceRecord, now: datetime
) -> Literal["pending", "active", "expired"]:
    if now >= silence.ends_at:
        return "expired"
    return "pending" if now < silence.starts_at else "active"


def delivery_json(delivery: DeliveryRecord) -> Delivery:
    """A delivery."""
    return {
        "id": delivery.id,
        "run": delivery.run,
        "incident": delivery.incident,
        "receiver": delivery.receiver,
        "edge": delivery.edge,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "created_at": rfc3339(delivery.created_at),
        "next_at": _moment(delivery.next_at),
        "settled_at": _moment(delivery.settled_at),
        "reason": delivery.reason,
    }


def rules_json(rules: RuleSet) -> Rules:
    """The live rules."""
    return {
        "fingerprint": rules.fingerprint,
        "items": [
            {
                "name": rule.name,
                "group": rule.group,
                "expr": rule.expr,
                "for": rule.hold.words,
                "severity": rule.severity,
                "action": rule.action.word,
                "labels": dict(rule.labels),
                "annotations": dict(rule.annotations),
            }
            for rule in rules.rules
        ],
        "next_cursor": None,
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
