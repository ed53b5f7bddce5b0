"""The weeks of stored updates on PostgreSQL: one partition each, made ahead, dropped whole.

Week 0 is no week of the calendar: it keeps what must outlive its own week (see
`SqlTransaction.set_aside`), and what a store held before it had partitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from watchstep_monitor.service.run_state.storage import PastWeek

WEEK_S = 604_800
WEEKS_AHEAD = 4
"""Partitions made before they are needed; a writer that finds none makes them itself."""

MAKING_LOCK = 0x57535457
"""Key of the advisory lock under which partitions are made and dropped."""

THIS_WEEK = f"floor(extract(epoch FROM now()) / {WEEK_S})::integer"
"""By the database's clock: a replica whose clock is wrong writes where the others do."""


def make_partitions(connection: Connection) -> None:
    """Make the partitions of this week and the next ones that are not there yet."""
    with _transaction(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MAKING_LOCK})
        week = connection.execute(text(f"SELECT {THIS_WEEK}")).scalar_one()
        existing = set(week_partitions(connection))
        for at in range(week, week + WEEKS_AHEAD + 1):
            if at not in existing:
                connection.execute(
                    text(
                        f"CREATE TABLE {partition(at)} PARTITION OF updates"
                        f" FOR VALUES FROM ({at}) TO ({at + 1})"
                    )
                )


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    """A transaction on a connection that commits each statement by itself."""
    ending = "ROLLBACK"
    connection.execute(text("BEGIN"))
    try:
        yield
        ending = "COMMIT"
    finally:
        connection.execute(text(ending))


def over_weeks(connection: Connection, before_us: int) -> list[PastWeek]:
    """The weeks all of whose runs ended before a moment, first to last.

    Never this week or the last one, which a transaction that is still open may write to.
    """
    this_week = connection.execute(text(f"SELECT {THIS_WEEK}")).scalar_one()
    weeks = [week for week in week_partitions(connection) if week < this_week - 1]
    return [
        PastWeek(week, _with_incidents(connection, week))
        for week in weeks
        if _is_over(connection, week, before_us)
    ]


def drop_week(connection: Connection, week: int, before_us: int) -> int:
    """Drop a week's partition, unless one of its runs goes on again; returns the rows dropped.

    Whoever reads or writes updates waits for as long as it takes to remove a file.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MAKING_LOCK})
    if week not in week_partitions(connection) or not _is_over(connection, week, before_us):
        return 0
    table = partition(week)
    rows: int = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
    connection.execute(text(f"DROP TABLE {table}"))
    return rows


def _is_over(connection: Connection, week: int, before_us: int) -> bool:
    query = text(
        f"SELECT NOT EXISTS (SELECT FROM runs WHERE (ended_us IS NULL OR ended_us >= :before)"
        f" AND EXISTS (SELECT FROM {partition(week)} AS mine WHERE mine.run_key = runs.run_key))"
    )
    return bool(connection.execute(query, {"before": before_us}).scalar_one())


def _with_incidents(connection: Connection, week: int) -> tuple[str, ...]:
    query = text(
        f"SELECT DISTINCT run FROM incidents AS one WHERE EXISTS"
        f" (SELECT FROM {partition(week)} AS mine WHERE mine.run_key = one.run_key) ORDER BY run"
    )
    return tuple(connection.execute(query).scalars())


def week_partitions(connection: Connection) -> list[int]:
    """The weeks that have a partition, first to last; without week 0."""
    names = connection.execute(
        text(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
            " WHERE inhparent = 'updates'::regclass AND relname LIKE 'updates\\_w%'"
        )
    ).scalars()
    return sorted(int(name.removeprefix("updates_w")) for name in names)


def partition(week: int) -> str:
    return f"updates_w{week}"
