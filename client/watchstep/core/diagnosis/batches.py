"""Signs in the advantages: what they were standardised with, and whether they hold a signal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from watchstep.core.diagnosis.columns import Columns, median

Signs = dict[str, str]
"""Name of a sign to the sentence, with numbers, that says where it was seen."""

NORM = "train/advantages_norm_max_abs"
COUNT = "train/advantages_count"
CENTRE = "train/advantages_norm_mean"
DIVISOR = "train/advantages_divisor"
SPREAD = "train/advantages_std_raw"
MEAN = "train/advantages_mean_raw"
SCALE = "train/advantages_norm_std"

ROUNDING = 1.01
"""Sums in float32 were measured to exceed the bound by 1.0013 at most."""
OFF_CENTRE = 0.02
"""Mean after standardising from which the mean was another sample's; rounding leaves 1e-6."""
RESOLUTION = 100.0
"""Deviation in units in the last place of the mean, below which rounding is what is amplified."""
MOST_BATCHES = 100
"""Newest updates whose batches are looked at one by one."""
WINDOW = 1e-4
"""Upper end of the seed document's vulnerability window."""


def advantage_signs(columns: Columns) -> Signs:
    signs = _bound(columns)
    signs |= _spread(columns)
    batches = _batches(columns)
    if batches:
        signs |= _centre(columns, batches)
    if len(batches) >= 3:
        signs |= _divisor(batches)
    return signs


def _bound(columns: Columns) -> Signs:
    norms, counts = columns.column(NORM), columns.column(COUNT)
    worst = extreme = None
    seen = 0
    for row, (norm, count) in enumerate(zip(norms, counts, strict=True)):
        if norm is None or norm - norm != 0.0:
            continue
        if count is None or not count >= 2:
            if norm > 100.0 and extreme is None:
                extreme = (row, norm)
            continue
        seen += 1
        ratio = norm / math.sqrt(count - 1.0)
        if worst is None or ratio > worst[0]:
            worst = (ratio, row, norm, count)
    signs: Signs = {}
    if worst is not None and worst[0] > ROUNDING:
        ratio, row, norm, count = worst
        signs["beyond_bound"] = (
            f"{NORM} = {norm:.4g} at {columns.where(row)}, and {count:.0f} values standardised"
            f" with their own mean and deviation cannot exceed {math.sqrt(count - 1):.4g}"
        )
    elif worst is not None and seen >= 3:
        signs["within_bound"] = (
            f"{NORM} never exceeded {worst[0]:.2f} of what its batch allows, in {seen} updates"
        )
    if extreme is not None:
        signs["extreme_norm"] = (
            f"{NORM} = {extreme[1]:.4g} at {columns.where(extreme[0])}; correct code passes 100"
            " only with more than 10,001 values in a batch"
        )
    return signs


def _spread(columns: Columns) -> Signs:
    signs: Signs = {}
    spreads = columns.finite(SPREAD)
    means = columns.column(MEAN)
    below = [(row, value) for row, value in spreads if value < WINDOW]
    if below and len(spreads) >= 3:
        row, value = below[0]
        signs["spread_in_window"] = (
            f"{SPREAD} = {value:.3g} at {columns.where(row)}, below 1e-4 in {len(below)} of"
            f" {len(spreads)} updates"
        )
    noisy = [
        (row, value, mean)
        for row, value in spreads
        if (mean := means[row]) is not None
        and math.isfinite(mean)
        and value < RESOLUTION * _ulp32(mean)
        and (value > 0.0 or _amplified(columns, row))
    ]
    if noisy:
        row, value, mean = noisy[-1]
        share = len(noisy) / len(spreads)
        text = (
            f"{SPREAD} = {value:.3g} at {columns.where(row)} around a mean of {mean:.3g}: that is"
            f" {value / _ulp32(mean):.3g} units in the last place of float32"
        )
        signs["below_resolution"] = text
        amplified = [row for row, _, _ in noisy if _amplified(columns, row)]
        if amplified:
            signs["noise_amplified"] = (
                f"and yet {NORM} = {columns.column(NORM)[amplified[-1]]:.3g} at"
                f" {columns.where(amplified[-1])}, as if it were a signal"
            )
        if share >= 0.3:
            signs["below_resolution_often"] = f"so in {len(noisy)} of {len(spreads)} updates"
    if len(spreads) >= 10:
        first = median([value for _, value in spreads[:5]])
        last = median([value for _, value in spreads[-5:]])
        if 0.0 <= last < 0.02 * first:
            signs["spread_faded"] = f"{SPREAD} faded from {first:.3g} to {last:.3g}"
    return signs


