"""The outbox in SQL: claiming deliveries, in order per incident, and settling them."""

from __future__ import annotations

import functools
import json
import random
import threading
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Engine,
    and_,
    func,
    select,
    true,
    update,
)

from watchstep_monitor.service.alerting.notice import notice_from_json
from watchstep_monitor.service.clock import from_us, to_us
from watchstep_monitor.service.errors import StorageTroubleError
from watchstep_monitor.service.events import delivery_detail
from watchstep_monitor.service.ports import (
    Delivered,
    Delivery,
    DeliveryState,
    Outcome,
    ReceiverGone,
    Retry,
)
from watchstep_monitor.service.run_state.records import run_key
from watchstep_monitor.store import schema
from watchstep_monitor.store.postgres.notify import tell_of_delivery
from watchstep_monitor.store.read_connection import reading
from watchstep_monitor.store.transaction import SqlTransaction
from watchstep_monitor.store.writer import Job, Writer

MOST_REASON = 300
TIMEOUT_S = 60.0
"""Longest wait for the writing thread; a commit takes milliseconds."""

LOOKED_AT = 32
"""Due deliveries that a claim picks from: several times what a worker starts at once, so that
replicas seldom pick the same."""

MOST_SERVED = 100
"""Runs that are kept waiting for their next turn; beyond it the turns begin anew."""

RUNS_A_READ = 500

IN_ORDER = "SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off"
"""Has PostgreSQL walk its indexes in order until it has enough. Its statistics are of before the
alert storm, when nothing waited: by them it would read all that waits, for each claim."""


@dataclass(frozen=True, slots=True)
class _Due:
    run_key: int
    run: str
    id: str


