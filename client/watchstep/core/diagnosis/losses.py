"""Signs in the course of losses, evaluations and gradient norms, by role and for every trainer."""

from __future__ import annotations

import math
import re
from itertools import pairwise

from watchstep.core.adversaries import is_adversarial
from watchstep.core.diagnosis.batches import Signs
from watchstep.core.diagnosis.columns import Columns, median
from watchstep.core.diagnosis.levels import (
    AFTER,
    START,
    Climb,
    Leap,
    Points,
    climb,
    leap,
    repeats,
    steep_part,
    stood_still,
)

VALUE_LOSS = "train/value_loss"
LOSS = "train/loss"
HUGE = 100.0
"""From this factor on no loss of a working model explains a leap."""
FAR, ABSURD = 1e6, 1e12
"""No input has a scale of that sort; a float whose highest exponent bit is flipped has."""
MULTIPLIES = 0.62
"""Half-way, in logarithms, growth by a constant factor has made 0.5 of its way, and growth by a
constant amount, if tenfold, 0.74."""
TELLS = 8.0
"""The least growth whose form shows through noise of 8 % on 44 reports: of 80 drawn climbs all were
told apart, and 50 of those that only grew threefold."""
LEFT = 5.0
"""Times the first report: noise between batches does not reach so far in all that follow."""
BEYOND_START = 3.0
"""Times the loss that knowing nothing gives."""
BEGAN_HUGE = 30.0
"""An untrained model of inputs and targets of unit size costs a few units; and times its best."""
WILD = 4.0
"""Losses of critics and of adversaries chase a target that moves: less than this is ordinary."""

_CLIPPED = {87.3365: "FLT_MIN", 34.5388: "1e-15", 27.631: "1e-12", 16.1181: "1e-7"}
"""The largest cross-entropies of Caffe, scikit-learn, PaddlePaddle and Keras, and of what."""
_FAR_BELOW = 30.0
"""Times its size at the start, as of `LossFarBelowZero`; of 0.3 at least."""

STUCK = frozenset({"loss_stuck", "eval_stuck"})
"""Signs that a loss or an evaluation repeats itself to the last digit."""


def loss_signs(columns: Columns) -> Signs:
    name = main_loss(columns)
    signs: Signs = {columns.family: ""}
    if columns.of_answers:
        signs["of_answers"] = ""
    signs |= _gradient(columns) | _zero(columns)
    signs |= _speed(columns)
    if columns.fired & {"DiscriminatorAhead", "DiscriminatorWon"}:
        signs["discriminator_won"] = "the discriminator's loss has been next to 0 for long"
    if columns.fired & {"LossAtChance"}:
        signs["at_chance"] = "the loss and the score are those of guessing among equal classes"
    if columns.fired & {"LossBackFromBelow"}:
        signs["back_from_below"] = "the loss had fallen below 0 and came back"
    if not name:
        return signs
    adversarial = is_adversarial(name)
    if adversarial:
        signs["adversarial"] = ""
    wild = columns.family != "supervised" or adversarial
    jump = leap(columns.finite(name), WILD if wild else 1.25)
    signs |= _start(columns, name) | _spikes(columns, name)
    if jump is not None:
        signs |= _leap(columns, name, jump) | _beside(columns, jump)
    signs |= (
        _at_clip(columns, name)
        | _below_zero(columns, name)
        | _climbs(columns, name)
        | _still(columns, name)
    )
    if jump is None or jump.is_over:
        return signs
    # Where it has leapt to it may stand: that is what became of it, and not why it leapt.
    return {sign: text for sign, text in signs.items() if sign not in STUCK}


def _at_clip(columns: Columns, name: str) -> Signs:
    """Whether the loss repeats what a probability of 0 costs where a logarithm is clipped."""
    points = columns.finite(name)
    if not repeats(points, 3):
        return {}
    newest = points[-1][1]
    for clipped, least in _CLIPPED.items():
        if abs(newest - clipped) <= 1e-3 * clipped:
            text = f"{name} repeats {newest:.6g}, -log({least}): the right class has probability 0"
            return {"loss_at_clip": f"{text}, as where outputs have overflowed"}
    return {}


