"""Signs in the rewards, in the critic, and in what both have to do with each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from watchstep.core.diagnosis.batches import SPREAD, Signs
from watchstep.core.diagnosis.columns import Columns, median
from watchstep.core.diagnosis.levels import Points, leap, stood_still
from watchstep.core.diagnosis.losses import VALUE_LOSS, main_loss

REWARD = "rollout/ep_rew_mean"
EXPLAINED = "train/explained_variance"
ZERO = 3
"""Updates for which a mean reward must be exactly 0: over many episodes that is no chance."""
STILL = 8
"""Updates for which a reward must stand still: the mean over 100 episodes hides less."""
BEYOND = 4.0
"""An estimate this many times the largest return of an episode is not one of returns any more."""
HUGE_RETURNS = 1e5
"""Returns of this size nobody gives a critic on purpose: its squared errors are 1e10."""
ERROR_BEYOND = 100.0
"""The same of a critic's error, which early estimates and a scaled reward make large, too."""


def return_signs(columns: Columns) -> Signs:
    signs = _reward(columns) | _jump(columns) | _critic(columns)
    if "RewardWorseThanStart" in columns.fired:
        name = reward_name(columns)
        newest = median(columns.last(name, 5))
        signs["reward_led_away"] = f"{name} is {newest:.4g} and was never better than at the start"
    if columns.family != "supervised":
        signs |= _estimates(columns) | _gain(columns)
    return signs


def reward_name(columns: Columns) -> str:
    """The reward as reported; "" where none is."""
    canonical = columns.name(REWARD)
    if columns.finite(canonical) or canonical in columns.names:
        return canonical
    names = columns.of_role("reward")
    return max(names, key=lambda name: len(columns.finite(name)), default="")


def _reward(columns: Columns) -> Signs:
    signs: Signs = {}
    name = reward_name(columns)
    if not name:
        return signs
    values = [value for _, value in columns.finite(name)]
    broken = columns.nonfinite((name,))
    # Before the first episode has ended there is no mean: NaN, or nothing.
    if broken is not None and any(row < broken[0] for row, _ in columns.finite(name)):
        signs["reward_nonfinite"] = f"{name} = {broken[2]} from {columns.where(broken[0])} on"
    if len(values) < STILL:
        return signs
    recent = values[-STILL:]
    tail = max(recent) - min(recent)
    if not any(recent[-ZERO:]):
        before = max(map(abs, values))
        signs["reward_zero"] = f"{name} was exactly 0 in the last {ZERO} reports and more"
        if before > 0.0:
            signs["reward_turned_zero"] = f"{name} had been as large as {before:.4g}"
        if not any(recent):
            signs["reward_zero_long"] = f"{name} was exactly 0 in the last {STILL} reports"
    elif tail <= 1e-6 * abs(recent[-1]):
        # One that was far better before varies: what stands still is the policy.
        if max(values) <= recent[-1] + 0.5 * abs(recent[-1]):
            signs["reward_still"] = f"{name} stood at {recent[-1]:.6g} for the last {STILL} reports"
    else:
        signs["reward_varies"] = (
            f"{name} varied between {min(recent):.4g} and {max(recent):.4g} in the last"
            f" {STILL} reports"
        )
    return signs | _course(name, values) | _slide(name, values)


def _course(name: str, values: list[float]) -> Signs:
    """How the reward got where it is."""
    signs: Signs = {}
    best, worst, last = max(values), min(values), median(values[-3:])
    reach = best - worst
    first = median(values[:3])
    scale = max(abs(best), abs(worst))
    if reach > 0.2 * scale and last >= best - 0.1 * reach and first < best - 0.5 * reach:
        signs["reward_at_best"] = f"{name} rose from {first:.4g} to its best, {best:.4g}"
    # Single episodes vary too much to compare one by one.
    levels = [median(values[at : at + 5]) for at in range(max(1, len(values) - 4))]
    top = max(range(len(levels)), key=levels.__getitem__)
    fall = levels[top] - levels[-1]
    if len(values) >= 10 and 3 <= top < len(levels) - 1 and reach > 0.3 * scale:
        low = min(levels[: top + 1])
        if fall > 0.5 * reach and fall > 0.3 * abs(best):
            signs["reward_fell"] = f"{name} fell from {best:.4g} to {last:.4g}"
        if levels[-1] <= low and fall > 0.5 * reach:
            signs["reward_below_start"] = f"{name} is lower than it ever was on its way up"
    return signs


def _slide(name: str, values: list[float]) -> Signs:
    """Whether a mean over many episodes is on its way to zero, as when they all begin to pay it."""
    recent = [abs(value) for value in values[-7:]]
    steps = [now <= before for before, now in pairwise(recent)]
    if len(recent) < 7 or sum(steps) < 5 or not recent[-1] < 0.75 * recent[0]:
        return {}
    return {
        "reward_slides_to_zero": (
            f"the magnitude of {name} shrank from {recent[0]:.4g} to {recent[-1]:.4g} in 7 reports"
        )
    }


