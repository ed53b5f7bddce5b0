"""What rules remember of a metric's past, advanced in constant amortised time.

Every window takes finite values only, so that one NaN can neither blind nor poison a
baseline; and once a value of 1e12 has left a window, no trace of it is left in any sum.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from watchstep.core.arithmetic import UNKNOWN, ratio
from watchstep.core.spans import LONGEST_WINDOW, SMALLEST_BASELINE, Span


class Window:
    """History that can be written down and read back exactly."""

    __slots__ = ()

    def push(self, reading: Any, time: float) -> None:
        """Take a finite value of an update at that time.

        To mypyc a float is a number, which every list that keeps it would make an object of.
        """
        raise NotImplementedError

    def expire(self, now: float) -> None:
        """Forget what is older than a window of seconds reaches."""
        raise NotImplementedError

    def dump(self) -> Any:
        """Plain JSON that `load` takes."""
        raise NotImplementedError

    def load(self, dumped: Any) -> None:
        """Become exactly the window that was dumped."""
        raise NotImplementedError


def fewest(span: Span) -> int:
    """How many values a window must hold before it says anything."""
    return min(span.updates or SMALLEST_BASELINE, SMALLEST_BASELINE)


NO_TIMES: deque[float] = deque(maxlen=0)
"""Shared by windows of updates: an empty deque takes 600 bytes."""


class RecordWindow(Window):
    """The extremes of the attempt so far, and the last finite value."""

    __slots__ = ("largest", "last", "low", "seen")

    def __init__(self, _span: Span | None = None) -> None:
        self.seen = 0
        self.largest = 0.0
        self.low = math.inf
        self.last = UNKNOWN

    def push(self, reading: Any, _time: float) -> None:
        value: float = reading
        self.seen += 1
        self.last = value
        if not self.low <= value <= self.largest:
            self.widen(value)

    def widen(self, value: float) -> None:
        """Admit a value that is not between the smallest value and the largest magnitude."""
        self.largest = max(self.largest, abs(value))
        self.low = min(self.low, value)

    def times_largest(self, value: float, least: float) -> float:
        if self.seen < least or value != value:
            return UNKNOWN
        return ratio(abs(value), self.largest)

    def lowest(self, least: float) -> float:
        return self.low if self.seen >= least else UNKNOWN

    def dump(self) -> Any:
        return [self.seen, self.largest, self.low, self.last] if self.seen else []

    def load(self, dumped: Any) -> None:
        if dumped:
            seen, self.largest, self.low, self.last = map(float, dumped)
            self.seen = int(seen)


class RepeatWindow(Window):
    """How many values in a row have been the same one, and how many there were at all."""

    __slots__ = ("last", "repeats", "seen")

    def __init__(self, _span: Span | None = None) -> None:
        self.seen = 0
        self.repeats = 0
        self.last = UNKNOWN

    def push(self, reading: Any, _time: float) -> None:
        value: float = reading
        self.seen += 1
        if value == self.last:
            self.repeats += 1
        else:
            self.last = value
            self.repeats = 1

    def lasts(self, updates: float) -> float:
        """Whether the last so many values are all equal; UNKNOWN before there are as many."""
        return 1.0 if self.repeats >= updates else 0.0 if self.seen >= updates else UNKNOWN

    def dump(self) -> Any:
        return [self.seen, self.repeats, self.last] if self.seen else []

    def load(self, dumped: Any) -> None:
        if dumped:
            self.seen, self.repeats, self.last = int(dumped[0]), int(dumped[1]), float(dumped[2])


class CountWindow(Window):
    """How often a condition held in the last updates at which it could be told.

    What cannot be told takes no place, or a few NaN would push out the evidence and resolve
    an alert.

    Attributes:
        count: Updates at which it held.
    """

    __slots__ = ("count", "limit", "oldest", "queue", "ring", "seconds")

    def __init__(self, span: Span) -> None:
        self.limit = span.updates or LONGEST_WINDOW
        self.seconds = span.seconds
        # None is empty: most conditions hold nowhere in most runs.
        self.queue: deque[tuple[bool, float]] | None = None
        self.ring: list[Any] | None = None
        self.oldest = 0
        self.count = 0.0

    def is_empty(self) -> bool:
        return self.ring is None and not self.queue

    def tally(self, held: float, time: float) -> float:
        """The count with the present condition (1.0 or 0.0); UNKNOWN where that is."""
        if self.seconds is not None:
            return self._tally_timed(held, time)
        if held != held:
            return UNKNOWN
        ring = self.ring
        if held == 0.0 and self.count == 0.0:
            # Where nothing held, what did not hold has nothing to push out.
            self.ring = None
            return 0.0
        if ring is None:
            ring = self.ring = []
            self.oldest = 0
        if len(ring) < self.limit:
            ring.append(held == 1.0)
        else:
            oldest = self.oldest
            if ring[oldest]:
                self.count -= 1.0
            ring[oldest] = held == 1.0
            self.oldest = oldest + 1 if oldest + 1 < self.limit else 0
        self.count += held
        return self.count

    def _tally_timed(self, held: float, time: float) -> float:
        queue, seconds = self.queue, self.seconds
        if queue is not None and seconds is not None:
            while queue and queue[0][1] < time - seconds:
                self.count -= queue.popleft()[0]
        if held != held:
            return UNKNOWN
        if held == 0.0 and self.count == 0.0:
            self.queue = None
            return 0.0
        if queue is None:
            queue = self.queue = deque()
        queue.append((held == 1.0, time))
        self.count += held
        if len(queue) > self.limit:
            self.count -= queue.popleft()[0]
        return self.count

    def dump(self) -> Any:
        """Conditions and their times, which only a window of seconds has."""
        ring = self.ring or []
        in_order = ring[self.oldest :] + ring[: self.oldest]
        timed = [[int(held), time] for held, time in self.queue or ()]
        return timed or [[int(held), 0.0] for held in in_order]

    def load(self, dumped: Any) -> None:
        queue = [(bool(held), float(time)) for held, time in dumped]
        self.queue = deque(queue) if queue and self.seconds is not None else None
        self.ring = [held for held, _ in queue] if queue and self.seconds is None else None
        self.oldest = 0
        self.count = float(sum(held for held, _ in queue))
