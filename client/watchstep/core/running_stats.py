"""Mean, deviation and slope of the last values, in constant time on average."""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any

from watchstep.core.arithmetic import UNKNOWN, ratio
from watchstep.core.spans import LONGEST_WINDOW, Span
from watchstep.core.windows import NO_TIMES, Window, fewest

Moments = tuple[float, float, float, float, float]

_TINY = 2.0**-20
"""Scales the largest floats so that a hundred thousand of them can be added."""

_NOTHING: Moments = (0.0, 0.0, 0.0, 0.0, 0.0)


class MomentWindow(Window):
    """Mean and deviation of the last values, from sums about a point near them.

    What leaves is subtracted. Where that has cancelled four digits since the sums were last made
    anew, as after a value of 1e12, they are made anew from the values, and every so often
    anyway, so that rounding never piles up; the cost stays constant on average.

    Attributes:
        values: A ring when it is full: a deque of floats takes four times the memory.
        oldest: Where the ring begins.
        shift: The point.
        total, squares: Sums of the distances from it and of their squares.
        peak: The most that `squares` has been.
        left: Values that have left since the sums were made anew.
    """

    __slots__ = (
        "least",
        "left",
        "limit",
        "oldest",
        "peak",
        "seconds",
        "shift",
        "squares",
        "times",
        "total",
        "values",
    )

    def __init__(self, span: Span) -> None:
        self.limit = span.updates or LONGEST_WINDOW
        self.seconds = span.seconds
        self.least = fewest(span)
        self.values = array("d")
        self.oldest = 0
        self.times: deque[float] = NO_TIMES if span.seconds is None else deque()
        self.shift = self.total = self.squares = self.peak = 0.0
        self.left = 0

    def push(self, reading: Any, time: float) -> None:
        value: float = reading
        values = self.values
        if not values:
            self.shift, self.total, self.squares, self.peak, self.left = value, 0.0, 0.0, 0.0, 0
        away = value - self.shift
        self.total += away
        squares = self.squares = self.squares + away * away
        if squares > self.peak:  # noqa: PLR1730 - a call of max() costs a third of this method
            self.peak = squares
        leaves = UNKNOWN
        if len(values) < self.limit:
            values.append(value)
        else:
            oldest = self.oldest
            leaves = values[oldest]
            values[oldest] = value
            self.oldest = oldest + 1 if oldest + 1 < self.limit else 0
        if squares == math.inf:
            self.sum_again()
        elif leaves == leaves:
            self._subtract(leaves)
        if self.seconds is not None:
            self.times.append(time)
            if len(self.times) > self.limit:
                self.times.popleft()
            self.expire(time)

    def _subtract(self, value: float) -> None:
        away = value - self.shift
        total = self.total = self.total - away
        squares = self.squares = self.squares - away * away
        left = self.left = self.left + 1
        size, shift = len(self.values), self.shift
        if (
            # Infinite sums forget what leaves, and NaN, which they turn into, is in no range.
            not 1e-4 * self.peak <= squares < math.inf
            or abs(shift * size + total) < 1e-4 * abs(shift) * size
            or left >= max(256, size)
        ):
            self.sum_again()

    def sum_again(self) -> None:
        values = self.in_order()
        self.shift = _mean(values) if values else 0.0
        away = [value - self.shift for value in values]
        self.total = _sum_about_mean(away)
        self.squares = self.peak = sum(part * part for part in away)
        self.left = 0

    def in_order(self) -> list[float]:
        return [*self.values[self.oldest :], *self.values[: self.oldest]]

    def expire(self, now: float) -> None:
        if self.seconds is None or not self.times or self.times[0] >= now - self.seconds:
            return
        values = self.in_order()
        self.values, self.oldest = array("d", values), 0
        for value in values:
            if not self.times or self.times[0] >= now - self.seconds:
                break
            self.times.popleft()
            self.values.pop(0)
            self._subtract(value)

    def mean(self) -> float:
        size = len(self.values)
        return self.shift + self.total / size if size >= self.least else UNKNOWN

    def std(self) -> float:
        size = len(self.values)
        if size < self.least:
            return UNKNOWN
        off = self.total / size
        variance = self.squares / size - off * off
        if off and not variance > 1e-8 * off * off:
            # The point that the sums are about is too far from the values to tell them apart.
            self.sum_again()
            variance = self.squares / size
        return math.sqrt(variance) if variance < math.inf else self._wide_std()

    def _wide_std(self) -> float:
        """The deviation of values whose squares are beyond all floats."""
        mean = self.mean() * _TINY
        away = (value * _TINY - mean for value in self.values)
        return math.hypot(*away) / math.sqrt(len(self.values)) / _TINY

    def zscore(self, value: float) -> float:
        return ratio(value - self.mean(), self.std())

    def dump(self) -> Any:
        sums = (self.shift, self.total, self.squares, self.peak)
        return [self.in_order(), list(self.times), _plain(sums), self.left]

    def load(self, dumped: Any) -> None:
        values, times, sums, left = dumped
        self.values, self.oldest = array("d", map(float, values)), 0
        if self.seconds is not None:
            self.times = deque(map(float, times))
        self.shift, self.total, self.squares, self.peak = map(float, sums)
        self.left = int(left)


