"""Thinning keeps what one looks for."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from watchstep_monitor.service.series import LEAST_POINTS, thin
from watchstep_monitor.service.storage import Point

VALUES = st.lists(st.floats(width=32), max_size=400)


def points(values: list[float]) -> list[Point]:
    return [Point(1, n, n, float(n), value) for n, value in enumerate(values, 1)]


@given(VALUES, st.integers(1, 60))
def test_extremes_ends_and_each_kind_of_non_finite_survive(values: list[float], most: int) -> None:
    whole = points(values)

    kept, thinned = thin(whole, most)

    assert len(kept) <= max(most, LEAST_POINTS)
    assert thinned == (len(kept) < len(whole))
    assert [point.seq for point in kept] == sorted({point.seq for point in kept})
    finite = [value for value in values if math.isfinite(value)]
    shown = [point.value for point in kept]
    if finite:
        assert min(finite) in shown
        assert max(finite) in shown
    kinds = {repr(value) for value in values if not math.isfinite(value)}
    assert kinds <= {repr(value) for value in shown}
    if values:
        assert (kept[0], kept[-1]) == (whole[0], whole[-1])
