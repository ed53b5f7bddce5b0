"""Runs that are archived or deleted, and notes on them. Only adds."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Integer, Text

from watchstep_monitor.store.columns import added, filled, key

revision = "0005"
down_revision = "0004"
oldest_code = "0001"


def upgrade() -> None:
    op.add_column("runs", *added(Integer, "0", "archived"))
    op.add_column("runs", *added(Text, "''", "notes"))
    op.create_table(
        "deleted_runs",
        *key("run_key"),
        *filled(Text, "run", "project", "sessions"),
        *filled(BigInteger, "deleted_us"),
    )
