"""Signs in the learning rate and at a resume."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from watchstep.core.diagnosis.batches import Signs
from watchstep.core.diagnosis.columns import Columns, median
from watchstep.core.diagnosis.levels import Points, repeats
from watchstep.core.diagnosis.losses import main_loss

RATE = "train/learning_rate"
LEAP = 2.5
"""By how much a rate has to exceed all rates before it: schedules with restarts do not."""
HIGH = {"supervised": 0.2, "on_policy": 0.02, "off_policy": 0.02}
"""Rates that are rare in the field: Adam is run with at most 0.01, SGD with momentum with 0.1, and
agents with 1e-5 to 3e-3 (the defaults of the trainers in rules/packs/trainers.csv)."""
TINY = 1e-4
"""Below this a step of Adam, which is about the rate in size, is lost in bf16 on a weight of 0.03
and more: bf16 keeps 8 bits."""
ORDINARY = {"supervised": 1e-3, "on_policy": 5e-3, "off_policy": 5e-3}


def rate_signs(columns: Columns) -> Signs:
    return _rate(columns) | _resume(columns)


def rate_name(columns: Columns) -> str:
    """The learning rate as reported; "" where none is logged."""
    canonical = columns.name(RATE)
    if columns.finite(canonical):
        return canonical
    return next(iter(columns.of_role("rate")), "")


def _rate(columns: Columns) -> Signs:
    name = rate_name(columns)
    points = columns.finite(name) if name else []
    if not points:
        return {"rate_unlogged": ""}
    signs = _zero(columns, name, points)
    leapt = _leapt(points)
    largest = max(value for _, value in points)
    if leapt is not None:
        before, (row, now) = leapt
        signs["rate_leapt"] = f"{name} rose from {before:.3g} to {now:.3g} at {columns.where(row)}"
    anew = _began_anew(points)
    if anew is not None:
        before, (row, now) = anew
        signs["rate_began_anew"] = (
            f"{name} jumped from {before:.3g} back to {now:.3g} at {columns.where(row)}"
        )
    if columns.is_whole and (cliff := _cliff(points)) is not None:
        high, (row, low) = cliff
        signs["rate_starts_high"] = (
            f"{name} began at {high:.3g} and fell to {low:.3g} at {columns.where(row)}"
        )
    if largest >= HIGH[columns.family]:
        signs["rate_high"] = f"{name} = {largest:.3g}, which is rare for this kind of training"
    elif largest >= 0.03 and columns.family == "supervised":
        signs["rate_elevated"] = f"{name} = {largest:.3g}, which only SGD is commonly run with"
    elif leapt is None and 0.0 < largest <= ORDINARY[columns.family]:
        signs["rate_ordinary"] = f"{name} stayed at or below {largest:.3g}"
    signs |= _grew(columns, name, points)
    if 0.0 < largest <= TINY:
        signs["rate_tiny"] = f"{name} never exceeded {largest:.3g}"
    if not signs.keys() & {
        "rate_leapt",
        "rate_began_anew",
        "rate_zero",
        "rate_grew",
        "rate_starts_high",
        "rate_high",
        "rate_elevated",
    }:
        rises = [row for (_, old), (row, new) in pairwise(points) if 0.0 < 2.0 * old < new]
        at = f"rose at {columns.where(rises[-1])}" if rises else "went as planned"
        signs["rate_steady"] = f"{name} {at}, up to {largest:.3g}"
    return signs


def _grew(columns: Columns, name: str, points: Points) -> Signs:
    """Whether the newest rates are the largest, beyond what is common: a warm-up ends and stays."""
    rates = [value for _, value in points]
    largest, began = max(rates), next((rate for rate in rates if rate > 0.0), 0.0)
    is_common = largest <= max(10.0 * began, ORDINARY[columns.family])
    if is_common or len(rates) < 20 or max(rates[:-5]) == largest:
        return {}
    return {"rate_grew": f"{name} grew from {began:.3g} to {largest:.3g} and no warm-up ended"}


def _leapt(points: Points) -> tuple[float, tuple[int, float]] | None:
    """The largest rate before a leap, and row and rate of it; a warm-up is none."""
    largest = 0.0
    for at, (row, value) in enumerate(points):
        if at >= 3 and largest > 0.0 and value > LEAP * largest:
            rising = points[at - 1][1] > points[at - 2][1]
            if (not rising or value > 4.0 * LEAP * largest) and not _is_stair(points, at):
                return largest, (row, value)
        largest = max(largest, value)
    return None


def _is_stair(points: Points, at: int) -> bool:
    """Whether a rise is the first of several alike, as of a warm-up that steps once an epoch."""
    levels = [points[at - 1][1], points[at][1]]
    levels += [now for (_, before), (_, now) in pairwise(points[at:]) if now != before]
    rises = [later - earlier for earlier, later in pairwise(levels[:3])]
    return len(rises) == 2 and 0.5 * rises[0] <= rises[1] <= 2.0 * rises[0]


def _began_anew(points: Points) -> tuple[float, tuple[int, float]] | None:
    """The one rise back to a rate that had been left; schedules with restarts have several.

    Those let the rate run out, too, before it begins anew.
    """
    rises = [
        (points[at - 1][1], points[at])
        for at in range(1, len(points))
        if 0.0 < LEAP * points[at - 1][1] < points[at][1]
    ]
    if len(rises) != 1:
        return None
    before, (row, now) = rises[0]
    largest = max(value for at, value in points if at < row)
    return rises[0] if now <= 1.01 * largest and before > 0.03 * largest else None


def _cliff(points: Points) -> tuple[float, tuple[int, float]] | None:
    """A start at a rate several times what follows at one report, as where a warm-up is missing."""
    rates = [value for _, value in points]
    first = rates[0]
    for at, (before, now) in enumerate(pairwise(rates), start=1):
        if before < 0.9 * first or at > max(10, len(rates) // 3):
            return None
        if now > 0.0 and before > 3.0 * now and at >= 2:
            return before, points[at]
    return None


def _zero(columns: Columns, name: str, points: Points) -> Signs:
    zeros = repeats(points, 3)
    if not zeros or points[-1][1] != 0.0:
        return {}
    before = [value for _, value in points[:-zeros]]
    if not before and any(map(columns.moved, columns.of_role("loss"))):
        return {}  # It is rounded.
    if before and before[-1] < 0.1 * max(before) and zeros < 3 * len(before):
        return {}  # The end of a schedule, unless there was hardly any before it.
    since = "has been" if not before else f"is, from {columns.where(points[-zeros][0])} on,"
    return {"rate_zero": f"{name} {since} exactly 0: no step changes anything"}


def _resume(columns: Columns) -> Signs:
    """What was lost between the attempt before and this one."""
    before = columns.before
    if before is None:
        return {}
    signs: Signs = {"resumed": ""}
    main = main_loss(columns)
    for name in dict.fromkeys([main, *columns.of_role("loss", "eval_loss")]):
        old, new = _sizes(before, name), _sizes(columns, name)
        if len(old) < 3 or len(new) < 2:
            continue
        # What was lost is missing from the first report on; a later one may be this attempt's own.
        level, start, now = median(old[-5:]), median(old[:3]), min(new[:2])
        if now > 1.25 * level and now - level > 0.3 * abs(start - level):
            signs["loss_lost_at_resume"] = (
                f"{name} was {level:.4g} when attempt {before.attempt} ended and {now:.4g} when"
                f" attempt {columns.attempt} began"
            )
            if before.is_whole:
                signs["loss_lost_at_resume"] += f"; the run had begun with {start:.4g}"
            break
        if now <= 1.25 * level and name == main:
            signs["loss_kept_at_resume"] = f"{name} went on at {now:.4g} after the resume"
    signs |= _weights_lost(before, columns)
    signs |= _rewards_lost(before, columns)
    return signs | _rate_at_resume(before, columns)


def _weights_lost(before: Columns, columns: Columns) -> Signs:
    old, new = (each.finite("guard/weight_norm") for each in (before, columns))
    if "WeightsLostAtResume" not in columns.fired or not (old and new):
        return {}
    norms = f"{old[-1][1]:.4g} before the resume and {new[0][1]:.4g} after it"
    return {"weights_lost_at_resume": f"the norm of the weights was {norms}"}


def _rewards_lost(before: Columns, columns: Columns) -> Signs:
    for name in columns.of_role("reward"):
        old = [value for _, value in before.finite(name)]
        new = [value for _, value in columns.finite(name)]
        if len(old) < 6 or len(new) < 3:
            continue
        start, level, now = median(old[:3]), median(old[-3:]), median(new[:5])
        if level > start and now < level - 0.5 * (level - start):
            return {
                "reward_lost_at_resume": (
                    f"{name} was {level:.4g} before the resume and {now:.4g} after it"
                )
            }
    return {}


def _rate_at_resume(before: Columns, columns: Columns) -> Signs:
    name = rate_name(columns)
    old, new = (each.finite(name)[::step][:3] for each, step in ((before, -1), (columns, 1)))
    if not old or not new:
        return {}
    last = old[0][1]
    top = max(value for _, value in new)
    if last > 0.0 and top > 2.0 * last:
        return {
            "rate_reset_at_resume": (
                f"{name} was {last:.3g} when attempt {before.attempt} ended and {top:.3g} in the"
                f" first reports of attempt {columns.attempt}"
            )
        }
    return {}


def _sizes(columns: Columns, name: str) -> Sequence[float]:
    return [abs(value) for _, value in columns.finite(name)]
