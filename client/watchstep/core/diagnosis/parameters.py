"""Signs in what the hook's guard saw: parameters that are not trained, steps, weights that leap."""

from __future__ import annotations

from itertools import pairwise

from watchstep.core.diagnosis.batches import Signs
from watchstep.core.diagnosis.columns import Columns

LEAPT = 100.0
"""Times what the optimizer can have moved a weight by, and times the largest weight before: at
fewer, momentum or an optimizer of somebody's own may have done it."""
LEAST_WEIGHT = 1e-3
"""Weights that all began at zero have no size to leap from."""
LARGE_STEP, ORDINARY_STEP = 0.3, 0.05
"""Size of a step over that of the weights. In healthy runs of the bench of judgement its median was
0.003 to 0.014, by trainer, and 95 % lay below 0.05 but for one (0.11); at 0.3 what was learnt is
gone in a few steps."""


def parameter_signs(columns: Columns) -> Signs:
    return _not_trained(columns) | _steps(columns) | _from_outside(columns)


def _not_trained(columns: Columns) -> Signs:
    """Parameters without a gradient, frozen, growing, never stepped."""
    points = columns.finite("guard/parameters_without_gradient")[-3:]
    share = min((value for _, value in points), default=0.0)
    if share == 1.0:
        return {"gradient_none": "no parameter that the optimizer holds gets a gradient"}
    signs: Signs = {}
    if share >= 0.2:
        signs["gradient_missing"] = f"{100 * share:.0f} % of the parameter tensors get no gradient"
    zero = [value for _, value in columns.finite("guard/zero_gradients")][-2:]
    # It is looked at seldom: where a gradient was there before, one look is enough.
    if len(zero) == 2 and zero[-1] >= 0.5:
        signs["gradient_mostly_zero"] = f"{100 * zero[-1]:.0f} % of the gradients are exactly zero"
    frozen = [value for _, value in columns.finite("guard/parameters_not_trained")]
    if frozen and frozen[-1] >= 0.5:
        signs["frozen_mostly"] = f"{100 * frozen[-1]:.0f} % of what the optimizer holds is frozen"
    if len(columns.finite("guard/gradients_kept")) >= 5:
        signs["gradients_kept"] = "gradients were not cleared between two steps"
    norms = [value for _, value in columns.finite("guard/weight_norm")]
    if len(norms) > 2 and any(
        (now > 3.0 * before and now > 4.0 * norms[0] > 0.0) or now > 30.0 * norms[0] > 0.0
        for before, now in pairwise(norms)
    ):
        signs["weights_grew"] = f"the weights grew from {norms[0]:.3g} to {norms[-1]:.3g}"
    elif len(norms) > 2 and 0.0 < max(norms) < 3.0 * norms[0]:
        signs["weights_steady"] = f"the weights went from {norms[0]:.3g} to {norms[-1]:.3g} only"
    steps = [value for _, value in columns.finite("guard/steps")][-20:]
    if len(steps) == 20 and not any(steps):
        signs["no_step"] = "the optimizer made no step in the last 20 reports"
    return signs


def _steps(columns: Columns) -> Signs:
    """Whether steps were large or small beside the weights, before the numbers were lost."""
    ratios = [(row, value) for row, value in columns.finite("guard/update_ratio") if value > 0.0]
    if not ratios:
        return {}
    row, largest = max(ratios, key=lambda point: point[1])
    text = f"the largest step that was measured moved the weights by {100 * largest:.3g} %"
    if largest >= LARGE_STEP:
        return {"steps_large": f"{text}, at {columns.where(row)}"}
    return {"steps_ordinary": text} if largest <= ORDINARY_STEP else {}


def _from_outside(columns: Columns) -> Signs:
    """Whether a weight leapt further than all steps together can have moved it.

    A step of Adam is about its rate in size, one of SGD its rate times the gradient.
    """
    rates, steps = columns.column("guard/learning_rate"), columns.column("guard/steps")
    norms = columns.finite("train/grad_norm_max")
    for (before, was), (row, now) in pairwise(columns.finite("guard/largest_weight")):
        rate = max((value or 0.0 for value in rates[before : row + 1]), default=0.0)
        count = sum(value or 0.0 for value in steps[before : row + 1])
        # Not the gradient of the update itself, which the weight has made what it is.
        norm = max((abs(value) for at, value in norms if before <= at < row), default=0.0)
        reach = rate * max(count, 1.0) * max(norm, 1.0)
        if rate > 0.0 and now > LEAPT * max(was, LEAST_WEIGHT) and now - was > LEAPT * reach:
            return {
                "weight_from_outside": (
                    f"the largest weight was {was:.3g} and {now:.3g} at {columns.where(row)}: no"
                    " step of the optimizer was that large"
                )
            }
    return {}
