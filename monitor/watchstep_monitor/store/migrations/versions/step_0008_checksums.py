"""Checksums of stored updates and roll-ups. Only adds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
oldest_code = "0001"


def upgrade() -> None:
    """Add the columns; what is stored already stays without."""
    op.add_column("updates", sa.Column("crc", sa.BigInteger))
    op.add_column("rollups", sa.Column("crc", sa.BigInteger))
