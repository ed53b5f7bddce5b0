"""Events that can wait for the next update, so that update numbers stay training updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from watchstep.core.updates import EVENT_KINDS
from watchstep.hook.captured_logs import CapturedLogs
from watchstep.hook.plain_values import EVENT_BYTES, plain_mapping

if TYPE_CHECKING:
    from watchstep.checkpoint import Checkpoint

Event = Mapping[str, Any]


class PendingEvents:
    """What the next updates will carry, most important first.

    A newer checkpoint replaces an older one of its kind that still waits; the newest pin and
    the newest save are what counts. Steps that the guard skipped are one event, with their
    number.
    """

    def __init__(self) -> None:
        self.captured = CapturedLogs()
        self._guard: dict[str, Any] | None = None
        self._started: Event | None = {"kind": "started"}
        self._pinned: Event | None = None
        self._saved: Event | None = None

    def skipped(self, reason: str) -> None:
        if self._guard is None:
            self._guard = {"kind": "guard", "verdict": "skip", "reason": reason, "steps": 0}
        self._guard["steps"] += 1

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        if checkpoint.pinned:
            self._pinned = checkpoint_event(checkpoint)
        else:
            self._saved = checkpoint_event(checkpoint)

    def next(self) -> Event | None:
        captured = self.captured.take()
        if self._guard is not None:
            # It belongs to the very update of its step, and so do the texts of that step.
            guard, self._guard = self._guard, None
            return guard if captured is None else captured | guard
        if captured is not None:
            return captured
        if self._started is not None:
            started, self._started = self._started, None
            return started
        return None

    def next_checkpoint(self) -> Event | None:
        """The next event about a checkpoint, or None.

        Asked for once it is known what an update did to the pin: it names a file that is there.
        """
        if self._pinned is not None:
            pinned, self._pinned = self._pinned, None
            return pinned
        saved, self._saved = self._saved, None
        return saved


def sendable(event: Any) -> tuple[Event | None, str]:
    """An event of the user's as the service takes it, and what had to be changed.

    Returns:
        None where nothing of it can be used; the sentence is "" where nothing was changed.
    """
    try:
        plain, left_out = plain_mapping(event, most_bytes=EVENT_BYTES)
    except TypeError:
        return None, f"an event must be a mapping with a 'kind', not a {type(event).__name__}"
    kind = plain.get("kind")
    if kind not in EVENT_KINDS:
        listed = ", ".join(EVENT_KINDS)
        plain |= {"kind": "log", "level": "info"}
        plain.setdefault("text", f"event {kind!r}")
        return (
            plain,
            f"an event's kind must be one of {listed}, not {kind!r:.80}; it is told as log",
        )
    if left_out:
        return plain, f"an event takes {EVENT_BYTES} bytes: one of kind {kind!r} is cut"
    return plain, ""


def checkpoint_event(checkpoint: Checkpoint) -> dict[str, Any]:
    event: dict[str, Any] = {
        "kind": "checkpoint",
        "path": str(checkpoint.path),
        "step": checkpoint.step,
        "finite": checkpoint.finite,
        "pinned": checkpoint.pinned,
        "sha256": checkpoint.sha256,
    }
    if checkpoint.bad_tensor is not None:
        event["bad_tensor"] = checkpoint.bad_tensor
    return event
