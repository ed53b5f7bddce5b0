"""${message}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
# Revision of the oldest code that works after this step, see store/compatibility.py: an earlier
# one where the step only adds.
oldest_code = ${repr(up_revision)}


def upgrade() -> None:
    """Apply the step."""
    ${upgrades if upgrades else "pass"}
