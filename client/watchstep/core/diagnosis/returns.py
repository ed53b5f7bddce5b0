"""Signs in the rewards and in the critic."""

from __future__ import annotations

from itertools import pairwise

from watchstep.core.diagnosis.batches import SPREAD, Signs
from watchstep.core.diagnosis.columns import Columns, median

REWARD = "rollout/ep_rew_mean"
LENGTH = "rollout/ep_len_mean"
VALUE_LOSS = "train/value_loss"
EXPLAINED = "train/explained_variance"
ZERO = 3
"""Updates for which a mean reward must be exactly 0: over many episodes that is no chance."""
STILL = 8
"""Updates for which a reward must stand still: the mean over 100 episodes hides less."""


def return_signs(columns: Columns) -> Signs:
    """All signs of this file that the columns show."""
    return _reward(columns) | _jump(columns) | _critic(columns)


def _reward(columns: Columns) -> Signs:
    found: Signs = {}
    values = [value for _, value in columns.finite(REWARD)]
    broken = columns.nonfinite((REWARD,))
    if broken is not None and any(row < broken[0] for row, _ in columns.finite(REWARD)):
        found["reward_nonfinite"] = f"{REWARD} = {broken[2]} from {columns.where(broken[0])} on"
    if len(values) < STILL:
        return found
    recent = values[-STILL:]
    tail = max(recent) - min(recent)
    if not any(recent[-ZERO:]):
        before = max(map(abs, values))
        found["reward_zero"] = f"{REWARD} was exactly 0 in the last {ZERO} updates and more"
        if before > 0.0:
            found["reward_turned_zero"] = f"{REWARD} had been as large as {before:.4g}"
    elif tail <= 1e-6 * abs(recent[-1]):
        found["reward_still"] = f"{REWARD} stood at {recent[-1]:.6g} for the last {STILL} updates"
    else:
        found["reward_varies"] = (
            f"{REWARD} varied between {min(recent):.4g} and {max(recent):.4g} in the last"
            f" {STILL} updates"
        )
    return found | _course(values) | _slide(values)


def _course(values: list[float]) -> Signs:
    """How the reward got where it is."""
    found: Signs = {}
    best, worst, last = max(values), min(values), median(values[-3:])
    reach = best - worst
    first = median(values[:3])
    scale = max(abs(best), abs(worst))
    if reach > 0.2 * scale and last >= best - 0.1 * reach and first < best - 0.5 * reach:
        found["reward_at_best"] = f"{REWARD} rose from {first:.4g} to its best, {best:.4g}"
    if reach > 0.3 * scale and len(values) >= 10:
        top = values.index(best)
        fall = best - last
        if 3 <= top < len(values) - 1 and fall > 0.5 * reach and fall > 0.3 * abs(best):
            found["reward_fell"] = f"{REWARD} fell from {best:.4g} to {last:.4g}"
    return found


def _slide(values: list[float]) -> Signs:
    """Whether a mean over many episodes is on its way to zero, as when they all begin to pay it."""
    recent = [abs(value) for value in values[-7:]]
    steps = [now <= before for before, now in pairwise(recent)]
    if len(recent) < 7 or sum(steps) < 5 or not recent[-1] < 0.75 * recent[0]:
        return {}
    return {
        "reward_slides_to_zero": (
            f"the magnitude of {REWARD} shrank from {recent[0]:.4g} to {recent[-1]:.4g}"
            " in 7 updates"
        )
    }


def _jump(columns: Columns) -> Signs:
    """Whether advantages, losses and rewards all changed scale at one update."""
    found: Signs = {}
    spread = _widest_jump(columns, SPREAD)
    loss = columns.first_record(VALUE_LOSS)
    if loss is not None and loss[1] > 100.0:
        found["value_loss_jump"] = (
            f"{VALUE_LOSS} = {loss[1]:.4g} at {columns.where(loss[0])}, after at most {loss[2]:.4g}"
        )
    if spread is not None:
        row, ratio, value = spread
        text = f"{SPREAD} rose {ratio:.3g}-fold at {columns.where(row)}, to {value:.4g}"
        if ratio >= 30.0:
            found["spread_leapt"] = text
        else:
            found["spread_shifted"] = text
        if ratio >= 3.0:
            found |= _after_jump(columns, row, ratio)
    rewards = _widest_jump(columns, REWARD)
    if rewards is None and _same_size(columns):
        found["reward_steady"] = f"{REWARD} has kept its size"
    if rewards is not None and rewards[1] >= 5.0:
        found["reward_leapt"] = (
            f"the magnitude of {REWARD} rose {rewards[1]:.3g}-fold at"
            f" {columns.where(rewards[0])}, to {rewards[2]:.4g}"
        )
    return found


