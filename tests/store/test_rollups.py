"""What a roll-up keeps."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace

import pytest

from watchstep_monitor.store.rollups import (
    MOST_POINTS,
    Stretch,
    gathered,
    rolled_up,
    rollup_readings,
)


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize("seed", range(5))
def test_it_keeps_the_ends_and_the_extremes_however_the_updates_came(seed: int, size: int) -> None:
    chance = random.Random(seed)
    values = [float(chance.randrange(40)) for _ in range(300)]
    stretches = [
        Stretch(("x",), first, range(first, last), [0.0] * (last - first), values[first:last])
        for first in range(0, 300, size)
        for last in [min(first + size, 300)]
    ]

    group = next(gathered(stretches))
    last = group[-1].first_seq + len(group[-1].steps) - 1
    _, points = rolled_up(group)
    kept = rollup_readings(SimpleNamespace(points=points), 1, 0)

    rolled = values[: last + 1]
    assert last >= 255
    assert dict(zip(kept.seqs, kept.values, strict=True)) == {
        at: values[at] for at in {0, last, rolled.index(min(rolled)), rolled.index(max(rolled))}
    }


@pytest.mark.parametrize("size", [1, 7, 100])
def test_it_keeps_the_ends_of_every_non_finite_stretch(size: int) -> None:
    strange = {3, 9, *range(50, 80), 120}
    values = [math.nan if at in strange else float(at % 40) for at in range(300)]
    stretches = [
        Stretch(("x",), first, range(first, last), [0.0] * (last - first), values[first:last])
        for first in range(0, 300, size)
        for last in [min(first + size, 300)]
    ]

    _, points = rolled_up(next(gathered(stretches)))
    kept = rollup_readings(SimpleNamespace(points=points), 1, 0)

    shown = list(zip(kept.seqs, kept.values, strict=True))
    assert [seq for seq, value in shown if math.isnan(value)] == [3, 9, 50, 79, 120]
    # What follows each says that it ended there.
    assert {4, 10, 80, 121} <= set(kept.seqs)


def test_it_is_full_where_there_are_more_stretches_than_it_has_room_for() -> None:
    values = [math.nan if at % 2 else 1.0 for at in range(300)]
    block = Stretch(("x",), 0, range(300), [0.0] * 300, values)

    _, points = rolled_up([block])

    assert len(rollup_readings(SimpleNamespace(points=points), 1, 0).seqs) == MOST_POINTS
