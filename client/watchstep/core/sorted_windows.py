"""Windows that know the order of their values by size, and the readings that they follow."""

from __future__ import annotations

import math
from collections import deque
from itertools import repeat
from typing import Any, Final

from watchstep.core.arithmetic import UNKNOWN
from watchstep.core.spans import LONGEST_WINDOW, Span
from watchstep.core.windows import NO_TIMES, Window, fewest


def place_of(ordered: list[Any], value: float) -> int:
    """Where a value stands in an ascending list, or belongs: before its equals.

    Compiled, this is a third of a call of `bisect`; interpreted, `compiling` puts that here.
    """
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) >> 1
        there: float = ordered[middle]
        if there < value:
            low = middle + 1
        else:
            high = middle
    return low


PATIENCE: Final = 8
"""Updates that wait for windows that nobody asks."""
LONGEST_PATIENT: Final = 500
"""Longer windows take in every value at once: to sort one anew would hold a step up."""


def admit_rows(
    values: list[Any], rows: list[tuple[Any, ...]], begin: int, slot: int, magnitude: bool
) -> int:
    """Append the finite readings in a slot of the rows from `begin` on, or their magnitudes.

    Interpreted, `compiling` puts a faster one here.

    Returns:
        How many they were.
    """
    size = len(values)
    for at in range(begin, len(rows)):
        reading = rows[at][slot]
        value: float = reading
        if value - value == 0.0:
            values.append(abs(value) if magnitude and value <= 0.0 else reading)
    return len(values) - size


