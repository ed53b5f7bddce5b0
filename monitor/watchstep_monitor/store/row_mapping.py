"""Rows to records and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime
from operator import attrgetter
from typing import Any, TypeVar

from sqlalchemy import Table

from watchstep.wire.text import number_from_json
from watchstep_monitor.service.alerting.notice import parted
from watchstep_monitor.service.clock import from_us, to_us
from watchstep_monitor.service.json_values import plain
from watchstep_monitor.service.run_state.records import (
    AlertRecord,
    AttemptRecord,
    CommandRecord,
    DeliveryRecord,
    IncidentRecord,
    Matcher,
    NewDelivery,
    RunRecord,
    SilenceRecord,
    StateSnapshot,
    TimelineEntry,
    run_key,
)
from watchstep_monitor.store.damage import checksum, say

_CRC = ',"crc":'

R = TypeVar("R", AlertRecord, IncidentRecord, CommandRecord, SilenceRecord)
Record = AlertRecord | IncidentRecord | CommandRecord | SilenceRecord

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


_COLUMNS_ONLY = frozenset({"subject", "answer", "answered_by", "source"})
"""Fields that are no part of a document: code of an older schema knows none of them."""


_SNAPSHOT_TEXTS = ("engine", "latest", "reports", "sources")

_Turn = Callable[[Any], Any]
_SAME: tuple[_Turn, _Turn] = (lambda value: value, lambda value: value)
_JSON: tuple[_Turn, _Turn] = (lambda value: json.dumps(plain(value)), json.loads)
_US: tuple[_Turn, _Turn] = (to_us, from_us)
_RUN_COLUMNS: Mapping[str, tuple[str, _Turn, _Turn]] = {
    **{field.name: (field.name, *_SAME) for field in fields(RunRecord)},
    **{name: (name, *_JSON) for name in ("tags", "config", "checkpoint", "hung")},
    **{f"{word}_at": (f"{word}_us", *_US) for word in ("created", "heard", "ended", "updated")},
    "is_archived": ("archived", int, bool),
}
"""Field of a run to its column, how it is written there and how it is read."""

_FIXED = {"run", "project", "tags", "config", "created_at"}
ADVANCED = tuple(field for field in _RUN_COLUMNS if field not in _FIXED)
"""Fields of a run that its updates may change."""

PROGRESS = (
    "last_seq",
    "version",
    "step",
    "time",
    "updates",
    "lost",
    "heard_at",
    "updated_at",
)
"""Those that each of them does change; where no other one differs only they are written."""

_rest = attrgetter(*(field for field in ADVANCED if field not in PROGRESS))


def document(record: Record) -> str:
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
        values["reading"] = number_from_json(values["reading"])
    elif kind is IncidentRecord:
        for name in ("told", "causes", "phases"):
            values[name] = tuple(values.get(name, ()))
    elif kind is SilenceRecord:
        values["matchers"] = tuple(Matcher(*parts) for parts in values["matchers"])
    return kind(**values)


def alert_record(row: Mapping[str, Any]) -> AlertRecord:
    alert = record_from(AlertRecord, row["document"])
    return replace(alert, **{name: row[name] for name in _COLUMNS_ONLY})


def record_row(table: Table, record: Record) -> dict[str, Any]:
    """A record as one JSON text, beside what its rows are looked for by."""
    row: dict[str, Any] = {}
    for column in table.columns:
        name = column.name
        if name == "document":
            row[name] = document(record)
        elif name == "run_key":
            row[name] = run_key(getattr(record, "run", ""))
        elif name.endswith("_us"):
            moment = getattr(record, "since" if name == "since_us" else f"{name[:-3]}_at")
            row[name] = None if moment is None else to_us(moment)
        else:
            row[name] = getattr(record, name)
    return row


def run_row(record: RunRecord) -> dict[str, Any]:
    row: dict[str, Any] = {"run_key": record.key}
    for field, (column, write, _) in _RUN_COLUMNS.items():
        value = getattr(record, field)
        row[column] = None if value is None else write(value)
    return row


def column_of(field: str) -> str:
    return _RUN_COLUMNS[field][0]


def has_only_progressed(record: RunRecord, seen: RunRecord) -> bool:
    """Whether the two differ in nothing but `PROGRESS`."""
    return bool(_rest(record) == _rest(seen))


def advanced(record: RunRecord, fields: Sequence[str]) -> list[Any]:
    made: list[Any] = []
    for field in fields:
        value = getattr(record, field)
        made.append(None if value is None else _RUN_COLUMNS[field][1](value))
    return made


def run_record(row: Mapping[str, Any]) -> RunRecord:
    values = {
        field: None if row[column] is None else read(row[column])
        for field, (column, _, read) in _RUN_COLUMNS.items()
    }
    return RunRecord(**{**values, **_state_of(row)})


def _state_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Status and health; code of the schema before writes both as one word."""
    if row["status"] != "diverged":
        return {"status": row["status"], "health": row["health"]}
    return {"status": "running" if row["ended_us"] is None else "finished", "health": "diverged"}