def _jump(columns: Columns) -> Signs:
    """Whether advantages, losses and rewards all changed scale at one update."""
    signs: Signs = {}
    critic = main_loss(columns)
    spread = _widest_jump(columns, SPREAD)
    loss = columns.first_record(critic, above=100.0)
    if columns.family != "supervised" and loss is not None:
        signs["value_loss_jump"] = (
            f"{critic} = {loss[1]:.4g} at {columns.where(loss[0])}, after at most {loss[2]:.4g}"
        )
    if spread is not None:
        row, ratio, value = spread
        text = f"{SPREAD} rose {ratio:.3g}-fold at {columns.where(row)}, to {value:.4g}"
        signs["spread_leapt" if ratio >= 30.0 else "spread_shifted"] = text
        if ratio >= 3.0:
            signs |= _after_jump(columns, critic, row, ratio)
    reward = reward_name(columns)
    rewards = leap(columns.finite(reward), 3.0) if reward else None
    if rewards is None and reward and _same_size(columns.finite(reward)):
        signs["reward_steady"] = f"{reward} has kept its size"
    if (
        rewards is not None
        and rewards.factor >= 5.0
        and rewards.peak > 10.0 * rewards.start
        and rewards.before > 0.0
    ):
        signs["reward_leapt"] = (
            f"the magnitude of {reward} {rewards.in_words} from {columns.where(rewards.row)} on"
        )
    return signs


def _same_size(points: Points) -> bool:
    """Whether rewards are as large now as they were at the start, within a factor of 2.

    The newest one may be the first of a fall, and a reward that lost its sign is another one.
    """
    values = [value for _, value in points]
    if len(values) < 6:
        return False
    first, last = median(values[:5]), median(values[-5:])
    return first != 0.0 and all(0.5 <= size / first <= 2.0 for size in (last, values[-1]))


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


def _after_jump(columns: Columns, critic: str, row: int, ratio: float) -> Signs:
    later = [value for at, value in columns.finite(SPREAD) if at > row]
    before = median([value for at, value in columns.finite(SPREAD) if row - 6 < at < row])
    signs: Signs = {}
    if len(later) >= 3 and median(later[:5]) < 3.0 * before:
        signs["jump_was_brief"] = f"{SPREAD} was back below 3 times its old size soon after"
    elif len(later) >= 3:
        signs["jump_stays"] = f"{SPREAD} stayed larger for {len(later)} reports"
    pair = columns.before_and_at(critic, row)
    if pair is not None and pair[0] > 0.0 and ratio / 10.0 * ratio < pair[1] / pair[0]:
        signs["loss_jumped_along"] = (
            f"{critic} rose {pair[1] / pair[0]:.3g}-fold at the same update"
        )
    return signs


def _critic(columns: Columns) -> Signs:
    signs: Signs = {}
    name, loss = columns.name(EXPLAINED), main_loss(columns)
    explained = columns.last(EXPLAINED, 20)
    if not explained:
        is_logged = columns.finite(columns.name(VALUE_LOSS)) or columns.of_role("value")
        return signs if is_logged else {"critic_unlogged": ""}
    if len(explained) >= 5:
        middle = median(explained[-10:])
        if middle < -0.5:
            signs["critic_misleads"] = f"{name} had a median of {middle:.3g} lately"
        elif middle > 0.3:
            signs["critic_explains"] = f"{name} had a median of {middle:.2f} lately"
    signs |= _stays_high(columns, loss)
    nothing = sum(abs(value) < 1e-3 for value in explained)
    losses = columns.last(loss, 100)
    zero = len(explained) >= 10 and max(map(abs, explained[-10:])) < 1e-4
    idle = zero or (len(explained) >= 15 and nothing >= 0.8 * len(explained))
    dull = sum(abs(value) < 0.01 for value in explained)
    if not idle and len(explained) == 20 and dull >= 18:
        signs["critic_dull"] = f"|{name}| < 0.01 in {dull} of the last 20 reports"
    # Constant returns leave nothing to explain either, but then the loss is next to nothing.
    if idle and losses and losses[-1] > (0.03 if zero else 0.3) * max(losses):
        signs["critic_blind"] = (
            f"{name} was 0 in {nothing} of the last {len(explained)} reports, and"
            f" {loss} = {losses[-1]:.3g} is no small one"
        )
    if len(losses) >= 8 and max(losses[-8:]) < 1e-3 * max(losses) and max(losses[-8:]) < 1e-2:
        signs["critic_knows_all"] = (
            f"{loss} fell from {max(losses):.3g} to {losses[-1]:.3g}: returns are predicted"
        )
    return signs


def _stays_high(columns: Columns, loss: str) -> Signs:
    """Whether the value loss left its level for good, or left it downwards."""
    values = [value for _, value in columns.finite(loss)]
    if len(values) < 12:
        return {}
    early, late = median(values[:-5][-20:]), median(values[-5:])
    low = min(median(values[at : at + 5]) for at in range(0, len(values) - 9, 5))
    signs: Signs = {}
    if late > 20.0 * low and late > 1.0:
        signs["loss_stays_high"] = f"{loss} is {late:.3g} now, and was {low:.3g}"
    if early > 0.0 and late < 0.05 * early:
        signs["loss_faded"] = f"{loss} fell from {early:.3g} to {late:.3g}"
    return signs


