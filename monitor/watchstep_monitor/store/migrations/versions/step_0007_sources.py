"""Updates of several sources in one run. Only adds.

Updates of a source other than the training lie in the same tables under negative attempts, which
code of the version before does not look at.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import Text

from watchstep_monitor.store.columns import added

revision = "0007"
down_revision = "0006"
oldest_code = "0001"


def upgrade() -> None:
    op.add_column("attempts", *added(Text, "'{}'", "last_seqs"))
    op.add_column("run_states", *added(Text, "'{}'", "sources"))
    op.add_column("alerts", *added(Text, "'training'", "source"))
    op.add_column("timeline", *added(Text, "'training'", "source"))
