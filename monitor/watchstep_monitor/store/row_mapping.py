"""Rows to records and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any, TypeVar

from watchstep_monitor.service.clock import from_us, to_us
from watchstep_monitor.service.json_values import plain, reading
from watchstep_monitor.service.run_state.records import (
    AlertRecord,
    CommandRecord,
    IncidentRecord,
    Matcher,
    RunRecord,
    SilenceRecord,
    StateSnapshot,
)

R = TypeVar("R", AlertRecord, IncidentRecord, CommandRecord, SilenceRecord)

_MOMENTS = frozenset(
    {
        "since",
        "resolved_at",
        "acknowledged_at",
        "opened_at",
        "due_at",
        "noticed_at",
        "created_at",
        "expires_at",
        "starts_at",
        "ends_at",
    }
)


_COLUMNS_ONLY = frozenset({"subject", "answer"})
"""Fields that are no part of a document: code of an older schema knows none of them."""


def document(record: R) -> str:
    """A record as one JSON text."""
    values: dict[str, Any] = {}
    for field in fields(record):
        if field.name in _COLUMNS_ONLY:
            continue
        value = getattr(record, field.name)
        if field.name == "matchers":
            value = [[m.name, m.op, m.value] for m in value]
        values[field.name] = plain(value)
    return json.dumps(values, separators=(",", ":"))


def record_from(kind: type[R], text: str) -> R:
    """The record that `document` wrote."""
    names = {field.name for field in fields(kind)}
    # What newer code added is none of ours.
    values = {name: value for name, value in json.loads(text).items() if name in names}
    for name, value in values.items():
        if name in _MOMENTS and value is not None:
            values[name] = datetime.fromisoformat(value)
    if kind is AlertRecord:
        values["reading"] = reading(values["reading"])
    elif kind is IncidentRecord:
        for name in ("told", "causes", "phases"):
            values[name] = tuple(values.get(name, ()))
    elif kind is SilenceRecord:
        values["matchers"] = tuple(Matcher(*parts) for parts in values["matchers"])
    return kind(**values)


def alert_record(row: Mapping[str, Any]) -> AlertRecord:
    """The alert that a row holds."""
    alert = record_from(AlertRecord, row["document"])
    return replace(alert, subject=row["subject"], answer=row["answer"])


def run_row(record: RunRecord) -> dict[str, Any]:
    """The columns of a run."""
    return {
        "run_key": record.key,
        "run": record.run,
        "project": record.project,
        "tags": json.dumps(record.tags),
        "config": json.dumps(plain(record.config)),
        "trainer": record.trainer,
        "attempt": record.attempt,
        "last_seq": record.last_seq,
        "version": record.version,
        "status": record.status,
        "step": record.step,
        "time": record.time,
        "updates": record.updates,
        "lost": record.lost,
        "created_us": to_us(record.created_at),
        "heard_us": None if record.heard_at is None else to_us(record.heard_at),
        "ended_us": None if record.ended_at is None else to_us(record.ended_at),
        "timeline_us": record.timeline_us,
        "checkpoint": None if record.checkpoint is None else json.dumps(plain(record.checkpoint)),
        "trainer_did": record.trainer_did,
        "error": record.error,
        "health": record.health,
        "updated_us": None if record.updated_at is None else to_us(record.updated_at),
        "hung": None if record.hung is None else json.dumps(plain(record.hung)),
        "archived": int(record.is_archived),
        "notes": record.notes,
    }


def run_record(row: Mapping[str, Any]) -> RunRecord:
    """The record that a row holds."""
    return RunRecord(
        run=row["run"],
        project=row["project"],
        created_at=from_us(row["created_us"]),
        tags=json.loads(row["tags"]),
        config=json.loads(row["config"]),
        trainer=row["trainer"],
        attempt=row["attempt"],
        last_seq=row["last_seq"],
        version=row["version"],
        **_state_of(row),
        step=row["step"],
        time=row["time"],
        updates=row["updates"],
        lost=row["lost"],
        heard_at=None if row["heard_us"] is None else from_us(row["heard_us"]),
        ended_at=None if row["ended_us"] is None else from_us(row["ended_us"]),
        timeline_us=row["timeline_us"],
        checkpoint=None if row["checkpoint"] is None else json.loads(row["checkpoint"]),
        trainer_did=row["trainer_did"],
        error=row["error"],
        updated_at=None if row["updated_us"] is None else from_us(row["updated_us"]),
        hung=None if row["hung"] is None else json.loads(row["hung"]),
        is_archived=bool(row["archived"]),
        notes=row["notes"],
    )


def _state_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Status and health; code of the schema before writes both as one word."""
    if row["status"] != "diverged":
        return {"status": row["status"], "health": row["health"]}
    return {"status": "running" if row["ended_us"] is None else "finished", "health": "diverged"}


def snapshot_row(key: int, snapshot: StateSnapshot) -> dict[str, Any]:
    """The columns of a saved rule state. NaN tokens are fine here: only we read them."""
    return {
        "run_key": key,
        "attempt": snapshot.attempt,
        "seq": snapshot.seq,
        "engine": json.dumps(snapshot.engine, separators=(",", ":")),
        "latest": json.dumps(snapshot.latest, separators=(",", ":")),
        "reports": json.dumps(snapshot.reports, separators=(",", ":")),
    }


def snapshot_from(row: Mapping[str, Any]) -> StateSnapshot:
    """The rule state that a row holds."""
    return StateSnapshot(
        row["attempt"],
        row["seq"],
        json.loads(row["engine"]),
        json.loads(row["latest"]),
        json.loads(row["reports"]),
    )