class Backlog:
    """The readings of the newest updates, for the windows that follow them.

    Attributes:
        rows: In slot order.
        begin, end: Numbers of the first row and of the one after the last.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.begin = 0
        self.end = 0
        self.followers: list[SortedWindow] = []

    def add(self, row: tuple[Any, ...]) -> None:
        """Add an update; once there are `PATIENCE`, all who follow take what waits."""
        if not self.followers:
            return
        self.rows.append(row)
        self.end += 1
        if len(self.rows) == PATIENCE:
            for window in self.followers:
                window.catch_up()
            self.begin = self.end
            self.rows = []


class Feed:
    """Which readings a window follows.

    Args:
        place: Of the window among those of the run.
        now: Whether the present value is in it when it is read.
    """

    def __init__(self, place: int, slot: int, magnitude: bool, now: bool) -> None:
        self.place = place
        self.slot = slot
        self.magnitude = magnitude
        self.now = now


class SortedWindow(Window):
    """The last values, in order of time, and in order of size where somebody asks.

    Rules ask little while a run is calm. What comes then waits, and where nobody asked for a
    while the order of size is given up, until it is made anew for the one who asks.

    Attributes:
        values: The newest last; older ones than the window holds are dropped now and then.
        waiting: How many of the newest are not in `ordered` yet.
        ordered: The last `limit` of the others; holds the same objects as `values`.
        is_ordered: Whether it does.
        patience: Values that may wait.
        backlog: Of the readings that it follows; None where it is pushed each value.
        taken: Number of the first row in it that was not taken yet.
    """

    __slots__ = (
        "backlog",
        "is_ordered",
        "least",
        "limit",
        "magnitude",
        "ordered",
        "patience",
        "slot",
        "taken",
        "values",
        "waiting",
    )

    def __init__(self, span: Span) -> None:
        self.limit = span.updates or LONGEST_WINDOW
        self.least = fewest(span)
        self.patience = PATIENCE if self.limit <= LONGEST_PATIENT else 1
        self.backlog: Backlog | None = None
        self.taken = 0
        self.slot = 0
        self.magnitude = False
        self.empty()

    def empty(self) -> None:
        self.values: list[Any] = []
        self.ordered: list[Any] = []
        self.waiting = 0
        self.is_ordered = True

    def follow(self, backlog: Backlog, feed: Feed) -> None:
        """Take the values from there from now on, and no more from where they came before."""
        self.catch_up()
        self.backlog, self.taken = backlog, backlog.end
        self.slot, self.magnitude = feed.slot, feed.magnitude
        backlog.followers.append(self)

    def catch_up(self) -> None:
        """Let what has come in the backlog wait here."""
        backlog = self.backlog
        if backlog is None or self.taken == backlog.end:
            return
        begin, self.taken = self.taken - backlog.begin, backlog.end
        if begin + 1 == len(backlog.rows):
            # Somebody asks at every update.
            reading = backlog.rows[begin][self.slot]
            value: float = reading
            if value - value == 0.0:
                boxed = abs(value) if self.magnitude and value <= 0.0 else reading
                self.values.append(boxed)
                self.waiting += 1
        else:
            rows = backlog.rows
            self.waiting += admit_rows(self.values, rows, begin, self.slot, self.magnitude)
        if self.waiting >= self.patience:
            self._settle()

    def admit(self, value: Any) -> None:
        """Let a value wait, in place of the oldest of a full window."""
        self.values.append(value)
        self.waiting += 1
        if self.waiting >= self.patience:
            self._settle()

    def _settle(self) -> None:
        if self.patience > 1 and self.may_rest():
            self.waiting = 0
            self.ordered = []
            self.is_ordered = False
            self._drop_surplus()
        else:
            self.take_in()

    def _drop_surplus(self) -> None:
        surplus = len(self.values) - self.limit
        if surplus > 0 and (self.patience > 1 or surplus * 4 > self.limit):
            del self.values[:surplus]

    def may_rest(self) -> bool:
        """Whether what waits changes nothing but the values."""
        return True

    def take_in(self) -> None:
        """Put what waits in order of size; to be called before anything is asked."""
        backlog = self.backlog
        if backlog is not None and self.taken != backlog.end:
            self.catch_up()
        if self.is_ordered and not self.waiting:
            return
        values, limit = self.values, self.limit
        at = len(values) - self.waiting
        if not self.is_ordered:
            self.ordered = [*sorted(values[max(at - limit, 0) : at])]
            self.is_ordered = True
            self.after_sorting()
        ordered = self.ordered
        while at < len(values):
            if at == limit and self.patience > 1:
                ordered.pop(place_of(ordered, values.pop(0)))
                at -= 1
            elif at >= limit:
                ordered.pop(place_of(ordered, values[at - limit]))
            ordered.insert(place_of(ordered, values[at]), values[at])
            at += 1
            self.after_value()
        self.waiting = 0
        if len(values) > limit:
            self._drop_surplus()

    def after_sorting(self) -> None:
        """Called when the values are in order again."""

    def after_value(self) -> None:
        """Called for each value that was taken in, in their order."""

    def middle(self) -> float:
        """Median of what is in order; UNKNOWN of too few."""
        size = len(self.ordered)
        if size < self.least:
            return UNKNOWN
        upper: float = self.ordered[size >> 1]
        if size & 1:
            return upper
        lower: float = self.ordered[(size >> 1) - 1]
        return lower * 0.5 + upper * 0.5

    def in_order(self) -> list[Any]:
        self.catch_up()
        return self.values[-self.limit :]

    def fill(self, values: list[float]) -> None:
        self.empty()
        self.values = [*values]
        self.is_ordered = False


class MedianWindow(SortedWindow):
    """Median of the last values; O(log n) comparisons and one short memory move a value."""

    __slots__ = ("seconds", "times")

    def __init__(self, span: Span) -> None:
        super().__init__(span)
        self.seconds = span.seconds
        self.times: deque[float] = NO_TIMES if span.seconds is None else deque()

    def push(self, reading: Any, time: float) -> None:
        if self.seconds is None:
            self.admit(reading)
            return
        self.times.append(time)
        self.expire(time)
        if len(self.values) == self.limit:
            self._forget()
        self.admit(reading)

    def _forget(self) -> None:
        self.take_in()
        self.times.popleft()
        self.ordered.pop(place_of(self.ordered, self.values.pop(0)))

    def expire(self, now: float) -> None:
        if self.seconds is not None:
            while self.times and self.times[0] < now - self.seconds:
                self._forget()

    def median(self) -> float:
        self.take_in()
        return self.middle()

    def dump(self) -> Any:
        return list(zip(self.in_order(), self.times or repeat(0.0), strict=False))

    def load(self, dumped: Any) -> None:
        self.fill([float(value) for value, _ in dumped])
        if self.seconds is not None:
            self.times = deque(float(time) for _, time in dumped)


LEAST_OF_SCALE: Final = 1e-3
"""A settled level is at least this share of the first level that was not zero.

