"""A body of rows read whole, as nothing but a test wants it."""

from __future__ import annotations

import json

from watchstep.core.updates import Update
from watchstep.errors import WireError
from watchstep.wire.rows import row_updates, split_rows
from watchstep.wire.text import decode_update


def decode_rows(body: bytes) -> tuple[int, list[Update]]:
    """The attempt and the updates in a body; raises the first WireError."""
    attempt, blocks = split_rows(body)
    updates: list[Update] = []
    for block in blocks:
        if block.json is not None:
            updates.append(decode_update(json.loads(block.json), attempt))
            continue
        for update in row_updates(block, attempt):
            if isinstance(update, WireError):
                raise update
            updates.append(update)
    return attempt, updates
