"""Signs in the advantages: what they were standardised with, and whether they hold a signal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from watchstep.core.diagnosis.columns import Columns, median

Signs = dict[str, str]
"""Name of a sign to the sentence, with numbers, that says where it was seen."""

NORM = "train/advantages_norm_max_abs"
COUNT = "train/advantages_count"
CENTRE = "train/advantages_norm_mean"
DIVISOR = "train/advantages_divisor"
SPREAD = "train/advantages_std_raw"
MEAN = "train/advantages_mean_raw"

ROUNDING = 1.01
"""Sums in float32 were measured to exceed the bound by 1.0013 at most."""
OFF_CENTRE = 0.02
"""Mean after standardising from which the mean was another sample's; rounding leaves 1e-6."""
RESOLUTION = 100.0
"""Deviation in units in the last place of the mean, below which rounding is what is amplified."""
WINDOW = 1e-4
"""Upper end of the seed document's vulnerability window."""


def advantage_signs(columns: Columns) -> Signs:
    """All signs of this file that the columns show."""
    found = _bound(columns)
    found |= _spread(columns)
    rows = _rows(columns)
    if len(rows) >= 3:
        found |= _centre(columns, rows)
        found |= _divisor(columns, rows)
    return found


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
    found: Signs = {}
    if worst is not None and worst[0] > ROUNDING:
        ratio, row, norm, count = worst
        found["beyond_bound"] = (
            f"{NORM} = {norm:.4g} at {columns.where(row)}, and {count:.0f} values standardised"
            f" with their own mean and deviation cannot exceed {math.sqrt(count - 1):.4g}"
        )
    elif worst is not None and seen >= 3:
        found["within_bound"] = (
            f"{NORM} never exceeded {worst[0]:.2f} of what its batch allows, in {seen} updates"
        )
    if extreme is not None:
        found["extreme_norm"] = (
            f"{NORM} = {extreme[1]:.4g} at {columns.where(extreme[0])}; correct code passes 100"
            " only with more than 10,001 values in a batch"
        )
    return found


def _spread(columns: Columns) -> Signs:
    found: Signs = {}
    spreads = columns.finite(SPREAD)
    means = columns.column(MEAN)
    below = [(row, value) for row, value in spreads if value < WINDOW]
    recent = [value for _, value in spreads[-10:]]
    if below and len(spreads) >= 3:
        row, value = below[0]
        found["spread_in_window"] = (
            f"{SPREAD} = {value:.3g} at {columns.where(row)}, below 1e-4 in {len(below)} of"
            f" {len(spreads)} updates"
        )
    elif len(recent) >= 3 and min(value for _, value in spreads) > 1e-2:
        found["spread_healthy"] = f"{SPREAD} stayed above 0.01 throughout"
    noisy = [
        (row, value, mean)
        for row, value in spreads
        if (mean := means[row]) is not None
        and math.isfinite(mean)
        and 0.0 < value < RESOLUTION * _ulp32(mean)
    ]
    if noisy:
        row, value, mean = noisy[-1]
        share = len(noisy) / len(spreads)
        text = (
            f"{SPREAD} = {value:.3g} at {columns.where(row)} around a mean of {mean:.3g}: that is"
            f" {value / _ulp32(mean):.3g} units in the last place of float32"
        )
        found["below_resolution"] = text
        if share >= 0.3:
            found["below_resolution_often"] = f"so in {len(noisy)} of {len(spreads)} updates"
    if len(spreads) >= 10:
        first = median([value for _, value in spreads[:5]])
        last = median([value for _, value in spreads[-5:]])
        if 0.0 <= last < 0.02 * first:
            found["spread_faded"] = f"{SPREAD} faded from {first:.3g} to {last:.3g}"
    return found


def _ulp32(value: float) -> float:
    """Distance of neighbouring float32 numbers around a finite value."""
    if value == 0.0:
        return 0.0
    return float(2.0 ** (math.frexp(value)[1] - 24))


Row = tuple[int, float, float, float]
"""Row, deviation of the rollout, divisor of the reported batch, mean after standardising."""


def _rows(columns: Columns) -> list[Row]:
    """Rows in which standardising can be looked at: everything known, and more than rounding."""
    spreads, divisors = columns.column(SPREAD), columns.column(DIVISOR)
    centres, means = columns.column(CENTRE), columns.column(MEAN)
    found = []
    for row, (spread, divisor, centre, mean) in enumerate(
        zip(spreads, divisors, centres, means, strict=True)
    ):
        if spread is None or divisor is None or centre is None:
            continue
        if not all(map(math.isfinite, (spread, divisor, centre))) or spread <= 0.0:
            continue
        if mean is not None and spread < RESOLUTION * _ulp32(mean):
            continue
        found.append((row, spread, divisor, centre))
    return found


