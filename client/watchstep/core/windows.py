"""What rules remember of a metric's past, advanced in constant amortised time.

Every window takes finite values only, so that one NaN can neither blind nor poison a
baseline; and once a value of 1e12 has left a window, no trace of it is left in any sum.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from watchstep.core.functions import SMALLEST_BASELINE
from watchstep.core.grammar import LONGEST_WINDOW, Span

UNKNOWN = math.nan
Moments = tuple[float, float, float, float, float]


class Window(Protocol):
    """History that can be written down and read back exactly."""

    def dump(self) -> Any:
        """Plain JSON that `load` takes."""
        ...

    def load(self, dumped: Any) -> None:
        """Become exactly the window that was dumped."""
        ...


def fewest(span: Span) -> int:
    """How many values a window must hold before it says anything."""
    return min(span.updates or SMALLEST_BASELINE, SMALLEST_BASELINE)


class MedianWindow:
    """Median of the last values; O(log n) comparisons and one short memory move a value."""

    __slots__ = ("least", "limit", "ordered", "queue", "seconds")

    def __init__(self, span: Span) -> None:
        self.limit = span.updates
        self.seconds = span.seconds
        self.least = fewest(span)
        self.queue: deque[tuple[float, float]] = deque()
        self.ordered: list[float] = []

    def push(self, value: float, time: float) -> None:
        self.queue.append((value, time))
        insort(self.ordered, value)
        if self.limit is not None:
            if len(self.queue) > self.limit:
                self.forget()
        else:
            self.expire(time)
            if len(self.queue) > LONGEST_WINDOW:
                self.forget()

    def forget(self) -> None:
        value, _ = self.queue.popleft()
        del self.ordered[bisect_left(self.ordered, value)]

    def expire(self, now: float) -> None:
        if self.seconds is not None:
            while self.queue and self.queue[0][1] < now - self.seconds:
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
        return list(self.queue)

    def load(self, dumped: Any) -> None:
        self.queue = deque((float(value), float(time)) for value, time in dumped)
        self.ordered = sorted(value for value, _ in self.queue)


class ExtremeWindow:
    """Smallest and largest of the last values, by two monotonic queues."""

    __slots__ = ("high", "least", "limit", "low", "newest", "seconds", "size", "times")

    def __init__(self, span: Span) -> None:
        self.limit = span.updates
        self.seconds = span.seconds
        self.least = fewest(span)
        self.low: deque[tuple[float, int]] = deque()
        self.high: deque[tuple[float, int]] = deque()
        self.times: deque[float] = deque()
        self.newest = 0
        self.size = 0

    def push(self, value: float, time: float) -> None:
        # The way of every update, so without a call or an attribute more than it needs.
        newest = self.newest = self.newest + 1
        low, high, limit = self.low, self.high, self.limit
        entry = (value, newest)
        while low and low[-1][0] >= value:
            low.pop()
        low.append(entry)
        while high and high[-1][0] <= value:
            high.pop()
        high.append(entry)
        if limit is None:
            self._push_timed(time)
        elif self.size < limit:
            self.size += 1
        else:
            if low[0][1] <= newest - limit:
                low.popleft()
            if high[0][1] <= newest - limit:
                high.popleft()

    def _push_timed(self, time: float) -> None:
        self.size += 1
        self.times.append(time)
        self.expire(time)
        if self.size > LONGEST_WINDOW:
            self.times.popleft()
            self.forget()

    def forget(self) -> None:
        self.size -= 1
        oldest = self.newest - self.size
        if self.low[0][1] <= oldest:
            self.low.popleft()
        if self.high[0][1] <= oldest:
            self.high.popleft()

    def expire(self, now: float) -> None:
        if self.seconds is not None:
            while self.times and self.times[0] < now - self.seconds:
                self.times.popleft()
                self.forget()

    def smallest(self) -> float:
        return self.low[0][0] if self.size >= self.least else UNKNOWN

    def largest(self) -> float:
        return self.high[0][0] if self.size >= self.least else UNKNOWN

    def is_flat(self, tolerance: float) -> bool | None:
        """Whether the full window spans at most `tolerance` of its largest magnitude."""
        if self.size < (self.limit or self.least):
            return None
        low, high = self.low[0][0], self.high[0][0]
        return high - low <= tolerance * max(abs(low), abs(high))

    def dump(self) -> Any:
        return [list(self.low), list(self.high), list(self.times), self.newest, self.size]

    def load(self, dumped: Any) -> None:
        low, high, times, newest, size = dumped
        self.low = deque((float(value), int(number)) for value, number in low)
        self.high = deque((float(value), int(number)) for value, number in high)
        self.times = deque(map(float, times))
        self.newest, self.size = int(newest), int(size)


def _joined(a: Moments, b: Moments) -> Moments:
    """Moments of two samples together (Chan, Golub and LeVeque's pairwise update).

    A sample is (count, mean of y, sum of squares of y, mean of x, sum of x*y products), the
    last three about the means; x is the update's number, so its own sum of squares follows
    from the count.
    """
    na, ya, sa, xa, pa = a
    nb, yb, sb, xb, pb = b
    n = na + nb
    if not na:
        return b
    dy, dx = yb - ya, xb - xa
    share = nb / n
    weight = na * share
    return (
        n,
        ya + dy * share,
        sa + sb + dy * dy * weight,
        xa + dx * share,
        pa + pb + dx * dy * weight,
    )


def _with(sums: Moments, value: float, number: float) -> Moments:
    """`_joined` with a sample of one, written out: it is called twice for every reading."""
    n, y, s, x, p = sums
    m = n + 1.0
    dy, dx = value - y, number - x
    weight = n / m
    return (m, y + dy / m, s + dy * dy * weight, x + dx / m, p + dx * dy * weight)


_NOTHING: Moments = (0.0, 0.0, 0.0, 0.0, 0.0)


class MomentWindow:
    """Mean and deviation of the last values, from sums about a point near them.

    What leaves is subtracted. Where that has cancelled four digits since the sums were last made
    anew, as after a value of 1e12, they are made anew from the values, and every so often
    anyway, so that rounding never piles up; the cost stays constant on average.
    """

    __slots__ = (
        "least",
        "left",
        "limit",
        "peak",
        "queue",
        "seconds",
        "shift",
        "squares",
        "times",
        "total",
    )

    def __init__(self, span: Span) -> None:
        self.limit = span.updates
        self.seconds = span.seconds
        self.least = fewest(span)
        self.queue: deque[float] = deque()
        self.times: deque[float] = deque()
        self.shift = self.total = self.squares = self.peak = 0.0
        self.left = 0

    def push(self, value: float, time: float) -> None:
        queue = self.queue
        if not queue:
            self.shift, self.total, self.squares, self.peak, self.left = value, 0.0, 0.0, 0.0, 0
        away = value - self.shift
        queue.append(value)
        self.total += away
        squares = self.squares = self.squares + away * away
        if squares > self.peak:  # noqa: PLR1730 - a call of max() costs a third of this method
            self.peak = squares
        if self.limit is None:
            self.times.append(time)
            self.expire(time)
        if len(queue) > (self.limit or LONGEST_WINDOW):
            self.forget()

    def forget(self) -> None:
        away = self.queue.popleft() - self.shift
        if self.times:
            self.times.popleft()
        total = self.total = self.total - away
        squares = self.squares = self.squares - away * away
        left = self.left = self.left + 1
        size, shift = len(self.queue), self.shift
        if (
            # Not "<" with the sides exchanged: infinite sums leave NaN behind, which is false.
            not squares >= 1e-4 * self.peak
            or abs(shift * size + total) < 1e-4 * abs(shift) * size
            or left >= max(256, size)
        ):
            self._sum_again()

    def _sum_again(self) -> None:
        size = len(self.queue)
        self.shift = math.fsum(self.queue) / size if size else 0.0
        away = [value - self.shift for value in self.queue]
        self.total = math.fsum(away)
        self.squares = self.peak = sum(part * part for part in away)
        self.left = 0

    def expire(self, now: float) -> None:
        if self.seconds is not None:
            while self.times and self.times[0] < now - self.seconds:
                self.forget()

    def mean(self) -> float:
        size = len(self.queue)
        return self.shift + self.total / size if size >= self.least else UNKNOWN

    def std(self) -> float:
        size = len(self.queue)
        if size < self.least:
            return UNKNOWN
        off = self.total / size
        variance = self.squares / size - off * off
        if off and not variance > 1e-8 * off * off:
            # The point that the sums are about is too far from the values to tell them apart.
            self._sum_again()
            variance = self.squares / size
        return math.sqrt(variance)

    def zscore(self, value: float) -> float:
        return ratio(value - self.mean(), self.std())

    def dump(self) -> Any:
        sums = (self.shift, self.total, self.squares, self.peak)
        return [list(self.queue), list(self.times), _plain(sums), self.left]

    def load(self, dumped: Any) -> None:
        queue, times, sums, left = dumped
        self.queue, self.times = deque(map(float, queue)), deque(map(float, times))
        self.shift, self.total, self.squares, self.peak = map(float, sums)
        self.left = int(left)


class TrendWindow:
    """Slope of the last values: a queue of two stacks of moments, so nothing is subtracted."""

    __slots__ = (
        "back",
        "front",
        "least",
        "limit",
        "newest",
        "seconds",
        "sums",
    )

    def __init__(self, span: Span) -> None:
        self.limit = span.updates
        self.seconds = span.seconds
        self.least = fewest(span)
        self.front: list[tuple[Moments, float]] = []
        self.back: list[tuple[float, float, float]] = []
        self.sums = _NOTHING
        self.newest = 0.0

    def push(self, value: float, time: float) -> None:
        self.newest += 1.0
        self.back.append((value, self.newest, time))
        self.sums = _with(self.sums, value, self.newest)
        if self.limit is None:
            self.expire(time)
        if len(self.front) + len(self.back) > (self.limit or LONGEST_WINDOW):
            self.forget()

    def forget(self) -> None:
        if not self.front:
            sums = _NOTHING
            for value, number, time in reversed(self.back):
                sums = _with(sums, value, number)
                self.front.append((sums, time))
            self.back, self.sums = [], _NOTHING
        self.front.pop()

    def expire(self, now: float) -> None:
        if self.seconds is not None:
            while self.front or self.back:
                oldest = self.front[-1][1] if self.front else self.back[0][2]
                if oldest >= now - self.seconds:
                    break
                self.forget()

    def moments(self) -> Moments:
        if not self.front:
            return self.sums
        return _joined(self.front[-1][0], self.sums) if self.sums[0] else self.front[-1][0]

    def slope(self) -> float:
        n, _, _, _, products = self.moments()
        # The numbers in the window follow one another, so their squares about the mean
        # sum to n(n^2 - 1)/12.
        return products / (n * (n * n - 1.0) / 12.0) if n >= max(2, self.least) else UNKNOWN

    def updates_until(self, limit: float) -> float:
        """Updates until the fitted line reaches `limit`; inf if it moves away from it."""
        n, mean_y, _, mean_x, products = self.moments()
        if n < max(2, self.least):
            return UNKNOWN
        slope = products / (n * (n * n - 1.0) / 12.0)
        distance = limit - (mean_y + slope * (self.newest - mean_x))
        return distance / slope if distance * slope > 0 else math.inf

    def dump(self) -> Any:
        front = [(_plain(found), time) for found, time in self.front]
        return [front, list(self.back), _plain(self.sums), self.newest]

    def load(self, dumped: Any) -> None:
        front, back, sums, newest = dumped
        self.front = [(_moments(found), float(time)) for found, time in front]
        self.back = [(float(value), float(number), float(time)) for value, number, time in back]
        self.sums = _moments(sums)
        self.newest = float(newest)


def _plain(found: Iterable[float]) -> list[float | str]:
    """Moments for JSON, in which squares of readings beyond 1e154 are no number any more."""
    return [part if math.isfinite(part) else str(part) for part in found]


def _moments(dumped: Any) -> Moments:
    n, mean, squares, place, products = map(float, dumped)
    return (n, mean, squares, place, products)


class RecordWindow:
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
        if not -self.largest <= value <= self.largest:
            self.largest = abs(value)
        if value < self.low:  # noqa: PLR1730 - the branch costs a third of the call of min()
            self.low = value

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


class RepeatWindow:
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


class CountWindow:
    """How often a condition held in the last updates at which it could be told.

    What cannot be told takes no place, or a few NaN would push out the evidence and resolve
    an alert.
    """

    __slots__ = ("held", "limit", "queue", "seconds")

    def __init__(self, span: Span) -> None:
        self.limit = span.updates or LONGEST_WINDOW
        self.seconds = span.seconds
        self.queue: deque[tuple[bool, float]] = deque()
        self.held = 0

    def push(self, held: bool | None, time: float) -> float:
        """The count; UNKNOWN where the present condition is."""
        if self.seconds is not None:
            while self.queue and self.queue[0][1] < time - self.seconds:
                self.held -= self.queue.popleft()[0]
        if held is None:
            return UNKNOWN
        if not held and not self.held:
            # Where nothing held, what did not hold has nothing to push out.
            self.queue.clear()
            return 0.0
        self.queue.append((held, time))
        self.held += held
        if len(self.queue) > self.limit:
            self.held -= self.queue.popleft()[0]
        return float(self.held)

    def dump(self) -> Any:
        return [[int(held), time] for held, time in self.queue]

    def load(self, dumped: Any) -> None:
        self.queue = deque((bool(held), float(time)) for held, time in dumped)
        self.held = sum(held for held, _ in self.queue)


def ratio(numerator: float, denominator: float) -> float:
    """Division as IEEE 754 has it, where Python would raise."""
    if denominator:
        return numerator / denominator
    if numerator != numerator or not numerator or denominator != denominator:
        return UNKNOWN
    return math.copysign(math.inf, numerator) * math.copysign(1.0, denominator)
