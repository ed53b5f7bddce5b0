"""Signs in the policy: its loss, how far it moved, how random it is, and its coefficients."""

from __future__ import annotations

import math

from watchstep.core.diagnosis.batches import NORM, Signs
from watchstep.core.diagnosis.columns import Columns, median
from watchstep.core.diagnosis.levels import climb, leap, repeats, stood_still
from watchstep.core.diagnosis.losses import HUGE, LOSS, VALUE_LOSS
from watchstep.core.roles import words_of

POLICY_LOSS = "train/policy_loss"
CLIP_RANGE = "train/clip_range"
KL = "train/approx_kl"
CLIP = "train/clip_fraction"
ENTROPY = "train/entropy_loss"
DEVIATION = "train/std"
MOVES = 1e-4
"""Size of a step over that of the weights, from which on what is trained does not stand still."""
_OF_LATENTS = frozenset({"prior", "posterior", "post", "latent"})
"""Words of an entropy that is none of actions, but of what a world model expects."""
RANDOM = frozenset({"entropy_ran_away", "action_spread_grew"})
"""Signs that actions became random."""


def policy_signs(columns: Columns) -> Signs:
    signs = _policy(columns) | _kl(columns) | _entropy(columns) | _coefficients(columns)
    hit = leap(columns.finite(VALUE_LOSS), HUGE)
    if hit is None:
        return signs
    # What became random only once the critic was hit has not become so of its own coefficient.
    before = _entropy(columns.until(hit.row + 1))
    return {sign: text for sign, text in signs.items() if sign not in RANDOM or sign in before}


def _policy(columns: Columns) -> Signs:
    signs: Signs = {}
    clipped = [(row, value) for row, value in columns.finite(CLIP) if value > 0.5]
    if clipped:
        row, value = max(clipped, key=lambda pair: pair[1])
        signs["clipped"] = f"{columns.name(CLIP)} = {value:.2f} at {columns.where(row)}"
    shares = [value for _, value in columns.finite(CLIP)]
    stopped = repeats(columns.finite(CLIP), 8)
    if stopped and shares[-1] == 0.0 and any(shares) and median(shares[:-stopped]) > 0.0:
        signs["clipping_stopped"] = (
            f"{columns.name(CLIP)} is exactly 0 in the last {stopped} reports, and was"
            f" {median(shares[:-stopped]):.2g}"
        )
    signs |= _policy_loss_gone(columns, shares)
    if columns.finite(NORM):
        signs |= _impossible_loss(columns)
    widths = columns.finite(DEVIATION)
    stuck = repeats(widths, 5)
    if 0 < stuck < len(widths):
        signs["deviation_stuck"] = (
            f"{columns.name(DEVIATION)} was {widths[-1][1]:.6g} to the last digit, {stuck} times,"
            " and had moved before"
        )
    if len(widths) >= 3 and widths[0][1] > 0.0 and widths[-1][1] > 5.0 * widths[0][1]:
        signs["deviation_ran_away"] = (
            f"{DEVIATION} grew from {widths[0][1]:.3g} to {widths[-1][1]:.3g}"
        )
    value_jump = leap(columns.finite(VALUE_LOSS), 5.0)
    for name in columns.of_role("signed_loss"):
        jump = leap(columns.finite(name), 5.0)
        # A sum of losses leaps with that of the critic, or with the penalty for the KL.
        is_sum = columns.name(LOSS) == name and (value_jump is not None or _kl_leapt(columns))
        if jump is not None and columns.family != "supervised" and not is_sum:
            signs["policy_loss_leapt"] = (
                f"the size of {name} rose from {jump.before:.3g} to {jump.first:.3g} at"
                f" {columns.where(jump.row)}"
            )
            break
    return signs | _value_share(columns)


def _kl_leapt(columns: Columns) -> bool:
    return any(leap(columns.finite(name), 5.0) for name in columns.of_role("kl"))


def _policy_loss_gone(columns: Columns, shares: list[float]) -> Signs:
    """Whether the policy's loss is rounding, as it is while the policy is the one that acted."""
    still = 0
    for _, loss in reversed(columns.finite(POLICY_LOSS)):
        if abs(loss) >= 1e-6:
            break
        still += 1
    if still < 10 or any(shares[-10:]) or columns.family != "on_policy":
        return {}
    text = f"|{columns.name(POLICY_LOSS)}| is below 1e-6 in the last {still} reports"
    return {"policy_loss_gone": f"{text} and nothing is clipped"}


