"""What people answered to alerts, more about notices, and keys that replicas share. Only adds."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Text

from watchstep_monitor.store.columns import added, filled, key, where

revision = "0006"
down_revision = "0005"
oldest_code = "0001"


def upgrade() -> None:
    op.add_column("alerts", *added(Text, "''", "answer"))
    op.add_column("alerts", *added(Text, "''", "answered_by"))
    op.add_column("outbox", *added(Text, "'{}'", "details"))
    op.create_index("alerts_answered", "alerts", ["answer"], **where("answer <> ''"))
    op.create_table("keys", *key("name", kind=Text), *filled(Text, "value"))
