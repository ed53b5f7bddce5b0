"""Signs in accuracies and error rates, worse than to guess, and in signs that come together."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from watchstep.core.diagnosis.batches import Signs
from watchstep.core.diagnosis.columns import Columns, median
from watchstep.core.diagnosis.losses import main_loss
from watchstep.core.roles import words_of

LEAST_GUESSED = 0.02
"""Of an accuracy: below it guessing right is so rare that none in ten reports may be chance."""
_IS_ACCURACY = re.compile(r"acc|correct|top.?1", re.IGNORECASE)
_TELLING = frozenset(
    ("eval_loss", "eval_score", "share", "reward", "value", "kl", "entropy", "spread")
)
_ERROR_RATES = frozenset({"cer", "wer", "bcer", "bwer", "ter", "uer", "error_rate"})


def score_signs(columns: Columns) -> Signs:
    return _worse_than_chance(columns) | _errs_always(columns)


def signs_together(columns: Columns, seen: Mapping[str, str]) -> Signs:
    """What other signs say together, or cannot say, as a printed loss that leaps alone.

    Nothing then tells inputs from parameters. An agent's critic follows its returns, which a
    simulator may blow up by any factor.
    """
    if seen.keys() >= {"entropy_gone", "reward_turned_zero"}:
        return {"collapsed_to_zero": ""}  # Rewards that fail by themselves leave a policy as it is.
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
