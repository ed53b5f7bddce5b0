"""The reading side in SQL; see the port in `service.storage` for what each call means."""

from __future__ import annotations

import base64
import binascii
import json
import math
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, Engine, Select, and_, delete, false, or_, select, text, true

from watchstep.core.updates import Update
from watchstep_monitor.service.clock import from_us, to_us
from watchstep_monitor.service.errors import InvalidError, StorageTroubleError
from watchstep_monitor.service.ports import RunStatus
from watchstep_monitor.service.run_state.records import (
    AlertRecord,
    AttemptRecord,
    DeliveryRecord,
    IncidentRecord,
    Page,
    RuleAnswers,
    RunRecord,
    SilenceRecord,
    TimelineEntry,
    run_key,
)
from watchstep_monitor.service.run_state.storage import (
    AlertFilter,
    DeliveryFilter,
    Job,
    PastWeek,
    RunFilter,
    Transaction,
)
from watchstep_monitor.service.series import Series
from watchstep_monitor.store import blocks, schema
from watchstep_monitor.store import row_mapping as packing
from watchstep_monitor.store.outbox import of_projects
from watchstep_monitor.store.postgres import partitions
from watchstep_monitor.store.read_connection import reading
from watchstep_monitor.store.series_reader import SeriesWalk
from watchstep_monitor.store.sqlite_file_check import Footing
from watchstep_monitor.store.transaction import SqlTransaction, read_attempts
from watchstep_monitor.store.writer import Writer

T = TypeVar("T")
TIMEOUT_S = 60.0
OLD_DIVERGED = "diverged"
"""What code of the schema before writes as the status of a run that has diverged."""

LOOK_S = 1.0
"""For how long a look at whether commits work holds: a probe must not cost a sync each time."""

LOOK_TIMEOUT_S = 5.0
BLOCKS_A_READ = 500
"""Rows held at a time while a run is read; no read transaction stays open between."""


