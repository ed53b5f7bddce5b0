"""Tokens in the store. Only adds."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Integer, Text

from watchstep_monitor.store.columns import filled, key, optional

revision = "0003"
down_revision = "0002"
oldest_code = "0001"


def upgrade() -> None:
    op.create_table(
        "tokens",
        *key("sha256", kind=Text),
        *filled(Text, "name", "scopes", "projects"),
        *optional(BigInteger, "created_us", "expires_us", "revoked_us"),
        *optional(Integer, "used_day"),
    )