def _value_share(columns: Columns) -> Signs:
    """Whether the value loss outweighs everything else in the loss that is minimised."""
    shares = [
        abs(total) / value
        for total, value in zip(columns.column(LOSS), columns.column(VALUE_LOSS), strict=True)
        if total is not None and value is not None and value > 1e-6 and math.isfinite(total)
    ][-10:]
    if columns.family != "on_policy" or len(shares) < 3 or median(shares) < 10.0:
        return {}
    middle = median(shares)
    # A coefficient is a constant; that the value loss vanishes is another thing.
    if sum(0.3 * middle < share < 3.0 * middle for share in shares) < 0.7 * len(shares):
        return {}
    return {
        "value_outweighs": (
            f"{columns.name(LOSS)} is {median(shares):.3g} times {columns.name(VALUE_LOSS)}: the"
            " value coefficient is about that"
        )
    }


def _kl(columns: Columns) -> Signs:
    signs: Signs = {}
    kls, name = columns.finite(KL), columns.name(KL)
    high = [(row, value) for row, value in kls if value > 0.3]
    if high:
        row, value = max(high, key=lambda pair: pair[1])
        signs["kl_high"] = (
            f"{name} = {value:.3g} at {columns.where(row)}, above 0.3 in {len(high)} of"
            f" {len(kls)} reports"
        )
        if len(high) >= 0.2 * len(kls):
            signs["kl_often_high"] = f"{name} was above 0.3 in {len(high)} of {len(kls)} reports"
        if high[0][0] < 5:
            signs["kl_high_from_start"] = (
                f"{name} = {high[0][1]:.3g} at {columns.where(high[0][0])}"
            )
    elif len(kls) >= 5:
        signs["kl_low"] = f"{name} never exceeded {max(value for _, value in kls):.2g}"
    if len(kls) >= 5 and all(abs(value) < 1e-7 for _, value in kls[-5:]):
        signs["policy_unmoved"] = f"{name} is {kls[-1][1]:.2g}: the policy does not move at all"
        if columns.is_whole and all(abs(value) < 1e-7 for _, value in kls):
            signs["policy_never_moved"] = f"{name} was never above 1e-7"
    jump = leap(kls, 3.0)
    if jump is not None:
        signs["kl_leapt"] = (
            f"{name} rose from {jump.before:.3g} to {jump.first:.3g} at {columns.where(jump.row)}"
        )
    return signs | _reference_kl(columns)


def _reference_kl(columns: Columns) -> Signs:
    """Whether the policy leaves the model that it is held to, little by little or at once."""
    for name in columns.of_role("kl"):
        points = columns.finite(name)
        if name == columns.name(KL):
            continue
        rise, jump = climb(points, 5.0), leap(points, 5.0)
        first, last = (median([value for _, value in part]) for part in (points[:5], points[-5:]))
        if rise is not None and rise.high > 0.5:
            course = f"climbed from {rise.low:.3g} to {rise.high:.3g}"
        elif jump is not None and jump.late > 0.5 and not jump.is_over:
            course = f"went from {jump.before:.3g} to {jump.late:.3g}"
        elif points and last > max(0.5, 20.0 * abs(first)):
            course = f"went from {first:.3g} to {last:.3g}"
        else:
            continue
        return {"reference_kl_ran_away": f"{name} {course}: the policy leaves its reference"}
    return {}


def _impossible_loss(columns: Columns) -> Signs:
    """Losses that advantages of zero mean and unit deviation cannot give."""
    signs: Signs = {}
    policy_loss, kl_name = columns.name(POLICY_LOSS), columns.name(KL)
    kls, clips, ranges = map(columns.column, (KL, CLIP, CLIP_RANGE))
    for row, loss in columns.finite(POLICY_LOSS):
        limit, kl = ranges[row], kls[row]
        if limit is not None and loss < -1.05 * limit < 0.0:
            signs["loss_below_clip"] = (
                f"{policy_loss} = {loss:.3g} at {columns.where(row)}; standardised advantages"
                f" cannot give less than {-limit:.3g}"
            )
        # The mean of advantages times (ratio - 1) is at most the ratio's rms change, about the
        # square root of 2 KL; ten times that, since the KL may be the last epoch's only.
        still = kl is not None and clips[row] == 0.0
        if still and kl is not None and abs(loss) > 10.0 * math.sqrt(2.0 * abs(kl)) + 0.05:
            signs["loss_without_change"] = (
                f"|{policy_loss}| = {abs(loss):.3g} at {columns.where(row)} although {kl_name} is"
                f" {kl:.2g} only"
            )
    return signs