A signed loss crosses zero, and a run that has learnt its data by heart has losses of 1e-6: what
grows from there to a thousandth of where it began has not grown.
"""


_SMALLEST: Final = 1e-300
_PER_DECADE: Final = 1.0 / math.log(10.0)


class LevelWindow(SortedWindow):
    """The level of a magnitude: the median of its last values, and what that has been.

    Attributes:
        level: Of the last values; UNKNOWN of too few.
        first: Of the first full window of this attempt.
        before: At the end of the attempt before.
        low: The lowest since the level was first above zero.
        scale: The first level above zero; 0.0 before.
    """

    __slots__ = ("before", "first", "level", "low", "scale", "seen")

    def __init__(self, span: Span) -> None:
        super().__init__(span)
        self.before = UNKNOWN
        self._begin()

    def _begin(self) -> None:
        self.seen = 0
        self.level = self.first = UNKNOWN
        self.low = self.scale = 0.0

    def begin_attempt(self) -> None:
        """Keep the level, and forget everything else."""
        level = self.current()
        if level == level:
            self.before = level
        self.empty()
        self._begin()

    def push(self, reading: Any, _time: float) -> None:
        self.admit(reading)

    def may_rest(self) -> bool:
        """Whether too few values are below the lowest level for any level to be."""
        low = self.low
        # Halves of the smallest numbers there are would be rounded down.
        if self.seen < self.limit or self.scale == 0.0 or 0.0 < low < _SMALLEST:
            return False
        spare = (self.limit - 1) >> 1
        for boxed in self.values:
            value: float = boxed
            if value < low:
                spare -= 1
                if spare < 0:
                    return False
        self.seen += self.waiting
        return True

    def after_sorting(self) -> None:
        if len(self.ordered) >= self.least:
            self.level = self.middle()

    def after_value(self) -> None:
        self.seen += 1
        if len(self.ordered) < self.least:
            return
        level = self.level = self.middle()
        if self.seen == self.limit:
            self.first = level
        if self.scale == 0.0:
            self.scale = self.low = level
        elif level < self.low:
            self.low = level

    def current(self) -> float:
        self.take_in()
        return self.level

    def of_first(self) -> float:
        self.take_in()
        return self.first

    def settled(self) -> float:
        """The lowest level so far, and at least `LEAST_OF_SCALE` of the first above zero."""
        level = self.current()
        if level != level:
            return UNKNOWN
        least = LEAST_OF_SCALE * self.scale
        return self.low if self.low > least else least

    def growth(self, floor: float) -> float:
        """Decades that the level is above the settled one, or above the floor if that is more."""
        base = self.settled()
        base = max(base, floor)
        if not self.level > base:
            return 0.0 if self.level == self.level else UNKNOWN
        # Apart, since their ratio may be beyond all floats.
        return (math.log(self.level) - math.log(base)) * _PER_DECADE if base else math.inf

    def dump(self) -> Any:
        level = self.current()
        parts = [part if part == part else None for part in (level, self.first, self.before)]
        return [self.in_order(), parts, self.low, self.scale, self.seen]

    def load(self, dumped: Any) -> None:
        values, parts, low, scale, seen = dumped
        self.fill([float(value) for value in values])
        self.level, self.first, self.before = (
            UNKNOWN if part is None else float(part) for part in parts
        )
        self.low, self.scale, self.seen = float(low), float(scale), int(seen)
