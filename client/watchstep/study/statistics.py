"""Intervals for shares and medians, honest about small numbers."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Z_95 = 1.959964
"""Standard normal quantile of a two-sided interval of 95 percent."""
RESAMPLES = 2_000
_MOST_DRAWS = 2_000_000
"""Values drawn for one interval at most, so that fleets of thousands take seconds."""
LEAST_RUNS = 5
"""Runs on each side from which a bootstrap interval is given: of four values or fewer there are
under 256 resamples, and the percentile interval covers far less than it says."""
SEED = 20_240_607
"""Fixed, so that the same logs give the same table."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 percent interval."""

    low: float
    high: float

    @property
    def ends(self) -> list[float]:
        return [self.low, self.high]

    def __mul__(self, other: Interval | float) -> Interval:
        """Of the product, where no end of either is negative."""
        low, high = other.ends if isinstance(other, Interval) else (other, other)
        return Interval(self.low * low, self.high * high)

    def holds(self, value: float) -> bool:
        """Whether a value lies inside, edges included."""
        return self.low <= value <= self.high


def wilson(hits: int, trials: int) -> Interval:
    """Wilson's score interval of a share; from 0 to 1 where nothing was tried."""
    if trials == 0:
        return Interval(0.0, 1.0)
    share = hits / trials
    spread = Z_95**2 / trials
    centre = share + spread / 2
    half = Z_95 * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    low = 0.0 if hits == 0 else max((centre - half) / (1 + spread), 0.0)
    high = 1.0 if hits == trials else min((centre + half) / (1 + spread), 1.0)
    return Interval(low, high)


def share_difference(hits: tuple[int, int], trials: tuple[int, int]) -> Interval:
    """Newcombe's interval of the second share minus the first, from two Wilson intervals."""
    if not all(trials):
        return Interval(-1.0, 1.0)
    first, second = hits[0] / trials[0], hits[1] / trials[1]
    before, after = wilson(hits[0], trials[0]), wilson(hits[1], trials[1])
    below = math.hypot(second - after.low, before.high - first)
    above = math.hypot(after.high - second, first - before.low)
    return Interval(second - first - below, second - first + above)


def median_difference(old: Sequence[float], new: Sequence[float]) -> Interval | None:
    """Bootstrap interval of the new median minus the old; None below `LEAST_RUNS` a side.

    Each side holds one value a run. Infinities are legal and count as the extremes they are;
    a NaN is not.
    """
    if min(len(old), len(new)) < LEAST_RUNS:
        return None
    draw = random.Random(SEED)
    rounds = max(min(RESAMPLES, _MOST_DRAWS // (len(old) + len(new))), 200)
    differences = []
    for _ in range(rounds):
        first = statistics.median(draw.choices(old, k=len(old)))
        second = statistics.median(draw.choices(new, k=len(new)))
        # Infinity from infinity is no difference that anybody could name.
        differences.append(0.0 if first == second else second - first)
    differences.sort()
    return Interval(
        differences[int(0.025 * rounds)], differences[min(int(0.975 * rounds), rounds - 1)]
    )
