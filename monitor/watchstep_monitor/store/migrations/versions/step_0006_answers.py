"""What people answered to alerts, more about notices, and keys that replicas share. Only adds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
oldest_code = "0001"


def upgrade() -> None:
    """Add the columns with an index, and the table."""
    for table, column, value in (
        ("alerts", "answer", "''"),
        ("alerts", "answered_by", "''"),
        ("outbox", "details", "'{}'"),
    ):
        default = sa.text(value)
        op.add_column(table, sa.Column(column, sa.Text, nullable=False, server_default=default))
    answered = sa.text("answer <> ''")
    op.create_index(
        "alerts_answered",
        "alerts",
        ["answer"],
        sqlite_where=answered,
        postgresql_where=answered,
    )
    op.create_table(
        "keys",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
