"""The outbox in SQL: claiming deliveries, in order per incident, and settling them."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    and_,
    exists,
    func,
    select,
    true,
    update,
)

from watchstep_monitor.service.announcing import delivery_detail
from watchstep_monitor.service.clock import from_us, to_us
from watchstep_monitor.service.notice_json import notice_from_json
from watchstep_monitor.service.ports import (
    Dead,
    Delivered,
    Delivery,
    DeliveryState,
    Outcome,
    ReceiverGone,
    Retry,
)
from watchstep_monitor.service.records import run_key
from watchstep_monitor.service.storage import Transaction
from watchstep_monitor.store import schema
from watchstep_monitor.store.reading import reading
from watchstep_monitor.store.replicas import tell_of_delivery
from watchstep_monitor.store.transaction import SqlTransaction
from watchstep_monitor.store.writer import Writer

MOST_REASON = 300
TIMEOUT_S = 60.0
"""Longest wait for the writing thread; a commit takes milliseconds."""


class Outbox:
    """See `DeliveryStore`.

    Where no other process can claim, leases live in memory: a claim then costs no commit, and
    after a crash what was under way falls due at once.
    """

    def __init__(self, engine: Engine, writer: Writer, *, exclusive: bool) -> None:
        self._engine = engine
        self._writer = writer
        self._exclusive = exclusive
        self._lock = threading.Lock()
        self._leases: dict[str, int] = {}

    def claim(
        self, now: datetime, limit: int, lease_s: float, busy: Collection[str]
    ) -> list[Delivery]:
        """See the port.

        Raises:
            StorageTroubleError: The store cannot commit.
        """
        if self._exclusive:
            return self._claim_here(to_us(now), limit, to_us(_later(now, lease_s)), busy)
        due = self.next_due()
        if due is None or due > now:
            return []

        def job(transaction: Transaction) -> list[Delivery]:
            connection = _connection(transaction)
            return _claim(connection, to_us(now), limit, to_us(_later(now, lease_s)), busy)

        return self._writer.submit("", job).result(TIMEOUT_S)

    def settle(self, delivery: Delivery, outcome: Outcome, now: datetime) -> None:
        """See the port.

        Raises:
            StorageTroubleError: The store cannot commit.
        """
        key = run_key(delivery.notice.run)

        def job(transaction: Transaction) -> None:
            connection = _connection(transaction)
            _settle(connection, key, delivery, outcome, to_us(now))
            if not self._exclusive:
                detail = delivery_detail(delivery, outcome)
                tell_of_delivery(connection, delivery.notice.run, delivery.notice.project, detail)

        self._writer.submit(delivery.notice.run, job).result(TIMEOUT_S)
        with self._lock:
            self._leases.pop(delivery.id, None)

    def next_due(self) -> datetime | None:
        """See the port."""
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
        """See the port."""
        table = schema.outbox.c
        query = select(table.state, func.count()).group_by(table.state)
        with reading(self._engine) as connection:
            found = {row[0]: row[1] for row in connection.execute(query)}
        states: tuple[DeliveryState, ...] = ("waiting", "delivered", "dead")
        return {state: found.get(state, 0) for state in states}

    def _claim_here(
        self, now_us: int, limit: int, lease_us: int, busy: Collection[str]
    ) -> list[Delivery]:
        with self._lock:
            self._leases = {one: until for one, until in self._leases.items() if until > now_us}
            most = limit + len(self._leases)
            with reading(self._engine) as connection:
                rows = connection.execute(_due(now_us, most, busy)).mappings().all()
            free = [dict(row) for row in rows if row["id"] not in self._leases][:limit]
            self._leases.update((row["id"], lease_us) for row in free)
        return [_delivery(row) for row in free]

    def resend(self, delivery_id: str, now: datetime, projects: Collection[str] | None) -> bool:
        """Put a dead delivery of these projects (None: any) back in line; whether there was one."""
        table = schema.outbox.c
        mine = true() if projects is None else of_projects(projects)

        def job(transaction: Transaction) -> bool:
            changed = _connection(transaction).execute(
                update(schema.outbox)
                .where(table.id == delivery_id, table.state == "dead", mine)
                .values(state="waiting", next_us=to_us(now), lease_us=0, reason="sent again")
            )
            return changed.rowcount > 0

        return self._writer.submit("", job).result(TIMEOUT_S)


def of_projects(projects: Collection[str]) -> ColumnElement[bool]:
    """Whether a delivery is about a run of these projects."""
    runs = schema.runs.c
    own = select(runs.run_key).where(runs.project.in_(projects))
    return schema.outbox.c.run_key.in_(own)


def _connection(transaction: Transaction) -> Connection:
    return cast("SqlTransaction", transaction).connection


def _later(moment: datetime, seconds: float) -> datetime:
    return moment + timedelta(seconds=seconds)


def _claim(
    connection: Connection, now_us: int, limit: int, lease_us: int, busy: Collection[str]
) -> list[Delivery]:
    table = schema.outbox
    query = _due(now_us, limit, busy).with_for_update(skip_locked=True, of=table)
    rows = connection.execute(query).mappings().all()
    for row in rows:
        connection.execute(
            update(table)
            .where(table.c.run_key == row["run_key"], table.c.id == row["id"])
            .values(lease_us=lease_us)
        )
    return [_delivery(dict(row)) for row in rows]


def _due(now_us: int, limit: int, busy: Collection[str]) -> Select[Any]:
    """What may be sent now: of one receiver and incident only the oldest that waits."""
    table = schema.outbox
    earlier = table.alias("earlier")
    overtakes = exists().where(
        and_(
            earlier.c.run_key == table.c.run_key,
            earlier.c.incident == table.c.incident,
            earlier.c.receiver == table.c.receiver,
            earlier.c.number < table.c.number,
            earlier.c.state == "waiting",
        )
    )
    return (
        select(table)
        .where(
            table.c.state == "waiting",
            table.c.next_us <= now_us,
            table.c.lease_us <= now_us,
            table.c.receiver.not_in(list(busy)),
            ~overtakes,
        )
        .order_by(table.c.next_us, table.c.created_us, table.c.number)
        .limit(limit)
    )


def _delivery(row: Mapping[str, Any]) -> Delivery:
    return Delivery(
        id=row["id"],
        receiver=row["receiver"],
        notice=notice_from_json(json.loads(row["notice"])),
        attempt=row["attempts"] + 1,
        created_at=from_us(row["created_us"]),
        next_at=from_us(row["next_us"]),
    )


def _settle(
    connection: Connection, key: int, delivery: Delivery, outcome: Outcome, now_us: int
) -> None:
    table = schema.outbox.c
    mine = and_(table.run_key == key, table.id == delivery.id, table.state == "waiting")
    if isinstance(outcome, ReceiverGone):
        mine = and_(table.receiver == delivery.receiver, table.state == "waiting")
    connection.execute(
        update(schema.outbox).where(mine).values(**_settled_columns(delivery, outcome, now_us))
    )


def _settled_columns(delivery: Delivery, outcome: Outcome, now_us: int) -> dict[str, Any]:
    columns: dict[str, Any] = {"attempts": delivery.attempt, "lease_us": 0}
    if isinstance(outcome, Delivered):
        return {**columns, "state": "delivered", "settled_us": now_us, "reason": ""}
    if isinstance(outcome, Retry):
        return {**columns, "next_us": to_us(outcome.at), "reason": outcome.reason[:MOST_REASON]}
    reason = outcome.reason[:MOST_REASON]
    assert isinstance(outcome, Dead | ReceiverGone)
    return {**columns, "state": "dead", "settled_us": now_us, "reason": reason}
