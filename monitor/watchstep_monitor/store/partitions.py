"""The weeks of stored updates on PostgreSQL: one partition each, made ahead, dropped whole.

Week 0 is no week of the calendar: it keeps what must outlive its own week (see `drop_weeks`),
and what a store held before it had partitions.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

WEEK_S = 604_800
WEEKS_AHEAD = 4
"""Partitions made before they are needed; a writer that finds none makes them itself."""

MAKING_LOCK = 0x57535457
"""Key of the advisory lock under which partitions are made and dropped."""

THIS_WEEK = f"floor(extract(epoch FROM now()) / {WEEK_S})::integer"
"""By the database's clock: a replica whose clock is wrong writes where the others do."""


def make_partitions(connection: Connection) -> None:
    """Make the partitions of this week and the next ones that are not there yet."""
    connection.execute(text("BEGIN"))
    try:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MAKING_LOCK})
        week = connection.execute(text(f"SELECT {THIS_WEEK}")).scalar_one()
        known = set(week_partitions(connection))
        for at in range(week, week + WEEKS_AHEAD + 1):
            if at not in known:
                connection.execute(
                    text(
                        f"CREATE TABLE {partition(at)} PARTITION OF updates"
                        f" FOR VALUES FROM ({at}) TO ({at + 1})"
                    )
                )
        connection.execute(text("COMMIT"))
    except BaseException:
        connection.execute(text("ROLLBACK"))
        raise


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
    """The table that holds a week."""
    return f"updates_w{week}"
