"""What rules remember of a metric's past, advanced in constant amortised time.

Every window takes finite values only, so that one NaN can neither blind nor poison a
baseline; and once a value of 1e12 has left a window, no trace of it is left in any sum.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from itertools import repeat
from typing import Any

from watchstep.core.arithmetic import UNKNOWN, ratio
from watchstep.core.spans import LONGEST_WINDOW, SMALLEST_BASELINE, Span


class Window:
    """History that can be written down and read back exactly."""

    __slots__ = ()

    def push(self, value: float, time: float) -> None:
        """Take a finite value of an update at that time."""
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


class MedianWindow(Window):
    """Median of the last values; O(log n) comparisons and one short memory move a value."""

    __slots__ = ("least", "limit", "ordered", "queue", "seconds", "times")

    def __init__(self, span: Span) -> None:
        self.limit = span.updates
        self.seconds = span.seconds
        self.least = fewest(span)
        self.queue: deque[float] = deque()
        self.times: deque[float] = deque()
        self.ordered: list[float] = []

    def push(self, value: float, time: float) -> None:
        self.queue.append(value)
        insort(self.ordered, value)
        if self.limit is None:
            self.times.append(time)
            self.expire(time)
        if len(self.queue) > (self.limit or LONGEST_WINDOW):
            self.forget()

    def forget(self) -> None:
        if self.times:
            self.times.popleft()
        del self.ordered[bisect_left(self.ordered, self.queue.popleft())]

    def expire(self, now: float) -> None:
        if self.seconds is not None:
            while self.times and self.times[0] < now - self.seconds:
                self.forget()

    def median(self) -> float:
        ordered = self.ordered
        size = len(ordered)
        if size < self.least:
            return UNKNOWN
        middle = size >> 1
        if size & 1:
            return ordered[middle]
        return ordered[middle - 1] * 0.5 + ordered[middle] * 0.5

    def dump(self) -> Any:
        return list(zip(self.queue, self.times or repeat(0.0), strict=False))

    def load(self, dumped: Any) -> None:
        self.queue = deque(float(value) for value, _ in dumped)
        if self.limit is None:
            self.times = deque(float(time) for _, time in dumped)
        self.ordered = sorted(self.queue)


class RecordWindow(Window):
    """The extremes of the attempt so far, and the last finite value."""

    __slots__ = ("largest", "last", "low", "seen")

    def __init__(self, _span: Span | None = None) -> None:
        self.seen = 0
        self.largest = 0.0
        self.low = math.inf
        self.last = UNKNOWN

    def push(self, value: float, _time: float) -> None:
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

    def push(self, value: float, _time: float) -> None:
        self.seen += 1
        if value == self.last:
            self.repeats += 1
        else:
            self.last = value
            self.repeats = 1

    def lasts(self, updates: float) -> bool | None:
        """Whether the last so many values are all equal; None before there are as many."""
        return True if self.repeats >= updates else False if self.seen >= updates else None

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

    __slots__ = ("count", "limit", "queue", "seconds")

    def __init__(self, span: Span) -> None:
        self.limit = span.updates or LONGEST_WINDOW
        self.seconds = span.seconds
        self.queue: deque[tuple[bool, float]] = deque()
        self.count = 0.0

    def tally(self, held: float, time: float) -> float:
        """The count with the present condition (1.0 or 0.0); UNKNOWN where that is."""
        if self.seconds is not None:
            while self.queue and self.queue[0][1] < time - self.seconds:
                self.count -= self.queue.popleft()[0]
        if held != held:
            return UNKNOWN
        if held == 0.0 and self.count == 0.0:
            # Where nothing held, what did not hold has nothing to push out.
            if self.queue:
                self.queue.clear()
            return 0.0
        self.queue.append((held == 1.0, time))
        self.count += held
        if len(self.queue) > self.limit:
            self.count -= self.queue.popleft()[0]
        return self.count

    def dump(self) -> Any:
        return [[int(held), time] for held, time in self.queue]

    def load(self, dumped: Any) -> None:
        self.queue = deque((bool(held), float(time)) for held, time in dumped)
        self.count = float(sum(held for held, _ in self.queue))
