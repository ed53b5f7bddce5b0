"""Checksums of stored updates and roll-ups. Only adds."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger

from watchstep_monitor.store.columns import optional

revision = "0008"
down_revision = "0007"
oldest_code = "0001"


def upgrade() -> None:
    """Add the columns; what is stored already stays without."""
    op.add_column("updates", *optional(BigInteger, "crc"))
    op.add_column("rollups", *optional(BigInteger, "crc"))