class SqlStore:
    """See `service.storage.Store`.

    Attributes:
        exclusive: See the port.
    """

    def __init__(self, engine: Engine, writer: Writer, footing: Footing | None) -> None:
        """Take what it reads and writes with; without a footing other processes write too."""
        self._engine = engine
        self._writer = writer
        self._footing = footing
        self._looking = threading.Lock()
        self._looked_at = -math.inf
        self._trouble: str | None = None
        self.exclusive = footing is not None

    def write(self, run: str, job: Job[T], updates: int = 0) -> Future[T]:
        return self._writer.submit(run, job, updates)

    def run(self, run: str) -> RunRecord | None:
        query = select(schema.runs).where(schema.runs.c.run_key == run_key(run))
        records = [packing.run_record(row) for row in self._rows(query)]
        return next((record for record in records if record.run == run), None)

    def runs(self, wanted: RunFilter, limit: int, cursor: str | None) -> Page[RunRecord]:
        table = schema.runs.c
        query = select(schema.runs)
        if wanted.projects is not None:
            query = query.where(table.project.in_(wanted.projects))
        if wanted.status is not None:
            query = query.where(_has_status(wanted.status, wanted.lost_before))
        if wanted.archived is not None:
            query = query.where(table.archived == int(wanted.archived))
        if wanted.health is not None:
            is_old = table.status == OLD_DIVERGED
            same = and_(table.health == wanted.health, ~is_old)
            query = query.where(or_(same, is_old) if wanted.health == "diverged" else same)
        rows = self._page(query, (table.heard_us, table.run_key), limit, cursor)
        return _paged(rows, limit, ("heard_us", "run_key"), packing.run_record)

    def attempts(self, run: str) -> list[AttemptRecord]:
        with reading(self._engine) as connection:
            return read_attempts(connection, run)

    def alerts(self, wanted: AlertFilter, limit: int, cursor: str | None) -> Page[AlertRecord]:
        table = schema.alerts.c
        query = select(schema.alerts)
        if wanted.projects is not None:
            query = query.where(table.project.in_(wanted.projects))
        if wanted.run is not None:
            query = query.where(table.run_key == run_key(wanted.run))
        for column, value in (
            (table.state, wanted.state),
            (table.severity, wanted.severity),
            (table.incident, wanted.incident),
        ):
            if value is not None:
                query = query.where(column == value)
        rows = self._page(query, (table.since_us, table.id), limit, cursor)
        return _paged(rows, limit, ("since_us", "id"), _alert)

    def alert(self, alert_id: str) -> AlertRecord | None:
        query = select(schema.alerts).where(schema.alerts.c.id == alert_id)
        return next((_alert(row) for row in self._rows(query)), None)

    def answers(self, projects: tuple[str, ...] | None) -> list[RuleAnswers]:
        table = schema.alerts.c
        query = select(schema.alerts).where(table.answer != "")
        if projects is not None:
            query = query.where(table.project.in_(projects))
        counts = Counter((alert.rule, alert.answer) for alert in map(_alert, self._rows(query)))
        return [
            RuleAnswers(rule, counts[rule, "right"], counts[rule, "false alarm"])
            for rule in sorted({rule for rule, _ in counts})
        ]

    def shared_key(self, name: str) -> bytes:
        insert = text("INSERT INTO keys VALUES (:name, :value) ON CONFLICT (name) DO NOTHING")
        query = select(schema.keys.c.value).where(schema.keys.c.name == name)

        def job(transaction: Transaction) -> str:
            connection = cast("SqlTransaction", transaction).connection
            connection.execute(insert, {"name": name, "value": secrets.token_hex(32)})
            return str(connection.execute(query).scalar_one())

        return bytes.fromhex(self._writer.submit("", job).result(TIMEOUT_S))

    def incidents(
        self, projects: tuple[str, ...] | None, run: str | None, limit: int, cursor: str | None
    ) -> Page[IncidentRecord]:
        table = schema.incidents.c
        query = select(schema.incidents)
        if projects is not None:
            query = query.where(table.project.in_(projects))
        if run is not None:
            query = query.where(table.run_key == run_key(run))
        rows = self._page(query, (table.opened_us, table.id), limit, cursor)
        return _paged(rows, limit, ("opened_us", "id"), _incident)

    def due_incidents(self, now: datetime, limit: int) -> list[str]:
        table = schema.incidents.c
        query = (
            select(table.run)
            .where(table.due_us.is_not(None), table.due_us <= to_us(now))
            .order_by(table.due_us)
            .limit(limit)
        )
        return [row["run"] for row in self._rows(query)]

    def series(
        self,
        run: str,
        metric: str,
        from_step: int | None,
        to_step: int | None,
        points: int | None = None,
    ) -> Series:
        key = run_key(run)
        shapes = select(schema.shapes).where(schema.shapes.c.run_key == key)
        names = {row["shape"]: tuple(json.loads(row["names"])) for row in self._rows(shapes)}
        places = {shape: each.index(metric) for shape, each in names.items() if metric in each}
        steps = (
            -(2**63) if from_step is None else from_step,
            2**63 - 1 if to_step is None else to_step,
        )
        if not places:
            return Series(iter(()), whole=True)
        return SeriesWalk(self._engine, key, names, places, steps).series(points)

    def updates(self, run: str) -> Iterator[Update]:
        table, key = schema.updates.c, run_key(run)
        names: dict[int, list[str]] = {}
        after = (-1, -1)
        while True:
            rows = self._blocks(
                select(schema.updates)
                .where(
                    table.run_key == key,
                    or_(
                        table.attempt > after[0],
                        and_(table.attempt == after[0], table.first_seq > after[1]),
                    ),
                )
                .order_by(table.attempt, table.first_seq)
                .limit(BLOCKS_A_READ)
            )
            if any(row.shape not in names for row in rows):
                # A run may learn names while it is read; they are stored before their blocks.
                shapes = select(schema.shapes).where(schema.shapes.c.run_key == key)
                names = {row["shape"]: json.loads(row["names"]) for row in self._rows(shapes)}
            for row in rows:
                yield from blocks.block_updates(row, names[row.shape])
            if len(rows) < BLOCKS_A_READ:
                return
            after = (rows[-1].attempt, rows[-1].first_seq)

    def timeline(
        self, run: str, limit: int, cursor: str | None, *, newest_first: bool = False
    ) -> Page[TimelineEntry]:
        table = schema.timeline.c
        query = select(schema.timeline, schema.runs.c.run).join(
            schema.runs, schema.runs.c.run_key == table.run_key
        )
        query = query.where(table.run_key == run_key(run))
        query = query.order_by(table.at_us.desc() if newest_first else table.at_us)
        if cursor is not None:
            at_us = int(_opened_cursor(cursor)[0])
            query = query.where(table.at_us < at_us if newest_first else table.at_us > at_us)
        rows = self._rows(query.limit(limit + 1))
        return _paged(rows, limit, ("at_us",), _entry)

    def timeline_since(self, at_us: int, limit: int) -> list[TimelineEntry]:
        table = schema.timeline.c
        query = (
            select(schema.timeline, schema.runs.c.run)
            .join(schema.runs, schema.runs.c.run_key == table.run_key)
            .where(table.at_us > at_us)
            .order_by(table.at_us)
            .limit(limit)
        )
        return [_entry(row) for row in self._rows(query)]

    def silences(self) -> list[SilenceRecord]:
        table = schema.silences.c
        query = select(schema.silences).order_by(table.created_us.desc(), table.id)
        return [packing.record_from(SilenceRecord, row["document"]) for row in self._rows(query)]

    def save_silence(self, silence: SilenceRecord) -> None:
        row = {
            "id": silence.id,
            "created_us": to_us(silence.created_at),
            "document": packing.document(silence),
        }

        def job(transaction: Transaction) -> None:
            connection = cast("SqlTransaction", transaction).connection
            table = schema.silences
            connection.execute(delete(table).where(table.c.id == silence.id))
            connection.execute(table.insert(), row)

        self._writer.submit("", job).result(TIMEOUT_S)

    def delete_silence(self, silence_id: str) -> bool:
        def job(transaction: Transaction) -> bool:
            connection = cast("SqlTransaction", transaction).connection
            table = schema.silences
            gone = connection.execute(delete(table).where(table.c.id == silence_id))
            return gone.rowcount > 0

        return self._writer.submit("", job).result(TIMEOUT_S)

    def deliveries(
        self, wanted: DeliveryFilter, limit: int, cursor: str | None
    ) -> Page[DeliveryRecord]:
        table = schema.outbox.c
        query = select(schema.outbox)
        if wanted.projects is not None:
            query = query.where(of_projects(wanted.projects))
        if wanted.state is not None:
            query = query.where(table.state == wanted.state)
        if wanted.run is not None:
            query = query.where(table.run_key == run_key(wanted.run))
        rows = self._page(query, (table.created_us, table.id), limit, cursor)
        return _paged(rows, limit, ("created_us", "id"), _delivery)

    def ended_with_updates(self, before: datetime | None, limit: int) -> list[RunRecord]:
        table = schema.runs.c
        query = select(schema.runs).where(table.ended_us.is_not(None), table.thinned == 0)
        if before is not None:
            query = query.where(table.ended_us < to_us(before))
        rows = self._rows(query.order_by(table.ended_us).limit(limit))
        return [packing.run_record(row) for row in rows]

    def over_weeks(self, before: datetime) -> list[PastWeek]:
        if self.exclusive:
            return []
        with reading(self._engine) as connection:
            return partitions.over_weeks(connection, to_us(before))

    def drop_week(self, week: int, before: datetime) -> int:
        def job(transaction: Transaction) -> int:
            connection = cast("SqlTransaction", transaction).connection
            return partitions.drop_week(connection, week, to_us(before))

        return self._writer.submit("", job).result(TIMEOUT_S)

    def size_bytes(self) -> int:
        query = "SELECT pg_database_size(current_database())"
        if self.exclusive:
            query = (
                "SELECT (page_count - freelist_count) * page_size FROM "
                "pragma_page_count, pragma_freelist_count, pragma_page_size"
            )
        with reading(self._engine) as connection:
            return int(connection.exec_driver_sql(query).scalar_one())

    def ready(self) -> str | None:
        shortage = None if self._footing is None else self._footing.shortage()
        # Where a server's disk is full, what needs no new page of it still succeeds.
        lately = "commits fail" if self._writer.failed_lately else None
        return self.commit_trouble() or shortage or (None if self.exclusive else lately)

    @property
    def failing(self) -> bool:
        return self._writer.failing

    def free_bytes(self) -> int | None:
        """Free space where the files lie; None on a database server, or if no one can say."""
        return None if self._footing is None else self._footing.free_bytes()

    def commit_trouble(self) -> str | None:
        with self._looking:
            outdated = self._writer.failing == (self._trouble is None)
            if outdated or time.monotonic() - self._looked_at >= LOOK_S:
                self._trouble = self._look()
                self._looked_at = time.monotonic()
            return self._trouble

    def _look(self) -> str | None:
        """One real write and one read; empty transactions succeed on a full disk."""
        try:
            self._writer.submit("", _touch).result(LOOK_TIMEOUT_S)
            list(self._rows(select(schema.runs.c.run_key).limit(1)))
        except StorageTroubleError as error:
            # What a database server says of a failed connection names its host and user.
            why = f": {error}" if self.exclusive else ""
            return f"the store cannot commit{why}"
        except TimeoutError:
            return f"the store took longer than {LOOK_TIMEOUT_S:g} s for a commit"
        return None

    def _blocks(self, query: Select[Any]) -> Sequence[Any]:
        with reading(self._engine) as connection:
            return connection.execute(query).all()

    def _rows(self, query: Select[Any]) -> list[dict[str, Any]]:
        with reading(self._engine) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _page(
        self,
        query: Select[Any],
        order: tuple[ColumnElement[Any], ColumnElement[Any]],
        limit: int,
        cursor: str | None,
    ) -> list[dict[str, Any]]:
        """One row more than asked for, newest first, beyond the cursor."""
        first, second = order
        if cursor is not None:
            a, b = _opened_cursor(cursor, parts=2)
            if isinstance(b, str) != (second.type.python_type is str):
                raise InvalidError("is none of ours", loc=("query", "cursor"), kind="cursor")
            query = query.where(or_(first < a, and_(first == a, second < b)))
        return self._rows(query.order_by(first.desc(), second.desc()).limit(limit + 1))


