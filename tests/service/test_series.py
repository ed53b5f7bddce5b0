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


def stretch_ends(values: list[float]) -> set[int]:
    """Numbers of the first and last of each stretch of NaN, Infinity or -Infinity."""
    words = ["", *(("" if math.isfinite(value) else repr(value)) for value in values), ""]
    return {
        at
        for at in range(1, len(values) + 1)
        if words[at] and not words[at - 1] == words[at] == words[at + 1]
    }


@given(VALUES, st.integers(1, 60))
def test_extremes_ends_and_each_kind_of_non_finite_survive(values: list[float], most: int) -> None:
    whole = line(values)

    kept, thinned = thin(whole, most)

    assert len(kept) <= max(most, LEAST_POINTS) + len(stretch_ends(values))
    assert thinned == (len(kept) < len(whole))
    assert [point.seq for point in kept] == sorted({point.seq for point in kept})
    finite = [value for value in values if math.isfinite(value)]
    shown = [point.value for point in kept]
    if finite:
        assert min(finite) in shown
        assert max(finite) in shown
    assert stretch_ends(values) <= {point.seq for point in kept}
    if values:
        assert (kept[0].seq, kept[-1].seq) == (1, len(whole))
    assert [(p.step, p.time, repr(p.value)) for p in kept] == [
        (p.seq * 10, float(p.seq), repr(values[p.seq - 1])) for p in kept
    ]


def test_fifty_nan_in_a_row_survive_where_there_is_room_and_their_ends_where_there_is_none() -> (
    None
):
    values = [math.nan if 400 <= n < 450 else float(n) for n in range(1_000)]

    roomy, _ = thin(line(values), 100)
    tight, _ = thin(line(values), 10)

    assert [p.seq - 1 for p in roomy if math.isnan(p.value)] == list(range(400, 450))
    assert {400, 449} <= {p.seq - 1 for p in tight if math.isnan(p.value)}
    assert len(roomy) <= 100


def test_single_nan_survive_even_where_they_are_more_than_was_asked_for() -> None:
    values = [math.nan if n % 20 == 7 else float(n) for n in range(1_000)]

    kept, _ = thin(line(values), 10)

    assert [p.seq - 1 for p in kept if math.isnan(p.value)] == list(range(7, 1_000, 20))