def estimates(columns: Columns) -> Sequence[str]:
    """Names of what a critic expects: values, and the loss of an actor that climbs them."""
    names = [name for name in columns.of_role("value") if not name.startswith("train/advantages")]
    if columns.family == "off_policy":
        coefficients = {f"{name}_loss" for name in columns.of_role("weight")}
        names += [name for name in columns.of_role("signed_loss") if name not in coefficients]
    return [name for name in names if columns.finite(name)]


def _estimates(columns: Columns) -> Signs:
    """What the critic expects, held against what episodes paid."""
    signs = _huge_returns(columns)
    reward = reward_name(columns)
    paid_range = [value for _, value in columns.finite(reward)] if reward else []
    paid = [abs(value) for value in paid_range]
    losses = [value for _, value in columns.finite(columns.name(VALUE_LOSS))]
    if paid and columns.family == "on_policy" and len(losses) >= 10:
        error = math.sqrt(max(median(losses), 0.0))
        if error > ERROR_BEYOND * max(paid) > 0.0:
            signs["values_beyond_returns"] = (
                f"the critic errs by {error:.3g}, the root of {columns.name(VALUE_LOSS)}, and no"
                f" episode paid more than {max(paid):.4g}"
            )
            if columns.is_whole and min(losses[:5]) > (ERROR_BEYOND * max(paid)) ** 2:
                signs["error_beyond_from_start"] = "it has done so since the start"
    for name in estimates(columns):
        points = columns.finite(name)
        sizes = [abs(value) for _, value in points]
        if len(sizes) < 10:
            continue
        late = median(sizes[-5:])
        if paid and late > BEYOND * max(paid) > 0.0:
            signs["values_beyond_returns"] = (
                f"{name} is {late:.4g} in size, and no episode paid more than {max(paid):.4g}"
            )
        values = [value for _, value in points]
        reach = max(paid_range) - min(paid_range) if paid_range else 0.0
        unmoved = len(values) >= 20 and max(values) - min(values) < 0.03 * reach
        if columns.is_whole and (unmoved or stood_still(points)):
            signs["values_still"] = (
                f"{name} went from {points[0][1]:.3g} to {points[-1][1]:.3g} in all; the best and"
                f" the worst reward are {reach:.3g} apart"
            )
    for name in columns.of_role("weight"):
        points = columns.finite(name)
        learnt = f"{name}_loss" in columns.names
        if learnt and len(points) >= 5 and all(value == points[0][1] for _, value in points):
            signs["coefficient_stuck"] = f"{name} is learnt, and has stayed {points[0][1]:.4g}"
    return signs


def _huge_returns(columns: Columns) -> Signs:
    """Whether a critic that knows nothing yet errs by more than any scale that one would choose."""
    paid = max((abs(value) for _, value in columns.finite(reward_name(columns))), default=0.0)
    losses = [value for _, value in columns.finite(columns.name(VALUE_LOSS))][:20]
    error = math.sqrt(max(min(losses[:3], default=0.0), 0.0))
    if not (columns.is_whole and error > HUGE_RETURNS and paid):
        return {}
    # What a discount above 1 makes of rewards differs by orders of magnitude with their number.
    is_even = max(losses) < 100.0 * min(losses)
    if not (error < ERROR_BEYOND * paid or (is_even and error > 1e6 * paid)):
        return {}
    return {
        "returns_huge": (
            f"the critic has erred by {error:.3g} or more since its first report, so large are the"
            " returns that it is given"
        )
    }


def _gain(columns: Columns) -> Signs:
    """Whether the reward got better, and what the critic's loss did meanwhile."""
    reward, critic = reward_name(columns), main_loss(columns)
    values = [value for _, value in columns.finite(reward)] if reward else []
    if len(values) < 20 or not columns.is_whole:
        return {}
    third = len(values) // 3
    first, last = median(values[:third]), median(values[-third:])
    noise = median([abs(now - before) for before, now in pairwise(values)])
    reach = max(values) - min(values)
    signs: Signs = {}
    if last > first + max(noise, 0.15 * reach):
        signs["reward_rose"] = f"{reward} rose from {first:.4g} to {last:.4g}"
        return signs
    signs["reward_never_rose"] = f"{reward} was {first:.4g} at first and is {last:.4g} now"
    losses = [abs(value) for _, value in columns.finite(critic)]
    if len(losses) < 20:
        return signs
    began, ended = median(losses[:5]), median(losses[-5:])
    if ended < 0.1 * began and columns.family == "off_policy":
        signs["critic_content"] = (
            f"{critic} fell from {began:.3g} to {ended:.3g}, and {reward} got no better"
        )
    return signs
