"""Events that can wait for the next update, so that update numbers stay training updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from watchstep.hook.captured_logs import CapturedLogs

if TYPE_CHECKING:
    from watchstep.checkpoint import Checkpoint

Event = Mapping[str, Any]


class PendingEvents:
    """What the next updates will carry, most important first.

    A newer checkpoint replaces an older one of its kind that still waits; the newest pin and
    the newest save are what counts.
    """

    def __init__(self) -> None:
        self.captured = CapturedLogs()
        self._started: Event | None = {"kind": "started"}
        self._pinned: Event | None = None
        self._saved: Event | None = None

    def checkpoint(self, found: Checkpoint) -> None:
        """Tell of a checkpoint that was kept, or that became the pin."""
        if found.pinned:
            self._pinned = checkpoint_event(found)
        else:
            self._saved = checkpoint_event(found)

    def next(self) -> Event | None:
        """The next event to attach, or None."""
        heard = self.captured.take()
        if heard is not None:
            return heard
        if self._started is not None:
            found, self._started = self._started, None
            return found
        if self._pinned is not None:
            found, self._pinned = self._pinned, None
            return found
        found_save, self._saved = self._saved, None
        return found_save


def checkpoint_event(found: Checkpoint) -> dict[str, Any]:
    """The event that tells of a checkpoint."""
    event: dict[str, Any] = {
        "kind": "checkpoint",
        "path": str(found.path),
        "step": found.step,
        "finite": found.finite,
        "pinned": found.pinned,
        "sha256": found.sha256,
    }
    if found.bad_tensor is not None:
        event["bad_tensor"] = found.bad_tensor
    return event
