"""One run's changes in SQL, committed together or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    delete,
    false,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from watchstep.core.updates import Update
from watchstep_monitor.service.clock import to_us
from watchstep_monitor.service.errors import StaleRunError, StorageTroubleError
from watchstep_monitor.service.run_state.records import (
    AlertRecord,
    AttemptRecord,
    CommandRecord,
    IncidentRecord,
    NewDelivery,
    RunRecord,
    StateSnapshot,
    TimelineEntry,
    run_key,
)
from watchstep_monitor.store import blocks, rollups, schema
from watchstep_monitor.store import row_mapping as packing
from watchstep_monitor.store.damage import checksum, whole
from watchstep_monitor.store.metric_sets import Codes, Shapes
from watchstep_monitor.store.postgres.compatibility import older_at_work
from watchstep_monitor.store.postgres.notify import tell_of_entries
from watchstep_monitor.store.postgres.pipeline import StaleGuardError, Statement, send_together
from watchstep_monitor.store.source_numbers import MOST_STORED, stored_attempt
from watchstep_monitor.store.statements import Statements, columns

_OF_A_RUN = tuple(
    table
    for table in schema.metadata.tables.values()
    if "run_key" in table.columns and table not in {schema.runs, schema.deleted_runs}
)
"""Tables that hold rows of a run beside its own."""

_TABLE_OF = {
    AlertRecord: schema.alerts,
    IncidentRecord: schema.incidents,
    CommandRecord: schema.commands,
}

SOURCES_SINCE = "0007"
"""The schema whose code knows of sources other than the training."""


class SqlTransaction:
    """Used by one thread; raises StaleRunError where someone else changed the run meanwhile.

    On PostgreSQL writes wait until something is read or the transaction ends, and then go
    together: a batch costs one round trip.
    """

    def __init__(
        self,
        connection: Connection,
        statements: Statements,
        shapes: Shapes,
        absent: Collection[str] = (),
    ) -> None:
        """Take what it works with.

        Args:
            absent: Runs of which there was no trace a moment ago. Where there is one by now,
                creating the run fails as if another replica had been faster, which it was.
        """
        self._connection = connection
        self._absent = absent
        self._unsent: list[Statement] = []
        self._statements = statements
        self._shapes = shapes
        self.committed: list[Callable[[], None]] = []
        self.rolled_back: list[Callable[[], None]] = []
        self._is_postgres = connection.dialect.name == "postgresql"
        if self._is_postgres:
            self._unsent.append(("BEGIN", ()))

    @property
    def connection(self) -> Connection:
        """The open transaction, with all that was written so far."""
        self._send()
        return self._connection

    def commit(self) -> None:
        """End a transaction on PostgreSQL; one on SQLite shares its commit with others.

        Raises:
            StaleRunError: Another replica changed the run.
            NoPartitionError: A partition has to be made first.
        """
        self._unsent.append(("COMMIT", ()))
        self._send()

    @property
    def is_shared(self) -> bool:
        """Whether other processes write to the store too."""
        return self._is_postgres

    @property
    def is_open(self) -> bool:
        """Whether the database knows of it already; on PostgreSQL, from the first read on."""
        return not self._unsent or self._unsent[0][0] != "BEGIN"

    def whole(self) -> list[Statement]:
        """All statements of one that is not open, with its end; whoever takes them sends them."""
        waiting, self._unsent = self._unsent, []
        return [*waiting, ("COMMIT", ())]

    def _send(self) -> None:
        waiting, self._unsent = self._unsent, []
        if waiting:
            try:
                send_together(self._connection, waiting)
            except StaleGuardError:
                raise StaleRunError("another replica was faster") from None

    def _write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if not rows:
            return
        if self._is_postgres:
            self._unsent += [(statement, row) for row in rows]
        else:
            self._connection.exec_driver_sql(statement, list(rows))

    def load_run(self, run: str) -> RunRecord | None:
        """The run's row, locked until the end of the transaction where others could write."""
        if run in self._absent:
            return None
        rows = self.connection.exec_driver_sql(self._statements.load_run, (run_key(run),))
        row = rows.mappings().first()
        if row is None or row["run"] != run:
            return None
        self._shapes.forget(row["run_key"])
        return packing.run_record(dict(row))

    def create_run(self, record: RunRecord) -> None:
        if record.run not in self._absent:
            # A deleted run's name may be used again.
            self._write(self._statements.forget_deleted, [(record.key,)])
        try:
            self._insert(schema.runs, [packing.run_row(record)])
        except IntegrityError:
            raise StaleRunError(record.run) from None
        self._remember(record.key, {})

    def advance(self, record: RunRecord, seen: RunRecord) -> None:
        """Replace the row if it still is at `seen`'s (attempt, last_seq, version)."""
        if record.tags is not seen.tags or record.config is not seen.config:
            # Long, and hardly ever changed: written on their own.
            row = packing.run_row(record)
            self.connection.execute(
                update(schema.runs)
                .where(schema.runs.c.run_key == seen.key)
                .values(tags=row["tags"], config=row["config"])
            )
        progressed = packing.has_only_progressed(record, seen)
        fields = packing.PROGRESS if progressed else packing.ADVANCED
        values = packing.advanced(record, fields)
        parameters = (*values, seen.key, seen.attempt, seen.last_seq, seen.version)
        statement = self._statements.advance_run[fields]
        if self._is_postgres:
            # The statement itself fails where it finds no row.
            self._write(statement, [parameters])
            return
        changed = self._connection.exec_driver_sql(statement, parameters)
        if changed.rowcount != 1:
            raise StaleRunError(record.run)

    def delete_run(self, record: RunRecord, now: datetime) -> None:
        """Remove everything of a run, and remember that it was there."""
        sessions = [each.session for each in self.attempts(record.run) if each.session]
        runs = schema.runs.c
        mine = and_(runs.run_key == record.key, runs.version == record.version)
        if self.connection.execute(delete(schema.runs).where(mine)).rowcount != 1:
            raise StaleRunError(record.run)
        for table in _OF_A_RUN:
            self.connection.execute(delete(table).where(table.c.run_key == record.key))
        row = {"run_key": record.key, "run": record.run, "project": record.project}
        deleted = {**row, "sessions": json.dumps(sessions), "deleted_us": to_us(now)}
        self.replace(schema.deleted_runs, deleted)
        self.on_commit(partial(self._shapes.forget, record.key))

    def deleted_sessions(self, run: str) -> Collection[str] | None:
        """What the trainers of a deleted run called themselves; None if none of the name was."""
        if run in self._absent:
            return None
        rows = self.connection.exec_driver_sql(self._statements.deleted_run, (run_key(run),))
        row = rows.first()
        return None if row is None or row.run != run else frozenset(json.loads(row.sessions))

    def count_runs(self) -> int:
        return self.connection.execute(select(func.count()).select_from(schema.runs)).scalar_one()

    def attempts(self, run: str) -> list[AttemptRecord]:
        return read_attempts(self.connection, run)

    def save_attempt(self, run: str, attempt: AttemptRecord) -> None:
        row = {
            "run_key": run_key(run),
            "attempt": attempt.attempt,
            "session": attempt.session,
            "last_seq": attempt.last_seq,
            "started_us": to_us(attempt.started_at),
            "last_seqs": json.dumps(attempt.last_seqs),
        }
        self.replace(schema.attempts, row)

    def save_last_seqs(self, run: str, attempt: int, last_seqs: Mapping[str, int]) -> None:
        """The newest numbers of the other sources in an attempt that is stored."""
        table = schema.attempts.c
        self.connection.execute(
            update(schema.attempts)
            .where(table.run_key == run_key(run), table.attempt == attempt)
            .values(last_seqs=json.dumps(last_seqs))
        )

    def check_sources(self) -> None:
        """Refuse other sources while replicas are at work that know of none.

        They would end alerts that they see no reason for.

        Raises:
            StorageTroubleError: Some are.
        """
        if self._is_postgres and older_at_work(self.connection, SOURCES_SINCE):
            raise StorageTroubleError("replicas of a version before sources are still at work")

    def append(self, run: str, updates: Sequence[Update]) -> None:
        key = run_key(run)
        rows = list(blocks.block_rows(key, updates, partial(self._shape_of, key)))
        self._write(self._statements.insert["updates"], rows)
        if updates and rollups.is_due(updates[0].seq - 1, updates[-1].seq):
            newest = updates[-1]
            self._roll_up(run, stored_attempt(newest.source, newest.attempt), newest.seq)

    def _roll_up(self, run: str, attempt: int, last_seq: int) -> None:
        """Roll up what has been stored since the last time."""
        key = run_key(run)
        mine = schema.rollups.c
        # The last one by its key: the greatest `last_seq` would be looked for in all of them.
        query = (
            select(mine.last_seq)
            .where(mine.run_key == key, mine.attempt == attempt)
            .order_by(mine.first_seq.desc())
            .limit(1)
        )
        rolled = self.connection.execute(query).scalar() or 0
        rolled = max(rolled, last_seq - rollups.MOST_BEHIND)
        table = schema.updates.c
        rows = self.connection.execute(
            select(schema.updates)
            .where(table.run_key == key, table.attempt == attempt, table.first_seq > rolled)
            .order_by(table.first_seq)
        ).all()
        stretches = [
            blocks.block_stretch(row, self._names_of(key, row.shape)) for row in whole(run, rows)
        ]
        made: list[tuple[Any, ...]] = []
        for group in rollups.gathered(stretches):
            names, points = rollups.rolled_up(group)
            steps = [step for part in group for step in part.steps]
            last = group[-1].first_seq + len(group[-1].steps) - 1
            # It also speaks for the numbers that are lost, so that no one looks for them.
            shape = self._shape_of(key, names)
            place = (attempt, rolled + 1, last, min(steps), max(steps), shape)
            made.append((key, *place, points, checksum(*place, points)))
            rolled = last
        self._write(self._statements.insert["rollups"], made)

    def _shape_of(self, key: int, names: tuple[str, ...]) -> int:
        codes = self._codes(key)
        if names not in codes:
            codes[names] = max(codes.values(), default=0) + 1
            self.on_rollback(partial(self._shapes.forget, key))
            row = {"run_key": key, "shape": codes[names], "names": json.dumps(names)}
            self._insert(schema.shapes, [row])
        return codes[names]

    def _names_of(self, key: int, shape: int) -> tuple[str, ...]:
        # What is read may be of another replica that was faster, and is about to be noticed.
        for look in (self._codes, self._read_codes):
            for names, number in look(key).items():
                if number == shape:
                    return names
        raise LookupError(f"shape {shape} is not stored")

    def _codes(self, key: int) -> Codes:
        codes = self._shapes.of(key)
        return self._read_codes(key) if codes is None else codes

    def _read_codes(self, key: int) -> Codes:
        rows = self.connection.exec_driver_sql(self._statements.shapes, (key,))
        codes = {tuple(json.loads(row.names)): row.shape for row in rows}
        self._remember(key, codes)
        return codes

    def _remember(self, key: int, codes: Codes) -> None:
        self._shapes.remember(key, codes)
        self.on_rollback(partial(self._shapes.forget, key))

    def stored(
        self, run: str, source: str, attempt: int, seqs: Collection[int]
    ) -> Mapping[int, Update]:
        table, sought = schema.updates.c, set(seqs)
        query = select(schema.updates).where(
            table.run_key == run_key(run),
            table.attempt == stored_attempt(source, attempt),
            table.first_seq <= max(sought),
            # Narrows the walk through the key; the row's own end decides.
            table.first_seq > min(sought) - blocks.MOST_UPDATES,
            table.last_seq >= min(sought),
        )
        near = self._updates(run, query)
        return {twin.seq: twin for twin in near if twin.seq in sought}

    def updates_after(self, run: str, source: str, attempt: int, seq: int) -> Iterator[Update]:
        table, place = schema.updates.c, stored_attempt(source, attempt)
        query = (
            select(schema.updates)
            .where(
                table.run_key == run_key(run),
                or_(table.attempt > place, and_(table.attempt == place, table.last_seq > seq)),
                table.attempt < stored_attempt(source, MOST_STORED),
            )
            .order_by(table.attempt, table.first_seq)
        )
        for later in self._updates(run, query):
            if (later.attempt, later.seq) > (attempt, seq):
                yield later

    def newest(self, run: str, source: str, place: tuple[int, int], count: int) -> list[Update]:
        """At most `count` updates of a source, up to (attempt, number), in order.

        Costs the same however long the run is.
        """
        table, (attempt, last_seq) = schema.updates.c, place
        query = (
            select(schema.updates)
            .where(
                table.run_key == run_key(run),
                table.attempt == stored_attempt(source, attempt),
                table.first_seq > last_seq - count - blocks.MOST_UPDATES,
                table.first_seq <= last_seq,
            )
            # Each row holds one or more.
            .order_by(table.first_seq.desc())
            .limit(count)
        )
        newest = [each for each in self._updates(run, query) if each.seq <= last_seq]
        newest.sort(key=attrgetter("seq"))
        return newest[-count:]

    def _updates(self, run: str, query: Any) -> Iterator[Update]:
        key = run_key(run)
        for row in whole(run, self.connection.execute(query)):
            yield from blocks.block_updates(row, self._names_of(key, row.shape))

    def remove_updates(self, run: str, spans: Sequence[tuple[int, int, int]]) -> int:
        """Remove a run's updates but for windows (attempt, first, last); returns the rows.

        Rows that reach into a window stay whole. The rule state must not need them: the run
        has ended.
        """
        table = schema.updates.c
        gone = self.connection.execute(
            delete(schema.updates).where(table.run_key == run_key(run), ~_within(spans))
        )
        self.connection.execute(
            delete(schema.rollups).where(schema.rollups.c.run_key == run_key(run))
        )
        self.connection.execute(
            update(schema.runs).where(schema.runs.c.run_key == run_key(run)).values(thinned=1)
        )
        return gone.rowcount

    def set_aside(self, run: str, week: int, spans: Sequence[tuple[int, int, int]]) -> None:
        """Move a run's updates of a week out of it, those of windows (attempt, first, last)."""
        table = schema.updates.c
        # PostgreSQL moves the rows to the partition of week 0.
        self.connection.execute(
            update(schema.updates)
            .where(table.run_key == run_key(run), table.week == week, _within(spans))
            .values(week=0)
        )

    def snapshot(self, run: str) -> StateSnapshot | None:
        query = select(schema.run_states).where(schema.run_states.c.run_key == run_key(run))
        row = self.connection.execute(query).mappings().first()
        return None if row is None else packing.snapshot_from(run, dict(row))

    def save_snapshot(self, run: str, snapshot: StateSnapshot) -> None:
        self.replace(schema.run_states, packing.snapshot_row(run_key(run), snapshot))

    def open_alerts(self, run: str) -> list[AlertRecord]:
        table = schema.alerts.c
        return self._alerts(and_(table.run_key == run_key(run), table.state != "resolved"))

    def incident_alerts(self, incident: IncidentRecord) -> list[AlertRecord]:
        table = schema.alerts.c
        mine = and_(table.run_key == run_key(incident.run), table.incident == incident.id)
        return self._alerts(mine)

    def remove_alert(self, alert: AlertRecord) -> None:
        table = schema.alerts.c
        self.connection.execute(
            delete(schema.alerts).where(table.run_key == run_key(alert.run), table.id == alert.id)
        )

    def open_incident(self, run: str) -> IncidentRecord | None:
        table = schema.incidents.c
        query = select(table.document).where(table.run_key == run_key(run), table.state == "open")
        text = self.connection.execute(query).scalar()
        return None if text is None else packing.record_from(IncidentRecord, text)

    def add_timeline(self, entries: Sequence[TimelineEntry]) -> None:
        rows = [packing.timeline_row(entry) for entry in entries]
        self._insert(schema.timeline, rows)
        if self._is_postgres:
            moments = [entry.at_us for entry in entries]
            key = run_key(entries[0].run)
            self.on_commit(partial(tell_of_entries, self._connection, key, moments))

    def commands(self, run: str) -> list[CommandRecord]:
        table = schema.commands.c
        query = (
            select(table.document)
            .where(table.run_key == run_key(run), table.state == "waiting")
            .order_by(table.created_us, table.id)
        )
        texts = self.connection.execute(query).scalars()
        return [packing.record_from(CommandRecord, text) for text in texts]

    def save(self, record: packing.Record) -> None:
        table = _TABLE_OF[type(record)]
        self.replace(table, packing.record_row(table, record))

    def enqueue(self, deliveries: Sequence[NewDelivery]) -> None:
        self._insert(schema.outbox, [packing.delivery_row(delivery) for delivery in deliveries])

    def on_commit(self, call: Callable[[], None]) -> None:
        """Call this once the transaction is durable; in the writing thread, must not raise."""
        self.committed.append(call)

    def on_rollback(self, call: Callable[[], None]) -> None:
        """Call this if the transaction, or the commit it shares, comes to nothing."""
        self.rolled_back.append(call)

    def _alerts(self, which: ColumnElement[bool]) -> list[AlertRecord]:
        rows = self.connection.execute(select(schema.alerts).where(which)).mappings()
        return [packing.alert_record(dict(row)) for row in rows]

    def _insert(self, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        names = columns(table)
        parameters = [tuple(row[name] for name in names) for row in rows]
        self._write(self._statements.insert[table.name], parameters)

    def replace(self, table: Table, row: dict[str, Any]) -> None:
        """Insert a row, or put it in the place of the one with its key."""
        parameters = tuple(row[column.name] for column in table.columns)
        self._write(self._statements.replace[table.name], [parameters])


def _within(windows: Sequence[tuple[int, int, int]]) -> ColumnElement[bool]:
    table = schema.updates.c
    reaching = [
        and_(table.attempt == attempt, table.first_seq <= last, table.last_seq >= first)
        for attempt, first, last in windows
    ]
    return or_(false(), *reaching)


def read_attempts(connection: Connection, run: str) -> list[AttemptRecord]:
    table = schema.attempts
    query = select(table).where(table.c.run_key == run_key(run)).order_by(table.c.attempt)
    return [packing.attempt_record(dict(row)) for row in connection.execute(query).mappings()]
