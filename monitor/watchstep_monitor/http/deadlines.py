"""An end to waits that all may last equally long, by one timer for all of them."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

LOOKS = 20
"""Looks at the oldest wait in the time that one may last: how exactly the limit is kept."""

LONGEST_LOOK_S = 0.25


class Deadline:
    """Entered by a task, it turns into a TimeoutError once the task was inside for too long.

    `asyncio.timeout` makes a timer for each wait, which for a small request is a twentieth of its
    cost. One of these serves any number of tasks of one loop.
    """

    def __init__(self, limit_s: float) -> None:
        """Take seconds; a wait may last a twentieth, or a quarter of a second, longer."""
        self._limit_s = limit_s
        self._look_s = min(limit_s / LOOKS, LONGEST_LOOK_S)
        # In the order of their ends, since all may last equally long. None: it is over.
        self._ends: dict[asyncio.Task[Any], float | None] = {}
        self._is_looking = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = task.get_loop()
        self._ends[task] = loop.time() + self._limit_s
        if not self._is_looking:
            self._is_looking = True
            loop.call_later(self._look_s, self._look, loop)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._ends.pop(task) is None and task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, end in self._ends.items():
            if end is None:
                continue
            if end > now:
                break
            self._ends[task] = None
            task.cancel()
        self._is_looking = bool(self._ends)
        if self._is_looking:
            loop.call_later(self._look_s, self._look, loop)
