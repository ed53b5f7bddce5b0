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
"""What one bucket may need: first, last, least, greatest, and one of each non-finite kind."""

_FINITE_KINDS = 4


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
    """At most `most` of the readings, in order, and whether any was left out.

    They are split into buckets of equal length, of each of which `worth_keeping` survives.

    Args:
        line: In order.
        most: At least `LEAST_POINTS`; smaller values count as that.
    """
    most = max(most, LEAST_POINTS)
    if len(line) <= most:
        return line.points(range(len(line))), False
    kept_places = _thin(line.values, max(1, most // _FINITE_KINDS))
    if len(kept_places) > most:
        kept_places = _thin(line.values, max(1, most // LEAST_POINTS))
    return line.points(kept_places), True


def worth_keeping(column: Sequence[float]) -> set[int]:
    """Where the first, last, least and greatest value are, and the first of each non-finite kind.

    Args:
        column: At least one value.
    """
    ends = {0, len(column) - 1}
    total = sum(column)
    if total - total == 0.0:
        return ends | {column.index(min(column)), column.index(max(column))}
    # One of them is no finite number, or they are large enough to add up to none.
    strange: dict[str, int] = {}
    finite: list[int] = []
    for at, value in enumerate(column):
        if value - value == 0.0:
            finite.append(at)
        else:
            strange.setdefault(repr(value), at)
    if finite:
        ends |= {min(finite, key=column.__getitem__), max(finite, key=column.__getitem__)}
    return ends | set(strange.values())


def _thin(values: array[float], buckets: int) -> list[int]:
    kept_places: list[int] = []
    for bucket in range(buckets):
        start = len(values) * bucket // buckets
        end = len(values) * (bucket + 1) // buckets
        if start < end:
            kept_places.extend(start + at for at in sorted(worth_keeping(values[start:end])))
    return kept_places