def _below_zero(columns: Columns, name: str) -> Signs:
    """Whether a loss fell below zero, and on, far beyond its own size at the start."""
    values = [value for _, value in columns.finite(name)]
    if columns.family != "supervised" or len(values) < 10:
        return {}
    first, last = values[0], values[-1]
    is_far = last < -_FAR_BELOW * max(abs(first), 0.3) and not -0.5 <= first <= 0.0
    if not is_far and columns.fired.isdisjoint({"LossFarBelowZero", "LossBelowAnyBound"}):
        return {}
    where = "through zero" if first > 0.0 else "on below zero"
    began = "began at" if columns.is_whole else "was"
    text = f"{name} {began} {first:.3g} and fell {where} to {last:.3g}"
    return {"loss_far_below_zero": text}


def main_loss(columns: Columns) -> str:
    """The loss that speaks for the training, as reported: the critic's where one acts."""
    if columns.family != "supervised":
        canonical = columns.name(VALUE_LOSS)
        return canonical if columns.finite(canonical) else _most(columns, columns.of_role("loss"))
    canonical = columns.name(LOSS)
    if columns.finite(canonical) and canonical in columns.names:
        return canonical
    names = columns.of_role("loss") or columns.of_role("signed_loss")
    return _most(columns, names) or _most(columns, columns.of_role("eval_loss"))


def _most(columns: Columns, names: list[str]) -> str:
    """The one reported most often; of equals the first in the log."""
    return max(names, key=lambda name: len(columns.finite(name)), default="")


def _leap(columns: Columns, name: str, jump: Leap) -> Signs:
    """What kind of leap: how far, against where the loss started, and what came after."""
    where = columns.where(jump.row)
    text = f"{name} rose from {jump.before:.4g} to {jump.first:.4g} at {where}"
    signs: Signs = {"loss_leapt": text}
    if jump.factor >= HUGE:
        signs["loss_leapt_far"] = f"{name} {jump.in_words} from {where} on"
    if columns.is_whole:
        signs |= _against_start(columns, name, jump, text)
    if jump.is_over:
        signs["leap_healed"] = f"{name} came down again, to {jump.late:.4g}"
    elif jump.reports >= 2 * AFTER:
        # What goes on by twice the leap has climbed; a fault of the data is all there at once.
        if jump.late > min(3.0 * jump.after, 3.0 * jump.after - 2.0 * jump.before):
            signs["leap_grows_on"] = f"{name} went on to {jump.late:.4g}"
        elif not repeats(columns.finite(name), 5):
            # Data differ from batch to batch; what repeats to the last digit has no use for them.
            signs["leap_stays"] = f"{name} is at {jump.late:.4g} {jump.reports} reports later"
    # What runs away gets there over several reports.
    if jump.first > ABSURD * max(jump.highest_before, 1e-12):
        signs["loss_absurd"] = f"{name} went to {jump.first:.3g} in one report"
    if jump.first > FAR * max(jump.highest_before, 1e-12):
        signs["loss_astronomic"] = f"{name} was {jump.first:.3g} at once"
    return signs


