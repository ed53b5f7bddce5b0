"""What a roll-up keeps."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from watchstep_monitor.store.rollups import Stretch, gathered, rolled_up, rollup_readings


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