def _same_size(columns: Columns) -> bool:
    """Whether rewards are as large now as they were at the start, within a factor of 2."""
    sizes = [abs(value) for _, value in columns.finite(REWARD)]
    if len(sizes) < 6:
        return False
    first, last = median(sizes[:5]), median(sizes[-5:])
    return 0.5 * first <= last <= 2.0 * first


def _widest_jump(columns: Columns, metric: str) -> tuple[int, float, float] | None:
    """Row, factor and value of the largest rise of |x| over the median of 5 values before."""
    values = columns.finite(metric)
    best: tuple[int, float, float] | None = None
    sizes = [abs(value) for _, value in values]
    for at in range(5, len(sizes)):
        if best is not None and sizes[at] <= best[1] * min(sizes[at - 5 : at]):
            continue
        before = median(sizes[at - 5 : at])
        if before > 0.0 and sizes[at] > 3.0 * before:
            ratio = sizes[at] / before
            if best is None or ratio > best[1]:
                best = (values[at][0], ratio, sizes[at])
    return best


def _after_jump(columns: Columns, row: int, ratio: float) -> Signs:
    later = [value for at, value in columns.finite(SPREAD) if at > row]
    before = median([value for at, value in columns.finite(SPREAD) if row - 6 < at < row])
    found: Signs = {}
    if len(later) >= 3 and median(later[:5]) < 3.0 * before:
        found["jump_was_brief"] = f"{SPREAD} was back below 3 times its old size soon after"
    elif len(later) >= 3:
        found["jump_stays"] = f"{SPREAD} stayed larger for {len(later)} updates"
    pair = columns.before_and_at(VALUE_LOSS, row)
    if pair is not None and pair[0] > 0.0 and ratio / 10.0 * ratio < pair[1] / pair[0]:
        found["loss_jumped_along"] = (
            f"{VALUE_LOSS} rose {pair[1] / pair[0]:.3g}-fold at the same update"
        )
    return found


def _critic(columns: Columns) -> Signs:
    found: Signs = {}
    explained = columns.last(EXPLAINED, 20)
    if len(explained) >= 5:
        middle = median(explained[-10:])
        if middle < -0.5:
            found["critic_misleads"] = f"{EXPLAINED} had a median of {middle:.3g} lately"
        elif middle > 0.3:
            found["critic_explains"] = f"{EXPLAINED} had a median of {middle:.2f} lately"
    found |= _stays_high(columns)
    nothing = sum(abs(value) < 1e-3 for value in explained)
    losses = columns.last(VALUE_LOSS, 100)
    zero = len(explained) >= 10 and max(map(abs, explained[-10:])) < 1e-4
    idle = zero or (len(explained) >= 15 and nothing >= 0.8 * len(explained))
    dull = sum(abs(value) < 0.01 for value in explained)
    if not idle and len(explained) == 20 and dull >= 18:
        found["critic_dull"] = f"|{EXPLAINED}| < 0.01 in {dull} of the last 20 updates"
    # Constant returns leave nothing to explain either, but then the loss is next to nothing.
    if idle and losses and losses[-1] > (0.03 if zero else 0.3) * max(losses):
        found["critic_blind"] = (
            f"{EXPLAINED} was 0 in {nothing} of the last {len(explained)} updates, and"
            f" {VALUE_LOSS} = {losses[-1]:.3g} is no small one"
        )
    if len(losses) >= 8 and max(losses[-8:]) < 1e-3 * max(losses) and max(losses[-8:]) < 1e-2:
        found["critic_knows_all"] = (
            f"{VALUE_LOSS} fell from {max(losses):.3g} to {losses[-1]:.3g}: returns are predicted"
        )
    return found


def _stays_high(columns: Columns) -> Signs:
    """Whether the value loss left its level for good, or left it downwards."""
    values = [value for _, value in columns.finite(VALUE_LOSS)]
    if len(values) < 12:
        return {}
    early, late = median(values[:-5][-20:]), median(values[-5:])
    low = min(median(values[at : at + 5]) for at in range(0, len(values) - 9, 5))
    found: Signs = {}
    if late > 20.0 * low and late > 1.0:
        found["loss_stays_high"] = f"{VALUE_LOSS} is {late:.3g} now, and was {low:.3g}"
    if early > 0.0 and late < 0.05 * early:
        found["loss_faded"] = f"{VALUE_LOSS} fell from {early:.3g} to {late:.3g}"
    return found
