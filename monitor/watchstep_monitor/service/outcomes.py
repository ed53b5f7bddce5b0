"""What came of jobs, handed from a writing thread to an event loop, many in one call."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
_T_contra = TypeVar("_T_contra", contravariant=True)


class Outcome(Protocol[_T_contra]):
    """Where a writing thread puts what came of a job; `concurrent.futures.Future` is one."""

    def set_running_or_notify_cancel(self) -> bool: ...

    def done(self) -> bool: ...

    def set_result(self, result: _T_contra, /) -> None: ...

    def set_exception(self, exception: BaseException | None, /) -> None: ...


class LoopOutcomes:
    """Outcomes for one event loop; it is woken once for all that have come meanwhile.

    A `concurrent.futures.Future` for each job, wrapped for the loop, took a fifth of the time of
    a small request: a lock, a condition and a wake-up each.
    """

    def __init__(self) -> None:
        self._settled: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._is_woken = False

    def new(self) -> LoopOutcome[Any]:
        """One more. In the loop."""
        return LoopOutcome(self, asyncio.get_running_loop().create_future())

    def settle(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        """Have the loop resolve a future soon. From any thread."""
        self._settled.append((future, result, error))
        if not self._is_woken:
            self._is_woken = True
            # A loop that is closed has nobody left who waits.
            with suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        # First: what comes from here on may not be seen below, and wakes the loop again.
        self._is_woken = False
        while self._settled:
            future, result, error = self._settled.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


class LoopOutcome(Generic[T]):
    """An `Outcome` to be awaited.

    Attributes:
        future: Who cancels it gives up, and a job whose turn has not come is not done.
    """

    __slots__ = ("_is_settled", "_outcomes", "future")

    def __init__(self, outcomes: LoopOutcomes, future: asyncio.Future[T]) -> None:
        self._outcomes = outcomes
        self._is_settled = False
        self.future = future

    def set_running_or_notify_cancel(self) -> bool:
        return not self.future.cancelled()

    def done(self) -> bool:
        return self._is_settled

    def set_result(self, result: T, /) -> None:
        self._is_settled = True
        self._outcomes.settle(self.future, result, None)

    def set_exception(self, exception: BaseException | None, /) -> None:
        self._is_settled = True
        self._outcomes.settle(self.future, None, exception)