def _entropies(columns: Columns) -> tuple[str, list[float]]:
    """Name and values of the entropy, in nats, as a positive number is more of it."""
    if columns.finite(ENTROPY):
        return columns.name(ENTROPY), [-value for _, value in columns.finite(ENTROPY)]
    for name in columns.of_role("entropy"):
        if not _OF_LATENTS.isdisjoint(words_of(name)):
            continue
        sign = -1.0 if name.endswith("entropy_loss") else 1.0
        return name, [sign * value for _, value in columns.finite(name)]
    return "", []


def _entropy(columns: Columns) -> Signs:
    """Entropy of actions; where a deviation is logged they are numbers, and it has no zero."""
    name, values = _entropies(columns)
    signs = _spread(columns)
    if len(values) < 10:
        return signs
    first, last = median(values[:3]), median(values[-3:])
    text = f"{name}: entropy went from {first:.3g} to {last:.3g} nats"
    if columns.is_whole and len(values) >= 20 and 0.0 < max(values) - min(values) < 0.03 * first:
        kept = f"{name} has kept its {first:.4g} nats to within 3 %"
        step = median([value for _, value in columns.finite("guard/update_ratio")])
        if step > MOVES and "EntropyAtTop" in columns.fired:
            signs["entropy_held"] = f"{kept}, while a step moves the weights by {100 * step:.2g} %"
        else:
            signs["entropy_unmoved"] = kept
    rise = climb(list(enumerate(math.exp(min(value, 300.0)) for value in values)), 3.0)
    if rise is not None or last > first + 1.0:
        signs["entropy_ran_away"] = text
    if not columns.finite(DEVIATION) and first > 0.0:
        return signs | _certainty(name, values, text)
    if last < first - 2.0:
        signs["entropy_fell_far"] = text
    return signs


def _certainty(name: str, values: list[float], text: str) -> Signs:
    """How much of the entropy of a choice is left."""
    first, last = median(values[:3]), median(values[-3:])
    signs: Signs = {}
    for at in range(5, len(values) - 2):
        before, after = median(values[at - 5 : at]), max(values[at : at + 3])
        if before > 0.1 * first and after < 0.03 * before:
            signs["entropy_fell_at_once"] = f"{name} fell from {before:.3g} to {after:.2g} at once"
            break
    if last < 0.03 * first:
        signs["entropy_gone"] = text
        if median(values[: max(5, len(values) // 4)][-3:]) < 0.1 * first:
            signs["entropy_gone_early"] = f"{name}: and that in the first quarter of the log"
    elif last > 0.5 * first:
        signs["entropy_left"] = text
        if stood_still(list(enumerate(values)), 0.03) and abs(last - first) <= 0.03 * first:
            signs["entropy_at_top"] = (
                f"{name}: entropy has stayed where it was, {first:.3g} nats at first and"
                f" {last:.3g} now"
            )
    elif last <= 0.2 * first:
        signs["entropy_low"] = text
    return signs


def _spread(columns: Columns) -> Signs:
    """Deviation of actions, other than that of advantages."""
    for name in columns.of_role("spread"):
        if "advantage" in name or "reward" in name or "return" in name:
            continue
        points = columns.finite(name)
        if len(points) < 10:
            continue
        first, last = median([v for _, v in points[:3]]), median([v for _, v in points[-3:]])
        if 0.0 < 3.0 * first < last:
            return {"action_spread_grew": f"{name} grew from {first:.3g} to {last:.3g}"}
        if 0.0 <= last < 0.1 * first:
            return {"action_spread_gone": f"{name} fell from {first:.3g} to {last:.3g}"}
    return {}


def coefficients(columns: Columns) -> list[str]:
    """Names of weights in the loss, and not of those that the optimizer trains."""
    return [name for name in columns.of_role("weight") if not name.startswith("guard/")]


def _coefficients(columns: Columns) -> Signs:
    """Entropy coefficients that are learnt and leave their order of magnitude."""
    signs: Signs = {}
    for name in coefficients(columns):
        points = [(row, value) for row, value in columns.finite(name) if value > 0.0]
        if len(points) < 10:
            continue
        first, last = (median([v for _, v in part]) for part in (points[:3], points[-3:]))
        low = min(value for _, value in points)
        if last > 5.0 * low and last > 2.0 * first:
            signs["coefficient_grew"] = f"{name} grew from {low:.3g} to {last:.3g}"
        elif last < 0.01 * first:
            signs["coefficient_gone"] = f"{name} fell from {first:.3g} to {last:.3g}"
        if signs:
            break
    return signs