def snapshot_row(key: int, snapshot: StateSnapshot) -> dict[str, Any]:
    """The columns of a saved rule state. NaN tokens are fine here: only we read them.

    The checksum ends the first document, which code of any version replaces with the others.
    """
    texts = {
        name: json.dumps(getattr(snapshot, name), default=asdict, separators=(",", ":"))
        for name in _SNAPSHOT_TEXTS
    }
    crc = checksum(snapshot.attempt, snapshot.seq, *texts.values())
    texts["engine"] = f"{texts['engine'][:-1]}{_CRC}{crc}}}"
    return {"run_key": key, "attempt": snapshot.attempt, "seq": snapshot.seq, **texts}


def snapshot_from(run: str, row: Mapping[str, Any]) -> StateSnapshot | None:
    """The rule state that a row holds; None where it is damaged, and has to be made anew."""
    texts = {name: row[name] for name in _SNAPSHOT_TEXTS}
    engine, _, crc = row["engine"].rpartition(_CRC)
    is_checked = crc[:-1].isdigit()
    if is_checked:
        texts["engine"] = f"{engine}}}"
    try:
        parts = {name: json.loads(text) for name, text in texts.items()}
    except ValueError:
        parts = {}
    is_whole = crc == f"{checksum(row['attempt'], row['seq'], *texts.values())}}}"
    if parts and (is_whole or not is_checked):
        parts["sources"] = {name: StateSnapshot(**each) for name, each in parts["sources"].items()}
        return StateSnapshot(row["attempt"], row["seq"], **parts)
    say("rule state, made anew from the updates", run, row["attempt"], 0, row["seq"])
    return None


def incident_record(row: Mapping[str, Any]) -> IncidentRecord:
    return record_from(IncidentRecord, row["document"])


def attempt_record(row: Mapping[str, Any]) -> AttemptRecord:
    return AttemptRecord(
        row["attempt"],
        row["session"],
        row["last_seq"],
        from_us(row["started_us"]),
        json.loads(row["last_seqs"]),
    )


def timeline_row(entry: TimelineEntry) -> dict[str, Any]:
    own = ("at_us", "kind", "attempt", "seq", "step", "time", "source")
    return {
        "run_key": run_key(entry.run),
        **{name: getattr(entry, name) for name in own},
        "detail": json.dumps(entry.detail, separators=(",", ":")),
    }


def timeline_entry(row: Mapping[str, Any]) -> TimelineEntry:
    """The entry that a row holds, with its run's name."""
    names = ("run", "at_us", "kind", "attempt", "seq", "step", "time", "source")
    return TimelineEntry(**{name: row[name] for name in names}, detail=json.loads(row["detail"]))


def delivery_row(delivery: NewDelivery) -> dict[str, Any]:
    """The columns of a delivery that nobody has tried yet."""
    notice, details = parted(delivery.notice)
    return {
        "run_key": run_key(delivery.run),
        "id": delivery.id,
        "run": delivery.run,
        "incident": delivery.incident,
        "receiver": delivery.receiver,
        "number": delivery.number,
        "edge": delivery.notice["edge"],
        "notice": json.dumps(notice, separators=(",", ":")),
        "state": "waiting",
        "attempts": 0,
        "created_us": to_us(delivery.at),
        "next_us": to_us(delivery.at),
        "lease_us": 0,
        "settled_us": None,
        "reason": "",
        "details": json.dumps(details, separators=(",", ":")),
    }


def delivery_record(row: Mapping[str, Any]) -> DeliveryRecord:
    waiting = row["state"] == "waiting"
    return DeliveryRecord(
        id=row["id"],
        run=row["run"],
        incident=row["incident"],
        receiver=row["receiver"],
        edge=row["edge"],
        state=row["state"],
        attempts=row["attempts"],
        created_at=from_us(row["created_us"]),
        next_at=from_us(row["next_us"]) if waiting else None,
        settled_at=None if row["settled_us"] is None else from_us(row["settled_us"]),
        reason=row["reason"],
    )