class Outbox:
    """See `DeliveryStore`.

    Where other processes claim too, each claim is a transaction of one run. It is not synced:
    a lease that is lost with the database lets a receiver see a notice twice, as the port says.
    Where none can, leases live in memory: a claim then costs no commit, and after a crash what
    was under way falls due at once.
    """

    def __init__(self, engine: Engine, writer: Writer, *, exclusive: bool) -> None:
        self._engine = engine
        self._writer = writer
        self._exclusive = exclusive
        self._lock = threading.Lock()
        self._leases: dict[str, int] = {}
        self._served: set[int] = set()

    def claim(
        self, now: datetime, limit: int, lease_s: float, busy: Collection[str]
    ) -> list[Delivery]:
        """See the port.

        Raises:
            StorageTroubleError: The store cannot commit.
        """
        now_us, until_us = to_us(now), to_us(now + timedelta(seconds=lease_s))
        claimed: list[Delivery] = []
        passed: set[str] = set()
        while len(claimed) < limit:
            with self._lock:
                dealt = self._dealt(now_us, limit - len(claimed), busy, passed)
                if self._exclusive:
                    claimed += self._read(dealt)
                    self._leases.update((due.id, until_us) for due in dealt)
            if not dealt:
                break
            passed.update(due.id for due in dealt)
            if self._exclusive:
                continue
            leased, trouble = self._lease(dealt, now_us, until_us)
            claimed += leased
            if trouble is not None:
                if claimed:
                    # They are ours: not sent now, they would wait for their lease to end.
                    break
                raise trouble
        return claimed

    def _dealt(
        self, now_us: int, limit: int, busy: Collection[str], passed: Collection[str]
    ) -> list[_Due]:
        """What to claim next: a delivery of each run in turn, the oldest first.

        A run that has more than it is dealt now comes again after all others.
        """
        self._leases = {each: until for each, until in self._leases.items() if until > now_us}
        rows = self._look(now_us, busy, passed)
        if not rows and self._served:
            self._served.clear()
            rows = self._look(now_us, busy, passed)
        if passed and not self._exclusive:
            # Others work on the oldest as well: elsewhere they are not in the way.
            random.shuffle(rows)
        dealt, left = _in_turn(rows, limit)
        self._served |= left
        if len(self._served) > MOST_SERVED:
            self._served.clear()
        return dealt

    def _look(self, now_us: int, busy: Collection[str], passed: Collection[str]) -> list[_Due]:
        table = schema.outbox.c
        query = (
            select(table.run_key, table.run, table.id)
            .where(
                *_is_due(now_us),
                table.receiver.not_in(list(busy)),
                table.run_key.not_in(list(self._served)),
            )
            .order_by(table.next_us, table.created_us, table.number)
            .limit(LOOKED_AT + len(self._leases) + len(passed))
        )
        with reading(self._engine) as connection:
            if not self._exclusive:
                connection.exec_driver_sql(f"BEGIN; {IN_ORDER}")
            rows = connection.execute(query).all()
            if not self._exclusive:
                connection.exec_driver_sql("COMMIT")
        free = (_Due(row.run_key, row.run, row.id) for row in rows)
        return [due for due in free if due.id not in self._leases and due.id not in passed]

    def _read(self, dealt: Collection[_Due]) -> list[Delivery]:
        table = schema.outbox.c
        by_id: dict[str, Delivery] = {}
        with reading(self._engine) as connection:
            for due in dealt:
                query = select(schema.outbox).where(
                    table.run_key == due.run_key, table.id == due.id, table.state == "waiting"
                )
                rows = connection.execute(query).mappings()
                by_id.update((due.id, _delivery(dict(row))) for row in rows)
        return [by_id[due.id] for due in dealt if due.id in by_id]

    def _lease(
        self, dealt: Iterable[_Due], now_us: int, until_us: int
    ) -> tuple[list[Delivery], StorageTroubleError | None]:
        """Claim those that are still free, run by run; what could be had, and what went wrong."""
        runs: dict[str, list[_Due]] = {}
        for due in dealt:
            runs.setdefault(due.run, []).append(due)
        leases = [
            self._writer.submit(run, _leasing(dues, now_us, until_us)) for run, dues in runs.items()
        ]
        claimed: list[Delivery] = []
        trouble: StorageTroubleError | None = None
        for lease in leases:
            try:
                claimed += lease.result(TIMEOUT_S)
            except StorageTroubleError as error:
                trouble = error
        return claimed, trouble

    def renew(self, deliveries: Iterable[Delivery], now: datetime, lease_s: float) -> None:
        """See the port.

        Raises:
            StorageTroubleError: The store cannot commit.
        """
        until_us = to_us(now + timedelta(seconds=lease_s))
        if self._exclusive:
            with self._lock:
                held = (each.id for each in deliveries if each.id in self._leases)
                self._leases.update(dict.fromkeys(held, until_us))
            return
        runs: dict[str, list[str]] = {}
        for delivery in deliveries:
            runs.setdefault(delivery.notice.run, []).append(delivery.id)
        renewals = [
            self._writer.submit(run, _renewing(run_key(run), ids, until_us))
            for run, ids in runs.items()
        ]
        for renewal in renewals:
            renewal.result(TIMEOUT_S)

    def settle(self, delivery: Delivery, outcome: Outcome, now: datetime) -> None:
        """See the port.

        Raises:
            StorageTroubleError: The store cannot commit.
        """
        run, project = delivery.notice.run, delivery.notice.project
        columns = _settled_columns(outcome, to_us(now))

        def job(transaction: SqlTransaction) -> None:
            connection = transaction.connection
            table = schema.outbox.c
            mine = and_(table.run_key == run_key(run), table.id == delivery.id)
            connection.execute(
                update(schema.outbox)
                .where(mine, table.state == "waiting")
                .values(attempts=delivery.attempt, **columns)
            )
            if not self._exclusive:
                detail = delivery_detail(delivery, outcome)
                transaction.on_commit(
                    functools.partial(tell_of_delivery, connection, run, project, detail)
                )

        self._writer.submit(run, job).result(TIMEOUT_S)
        if isinstance(outcome, ReceiverGone):
            self._give_up(delivery.receiver, columns)
        with self._lock:
            self._leases.pop(delivery.id, None)

    def _give_up(self, receiver: str, columns: Mapping[str, Any]) -> None:
        """Make dead, run by run, what waits for a receiver that is gone."""
        table = schema.outbox.c
        theirs = and_(table.receiver == receiver, table.state == "waiting")
        query = select(table.run).where(theirs).distinct().limit(RUNS_A_READ)

        def job(transaction: SqlTransaction, run: str) -> None:
            mine = update(schema.outbox).where(table.run_key == run_key(run), theirs)
            transaction.connection.execute(mine.values(**columns))

        while True:
            with reading(self._engine) as connection:
                runs = connection.execute(query).scalars().all()
            if not runs:
                return
            given_up = [self._writer.submit(run, functools.partial(job, run=run)) for run in runs]
            for job_done in given_up:
                job_done.result(TIMEOUT_S)

    def next_due(self) -> datetime | None:
        table = schema.outbox.c
        # Two steps instead of the greater of both columns, so that the partial index serves.
        query = select(table.id, table.next_us, table.lease_us).where(table.state == "waiting")
        leases = self._leases
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(table.next_us).limit(1_000))
            due = min(
                (max(row.next_us, row.lease_us, leases.get(row.id, 0)) for row in rows),
                default=None,
            )
        return None if due is None else from_us(due)

    def outbox_depth(self) -> Mapping[DeliveryState, int]:
        table = schema.outbox.c
        query = select(table.state, func.count()).group_by(table.state)
        with reading(self._engine) as connection:
            counts = {row[0]: row[1] for row in connection.execute(query)}
        states: tuple[DeliveryState, ...] = ("waiting", "delivered", "dead")
        return {state: counts.get(state, 0) for state in states}

    def resend(self, delivery_id: str, now: datetime, projects: Collection[str] | None) -> bool:
        """Put a dead delivery of these projects (None: any) back in line; whether there was one."""
        table = schema.outbox.c
        mine = true() if projects is None else of_projects(projects)
        query = select(table.run).where(table.id == delivery_id, table.state == "dead", mine)
        with reading(self._engine) as connection:
            run = connection.execute(query).scalar()
        if run is None:
            return False

        def job(transaction: SqlTransaction) -> bool:
            changed = transaction.connection.execute(
                update(schema.outbox)
                .where(table.run_key == run_key(run), table.id == delivery_id)
                .where(table.state == "dead")
                .values(state="waiting", next_us=to_us(now), lease_us=0, reason="sent again")
            )
            return changed.rowcount > 0

        return self._writer.submit(run, job).result(TIMEOUT_S)


