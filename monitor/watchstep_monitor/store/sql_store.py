"""Everything that is kept, in SQL: one implementation for SQLite and PostgreSQL."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import math
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Engine,
    Select,
    Table,
    and_,
    delete,
    false,
    or_,
    select,
    text,
    true,
)

from watchstep.core.updates import TRAINING, Update
from watchstep_monitor.service.clock import to_us
from watchstep_monitor.service.errors import InvalidError, StorageTroubleError
from watchstep_monitor.service.outcomes import Outcome
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
    PastWeek,
    RunFilter,
)
from watchstep_monitor.service.series import Series
from watchstep_monitor.store import blocks, schema
from watchstep_monitor.store import row_mapping as packing
from watchstep_monitor.store.damage import whole
from watchstep_monitor.store.outbox import of_projects
from watchstep_monitor.store.postgres import partitions
from watchstep_monitor.store.read_connection import reading
from watchstep_monitor.store.series_reader import SeriesWalk
from watchstep_monitor.store.sqlite_file_check import Footing, structure_trouble
from watchstep_monitor.store.transaction import SqlTransaction, read_attempts
from watchstep_monitor.store.writer import Job, Writer

log = logging.getLogger(__name__)
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
    """Reads at once; writes by the writing threads. Every call raises StorageTroubleError.

    Attributes:
        exclusive: Whether no other process can write, so that what this one remembers of a
            run is the truth.
    """

    def __init__(self, engine: Engine, writer: Writer, footing: Footing | None) -> None:
        """Take what it reads and writes with; without a footing other processes write too."""
        self._engine = engine
        self._writer = writer
        self._footing = footing
        self._looking = threading.Lock()
        self._looked_at = -math.inf
        self._trouble: str | None = None
        self._damage: str | None = None
        self.exclusive = footing is not None

    def write(self, run: str, job: Job[T], updates: int = 0) -> Future[T]:
        """Run a job in a transaction of its own or of a group; resolves once it is durable.

        Jobs of one run are done in the order given. What the job raises is the future's
        error, and nothing of it is kept.

        Args:
            run: Whose rows it touches; "" for none.
            updates: How many updates it stores, for the size of the group.

        Raises (through the future):
            StorageTroubleError: Nothing was kept.
        """
        return self._writer.submit(run, job, updates)

    def hand_over(
        self, run: str, job: Job[T], updates: int, outcome: Outcome[T], *, is_new: bool = False
    ) -> None:
        """The same, with what comes of it put into `outcome`.

        Args:
            is_new: Whether the run may be one that the store has not, which is then looked up
                ahead of the job, together with others.
        """
        self._writer.hand_over(run, job, updates, outcome, is_new=is_new)

    def run(self, run: str) -> RunRecord | None:
        query = select(schema.runs).where(schema.runs.c.run_key == run_key(run))
        records = [packing.run_record(row) for row in self._rows(query)]
        return next((record for record in records if record.run == run), None)

    def runs(self, selection: RunFilter, limit: int, cursor: str | None) -> Page[RunRecord]:
        table = schema.runs.c
        archived = None if selection.archived is None else int(selection.archived)
        query = _matching(schema.runs, selection.projects, archived=archived)
        if selection.status is not None:
            query = query.where(_has_status(selection.status, selection.lost_before))
        if selection.health is not None:
            is_old = table.status == OLD_DIVERGED
            same = and_(table.health == selection.health, ~is_old)
            query = query.where(or_(same, is_old) if selection.health == "diverged" else same)
        rows = self._page(query, (table.heard_us, table.run_key), limit, cursor)
        return _paged(rows, limit, ("heard_us", "run_key"), packing.run_record)

    def attempts(self, run: str) -> list[AttemptRecord]:
        with reading(self._engine) as connection:
            return read_attempts(connection, run)

    def alerts(self, selection: AlertFilter, limit: int, cursor: str | None) -> Page[AlertRecord]:
        table = schema.alerts.c
        query = _matching(
            schema.alerts,
            selection.projects,
            selection.run,
            state=selection.state,
            severity=selection.severity,
            incident=selection.incident,
        )
        rows = self._page(query, (table.since_us, table.id), limit, cursor)
        return _paged(rows, limit, ("since_us", "id"), packing.alert_record)

    def alert(self, alert_id: str) -> AlertRecord | None:
        query = select(schema.alerts).where(schema.alerts.c.id == alert_id)
        return next((packing.alert_record(row) for row in self._rows(query)), None)

    def answers(self, projects: tuple[str, ...] | None) -> list[RuleAnswers]:
        """How often people called the alerts of each rule right or false, by rule."""
        query = _matching(schema.alerts, projects).where(schema.alerts.c.answer != "")
        counts = Counter(
            (alert.rule, alert.answer) for alert in map(packing.alert_record, self._rows(query))
        )
        return [
            RuleAnswers(rule, counts[rule, "right"], counts[rule, "false alarm"])
            for rule in sorted({rule for rule, _ in counts})
        ]

    def shared_key(self, name: str) -> bytes:
        """A secret of 32 bytes, the same for all who share the store; made when first asked."""
        insert = text("INSERT INTO keys VALUES (:name, :value) ON CONFLICT (name) DO NOTHING")
        query = select(schema.keys.c.value).where(schema.keys.c.name == name)

        def job(transaction: SqlTransaction) -> str:
            connection = transaction.connection
            connection.execute(insert, {"name": name, "value": secrets.token_hex(32)})
            return str(connection.execute(query).scalar_one())

        return bytes.fromhex(self._writer.submit("", job).result(TIMEOUT_S))

    def incidents(
        self, projects: tuple[str, ...] | None, run: str | None, limit: int, cursor: str | None
    ) -> Page[IncidentRecord]:
        table = schema.incidents.c
        query = _matching(schema.incidents, projects, run)
        rows = self._page(query, (table.opened_us, table.id), limit, cursor)
        return _paged(rows, limit, ("opened_us", "id"), packing.incident_record)

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
        """The readings of one metric in order, over all attempts, within inclusive steps.

        They are one source's: the training's where it has any.

        Args:
            from_step: None for no bound.
            to_step: None for no bound.
            points: To how many they will be thinned: where there are far more, only those
                come that thinning could keep. None for all.
        """
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
        others = dict.fromkeys(name for each in self.attempts(run) for name in each.last_seqs)
        walks = [
            SeriesWalk(self._engine, run, names, places, steps, source)
            for source in (TRAINING, *others)
        ]
        walk = next((walk for walk in walks if not walk.is_empty()), walks[0])
        return walk.series(points)

    def updates(self, run: str) -> Iterator[Update]:
        """All updates of a run's training in order, as far as retention has left them."""
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
            for row in whole(run, rows):
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
        return _paged(rows, limit, ("at_us",), packing.timeline_entry)

    def timeline_since(self, at_us: int, limit: int) -> list[TimelineEntry]:
        table = schema.timeline.c
        query = (
            select(schema.timeline, schema.runs.c.run)
            .join(schema.runs, schema.runs.c.run_key == table.run_key)
            .where(table.at_us > at_us)
            .order_by(table.at_us)
            .limit(limit)
        )
        return [packing.timeline_entry(row) for row in self._rows(query)]

    def silences(self) -> list[SilenceRecord]:
        table = schema.silences.c
        query = select(schema.silences).order_by(table.created_us.desc(), table.id)
        return [packing.record_from(SilenceRecord, row["document"]) for row in self._rows(query)]

    def save_silence(self, silence: SilenceRecord) -> None:
        row = packing.record_row(schema.silences, silence)

        def job(transaction: SqlTransaction) -> None:
            transaction.replace(schema.silences, row)

        self._writer.submit("", job).result(TIMEOUT_S)

    def delete_silence(self, silence_id: str) -> bool:
        def job(transaction: SqlTransaction) -> bool:
            connection = transaction.connection
            table = schema.silences
            gone = connection.execute(delete(table).where(table.c.id == silence_id))
            return gone.rowcount > 0

        return self._writer.submit("", job).result(TIMEOUT_S)

    def deliveries(
        self, selection: DeliveryFilter, limit: int, cursor: str | None
    ) -> Page[DeliveryRecord]:
        table = schema.outbox.c
        query = _matching(schema.outbox, None, selection.run, state=selection.state)
        if selection.projects is not None:
            query = query.where(of_projects(selection.projects))
        rows = self._page(query, (table.created_us, table.id), limit, cursor)
        return _paged(rows, limit, ("created_us", "id"), packing.delivery_record)

    def ended_with_updates(self, before: datetime | None, limit: int) -> list[RunRecord]:
        """Ended runs that still have all their updates, first ended first.

        Args:
            before: Only those that ended earlier; None for all.
        """
        table = schema.runs.c
        query = select(schema.runs).where(table.ended_us.is_not(None), table.thinned == 0)
        if before is not None:
            query = query.where(table.ended_us < to_us(before))
        rows = self._rows(query.order_by(table.ended_us).limit(limit))
        return [packing.run_record(row) for row in rows]

    def over_weeks(self, before: datetime) -> list[PastWeek]:
        """Weeks all of whose runs ended earlier, first to last; none where weeks are not apart."""
        if self.exclusive:
            return []
        with reading(self._engine) as connection:
            return partitions.over_weeks(connection, to_us(before))

    def drop_week(self, week: int, before: datetime) -> int:
        """Drop all that is still in such a week; returns the rows.

        None where one of its runs goes on again. What is to be kept was set aside.
        """

        def job(transaction: SqlTransaction) -> int:
            connection = transaction.connection
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
        """None when reads and commits work and there is room for more; else one short sentence."""
        shortage = None if self._footing is None else self._footing.shortage()
        # Where a server's disk is full, what needs no new page of it still succeeds.
        lately = "commits fail" if self._writer.failed_lately else None
        trouble = self.commit_trouble() or self._damage or shortage
        return trouble or (None if self.exclusive else lately)

    def check_structure(self) -> None:
        """Look whether the file is still whole; damage shows in `ready` until a later look."""
        if self._footing is None:
            return
        trouble = self._footing.trouble() or structure_trouble(self._footing.path)
        self._damage = None
        if trouble is not None:
            self._damage = f"the database is {trouble}: stop the service and restore a backup"
            log.error("the database is damaged", extra={"reason": trouble})

    @property
    def failing(self) -> bool:
        """Whether the newest attempt at a commit failed, and so would any other now."""
        return self._writer.failing

    def free_bytes(self) -> int | None:
        """Free space where the files lie; None on a database server, or if no one can say."""
        return None if self._footing is None else self._footing.free_bytes()

    def commit_trouble(self) -> str | None:
        """None when a read and a commit work, tried at most once a second; else one sentence."""
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


def _matching(
    table: Table, projects: Sequence[str] | None, run: str | None = None, **values: object
) -> Select[Any]:
    """The rows of these projects, of this run and with these values; None for any."""
    query = select(table)
    if projects is not None:
        query = query.where(table.c.project.in_(projects))
    if run is not None:
        query = query.where(table.c.run_key == run_key(run))
    for name, value in values.items():
        if value is not None:
            query = query.where(table.c[name] == value)
    return query


def _touch(transaction: SqlTransaction) -> None:
    """Write something that matters to nobody."""
    connection = transaction.connection
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
