"""Updates of several sources in one run. Only adds.

Updates of a source other than the training lie in the same tables under negative attempts, which
code of the version before does not look at.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
oldest_code = "0001"


def upgrade() -> None:
    """Add the columns."""
    for table, column, value in (
        ("attempts", "last_seqs", "'{}'"),
        ("run_states", "sources", "'{}'"),
        ("alerts", "source", "'training'"),
        ("timeline", "source", "'training'"),
    ):
        default = sa.text(value)
        op.add_column(table, sa.Column(column, sa.Text, nullable=False, server_default=default))