def _against_start(columns: Columns, name: str, jump: Leap, text: str) -> Signs:
    signs: Signs = {}
    fell = jump.start > 1.2 * jump.before
    if fell and 0.4 * jump.start <= jump.after <= 1.5 * jump.start:
        signs["loss_back_at_start"] = f"{text}; it had started at {jump.start:.4g}"
        lost = min(jump.start, jump.after) - jump.before
        # A spike that takes a little of what was learnt and passes is nothing learnt anew, nor
        # is one beyond all that weights can cost that know nothing.
        is_much = lost > 0.5 * (jump.start - jump.before) and jump.first <= 3.0 * jump.start
        if is_much and jump.reports >= 2 * AFTER and jump.late < jump.before + 0.4 * lost:
            signs["loss_relearnt"] = f"{name} falls once more, to {jump.late:.4g}"
        if jump.reports >= 2 * AFTER and abs(jump.late - jump.start) < 0.15 * jump.start:
            signs["loss_at_chance"] = f"{name} stays at {jump.late:.4g}, where it had started"
    elif fell and jump.after < 0.4 * jump.start:
        signs["loss_partly_back"] = f"{text}, on its way back to {jump.start:.4g}"
    elif jump.after > 1.5 * max(jump.start, jump.before):
        gone_on = "" if jump.first > jump.start else f" and went on to {jump.after:.4g}"
        signs["loss_beyond_start"] = f"{text}{gone_on}, beyond its start of {jump.start:.4g}"
    far = 10.0 if columns.family == "supervised" else 1000.0
    if jump.after > far * max(jump.start, jump.before) and not repeats(columns.finite(name), 5):
        signs["loss_far_beyond_start"] = (
            f"{name} is {jump.after / max(jump.start, 1e-300):.3g} times what it began with"
        )
    if jump.row <= max(10, len(columns) // 8):
        signs["loss_leapt_early"] = (
            f"{name} rose before it had learnt much, at step {columns.rows[jump.row].step}"
        )
    return signs


def _beside(columns: Columns, jump: Leap) -> Signs:
    """What the other metrics did where the loss leapt."""
    signs: Signs = {}
    for name in columns.of_role("eval_loss"):
        points = columns.finite(name)
        before = [(row, abs(value)) for row, value in points if row < jump.row]
        after = [(row, abs(value)) for row, value in points if row >= jump.row]
        if not before or not after:
            continue
        (last, level), (first, now) = before[-1], after[0]
        text = (
            f"{name} was {level:.4g} at {columns.where(last)}, before it, and {now:.4g} at"
            f" {columns.where(first)}, the next time"
        )
        if now < 1.15 * level <= 1.3 * before[0][1]:
            signs["eval_unmoved"] = text
        elif now > 1.5 * level:
            signs["eval_leapt"] = text
        break
    for name in columns.of_role("grad_norm"):
        pair = columns.before_and_at(name, jump.row)
        if pair is None or pair[0] <= 0.0:
            continue
        if pair[1] > 3.0 * pair[0]:
            signs["gradient_leapt"] = f"{name} rose {pair[1] / pair[0]:.3g}-fold with it"
        break
    return signs


TELLS_RATE_FROM_DATA = frozenset(
    {
        "eval_unmoved",
        "loss_partly_back",
        "loss_relearnt",
        "loss_multiplies",
        "loss_climbs_beyond",
        "loss_never_descended",
        "loss_leapt_far",
        "loss_absurd",
        "leap_healed",
        "rate_leapt",
        "rate_high",
        "rate_elevated",
        "rate_starts_high",
        "rate_began_anew",
        "rate_reset_at_resume",
        "loss_lost_at_resume",
        "nonfinite",
        "steps_ordinary",
        "worse_than_chance",
        "loss_at_clip",
        "error_at_top",
    }
)
"""With one of these a loss that rose is put down to the rate, to the data or to something else."""


def rate_or_data(columns: Columns, seen: Signs) -> Signs:
    """Whether a loss rose and nothing tells steps that are too large from data that are wrong.

    Gradients grow beside either. Without them a rate that is ordinary speaks against the rate.
    """
    is_risen = seen.keys() & {"loss_leapt", "loss_climbs"}
    if "supervised" not in seen or not is_risen or TELLS_RATE_FROM_DATA & seen.keys():
        return {}
    grew = seen.keys() & {"gradient_leapt", "gradient_rose"} or any(
        climb(columns.finite(name)) for name in columns.of_role("grad_norm")
    )
    if not grew and "rate_ordinary" in seen:
        return {}
    text = "the loss rose, and nothing logged tells steps that are too large from wrong data"
    return {"rate_or_data": text}


def _climbs(columns: Columns, loss: str) -> Signs:
    """The steepest steady climb of any loss or evaluation."""
    best: tuple[Climb, str] | None = None
    for name in dict.fromkeys([loss, *columns.of_role("loss", "eval_loss")]):
        if median(columns.last(name, 5)) < 0.0 and not _below_zero(columns, name):
            continue  # A density's loss falls below zero as it is learnt.
        rise = climb(columns.finite(name), 2.0 if name != loss or is_adversarial(name) else 1.3)
        if rise is not None and _overfits(columns, loss, name, rise):
            continue
        if rise is not None and (best is None or rise.factor > 10.0 * best[0].factor):
            best = rise, name
    return {} if best is None else _climb(columns, best[1], best[0])


def _overfits(columns: Columns, loss: str, name: str, rise: Climb) -> bool:
    """Whether an evaluation climbs while the loss that is trained on goes on falling."""
    if columns.role(name) != "eval_loss" or columns.role(loss) != "loss":
        return False
    before = [value for row, value in columns.finite(loss) if row <= rise.row][-5:]
    return bool(before) and median(columns.last(loss, 5)) < median(before)


def _climb(columns: Columns, name: str, rise: Climb) -> Signs:
    verb, sign = ("fell", -1) if median(columns.last(name, 5)) < 0.0 else ("climbed", 1)
    steep = steep_part(columns.finite(name), rise.row)  # None of what stands at its peak since.
    row, low, reports = steep if steep[2] >= START else (rise.row, rise.low, rise.reports)
    text = (
        f"{name} {verb} steadily from {sign * low:.4g} at {columns.where(row)} to"
        f" {sign * rise.high:.4g} in {reports} reports"
    )
    signs: Signs = {"loss_climbs": text}
    straight = math.log((1.0 + rise.factor) / 2.0) / math.log(rise.factor)
    # Little growth shows its form as well, where there is next to no noise.
    tells = rise.noise < 0.1 * (straight - 0.5) * math.log(rise.factor)
    bound = MULTIPLIES if rise.factor >= TELLS else (0.5 + straight) / 2.0
    if (tells or rise.factor >= TELLS) and rise.bend < bound:
        signs["loss_multiplies"] = f"{text}, by about the same factor each time"
        if rise.factor >= 1e4:
            signs["loss_multiplies_far"] = f"{name} has become {rise.factor:.3g} times what it was"
    elif rise.factor < 3.0 or tells or rise.bend >= MULTIPLIES:
        signs["loss_rises_straight"] = f"{text}, by about the same amount each time"
    from_start = columns.is_whole and rise.row <= max(3, len(columns) // 10)
    if from_start and rise.reports > 0.6 * len(columns.finite(name)):
        signs["loss_climbs_from_start"] = f"{name} has climbed since its start"
    if columns.is_whole and columns.family == "supervised" and not is_adversarial(name):
        signs |= _climb_and_start(columns, name, rise)
    return signs


def _climb_and_start(columns: Columns, name: str, rise: Climb) -> Signs:
    """How a steady climb stands to the start: past it by far, or without ever having come down."""
    sizes = [abs(value) for _, value in columns.finite(name)]
    levels = [median(sizes[at : at + 5]) for at in range(len(sizes) - 4)]
    start = median(sizes[:START])
    signs: Signs = {}
    if rise.high > BEYOND_START * start:
        # Wrong data are no worse than chance for long, and too large a step leaps.
        signs["loss_climbs_beyond"] = f"{name} had begun at {start:.4g}"
    has_fallen = min(levels) < 0.95 * min(levels[:10]) or min(sizes) < 0.9 * sizes[0]
    # Steps that are too large are done with it in a few reports.
    if not has_fallen and rise.reports >= 20 and min(levels[-1], rise.high) > 1.5 * start:
        signs["loss_never_descended"] = f"{name} began at {start:.4g}, never fell and climbed on"
    return signs


def _start(columns: Columns, name: str) -> Signs:
    """Whether the loss went up before it ever went down."""
    points = columns.finite(name)[:20]
    # An attempt that resumed a known one is known from its start as well.
    if len(points) < 4 or not (columns.is_whole or columns.before is not None):
        return {}
    first = median([abs(value) for _, value in points[:2]])
    low = min(abs(value) for _, value in points)
    row, top = max(((row, abs(value)) for row, value in points), key=lambda pair: pair[1])
    at_once = _left_at_once(points)
    if at_once:
        first = low = abs(points[0][1])
    if not (top > 1.5 * first and low > 0.7 * first):
        return {}
    text = f"{name} rose from {first:.4g} at its start to {top:.4g} at {columns.where(row)}"
    signs = {"loss_rose_from_start": text}
    return signs | (
        {"loss_left_at_once": "all that followed lay above five times that"} if at_once else {}
    )


def _left_at_once(points: Points) -> bool:
    """Whether all reports lie far above the first one."""
    start, rest = abs(points[0][1]), [abs(value) for _, value in points[1:20]]
    return len(rest) >= 3 and start > 0.0 and min(rest) > LEFT * start


def _still(columns: Columns, name: str) -> Signs:
    """Whether the loss, or what evaluations say, is still where it started."""
    points = columns.finite(name)
    signs = _unmoved(columns)
    if is_adversarial(name) or columns.family != "supervised":
        return signs
    same = repeats(points, 5)
    if same and points[-1][1] != 0.0 and not _is_rounded(points):
        signs["loss_stuck"] = f"{name} was {points[-1][1]:.6g} to the last digit, {same} times"
    if not columns.is_whole or not points:
        return signs
    first, last = (median([value for _, value in part]) for part in (points[:3], points[-5:]))
    noise = median([abs(now - before) for (_, before), (_, now) in pairwise(points)] or [0.0])
    # Most of a fall may come before the first third is over.
    has_fallen = first - last > max(0.1 * abs(first), 2.0 * noise)
    if not (same or has_fallen or _left_at_once(points)) and stood_still(points, 0.03):
        signs["loss_never_fell"] = (
            f"{name} is where it started: {first:.4g} at first, {last:.4g} now, in"
            f" {len(points)} reports"
        )
    elif len(points) >= 20 and last < 0.9 * first and "LossAtChance" not in columns.fired:
        signs["loss_fell"] = f"{name} fell from {first:.4g} to {last:.4g}"
    values = [abs(value) for _, value in points]
    settled = min(median(values[at : at + 5]) for at in range(max(1, len(values) - 4)))
    if values[0] > max(BEGAN_HUGE * settled, BEGAN_HUGE) and median(values[:20]) < 0.5 * values[0]:
        signs["loss_began_huge"] = (
            f"{name} began at {values[0]:.4g}, {values[0] / max(settled, 1e-300):.3g} times what it"
            " fell to: inputs or targets that are not of unit size"
        )
    for other in columns.of_role("eval_loss"):
        values = [value for _, value in columns.finite(other)]
        still = len(values) >= 4 and max(values) - min(values) <= 0.01 * abs(values[0])
        if still and abs(values[0] - first) <= 0.15 * abs(first) and "loss_fell" not in signs:
            signs["eval_never_fell"] = (
                f"{other} has stayed at {values[-1]:.4g} in {len(values)} evaluations, and {name}"
                f" had started at {first:.4g}"
            )
            break
    return signs


def _is_rounded(points: Points) -> bool:
    """Whether a loss has fallen so far that the few digits of the log hide how it moves."""
    digits = f"{points[-1][1]:.10e}".partition("e")[0].strip("-0").replace(".", "")
    return len(digits) <= 3 and abs(points[-1][1]) < 0.05 * max(abs(value) for _, value in points)


def _unmoved(columns: Columns) -> Signs:
    """Whether no loss at all has moved by more than batches differ, adversaries' included."""
    series = [[value for _, value in columns.finite(name)] for name in columns.of_role("loss")]
    series = [values for values in series if len(values) >= 20]
    unmoved = all(max(values) - min(values) < 0.05 * abs(values[0]) for values in series)
    if not series or not unmoved or not columns.is_whole:
        return {}
    return {"losses_unmoved": f"no loss has moved by 5 % in {len(series[0])} reports"}


def _zero(columns: Columns) -> Signs:
    names = columns.of_role("loss")
    one_is_not = any(columns.last(name, 1) not in ([], [0.0]) for name in names)
    for name in names:
        points = columns.finite(name)
        zeros = repeats(points, 3)
        if not zeros or points[-1][1] != 0.0:
            continue
        if zeros == len(points) and one_is_not:
            continue  # A part that is switched off.
        if one_is_not and is_adversarial(name):
            continue  # It has won.
        before = [abs(value) for _, value in points[:-zeros]]
        text = f"{name} is exactly 0 from {columns.where(points[-zeros][0])} on"
        if not before:
            return {
                "loss_zero": text,
                "loss_zero_from_start": f"{name} has never been anything but 0",
            }
        peak = max(before[-5:])
        signs = {"loss_zero": text}
        if not any(columns.column(norm)[-1] is not None for norm in columns.of_role("grad_norm")):
            signs["zero_or_nan"] = "no gradient is logged that tells it from a NaN shown as 0"
        if peak > 1.3 * median(before[-20:]):
            signs["loss_zero_after_leap"] = f"{name} leapt to {peak:.4g} right before"
        return signs
    return {}


def _spikes(columns: Columns, loss: str) -> Signs:
    """Whether single reports stick out tenfold, again and again."""
    for name in [*columns.of_role("grad_norm"), loss]:
        points = columns.finite(name)
        sizes = [abs(value) for _, value in points]
        spikes = [
            at
            for at in range(5, len(sizes))
            if sizes[at] > 10.0 * median(sizes[max(0, at - 20) : at]) > 0.0
            and (at + 1 == len(sizes) or sizes[at + 1] < 0.3 * sizes[at])
        ]
        if len(spikes) >= 3:
            return {
                "spikes_repeat": (
                    f"{name} stuck out tenfold {len(spikes)} times, last with"
                    f" {sizes[spikes[-1]]:.4g} at {columns.where(points[spikes[-1]][0])}"
                )
            }
    return {}


def _speed(columns: Columns) -> Signs:
    """Whether an update takes several times as long as before."""
    for role in ("throughput", "time"):
        for name in columns.of_role(role):
            points = [(row, value) for row, value in columns.finite(name) if value > 0.0]
            if role == "time" and _is_part(columns, name):
                continue  # What takes a part of an update's time does not slow it.
            if role == "time" and all(now >= before for (_, before), (_, now) in pairwise(points)):
                continue  # a clock that runs on
            if role == "throughput":
                points = [(row, 1.0 / value) for row, value in points]
            jump = leap(points, 2.0)
            if jump is not None and not jump.is_over and jump.late < 100.0 * jump.before:
                return {
                    "slower": (
                        f"{name} says {jump.factor:.2g} times as long an update from"
                        f" {columns.where(jump.row)} on"
                    )
                }
    return {}


def _is_part(columns: Columns, name: str) -> bool:
    """Whether a time is that of waiting for data, beside a longer one that holds it."""
    own = median([value for _, value in columns.finite(name)] or [0.0])
    others = (columns.finite(other) for other in columns.of_role("time") if other != name)
    holds = (median([value for _, value in points]) > own for points in others if points)
    return re.search("data|read|load", name, re.IGNORECASE) is not None and any(holds)


def _gradient(columns: Columns) -> Signs:
    signs: Signs = {}
    for name in columns.of_role("grad_norm"):
        points = columns.finite(name)
        zeros = repeats(points, 3)
        if zeros and points[-1][1] == 0.0:
            signs["gradient_zero"] = (
                f"{name} is exactly 0 from {columns.where(points[-zeros][0])} on: no gradient"
                " reaches the parameters"
            )
        elif stood_still(points, 0.1):
            signs["gradient_still"] = f"{name} has kept its size of {abs(points[-1][1]):.3g}"
        inverse = [(row, 1.0 / value) for row, value in points if value > 0.0]
        drop = leap(inverse, 3.0)
        if drop is not None and not drop.is_over:
            signs["gradient_dropped"] = (
                f"{name} fell from {1.0 / drop.before:.3g} to {1.0 / drop.after:.3g} at"
                f" {columns.where(drop.row)}"
            )
        jump = leap(points, 3.0)
        if jump is not None and "gradient_dropped" not in signs:
            signs["gradient_rose"] = (
                f"{name} rose from {jump.before:.3g} to {jump.first:.3g} at"
                f" {columns.where(jump.row)}"
            )
        break
    return signs
