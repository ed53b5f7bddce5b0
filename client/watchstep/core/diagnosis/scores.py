"""Signs in evaluations: what they say of the training, and scores that are worse than to guess."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise

from watchstep.core.diagnosis.batches import Signs
from watchstep.core.diagnosis.columns import Columns, median
from watchstep.core.diagnosis.levels import leap, repeats
from watchstep.core.diagnosis.losses import main_loss
from watchstep.core.roles import words_of

LEAST_GUESSED = 0.02
"""Of an accuracy: below it guessing right is so rare that none in ten reports may be chance."""
_IS_ACCURACY = re.compile(r"acc|correct|top.?1", re.IGNORECASE)
_TELLING = frozenset(
    ("eval_loss", "eval_score", "share", "reward", "value", "kl", "entropy", "spread")
)
LEAST_MOVE = 5e-4
"""Share of their size that a step moves the weights by: a tenth of Adam's at a rate of 1e-3."""
_PART = frozenset(
    ("gradient_none", "gradient_missing", "gradient_mostly_zero", "frozen_mostly", "gradient_zero")
)
_ERROR_RATES = frozenset({"cer", "wer", "bcer", "bwer", "ter", "uer", "error_rate"})


def score_signs(columns: Columns) -> Signs:
    signs = _worse_than_chance(columns) | _errs_always(columns)
    return signs | _evaluations(columns) | _carried_over(columns)


def _evaluations(columns: Columns) -> Signs:
    """Evaluations that repeat to the last digit: the weights cannot have moved."""
    for name in columns.of_role("eval_loss"):
        points = columns.finite(name)
        same = repeats(points, 3)
        # A score may be 0 or 1 for long, and a short number may repeat by chance.
        if same and len(f"{points[-1][1]:.10g}") >= 6:
            value = points[-1][1]
            return {"eval_stuck": f"{name} was {value:.6g} to the last digit in {same} evaluations"}
    return {}


def _carried_over(columns: Columns) -> Signs:
    """Whether evaluations, of which the weights show that they move, ever got any better."""
    loss = main_loss(columns)
    trained = [value for _, value in columns.finite(loss)]
    if columns.family != "supervised" or not columns.is_whole or len(trained) < 20:
        return {}
    first, last = median(trained[:3]), median(trained[-5:])
    # Few data learnt by heart still teach something: the score tells, where certainty is the loss.
    names = (name for name in columns.of_role("eval_score") if "train" not in words_of(name))
    scores = [[value for _, value in columns.finite(name)] for name in names]
    at_start = [median(each[-4:]) < 1.1 * median(each[:3]) for each in scores if len(each) >= 8]
    for name in columns.of_role("eval_loss"):
        values = [value for _, value in columns.finite(name)]
        if len(values) < 8 or values[0] <= 0.0 or min(values) < 0.95 * values[0]:
            continue
        steps = [now - before for before, now in pairwise(values)]
        gains_nothing = bool(at_start) and all(at_start)
        if gains_nothing and last < 0.7 * first and min(values[-4:]) > 1.05 * values[0]:
            return {
                "eval_never_gained": (
                    f"{name} began at {values[0]:.4g} and was never better than"
                    f" {min(values):.4g}, and its score no better, while {loss} fell to {last:.4g}"
                )
            }
        if abs(last - first) < 0.1 * first and median(list(map(abs, steps))) > 2e-3 * values[0]:
            return {"eval_moves": f"{name} differs from evaluation to evaluation: weights do move"}
    return {}


def signs_together(columns: Columns, seen: Mapping[str, str]) -> Signs:
    """What other signs say together, or cannot say, as a printed loss that leaps alone.

    Nothing then tells inputs from parameters. An agent's critic follows its returns, which a
    simulator may blow up by any factor.
    """
    if seen.keys() >= {"entropy_gone", "reward_turned_zero"}:
        return {"collapsed_to_zero": ""}  # Rewards that fail by themselves leave a policy as it is.
    moves = [value for _, value in columns.finite("guard/update_ratio")]
    if (
        "loss_never_fell" in seen
        and moves
        and median(moves) > LEAST_MOVE
        and not seen.keys() & _PART
    ):
        text = f"each step moves the weights by {median(moves):.2g} of their size, for nothing"
        return {"moves_unlearnt": text}
    if "loss_back_at_start" in seen:
        jump = leap(columns.finite(main_loss(columns)))
        # Labels without sense cost about as much, and hardly ever the same.
        if (
            jump
            and abs(jump.after - jump.start) < 0.05 * jump.start
            and jump.late < 0.85 * jump.after
        ):
            return {"learnt_again": "the loss was back where it had begun, and is learnt once more"}
    if "loss_leapt" not in seen or any(name.startswith("guard/") for name in columns.names):
        return {}
    if columns.family in ("on_policy", "off_policy"):
        return {"critic_alone": ""}
    return {} if _TELLING & columns.roles.keys() else {"loss_alone": ""}


def _worse_than_chance(columns: Columns) -> Signs:
    """Whether an accuracy fell to nothing, far below what an untrained model guesses."""
    loss = [value for _, value in columns.finite(main_loss(columns))]
    for name in columns.of_role("share", "eval_score"):
        values = [value for _, value in columns.finite(name)]
        if not _IS_ACCURACY.search(name) or not columns.is_whole or len(values) < 15:
            continue
        if max(values) > 1.0:
            values = [value / 100.0 for value in values]
        guessed, newest = median(values[:3]), values[-10:]
        if loss and math.exp(-abs(median(loss[:3]))) < guessed / 5.0:
            continue  # By its cross-entropy it began far above its guess, and had learnt already.
        if guessed >= LEAST_GUESSED and max(newest) < guessed / 5.0:
            return {
                "worse_than_chance": (
                    f"{name} began at {guessed:.3g} and is at most {max(newest):.3g} in the last"
                    " ten reports: worse than to guess"
                )
            }
    return {}


def _errs_always(columns: Columns) -> Signs:
    """Whether an error rate that had fallen below a half is at its top, and stays there."""
    for name in columns.of_role("loss", "eval_loss"):
        values = [value for _, value in columns.finite(name)]
        if _ERROR_RATES.isdisjoint(words_of(name)) or len(values) < 15:
            continue
        top = 100.0 if max(values) > 2.0 else 1.0
        if min(values[-10:]) >= 0.99 * top and min(values) < 0.5 * top:
            return {"error_at_top": f"{name} had been {min(values):.3g}, and errs always now"}
    return {}
