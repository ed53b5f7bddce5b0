"""Readings of one metric, held column by column, and thinned so that nothing worth seeing is lost.

A chart of 1,600 points is drawn from up to millions of readings; an object for each of them
would take most of the time.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

LEAST_POINTS = 7
"""Fewer than these are not asked for: the ends, the extremes, and some that are not finite."""

MOST_STRETCHES = 10_000
"""Ends of stretches of non-finite points in one answer; a screen shows 2,000 points."""

_FINITE_KINDS = 4
_CHUNK = 4_096


class Point(NamedTuple):
    """One reading in its place."""

    attempt: int
    seq: int
    step: int
    time: float
    value: float


class Readings(NamedTuple):
    """Readings of one metric in one attempt, field by field, in order."""

    attempt: int
    seqs: Sequence[int]
    steps: Sequence[int]
    times: Sequence[float]
    values: Sequence[float]


class Series(NamedTuple):
    """Readings of one metric in order, read as they are asked for.

    Attributes:
        whole: Whether none is left out.
    """

    stretches: Iterator[Readings]
    whole: bool

    @property
    def points(self) -> Iterator[Point]:
        """The same, one by one."""
        for stretch in self.stretches:
            for seq, step, time, value in zip(*stretch[1:], strict=True):
                yield Point(stretch.attempt, seq, step, time, value)


class Line:
    """Readings of one metric put one after the other.

    Attributes:
        values: Of all of them.
    """

    def __init__(self, stretches: Iterable[Readings] = ()) -> None:
        self.values = array("d")
        self._starts: list[int] = []
        self._stretches: list[Readings] = []
        for stretch in stretches:
            self.append(stretch)

    def __len__(self) -> int:
        return len(self.values)

    def append(self, stretch: Readings) -> None:
        self._starts.append(len(self.values))
        self._stretches.append(stretch)
        self.values.extend(stretch.values)

    def points(self, places: Iterable[int]) -> list[Point]:
        """The readings in some places, counted from 0."""
        return [self._point(at) for at in places]

    def _point(self, at: int) -> Point:
        index = bisect_right(self._starts, at) - 1
        stretch, within = self._stretches[index], at - self._starts[index]
        place = (stretch.seqs[within], stretch.steps[within], stretch.times[within])
        return Point(stretch.attempt, *place, self.values[at])


def thin(line: Line, most: int) -> tuple[list[Point], bool]:
    """About `most` of the readings, in order, and whether any was left out.

    Non-finite points all survive where they are at most half of `most`, else the first and last
    of every stretch of the same kind, even where that is more than `most`. Of stretches beyond
    `MOST_STRETCHES` evenly spaced ones survive. The rest is split into buckets of equal length,
    of each of which the first, last, least and greatest survive.

    Args:
        most: At least `LEAST_POINTS`; smaller values count as that.
    """
    most = max(most, LEAST_POINTS)
    if len(line) <= most:
        return line.points(range(len(line))), False
    strange = _nonfinite_places(line.values)
    if len(strange) > most // 2:
        strange = _stretch_ends(line.values, strange)
        strange = strange[:: len(strange) // MOST_STRETCHES + 1]
    buckets = max(1, (most - len(strange)) // _FINITE_KINDS)
    kept_places = sorted({*strange, *_of_buckets(line.values, buckets)})
    return line.points(kept_places), len(kept_places) < len(line)


def worth_keeping(column: Sequence[float]) -> set[int]:
    """Where the first, last, least and greatest value are, and the ends of non-finite stretches.

    What follows a stretch is kept too, so that of two points of the same kind that are neighbours
    in what is kept, nothing else lay between.

    Args:
        column: At least one value.
    """
    ends = _stretch_ends(column, _nonfinite_places(column))
    behind = {
        at + 1 for at in ends if at + 1 < len(column) and column[at + 1] - column[at + 1] == 0
    }
    return _finite_shape(column) | set(ends) | behind


def is_same_kind(value: float, other: float) -> bool:
    """Whether both are NaN, or the same infinity."""
    return value == other or (value != value and other != other)


def _finite_shape(column: Sequence[float]) -> set[int]:
    ends = {0, len(column) - 1}
    total = sum(column)
    if total - total == 0.0:
        return ends | {column.index(min(column)), column.index(max(column))}
    # One of them is no finite number, or they are large enough to add up to none.
    finite = [at for at, value in enumerate(column) if value - value == 0.0]
    if finite:
        ends |= {min(finite, key=column.__getitem__), max(finite, key=column.__getitem__)}
    return ends


def _nonfinite_places(values: Sequence[float]) -> list[int]:
    places: list[int] = []
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK]
        total = sum(chunk)
        if total - total != 0.0:
            places += [start + at for at, value in enumerate(chunk) if value - value != 0.0]
    return places


def _stretch_ends(values: Sequence[float], places: Iterable[int]) -> list[int]:
    """Of places of non-finite values those that begin or end a stretch of the same kind."""
    last = len(values) - 1
    return [
        at
        for at in places
        if at in (0, last)
        or not is_same_kind(values[at - 1], values[at])
        or not is_same_kind(values[at + 1], values[at])
    ]


def _of_buckets(values: array[float], buckets: int) -> Iterator[int]:
    for bucket in range(buckets):
        start = len(values) * bucket // buckets
        end = len(values) * (bucket + 1) // buckets
        if start < end:
            yield from (start + at for at in _finite_shape(values[start:end]))
