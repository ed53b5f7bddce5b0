"""What people answered to alerts, and the keys that replicas share. Only adds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
oldest_code = "0001"


def upgrade() -> None:
    """Add the column with its index, and the table."""
    op.add_column(
        "alerts", sa.Column("answer", sa.Text, nullable=False, server_default=sa.text("''"))
    )
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
