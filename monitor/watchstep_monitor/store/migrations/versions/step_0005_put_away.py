"""Runs that are archived or deleted, and notes on them. Only adds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
oldest_code = "0001"


def upgrade() -> None:
    """Add the columns, and the table of what was deleted."""
    archived = sa.Column("archived", sa.Integer, nullable=False, server_default=sa.text("0"))
    op.add_column("runs", archived)
    op.add_column("runs", sa.Column("notes", sa.Text, nullable=False, server_default=sa.text("''")))
    op.create_table(
        "deleted_runs",
        sa.Column("run_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("sessions", sa.Text, nullable=False),
        sa.Column("deleted_us", sa.BigInteger, nullable=False),
    )
