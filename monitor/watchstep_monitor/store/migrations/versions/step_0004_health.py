"""Status and health apart, and alerts of one metric each. Only adds.

Code of the version before goes on writing `diverged` as a status, and reading it as one; newer code
reads that as a run that goes on, or ended, and has diverged.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
oldest_code = "0001"

_SAY = """
    UPDATE runs SET
        updated_us = CASE WHEN last_seq > 0 THEN heard_us END,
        health = CASE
            WHEN status = 'diverged' THEN 'diverged'
            WHEN EXISTS (
                SELECT 1 FROM alerts WHERE alerts.run_key = runs.run_key
                AND alerts.state = 'firing' AND alerts.severity = 'critical'
            ) THEN 'exploded'
            WHEN EXISTS (
                SELECT 1 FROM alerts WHERE alerts.run_key = runs.run_key
                AND alerts.state = 'firing' AND alerts.severity = 'warning'
            ) THEN 'suspicious'
            WHEN updates >= 10 THEN 'healthy'
            ELSE 'unjudged'
        END
"""


def upgrade() -> None:
    """Add the columns, and say of each run what its status and its alerts say."""
    health = sa.Column("health", sa.Text, nullable=False, server_default=sa.text("'unjudged'"))
    op.add_column("runs", health)
    op.add_column("runs", sa.Column("updated_us", sa.BigInteger))
    op.add_column("runs", sa.Column("hung", sa.Text))
    reports = sa.Column("reports", sa.Text, nullable=False, server_default=sa.text("'{}'"))
    op.add_column("run_states", reports)
    subject = sa.Column("subject", sa.Text, nullable=False, server_default=sa.text("''"))
    op.add_column("alerts", subject)
    op.execute(_SAY)
