"""Updates by the week on PostgreSQL, and roll-ups for charts.

Only adds. Replicas of the version before go on writing while this one takes over: the new
column fills itself, and the partitions of the next weeks are there when the step commits. What
is stored already becomes the partition of week 0 as it is, without being copied; its primary
key is built anew, which takes seconds for a million rows.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Integer, LargeBinary

from watchstep_monitor.store.columns import added, filled, key

revision = "0002"
down_revision = "0001"
oldest_code = "0001"

# As many weeks as `partitions` makes ahead; written out, for a step never changes again.
_WEEKS = 5
# The number of the week since 1970, by the database's clock.
_THIS_WEEK = "floor(extract(epoch FROM now()) / 604800)::integer"
_COLUMNS = """
    run_key bigint NOT NULL,
    attempt integer NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    least_step bigint NOT NULL,
    greatest_step bigint NOT NULL,
    shape integer NOT NULL,
    steps bytea NOT NULL,
    times bytea NOT NULL,
    readings bytea NOT NULL,
    events text
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _split_by_week()
    else:
        op.add_column("updates", *added(Integer, "0", "week"))
    op.create_table(
        "rollups",
        *key("run_key"),
        *key("attempt", kind=Integer),
        *key("first_seq"),
        *filled(BigInteger, "last_seq", "least_step", "greatest_step"),
        *filled(Integer, "shape"),
        *filled(LargeBinary, "points"),
    )


def _split_by_week() -> None:
    op.execute("ALTER TABLE updates RENAME TO updates_kept")
    op.execute("ALTER TABLE updates_kept ADD COLUMN week integer NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE updates_kept DROP CONSTRAINT updates_pkey")
    op.execute(
        "ALTER TABLE updates_kept ADD CONSTRAINT updates_kept_pkey"
        " PRIMARY KEY (run_key, attempt, first_seq, week)"
    )
    op.execute(
        f"CREATE TABLE updates ({_COLUMNS}, week integer NOT NULL DEFAULT {_THIS_WEEK},"
        " PRIMARY KEY (run_key, attempt, first_seq, week)) PARTITION BY RANGE (week)"
    )
    op.execute("ALTER TABLE updates ATTACH PARTITION updates_kept FOR VALUES FROM (0) TO (1)")
    (week,) = op.get_bind().exec_driver_sql(f"SELECT {_THIS_WEEK}").one()
    for at in range(week, week + _WEEKS):
        op.execute(
            f"CREATE TABLE updates_w{at} PARTITION OF updates FOR VALUES FROM ({at}) TO ({at + 1})"
        )
