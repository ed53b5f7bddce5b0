"""What several tests of the hook look at."""

from __future__ import annotations

from typing import Any

import watchstep


def updates_of(watch: watchstep.Watch) -> list[Any]:
    """The updates that a watch sends from now on."""
    updates: list[Any] = []
    assert watch._stream.outbound is not None
    watch._stream.outbound.put = updates.append  # type: ignore[method-assign]
    return updates
