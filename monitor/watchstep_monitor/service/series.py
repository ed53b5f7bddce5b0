"""Thinning of a series so that nothing worth seeing is lost."""

from __future__ import annotations

from collections.abc import Sequence

from watchstep_monitor.service.storage import Point

LEAST_POINTS = 7
"""What one bucket may need: first, last, least, greatest, and one of each non-finite kind."""

_FINITE_KINDS = 4


def thin(points: Sequence[Point], most: int) -> tuple[list[Point], bool]:
    """At most `most` of the points, in order, and whether any was left out.

    The points are split into buckets of equal length; of each its first, last, least and
    greatest point survive, and its first NaN, Infinity and -Infinity.

    Args:
        points: In order.
        most: At least `LEAST_POINTS`; smaller values count as that.
    """
    most = max(most, LEAST_POINTS)
    if len(points) <= most:
        return list(points), False
    kept = _thin(points, max(1, most // _FINITE_KINDS))
    if len(kept) > most:
        kept = _thin(points, max(1, most // LEAST_POINTS))
    return kept, True


def _thin(points: Sequence[Point], buckets: int) -> list[Point]:
    kept: list[Point] = []
    for bucket in range(buckets):
        start = len(points) * bucket // buckets
        end = len(points) * (bucket + 1) // buckets
        kept.extend(points[at] for at in sorted(_worth_keeping(points, start, end)))
    return kept


def _worth_keeping(points: Sequence[Point], start: int, end: int) -> set[int]:
    if start == end:
        return set()
    keep = {start, end - 1}
    least = greatest = -1
    strange: dict[str, int] = {}
    for at in range(start, end):
        value = points[at].value
        if value - value != 0.0:
            strange.setdefault(repr(value), at)
            continue
        if least < 0 or value < points[least].value:
            least = at
        if greatest < 0 or value > points[greatest].value:
            greatest = at
    keep.update(at for at in (least, greatest) if at >= 0)
    keep.update(strange.values())
    return keep