def _touch(transaction: Transaction) -> None:
    """Write something that matters to nobody."""
    connection = cast("SqlTransaction", transaction).connection
    if connection.dialect.name == "sqlite":
        # Any other number than the one before: a page that stays the same is not written.
        connection.exec_driver_sql(f"PRAGMA user_version={time.monotonic_ns() % 2**31}")
    else:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")


def _has_status(status: RunStatus, lost_before: datetime | None) -> ColumnElement[bool]:
    table = schema.runs.c
    is_old = table.status == OLD_DIVERGED
    goes_on = or_(table.status == "running", and_(is_old, table.ended_us.is_(None)))
    if status == "finished":
        return or_(table.status == "finished", and_(is_old, table.ended_us.is_not(None)))
    if status not in {"running", "stalled", "lost"}:
        return table.status == status
    if status == "lost":
        silent = false() if lost_before is None else table.heard_us < to_us(lost_before)
        return and_(goes_on, silent)
    heard = true() if lost_before is None else table.heard_us >= to_us(lost_before)
    moves = table.hung.is_(None) if status == "running" else table.hung.is_not(None)
    return and_(goes_on, heard, moves)


def _paged(rows: list[dict[str, Any]], limit: int, order: tuple[str, ...], read: Any) -> Page[Any]:
    more = len(rows) > limit
    shown = rows[:limit]
    cursor = _closed_cursor([shown[-1][name] for name in order]) if more and shown else None
    return Page(tuple(read(row) for row in shown), cursor)