def _amplified(columns: Columns, row: int) -> bool:
    """Whether values that hardly differ came out of standardising at unit scale."""
    norm = columns.column(NORM)[row]
    return norm is not None and math.isfinite(norm) and norm > 0.3


def _ulp32(value: float) -> float:
    """Distance of neighbouring float32 numbers around a finite value."""
    if value == 0.0 or value - value != 0.0:
        return 0.0
    return float(2.0 ** (math.frexp(value)[1] - 24))


@dataclass(frozen=True, slots=True)
class _Batch:
    """The batch that an update reports: that nearest to its bound.

    Attributes:
        spread: Deviation of the whole rollout before standardising.
        divisor: What the batch was divided by.
        centre: Its mean afterwards.
        scale: Its deviation afterwards; NaN where the hook does not tell.
        mean: Of the whole rollout before; NaN where the hook does not tell.
    """

    row: int
    spread: float
    divisor: float
    centre: float
    scale: float
    mean: float

    @property
    def ratio(self) -> float:
        """Divisor over the deviation of the data it was applied to, as well as it is known."""
        is_known = self.scale == self.scale and self.scale > 0.0
        return 1.0 / self.scale if is_known else self.divisor / self.spread


def _batches(columns: Columns) -> list[_Batch]:
    """Those in which standardising can be looked at: all values known, and more than rounding."""
    wanted = [columns.column(name) for name in (SPREAD, DIVISOR, CENTRE, SCALE, MEAN)]
    batches = []
    for row in range(max(0, len(columns) - MOST_BATCHES), len(columns)):
        values = [column[row] for column in wanted]
        if values[1] is None:
            continue
        batch = _Batch(row, *[math.nan if value is None else value for value in values])
        is_known = all(map(math.isfinite, (batch.spread, batch.divisor, batch.centre)))
        if not is_known or batch.spread <= 0.0 or batch.divisor <= 0.0:
            continue
        if batch.spread < RESOLUTION * _ulp32(batch.mean):
            continue
        # Also what overflows or vanishes in a quotient tells nothing.
        if not 1e-100 < batch.ratio < 1e100 or not 1e-100 < batch.spread < 1e100:
            continue
        batches.append(batch)
    return batches


def _centre(columns: Columns, batches: Sequence[_Batch]) -> Signs:
    off = [batch for batch in batches if abs(batch.centre) > OFF_CENTRE]
    # A mean this far off needs no repetition; a smaller one might be rounding's.
    far = any(abs(batch.centre) > 0.3 for batch in off)
    if len(off) < max(1 if far else 3, 0.3 * len(batches)):
        if len(batches) < 3:
            return {}
        return {
            "centred": (
                f"the batches were centred on their own mean in {len(batches) - len(off)} of"
                f" {len(batches)} updates"
            )
        }
    worst = max(off, key=lambda batch: abs(batch.centre))
    signs = {
        "off_centre": (
            f"{CENTRE} = {worst.centre:.3g} at {columns.where(worst.row)}, off zero in"
            f" {len(off)} of {len(batches)} updates: the mean that was subtracted is not the"
            " batch's"
        )
    }
    telling = [
        abs(batch.centre * batch.divisor - batch.mean) < 0.4 * abs(batch.mean)
        for batch in batches
        if abs(batch.mean) > 0.5 * batch.spread
    ]
    if len(telling) >= 3 and sum(telling) >= 0.6 * len(telling):
        signs["mean_kept"] = (
            f"mean times divisor equals {MEAN} in {sum(telling)} of {len(telling)} updates:"
            " nothing was subtracted"
        )
    return signs


