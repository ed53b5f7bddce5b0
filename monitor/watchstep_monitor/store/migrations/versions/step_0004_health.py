"""Status and health apart, and alerts of one metric each. Only adds.

Code of the version before goes on writing `diverged` as a status, and reading it as one; newer code
reads that as a run that goes on, or ended, and has diverged.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Text

from watchstep_monitor.store.columns import added, optional

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
    op.add_column("runs", *added(Text, "'unjudged'", "health"))
    op.add_column("runs", *optional(BigInteger, "updated_us"))
    op.add_column("runs", *optional(Text, "hung"))
    op.add_column("run_states", *added(Text, "'{}'", "reports"))
    op.add_column("alerts", *added(Text, "''", "subject"))
    op.execute(_SAY)