def _centre(columns: Columns, rows: Sequence[Row]) -> Signs:
    found: Signs = {}
    off = [row for row in rows if abs(row[3]) > OFF_CENTRE]
    if len(off) < 0.5 * len(rows):
        found["centred"] = (
            f"the batches were centred on their own mean in {len(rows) - len(off)} of"
            f" {len(rows)} updates"
        )
        return found
    at, _, _, centre = max(off, key=lambda row: abs(row[3]))
    found["off_centre"] = (
        f"{CENTRE} = {centre:.3g} at {columns.where(at)}, off zero in {len(off)} of {len(rows)}"
        " updates: the mean that was subtracted is not the batch's"
    )
    means = columns.column(MEAN)
    telling = [
        abs(centre * divisor - mean) < 0.4 * abs(mean)
        for at, spread, divisor, centre in rows
        if (mean := means[at]) is not None and abs(mean) > 0.7 * spread
    ]
    if len(telling) >= 3 and sum(telling) >= 0.6 * len(telling):
        found["mean_kept"] = (
            f"mean times divisor equals {MEAN} in {sum(telling)} of {len(telling)} updates:"
            " nothing was subtracted"
        )
    return found


def _divisor(columns: Columns, rows: Sequence[Row]) -> Signs:
    found: Signs = {}
    ratios = sorted(divisor / spread for _, spread, divisor, _ in rows)
    middle = ratios[len(ratios) // 2]
    foreign = [ratio for ratio in ratios if not 0.25 <= ratio <= 4.0]
    if len(foreign) >= 3 or len(foreign) >= 0.2 * len(rows):
        found["divisor_foreign"] = (
            f"{DIVISOR} was off the rollout's deviation by more than a factor of 4 in"
            f" {len(foreign)} of {len(rows)} updates (from {ratios[0]:.3g} to {ratios[-1]:.3g})"
        )
    if _share(rows, lambda row: abs(row[2] / row[1] - 1.0) < 0.03) >= 0.8:
        found["divisor_whole_rollout"] = (
            f"{DIVISOR} is the deviation of the whole rollout: the batch was standardised with"
            " more values than it holds, which is legitimate"
        )
        return found
    if 0.7 <= middle <= 1.4 and not foreign:
        found["divisor_own"] = (
            f"{DIVISOR} follows the rollout's deviation (median ratio {middle:.2f})"
        )
    ones = _share(rows, lambda row: abs(row[2] - 1.0) < 2e-3)
    varied = max(row[1] for row in rows) > 1.5 * min(row[1] for row in rows)
    if ones >= 0.8 and varied:
        found["divisor_one"] = f"{DIVISOR} is 1 in {ones:.0%} of updates: nothing was divided"
    return found | _lag(rows) | _subset(columns, rows)


def _lag(rows: Sequence[Row]) -> Signs:
    """Whether the divisor follows earlier deviations: the last one, or a running mean."""
    previous = running = moved = 0
    shares = []
    for before, now in zip(rows, rows[1:], strict=False):
        if abs(math.log(now[1] / before[1])) < 0.05:
            continue
        moved += 1
        # "Previous" may also be an older one that has just been followed.
        previous += abs(now[2] / before[1] - 1.0) < 0.02
        for target in (before[1], now[1]):
            gap = target - before[2]
            share = (now[2] - before[2]) / gap if gap else math.nan
            if 0.005 < share < 0.97:
                running += 1
                shares.append(share)
                break
    if moved >= 3 and previous >= 0.6 * moved:
        return {
            "divisor_previous": (
                f"{DIVISOR} equals the deviation of the rollout before in {previous} of {moved}"
                " updates"
            )
        }
    steady = len(shares) >= 4 and _steady(shares)
    if moved >= 4 and running >= 0.7 * moved and steady:
        return {
            "divisor_running": (
                f"{DIVISOR} moves by a steady {median(shares):.2g} of the way to the current"
                f" deviation in {running} of {moved} updates: a running estimate"
            )
        }
    return {}


def _steady(shares: Sequence[float]) -> bool:
    middle = median(shares)
    near = sum(0.6 * middle <= share <= 1.6 * middle for share in shares)
    return near >= 0.6 * len(shares)


def _subset(columns: Columns, rows: Sequence[Row]) -> Signs:
    """Whether the divisor is far too small most of the time and lags behind nothing."""
    low = [row for row in rows if row[2] < 0.5 * row[1]]
    found: Signs = {}
    if len(low) >= 0.5 * len(rows):
        found["divisor_low"] = (
            f"{DIVISOR} was less than half the rollout's deviation in {len(low)} of {len(rows)}"
            " updates"
        )
    elif 1 <= len(low) < 0.5 * len(rows):
        found["divisor_dips"] = (
            f"{DIVISOR} fell below half the rollout's deviation in {len(low)} of {len(rows)}"
            f" updates only, such as {columns.where(low[0][0])}"
        )
    return found


def _share(rows: Sequence[Row], holds: object) -> float:
    assert callable(holds)
    return sum(bool(holds(row)) for row in rows) / len(rows)
