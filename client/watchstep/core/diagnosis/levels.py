"""How the size of one metric went: leaps, climbs and standstill. Arithmetic alone, no judgement."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from watchstep.core.diagnosis.columns import median

Points = Sequence[tuple[int, float]]
"""Row and finite value, oldest first."""

BEFORE, AFTER = 20, 5
"""Reports whose median is a level before a leap, and after it."""
LEAST_BEFORE = 5
LEAP = 100.0
"""Times all values before: where no longer history tells, less may be an ordinary spike."""
START = 3
"""Reports whose median is where a metric started."""


@dataclass(frozen=True, slots=True)
class Leap:
    """The first report at which a metric left its level upwards within a few reports.

    Attributes:
        before, after: Levels, as sizes.
        first: The size of the first report beyond.
        highest_before: The largest of the reports that make `before`.
        peak: The largest size from the leap on.
        start: Where the metric started.
        late: The level of the newest reports.
        reports: From the leap on.
    """

    row: int
    before: float
    first: float
    highest_before: float
    after: float
    peak: float
    start: float
    late: float
    reports: int

    @property
    def factor(self) -> float:
        return min(self.after, 1e300) / max(self.before, 1e-300)

    @property
    def in_words(self) -> str:
        """How far it went, from which level."""
        return f"rose to {self.after:.4g}, {self.factor:.3g} times its level of {self.before:.4g},"

    @property
    def is_over(self) -> bool:
        """Whether the newest level is nearer to that before than to that after."""
        return self.reports >= 2 * AFTER and self.late < 0.5 * (self.before + self.after)


def leap(points: Points, factor: float = 1.25) -> Leap | None:
    """The leap that matters: the first whose size in logarithms is half the largest one's.

    A leap goes by at least `factor` beyond all of the 20 reports before. A single report that
    sticks out is none: the median of the next ones has to stay up, or, where there are no next
    ones yet, it has to stick out by twice that.
    """
    sizes = [abs(value) for _, value in points]
    leaps: list[Leap] = []
    at = LEAST_BEFORE
    while at < len(sizes):
        jump = _leap_at(points, sizes, at, factor)
        if jump is not None:
            leaps.append(jump)
        at += 1 if jump is None else AFTER
    largest = max((math.log(jump.factor) for jump in leaps), default=0.0)
    return next((jump for jump in leaps if math.log(jump.factor) >= 0.5 * largest), None)


def _leap_at(points: Points, sizes: Sequence[float], at: int, factor: float) -> Leap | None:
    window = sizes[max(0, at - BEFORE) : at]
    highest = max(window)
    if sizes[at] <= highest:
        return None
    following = sizes[at : at + AFTER]
    before, after = median(window), median(following)
    needed = factor if len(following) >= 3 else 2.0 * factor
    # The report before a leap may stick out a little by chance, and is not where it leapt.
    if not min(after, sizes[at] * needed / factor) > needed * before > 0.0:
        return None
    spread = median([abs(size - before) for size in window])
    # Three reports of five above all that was: in noise without a trend that is one chance
    # in thousands, and the spread keeps out what trends slowly.
    stays = sorted(following)[-min(3, len(following))] > highest
    if not stays or after - before <= 4.0 * spread:
        return None
    return Leap(
        row=points[at][0],
        before=before,
        first=sizes[at],
        highest_before=highest,
        after=after,
        peak=max(sizes[at:]),
        start=median(sizes[:START]),
        late=median(sizes[-AFTER:]),
        reports=len(sizes) - at,
    )


@dataclass(frozen=True, slots=True)
class Climb:
    """A metric that grew over many reports without one leap.

    Attributes:
        row: Where it began.
        low, high: Levels at both ends.
        reports: That it took.
        bend: Where the logarithm of the level stands half-way through, as a share of its rise:
            0.5 or less where it multiplies, 0.75 of a straight line that rises tenfold.
        noise: How far reports lie off their level, in logarithms; the median.
    """

    row: int
    low: float
    high: float
    reports: int
    bend: float
    noise: float

    @property
    def factor(self) -> float:
        return self.high / max(self.low, 1e-300)


BLOCKS = 5
FAR = 1e4
SLOW = 0.25
"""Growth in a report, as a share of the growth that follows, which is not part of the climb."""


def climb(points: Points, factor: float = 2.0) -> Climb | None:
    """The climb from the lowest level to the highest one after it, if there is a steady one.

    Steady: of five stretches of equal length each lies above the one before, and none of them
    holds more than two thirds of the rise in logarithms.
    """
    sizes = [abs(value) for _, value in points]
    if len(sizes) < 2 * BLOCKS:
        return None
    levels = [median(sizes[max(0, at - 2) : at + 1]) for at in range(len(sizes))]
    levels[:2] = [levels[2]] * 2
    top = max(range(len(levels)), key=levels.__getitem__)
    least = min(levels[: top + 1])
    # Beside a growth by orders of magnitude what came before it was level.
    ratio = levels[top] / max(least, 1e-300)
    slack = min(max(1.0 + 0.2 * (ratio - 1.0), 1.0), 1.25) if ratio < 4.0 else min(ratio**0.15, 2.5)
    low = max(at for at in range(top + 1) if levels[at] <= slack * least)
    # The last reports before a NaN hold most of a growth without end, and say less of how it began.
    peak = levels[top]
    top = next((at for at in range(low + 2 * BLOCKS, top) if levels[at] > FAR * least), top)
    if top - low < 2 * BLOCKS - 1 or levels[top] < factor * levels[low]:
        return None
    length = (top - low + 1) / BLOCKS
    parts = [
        median(levels[low + round(part * length) : low + max(1, round((part + 1) * length))])
        for part in range(BLOCKS)
    ]
    if any(later <= earlier for earlier, later in pairwise(parts)) or parts[0] <= 0.0:
        return None
    steps = [math.log(later) - math.log(earlier) for earlier, later in pairwise(parts)]
    if max(steps) > 0.67 * sum(steps):
        return None
    middle = levels[(low + top) // 2]
    base = math.log(max(levels[low], 1e-300))
    bend = (math.log(max(middle, 1e-300)) - base) / (math.log(levels[top]) - base)
    ratios = [sizes[at - 1] / levels[at] for at in range(low + 1, top + 1) if sizes[at - 1] > 0.0]
    noise = median([abs(math.log(ratio)) for ratio in ratios])
    # A level is the median of three reports, so its own row is the middle one.
    return Climb(points[max(low - 1, 0)][0], levels[low], peak, top - low + 1, bend, noise)


def steep_part(points: Points, row: int) -> tuple[int, float, int]:
    """Where a climb from `row` on to its peak begins to be steep: row, level, reports to the peak.

    That is where it lies furthest below the straight line of its logarithms, if it was slow before.
    """
    sizes = [max(abs(value), 1e-300) for _, value in points]
    low = next(at for at, (place, _) in enumerate(points) if place >= row)
    levels = [math.log(median(sizes[max(0, at - 1) : at + 2])) for at in range(len(sizes))]
    peak = max(range(low, len(sizes)), key=levels.__getitem__)
    rise = (levels[peak] - levels[low]) / max(peak - low, 1)
    knee = min(range(low, peak + 1), key=lambda at: levels[at] - rise * (at - low))
    slow = (levels[knee] - levels[low]) * (peak - knee)
    if slow > SLOW * (levels[peak] - levels[knee]) * (knee - low):
        knee = low
    return points[knee][0], math.exp(levels[knee]), peak - knee


def stood_still(points: Points, share: float = 0.02) -> bool:
    """Whether a metric is at its end where it was at the start, as far as its noise allows.

    It may have moved by `share` of its size where it has less noise than that.
    """
    values = [value for _, value in points]
    if len(values) < 12:
        return False
    third = len(values) // 3
    parts = [values[:third], values[third : -third or None], values[-third:]]
    middles = [median(part) for part in parts]
    noise = median([abs(now - before) for before, now in pairwise(values)])
    # A median of n values wanders by about 1.25 / sqrt(n) of their spread.
    allowed = max(4.0 * noise / math.sqrt(third), share * abs(middles[0]))
    return max(middles) - min(middles) <= allowed


def repeats(points: Points, least: int) -> int:
    """How many of the newest reports are equal to the last bit; 0 where fewer than `least`."""
    count = 0
    for _, value in reversed(points):
        if value != points[-1][1]:
            break
        count += 1
    return count if count >= least else 0


def leaps_at(values: Sequence[float], few: int) -> int | None:
    """From where on all values are a hundredfold of those before; the last alone needs more.

    Args:
        values: Oldest first.
        few: How many must stand before the last one.
    """
    least, largest_until = math.inf, list(itertools.accumulate(map(abs, values), max))
    for at in range(len(values) - 1, 0, -1):
        least, largest = min(least, values[at]), largest_until[at - 1]
        enough = at >= few or at <= len(values) - 2
        if enough and 0.0 < LEAP * largest < least < math.inf:
            return at
        if not least > 0.0:
            break
    return None
