"""Smallest and largest of the last values, in constant time on average."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from itertools import accumulate
from operator import ge, le
from typing import Any

from watchstep.core.arithmetic import UNKNOWN
from watchstep.core.spans import LONGEST_WINDOW, Span
from watchstep.core.windows import NO_TIMES, Window, fewest

_Numbered = list[tuple[float, int]]


class ExtremeWindow(Window):
    """Smallest and largest of the last values.

    The older values are a stack of running extremes, oldest on top, so that the oldest leaves by
    a pop; of the newer ones only the extremes are known. When the stack is used up, all values
    become a new one.

    Attributes:
        values: All of them; a full window of updates drops its oldest by itself.
        highs, lows: The stacks, each upon a sentinel.
        high, low: Of the newer values.
        room: Values that a window of updates can take before one has to leave.
    """

    __slots__ = (
        "high",
        "highs",
        "least",
        "limit",
        "low",
        "lows",
        "room",
        "seconds",
        "times",
        "values",
    )

    def __init__(self, span: Span) -> None:
        self.limit = span.updates
        self.seconds = span.seconds
        self.least = fewest(span)
        self.values: deque[float] = deque(maxlen=span.updates)
        self.times: deque[float] = deque() if span.updates is None else NO_TIMES
        self.highs = [-math.inf]
        self.lows = [math.inf]
        self.high = -math.inf
        self.low = math.inf
        self.room = span.updates or 0

    def push(self, reading: Any, time: float) -> None:
        value: float = reading
        if self.room > 0:
            self.room -= 1
        elif self.limit is not None:
            if len(self.highs) == 1:
                self.turn()
            self.highs.pop()
            self.lows.pop()
        self.values.append(value)
        self.high = max(value, self.high)
        self.low = min(value, self.low)
        if self.limit is None:
            self.times.append(time)
            self.expire(time)
            if len(self.values) > LONGEST_WINDOW:
                self.forget()

    def turn(self) -> None:
        """Make a new stack of all values."""
        newest_first = list(reversed(self.values))
        self.highs = [-math.inf, *accumulate(newest_first, max)]
        self.lows = [math.inf, *accumulate(newest_first, min)]
        if self.limit is not None:
            self.room = self.limit - len(newest_first)
        self.high, self.low = -math.inf, math.inf

    def forget(self) -> None:
        if len(self.highs) == 1:
            self.turn()
        self.values.popleft()
        self.times.popleft()
        self.highs.pop()
        self.lows.pop()

    def expire(self, now: float) -> None:
        if self.seconds is not None:
            while self.times and self.times[0] < now - self.seconds:
                self.forget()

    def smallest(self) -> float:
        return UNKNOWN if len(self.values) < self.least else min(self.low, self.lows[-1])

    def largest(self) -> float:
        return UNKNOWN if len(self.values) < self.least else max(self.high, self.highs[-1])

    def is_flat(self, tolerance: float) -> float:
        """Whether the full window spans at most `tolerance` of its largest magnitude."""
        if len(self.values) < (self.limit or self.least):
            return UNKNOWN
        low, high = self.smallest(), self.largest()
        return 1.0 if high - low <= tolerance * max(abs(low), abs(high)) else 0.0

    def dump(self) -> Any:
        """The values that can still become an extreme, numbered from the oldest."""
        low, high = _candidates(self.values, ge), _candidates(self.values, le)
        return [low, high, list(self.times), len(self.values), len(self.values)]

    def load(self, dumped: Any) -> None:
        low, high, times, newest, size = dumped
        self.values = deque(_filled(low, high, newest, size), maxlen=self.limit)
        if self.limit is None:
            self.times = deque(map(float, times))
        self.turn()


class AttemptExtremes(ExtremeWindow):
    """Smallest and largest of the attempt: no value leaves a window of the longest kind.

    Attributes:
        size: Values so far.
    """

    __slots__ = ("size",)

    def __init__(self, span: Span) -> None:
        super().__init__(span)
        self.size = 0

    def push(self, reading: Any, _time: float) -> None:
        value: float = reading
        self.size += 1
        self.high = max(value, self.high)
        self.low = min(value, self.low)

    def smallest(self) -> float:
        return UNKNOWN if self.size < self.least else self.low

    def largest(self) -> float:
        return UNKNOWN if self.size < self.least else self.high

    def dump(self) -> Any:
        low, high = [(self.low, 1)], [(self.high, self.size)]
        return [low, high, [], self.size, self.size] if self.size else [[], [], [], 0, 0]

    def load(self, dumped: Any) -> None:
        lows, highs, _, _, self.size = dumped
        self.low = min((value for value, _ in lows), default=math.inf)
        self.high = max((value for value, _ in highs), default=-math.inf)


def _candidates(values: Iterable[float], beaten: Any) -> _Numbered:
    candidates: _Numbered = []
    for number, value in enumerate(values, start=1):
        while candidates and beaten(candidates[-1][0], value):
            candidates.pop()
        candidates.append((value, number))
    return candidates


def _filled(low: Any, high: Any, newest: int, size: int) -> list[float]:
    """Values with these candidates and no others.

    What is not written down was beaten on both sides, so the next candidate's value serves for
    it: a later one is as high, and a later one as low.
    """
    candidates = {number: value for value, number in [*low, *high]}
    values: list[float] = []
    tops = {number: value for value, number in high}
    value = UNKNOWN
    for number in range(newest, newest - size, -1):
        value = tops.get(number, value)
        values.append(float(candidates.get(number, value)))
    return values[::-1]
