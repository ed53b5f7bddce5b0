"""What may turn into an incident while a run still looks healthy: the seed's four conditions.

Under each of them advantages lose their spread, and a fault in how they are standardised, harmless
so far, comes to matter. By itself none of them is a fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from watchstep.core.diagnosis.batches import SPREAD, Signs, advantage_signs
from watchstep.core.diagnosis.columns import Columns, median
from watchstep.core.diagnosis.levels import Points
from watchstep.core.diagnosis.losses import loss_signs
from watchstep.core.diagnosis.rates import rate_signs
from watchstep.core.diagnosis.returns import return_signs, reward_name
from watchstep.core.diagnosis.steps import step_signs
from watchstep.core.ruleset import RuleSet
from watchstep.core.updates import Update

DAMAGE = frozenset(
    {
        "nonfinite",
        "parameters_nonfinite",
        "failed",
        "frozen",
        "loss_leapt_far",
        "loss_astronomic",
        "rate_leapt",
        "rate_high",
        "rate_zero",
        "kl_often_high",
        "policy_unmoved",
        "beyond_bound",
        "off_centre",
        "loss_lost_at_resume",
        "reward_lost_at_resume",
        "values_beyond_returns",
        "reference_kl_ran_away",
    }
)
"""With one of these the run has a cause of its own, and no condition is named beside it."""
_OF_REWARDS = frozenset({"reward_zero_long", "reward_at_best", "reward_still"})
"""Of which each condition but a change of regime needs one."""
CONDITIONS = (
    "no-trade",
    "near-optimal-low-entropy",
    "deterministic-environment",
    "regime-change",
)
"""Their slugs, in the order in which they are looked for."""
WATCH_SPREAD = (
    f"Watch {SPREAD} (below 1e-4 only an epsilon holds the quotient) and"
    " train/advantages_norm_max_abs against its bound."
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition that a run is in.

    Attributes:
        name: Slug, which is also that of the cause with the same name.
        title: One line for people.
        evidence: Sentences with numbers.
        watch: What to keep an eye on, and why.
        page: Where the documentation says more.
    """

    name: str
    title: str
    evidence: tuple[str, ...]
    watch: str
    page: str


def conditions(rules: RuleSet, history: Sequence[Update]) -> tuple[Condition, ...]:
    """The conditions that a run is in; at most one, and none where a fault explains the same.

    Args:
        history: The newest updates of the run, oldest first; 300 are plenty.
    """
    columns = Columns(rules, history, ())
    if columns.family == "supervised" or not reward_name(columns):
        return ()
    seen = return_signs(columns)
    moved = _moved_signs(columns)
    if not (seen.keys() & _OF_REWARDS or moved):
        # Without these there is no condition; the other signs take three times as long.
        return ()
    seen |= advantage_signs(columns) | loss_signs(columns) | rate_signs(columns)
    seen |= step_signs(columns, seen)
    if DAMAGE & seen.keys():
        return ()
    for condition in (_no_trade(seen), _near_optimal(seen), _deterministic(seen)):
        if condition is not None:
            return (condition,)
    changed = _regime({**seen, **moved})
    return () if changed is None else (changed,)


def _no_trade(seen: Mapping[str, str]) -> Condition | None:
    if "reward_zero_long" not in seen:
        return None
    return _condition(
        "no-trade",
        "No episode earns or loses anything: all rewards are zero",
        seen,
        "reward_zero reward_turned_zero loss_faded spread_in_window spread_faded",
        "Watch when rewards come back, and that training does not go on for long without any. ",
    )


def _near_optimal(seen: Mapping[str, str]) -> Condition | None:
    certain = seen.keys() & {"entropy_gone", "entropy_low", "entropy_fell_far"}
    if not certain or "reward_at_best" not in seen or "reward_fell" in seen:
        return None
    return _condition(
        "near-optimal-low-entropy",
        "The policy is near its optimum and hardly explores any more",
        seen,
        "reward_at_best entropy_gone entropy_low entropy_fell_far spread_faded spread_in_window",
        "Watch the entropy, and stop when the reward is as good as it gets. ",
    )


def _deterministic(seen: Mapping[str, str]) -> Condition | None:
    if "reward_still" not in seen:
        return None
    return _condition(
        "deterministic-environment",
        "Every episode pays the same: there is nothing left to tell actions apart by",
        seen,
        "reward_still critic_knows_all spread_in_window spread_faded",
        "Watch whether rewards vary with the actions at all. ",
    )


def _moved_signs(columns: Columns) -> Signs:
    reward = reward_name(columns)
    spread = _moved(columns, SPREAD, columns.finite(SPREAD), 3.0)
    paid = _moved(columns, reward, columns.finite(reward), 0.0)
    signs = {"spread_moved": spread, "reward_moved": paid}
    return {sign: text for sign, text in signs.items() if text}


def _regime(seen: Mapping[str, str]) -> Condition | None:
    """A change of level of the advantages, or of rewards and critic at once."""
    if "spread_moved" not in seen and not {"reward_moved", "loss_leapt"} <= seen.keys():
        return None
    return _condition(
        "regime-change",
        "The environment has changed its regime",
        seen,
        "spread_moved reward_moved loss_leapt loss_jumped_along",
        "Watch whether the critic catches up: explained variance and value loss. ",
    )


LEVEL, AFTERWARDS = 15, 4
"""Reports that make a level before a change of regime, and after it."""


def _moved(columns: Columns, name: str, points: Points, factor: float) -> str:
    """Says where a metric took another level and kept it; "" where it did not.

    It has to change by `factor`; 0 asks that it leave all that was before by twice its range.
    """
    values = [value for _, value in points]
    for at in range(LEVEL, len(values) - AFTERWARDS + 1):
        before, after = values[at - LEVEL : at], values[at : at + AFTERWARDS]
        low, high = min(before), max(before)
        if all(low <= value <= high for value in after):
            continue
        reach = high - low
        if factor:
            ratio = median(after) / median(before) if median(before) > 0.0 else 1.0
            is_moved = min(after) > factor * high or 0.0 <= max(after) < low / factor
            text = f"changed {ratio:.3g}-fold"
        else:
            is_moved = min(after) > high + 2.0 * reach or max(after) < low - 2.0 * reach
            text = f"went from {median(before):.4g} to {median(after):.4g}"
        if is_moved and reach > 0.0:
            where = columns.where(points[at][0])
            return f"{name} {text} at {where} and stayed there"
    return ""


def _condition(
    name: str, title: str, seen: Mapping[str, str], evidence: str, watch: str
) -> Condition:
    return Condition(
        name=name,
        title=title,
        evidence=tuple(seen[sign] for sign in evidence.split() if seen.get(sign)),
        watch=watch + WATCH_SPREAD,
        page=f"causes/{name}",
    )
