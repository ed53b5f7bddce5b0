"""What happens, as it happens: fans committed changes out to whoever listens."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from watchstep_monitor.service.clock import to_us
from watchstep_monitor.service.ports import Clock

REMEMBERED = 2_000
"""Happenings kept for a listener that was away for a moment; older ones are in timelines."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that a listener is told.

    Attributes:
        id: Microseconds since the epoch, strictly rising in this process; what a listener
            names to go on from there.
        kind: "transition", "status", "stage", "event", "attempt", "command", "acknowledged"
            or "delivery".
        project: Decides who may hear of it.
    """

    id: int
    kind: str
    run: str
    project: str
    detail: Mapping[str, Any]


class Broadcast:
    """Thread-safe; listeners are called in the publishing thread and must return at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._recent: deque[Happening] = deque(maxlen=REMEMBERED)
        self._listeners: set[Callable[[Happening], None]] = set()
        self._last_id = 0

    def publish(
        self, kind: str, run: str, project: str, detail: Mapping[str, Any], at_us: int | None = None
    ) -> None:
        """Tell everyone.

        Args:
            kind: See `Happening`.
            run: "" where none is concerned.
            project: The run's.
            detail: Plain JSON.
            at_us: Of the timeline entry it stands for; None for now.
        """
        with self._lock:
            wanted = to_us(self._clock.now()) if at_us is None else at_us
            self._last_id = max(wanted, self._last_id + 1)
            happening = Happening(self._last_id, kind, run, project, detail)
            self._recent.append(happening)
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener(happening)

    def listen(
        self, listener: Callable[[Happening], None], after: int | None
    ) -> tuple[list[Happening], bool]:
        """Begin to listen; nothing falls between what is returned and what is called with.

        Returns:
            What happened after `after` and is still remembered, and whether that is all of it.
        """
        with self._lock:
            self._listeners.add(listener)
            if after is None:
                return [], True
            complete = bool(self._recent) and self._recent[0].id <= after
            return [known for known in self._recent if known.id > after], complete

    def leave(self, listener: Callable[[Happening], None]) -> None:
        """Listen no more."""
        with self._lock:
            self._listeners.discard(listener)

    def listening(self) -> int:
        """How many listen."""
        return len(self._listeners)
