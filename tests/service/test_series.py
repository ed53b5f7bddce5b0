"""Thinning keeps what one looks for."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from watchstep_monitor.service.series import LEAST_POINTS, Line, Readings, thin

VALUES = st.lists(st.floats(width=32), max_size=400)


def line(values: list[float], stretch: int = 7) -> Line:
    """Of stretches such as the store's blocks."""
    made = Line()
    for first in range(0, len(values), stretch):
        seqs = range(first + 1, min(first + stretch, len(values)) + 1)
        some = values[first : first + stretch]
        made.append(
            Readings(1, seqs, [seq * 10 for seq in seqs], [float(seq) for seq in seqs], some)
        )
    return made


@given(VALUES, st.integers(1, 60))
def test_extremes_ends_and_each_kind_of_non_finite_survive(values: list[float], most: int) -> None:
    whole = line(values)

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
        assert (kept[0].seq, kept[-1].seq) == (1, len(whole))
    assert [(p.step, p.time, repr(p.value)) for p in kept] == [
        (p.seq * 10, float(p.seq), repr(values[p.seq - 1])) for p in kept
    ]
