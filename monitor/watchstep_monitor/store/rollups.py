"""Roll-ups: of some hundred updates the few points of each metric that a chart must show.

Of every metric the points that `service.series.worth_keeping` names: the first, last, least and
greatest, and the ends of every stretch of non-finite ones. A run of a million updates is drawn
from 4,000 roll-ups instead of from 160 MB. Roll-ups of versions before hold the first NaN,
Infinity and -Infinity alone.

A roll-up's bytes, little-endian: the count u16 of updates that any metric has a point in, of
each its number, its step (i64) and its time (f64); then for every name of the shape a count u8
and as many pairs of the update's place in that list (u16) and the value (f64).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import Any, NamedTuple

from watchstep_monitor.service.series import Readings, is_same_kind, worth_keeping

UPDATES_A_ROLLUP = 256
"""Updates that a roll-up waits for; it holds fewer than twice as many."""

MOST_BEHIND = 4_096
"""Updates that one append rolls up at most: a store from before there were roll-ups has more."""

MOST_POINTS = 255
"""Points of a metric that a roll-up has room for; where it holds as many, there were more."""

_COUNT = struct.Struct("<H")
_PLACE = struct.Struct("<qqd")
_POINTS = struct.Struct("<B")
_VALUE = struct.Struct("<Hd")


class Stretch(NamedTuple):
    """A block of updates, taken apart.

    Attributes:
        values: Of the updates one after the other, each in the order of `names`.
    """

    names: tuple[str, ...]
    first_seq: int
    steps: Sequence[int]
    times: Sequence[float]
    values: Sequence[float]


def is_due(before_seq: int, last_seq: int) -> bool:
    """Whether a roll-up is due once an attempt has come from one number to another."""
    return before_seq // UPDATES_A_ROLLUP != last_seq // UPDATES_A_ROLLUP


def gathered(stretches: Iterable[Stretch]) -> Iterator[list[Stretch]]:
    """The stretches in groups for one roll-up each; what is left over waits for the next."""
    group: list[Stretch] = []
    updates = 0
    for stretch in stretches:
        group.append(stretch)
        updates += len(stretch.steps)
        if updates >= UPDATES_A_ROLLUP:
            yield list(_joined(group))
            group, updates = [], 0


def _joined(group: Sequence[Stretch]) -> Iterator[Stretch]:
    """Those of the same names that follow each other as one: single updates are one each."""
    start = 0
    for end in range(1, len(group) + 1):
        before = group[end - 1]
        goes_on = (
            end < len(group)
            and group[end].names == before.names
            and group[end].first_seq == before.first_seq + len(before.steps)
        )
        if not goes_on:
            parts = group[start:end]
            steps, times, values = (
                list(chain.from_iterable(column))
                for column in zip(
                    *((each.steps, each.times, each.values) for each in parts), strict=True
                )
            )
            yield Stretch(before.names, parts[0].first_seq, steps, times, values)
            start = end


def rolled_up(group: Sequence[Stretch]) -> tuple[tuple[str, ...], bytes]:
    """All names in a group, in the order of their first appearance, and the roll-up's bytes."""
    names = tuple(dict.fromkeys(name for stretch in group for name in stretch.names))
    bases = list(accumulate((len(stretch.steps) for stretch in group), initial=0))
    worthy = [_worth_keeping(group, bases, name) for name in names]
    used = sorted({at for points in worthy for at in points})
    place = {at: number for number, at in enumerate(used)}
    parts = [_COUNT.pack(len(used))]
    parts += [_PLACE.pack(*_place_of(group, bases, at)) for at in used]
    for points in worthy:
        parts.append(_POINTS.pack(len(points)))
        parts += [_VALUE.pack(place[at], value) for at, value in sorted(points.items())]
    return names, b"".join(parts)


def rollup_readings(row: Any, attempt: int, column_at: int) -> Readings:
    """The readings of one metric in a roll-up.

    Args:
        column_at: The metric's place among the names of the row's shape.
    """
    content = row.points
    (used,) = _COUNT.unpack_from(content)
    at = _COUNT.size + used * _PLACE.size
    for _ in range(column_at):
        at += _POINTS.size + content[at] * _VALUE.size
    begin = at + _POINTS.size
    pairs = list(_VALUE.iter_unpack(content[begin : begin + content[at] * _VALUE.size]))
    places = [_PLACE.unpack_from(content, _COUNT.size + at * _PLACE.size) for at, _ in pairs]
    seqs, steps, times = zip(*places, strict=True)
    return Readings(attempt, seqs, steps, times, [value for _, value in pairs])


def _place_of(group: Sequence[Stretch], bases: Sequence[int], at: int) -> tuple[int, int, float]:
    index = next(number for number, base in enumerate(bases[1:]) if at < base)
    stretch, within = group[index], at - bases[index]
    return stretch.first_seq + within, stretch.steps[within], stretch.times[within]


def _worth_keeping(group: Sequence[Stretch], bases: Sequence[int], name: str) -> dict[int, float]:
    """Places in the group, and the values there."""
    worthy: list[tuple[int, float]] = []
    for base, stretch in zip(bases, group, strict=False):
        if name in stretch.names:
            width = len(stretch.names)
            column = stretch.values[stretch.names.index(name) :: width]
            worthy += [(base + at, column[at]) for at in sorted(worth_keeping(column))]
    finite = [pair for pair in worthy if pair[1] - pair[1] == 0.0]
    ends = [worthy[0], worthy[-1]]
    if finite:
        ends += [min(finite, key=lambda pair: pair[1]), max(finite, key=lambda pair: pair[1])]
    kept = dict([*ends, *_around_stretches(worthy)])
    return dict(list(kept.items())[:MOST_POINTS])


def _around_stretches(worthy: Sequence[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    """The ends of non-finite stretches, which may go over several blocks, and what follows."""
    values = dict(worthy)
    behind = False
    for at, value in worthy:
        is_finite = value - value == 0.0
        neighbours = (values.get(at - 1, 0.0), values.get(at + 1, 0.0))
        inside = not is_finite and all(is_same_kind(value, each) for each in neighbours)
        if behind if is_finite else not inside:
            yield at, value
        behind = not is_finite