def _divisor(batches: Sequence[_Batch]) -> Signs:
    # Standardising with the sample deviation leaves a scale of sqrt(1 - 1/n): 0.87 for n = 4.
    own = _share(batches, lambda batch: 0.86 <= 1.0 / batch.ratio <= 1.003)
    ratios = sorted(batch.ratio for batch in batches)
    signs: Signs = {}
    text = f"the divisor was between {ratios[0]:.3g} and {ratios[-1]:.3g} times the deviation"
    if _share(batches, lambda batch: abs(batch.divisor / batch.spread - 1.0) < 0.03) >= 0.8:
        signs["divisor_whole_rollout"] = (
            f"{DIVISOR} is the deviation of the whole rollout: the batch was standardised with"
            " more values than it holds, which is legitimate"
        )
        return signs
    is_known = all(batch.scale == batch.scale for batch in batches)
    if is_known and own >= 0.9:
        return {"divisor_own": f"in {own:.0%} of updates the divisor was the batch's own deviation"}
    if not is_known and 0.7 <= ratios[len(ratios) // 2] <= 1.4:
        signs["divisor_near"] = f"{text} of the rollout, as a batch's own may be"
    foreign = _share(batches, lambda batch: not 0.7 <= batch.ratio <= 1.3)
    far = _share(batches, lambda batch: not 0.25 <= batch.ratio <= 4.0)
    if (is_known and foreign >= 0.2) or far >= 0.2:
        signs["divisor_foreign"] = (
            f"{text} of what was divided, and off by over 30 % in {foreign:.0%}"
        )
    if is_known and _share(batches, lambda batch: 0.6 < batch.ratio < 0.995) >= 0.7:
        signs["divisor_just_below"] = f"{text} of what was divided: just below, almost always"
    return signs | _lag(batches) | _constant(batches)


def _constant(batches: Sequence[_Batch]) -> Signs:
    signs: Signs = {}
    whole = _share(batches, lambda batch: abs(batch.divisor - 1.0) < 2e-3)
    spreads = [batch.spread for batch in batches]
    if whole >= 0.8 and max(spreads) > 1.3 * min(spreads):
        signs["divisor_one"] = f"{DIVISOR} is 1 in {whole:.0%} of updates: nothing was divided"
    low = _share(batches, lambda batch: batch.ratio < 0.5)
    if low >= 0.5:
        signs["divisor_low"] = f"{DIVISOR} was less than half the deviation in {low:.0%} of updates"
    return signs


def _lag(batches: Sequence[_Batch]) -> Signs:
    """Whether the divisor follows earlier deviations: the last one, or a running mean."""
    previous = moved = 0
    shares = []
    for before, now in pairwise(batches):
        if abs(math.log(now.spread / before.spread)) < 0.05:
            continue
        moved += 1
        previous += abs(now.divisor / before.spread - 1.0) < 0.02
        gap = before.spread - before.divisor
        if abs(gap) > 0.03 * before.divisor:
            shares.append((now.divisor - before.divisor) / gap)
    if moved >= 3 and previous >= 0.6 * moved:
        return {
            "divisor_previous": (
                f"{DIVISOR} equals the deviation of the rollout before in {previous} of {moved}"
                " updates"
            )
        }
    if len(shares) < 4:
        return {}
    middle = median(shares)
    near = sum(abs(share - middle) <= 0.15 * abs(middle) for share in shares)
    if 0.003 < middle < 0.97 and near >= 0.7 * len(shares):
        return {
            "divisor_running": (
                f"{DIVISOR} moved {middle:.2g} of the way to the rollout before in {near} of"
                f" {len(shares)} updates: a running estimate"
            )
        }
    return {}


def _share(batches: Sequence[_Batch], holds: Callable[[_Batch], bool]) -> float:
    return sum(map(holds, batches)) / len(batches)
