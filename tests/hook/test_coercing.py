"""What trainers call a number becomes the same reading by the fast way as by the slow one."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from watchstep.hook.readings import Coercer

FLOATS = st.floats() | st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324])
VALUES = (
    FLOATS
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**63, True, False, None, "nan", "1.5", b"1", [1.0]])
    | st.decimals()
    | st.fractions()
    | FLOATS.map(np.float64)
    | st.floats(width=32).map(np.float32)
    | st.integers(-128, 127).map(np.int8)
    | FLOATS.map(np.array)
    | st.floats(width=32).map(torch.tensor)
    | st.floats(width=32).map(lambda value: torch.tensor([[value]], requires_grad=True))
    | st.just(torch.zeros(2))
    | st.just(np.zeros(3))
    | st.complex_numbers()
)


def spelled(readings: dict[str, float]) -> dict[str, str]:
    """Every bit of it: NaN is not equal to itself, and 0.0 equals -0.0."""
    assert all(type(value) is float for value in readings.values())
    return {name: value.hex() for name, value in readings.items()}


@given(st.dictionaries(st.sampled_from("abcdefgh"), FLOATS))
def test_floats_by_the_fast_way_are_the_floats_that_were_logged(metrics: dict[str, float]) -> None:
    knowing = Coercer()
    knowing.readings(metrics)

    readings, waiting = knowing.readings(metrics)

    assert spelled(readings) == spelled(metrics)
    assert list(readings) == list(metrics)
    assert readings is not metrics
    assert not waiting


@given(st.dictionaries(st.sampled_from("abcdefgh"), VALUES))
def test_a_shape_that_was_seen_with_floats_changes_nothing_for_other_values(
    metrics: dict[str, Any],
) -> None:
    fresh, knowing = Coercer(), Coercer()
    knowing.readings(dict.fromkeys(metrics, 1.0))

    for _ in range(2):
        expected, coerced = fresh.readings(metrics), knowing.readings(metrics)

        assert spelled(coerced[0]) == spelled(expected[0])
        assert coerced[1] == expected[1] == {}
    assert knowing.counts == fresh.counts


@pytest.mark.parametrize(
    ("value", "reading"),
    [
        (10**400, math.inf),
        (-(10**400), -math.inf),
        (True, 1.0),
        (Decimal("NaN"), math.nan),
        (Fraction(1, 4), 0.25),
        (np.float32(0.5), 0.5),
        (torch.tensor(0.5), 0.5),
        (np.array([0.5]).reshape(()), 0.5),
    ],
)
def test_what_has_a_number_is_read_as_a_float(value: Any, reading: float) -> None:
    readings, _ = Coercer().readings({"a": value})

    assert spelled(readings) == {"a": reading.hex()}


@pytest.mark.parametrize("value", ["nan", "1.5", b"1", None, [1.0], torch.zeros(2), 1j])
def test_what_is_no_number_is_left_out_and_counted(value: Any) -> None:
    coercer = Coercer()
    coercer.readings({"a": 1.0, "b": 2.0})

    readings, waiting = coercer.readings({"a": value, "b": 2.0})

    assert (readings, waiting) == ({"b": 2.0}, {})
    assert coercer.counts == {"value": 1}