class TrendWindow(Window):
    """Slope of the last values: a queue of two stacks of moments, so nothing is subtracted.

    A window of updates lets values wait until it is asked, and then takes in the last ones that
    fit: rules ask for a slope when little else is left to decide.

    Attributes:
        newest: Values so far.
        waiting: Those that are not in the stacks yet.
        front: The older values: moments of each and all after it, oldest last, and its time.
        back: The newer values with their numbers and times.
        sums: Moments of `back`.
    """

    __slots__ = ("back", "front", "least", "limit", "newest", "seconds", "sums", "waiting")

    def __init__(self, span: Span) -> None:
        self.limit = span.updates
        self.seconds = span.seconds
        self.least = fewest(span)
        self.newest = 0.0
        self.waiting: deque[float] = deque(maxlen=span.updates)
        self._empty()

    def _empty(self) -> None:
        self.front: list[tuple[Moments, float]] = []
        self.back: list[tuple[float, float, float]] = []
        self.sums = _NOTHING

    def push(self, reading: Any, time: float) -> None:
        value: float = reading
        self.newest += 1.0
        if self.limit is not None:
            self.waiting.append(value)
            return
        self._admit(value, self.newest, time)
        self.expire(time)
        if len(self.front) + len(self.back) > LONGEST_WINDOW:
            self.forget()

    def _admit(self, value: float, number: float, time: float) -> None:
        self.back.append((value, number, time))
        self.sums = _with(self.sums, value, number)

    def _catch_up(self) -> None:
        limit, waiting = self.limit, self.waiting
        if limit is None or not waiting:
            return
        number = self.newest - len(waiting)
        if len(waiting) == limit:
            number = self._begin_with(limit)
        for value in waiting:
            number += 1.0
            self._admit(value, number, 0.0)
            if len(self.front) + len(self.back) > limit:
                self.forget()
        waiting.clear()

    def _begin_with(self, limit: int) -> float:
        """Take in the older of the values that wait, as though all had come one by one.

        Returns:
            Number of the newest value taken in, or that before the oldest one that waits.
        """
        self._empty()
        # A full window turns its stacks over whenever it has taken in `limit + 1` values.
        turned = self.newest // (limit + 1) * (limit + 1)
        number = self.newest - limit
        while number < turned:
            number += 1.0
            self._admit(self.waiting.popleft(), number, 0.0)
        self._turn()
        return number

    def forget(self) -> None:
        if not self.front:
            self._turn()
        self.front.pop()

    def _turn(self) -> None:
        sums = _NOTHING
        for value, number, time in reversed(self.back):
            sums = _with(sums, value, number)
            self.front.append((sums, time))
        self.back, self.sums = [], _NOTHING

    def expire(self, now: float) -> None:
        if self.seconds is not None:
            while self.front or self.back:
                oldest = self.front[-1][1] if self.front else self.back[0][2]
                if oldest >= now - self.seconds:
                    break
                self.forget()

    def moments(self) -> Moments:
        self._catch_up()
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
        self._catch_up()
        front = [(_plain(moments), time) for moments, time in self.front]
        return [front, list(self.back), _plain(self.sums), self.newest]

    def load(self, dumped: Any) -> None:
        front, back, sums, newest = dumped
        self.front = [(_moments(moments), float(time)) for moments, time in front]
        self.back = [(float(value), float(number), float(time)) for value, number, time in back]
        self.sums = _moments(sums)
        self.newest = float(newest)
        self.waiting.clear()


def _mean(values: Collection[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return math.fsum(value * _TINY for value in values) / len(values) / _TINY


def _sum_about_mean(away: Collection[float]) -> float:
    """Nothing but rounding, and nothing where the largest floats leave no room for that."""
    try:
        total = math.fsum(away)
    except (OverflowError, ValueError):
        return 0.0
    return total if math.isfinite(total) else 0.0


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


def _plain(moments: Iterable[float]) -> list[float | str]:
    """Moments for JSON, in which squares of readings beyond 1e154 are no number any more."""
    return [part if math.isfinite(part) else str(part) for part in moments]


def _moments(dumped: Any) -> Moments:
    n, mean, squares, place, products = map(float, dumped)
    return (n, mean, squares, place, products)