def _closed_cursor(parts: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def _opened_cursor(cursor: str, parts: int = 1) -> list[Any]:
    refusal = InvalidError("is none of ours", loc=("query", "cursor"), kind="cursor")
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        opened = json.loads(base64.urlsafe_b64decode(padded.encode("ascii")))
    except (ValueError, binascii.Error, UnicodeError, RecursionError):
        raise refusal from None
    if not isinstance(opened, list) or len(opened) != parts:
        raise refusal
    is_moment = type(opened[0]) is int and abs(opened[0]) < 2**62
    if not is_moment or (parts > 1 and type(opened[1]) not in {int, str}):
        raise refusal
    if parts > 1 and isinstance(opened[1], int) and abs(opened[1]) >= 2**63:
        raise refusal
    return opened


def _alert(row: dict[str, Any]) -> AlertRecord:
    return packing.alert_record(row)


def _incident(row: dict[str, Any]) -> IncidentRecord:
    return packing.record_from(IncidentRecord, row["document"])


def _entry(row: dict[str, Any]) -> TimelineEntry:
    return TimelineEntry(
        run=row["run"],
        at_us=row["at_us"],
        kind=row["kind"],
        attempt=row["attempt"],
        seq=row["seq"],
        step=row["step"],
        time=row["time"],
        detail=json.loads(row["detail"]),
    )


def _delivery(row: dict[str, Any]) -> DeliveryRecord:
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
