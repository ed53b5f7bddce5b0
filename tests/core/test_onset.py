"""Since when a loss climbs, beside noise and drift before it, and the words for that climb."""

import math
import random

import pytest

from watchstep.core.diagnosis import _once
from watchstep.core.diagnosis.levels import steep_part
from watchstep.core.stages import onset


def course(seed: int, noise: float, growth: float) -> list[float]:
    """A loss that drifts upwards for 100 reports, and then multiplies."""
    dice = random.Random(seed)
    level = [1 + at / 100 for at in range(100)] + [2 * growth**at for at in range(1, 50)]
    return [value * math.exp(dice.gauss(0, noise)) for value in level]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("noise", "growth"), [(0.2, 1.15), (0.05, 1.15), (0.2, 1.3)])
def test_a_growth_without_end_does_not_begin_in_the_noise_before_it(seed, noise, growth) -> None:
    place = onset(course(seed, noise, growth), is_loss=True)

    assert 95 <= place <= 110


def test_a_climb_is_told_from_its_own_start_with_the_reports_in_between() -> None:
    points = list(enumerate(course(0, 0.0, 1.3)))
    straight = [(at, 1.1**at) for at in range(60)]

    row, level, reports = steep_part(points, 0)
    assert (row, reports) == (pytest.approx(100, abs=3), len(points) - 1 - row)
    assert level == pytest.approx(2.0, rel=0.2)
    assert steep_part(straight, 5)[::2] == (5, 54)


def test_a_sentence_that_another_one_goes_on_with_is_said_once() -> None:
    assert _once(["a rose, and fast", "a rose", "b", "b"]) == ("a rose, and fast", "b")