def of_projects(projects: Collection[str]) -> ColumnElement[bool]:
    """Whether a delivery is about a run of these projects."""
    runs = schema.runs.c
    own = select(runs.run_key).where(runs.project.in_(projects))
    return schema.outbox.c.run_key.in_(own)


def _in_turn(rows: Iterable[_Due], limit: int) -> tuple[list[_Due], set[int]]:
    """At most so many, of each run one after the other; and the runs that have more."""
    waiting: dict[int, deque[_Due]] = {}
    for row in rows:
        waiting.setdefault(row.run_key, deque()).append(row)
    dealt: list[_Due] = []
    while waiting and len(dealt) < limit:
        for key in list(waiting)[: limit - len(dealt)]:
            dealt.append(waiting[key].popleft())
            if not waiting[key]:
                del waiting[key]
    return dealt, {due.run_key for due in dealt} & set(waiting)


def _leasing(dues: Sequence[_Due], now_us: int, until_us: int) -> Job[list[Delivery]]:
    """The job that claims those deliveries of one run that no one else has claimed."""
    table = schema.outbox
    key, places = dues[0].run_key, {due.id: at for at, due in enumerate(dues)}
    free = (
        select(table.c.id)
        .where(table.c.run_key == key, table.c.id.in_(places), *_is_due(now_us))
        .with_for_update(skip_locked=True, of=table)
    )
    lease = (
        update(table)
        .where(table.c.run_key == key, table.c.id.in_(free))
        .values(lease_us=until_us)
        .returning(table)
    )

    def job(transaction: SqlTransaction) -> list[Delivery]:
        connection = transaction.connection
        connection.exec_driver_sql(f"SET LOCAL synchronous_commit = off; {IN_ORDER}")
        rows = connection.execute(lease).mappings().all()
        return [_delivery(dict(row)) for row in sorted(rows, key=lambda row: places[row["id"]])]

    return job


def _renewing(key: int, ids: Sequence[str], until_us: int) -> Job[None]:
    table = schema.outbox.c
    # What was settled meanwhile has no lease any more.
    mine = and_(table.run_key == key, table.id.in_(ids), table.state == "waiting")
    renewal = update(schema.outbox).where(mine, table.lease_us > 0).values(lease_us=until_us)

    def job(transaction: SqlTransaction) -> None:
        connection = transaction.connection
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
        connection.execute(renewal)

    return job


def _is_due(now_us: int) -> list[ColumnElement[bool]]:
    """What may be sent now: of one receiver and incident only the oldest that waits."""
    table = schema.outbox
    mine = table.alias("mine")
    first = (
        select(mine.c.number)
        .where(
            mine.c.run_key == table.c.run_key,
            mine.c.incident == table.c.incident,
            mine.c.receiver == table.c.receiver,
            mine.c.state == "waiting",
        )
        .order_by(mine.c.number)
        .limit(1)
        .scalar_subquery()
    )
    return [
        table.c.state == "waiting",
        table.c.next_us <= now_us,
        table.c.lease_us <= now_us,
        table.c.number == first,
    ]


def _delivery(row: Mapping[str, Any]) -> Delivery:
    return Delivery(
        id=row["id"],
        receiver=row["receiver"],
        notice=notice_from_json({**json.loads(row["notice"]), **json.loads(row["details"])}),
        attempt=row["attempts"] + 1,
        created_at=from_us(row["created_us"]),
        next_at=from_us(row["next_us"]),
    )


def _settled_columns(outcome: Outcome, now_us: int) -> dict[str, Any]:
    if isinstance(outcome, Delivered):
        return {"lease_us": 0, "state": "delivered", "settled_us": now_us, "reason": ""}
    reason = outcome.reason[:MOST_REASON]
    if isinstance(outcome, Retry):
        return {"lease_us": 0, "next_us": to_us(outcome.at), "reason": reason}
    return {"lease_us": 0, "state": "dead", "settled_us": now_us, "reason": reason}
