"""Signs in gradients, in the numbers, and in how the run ended."""

from __future__ import annotations

import itertools
import math
import re
from itertools import pairwise

from watchstep.core.diagnosis.batches import MEAN, SPREAD, Signs
from watchstep.core.diagnosis.columns import SPIKING, Columns, median
from watchstep.core.diagnosis.levels import climb, leap
from watchstep.core.diagnosis.losses import LOSS
from watchstep.core.diagnosis.policies import CLIP, KL, policy_signs
from watchstep.core.error_texts import (
    SAYS_LOSS_LOST,
    SAYS_NONFINITE,
    SAYS_SCALE_EXHAUSTED,
    failure_title,
)

SCALE = "train/loss_scale"
GRADIENTS = ("train/grad_norm", "train/grad_norm_max")
PARAMETERS = ("checkpoint/nonfinite_tensors", "guard/nonfinite_parameters")
FLOORS = {
    "train/value_loss": 100.0,
    "train/loss": 100.0,
    "train/policy_loss": 1.0,
    "train/grad_norm": 100.0,
    "train/grad_norm_max": 100.0,
    "train/advantages_norm_max_abs": 20.0,
}
"""Below these a tenfold record is growth, not a spike: the same as in the pack `ppo`."""
ASTRONOMIC = 1e6
"""No batch and no step does that to a loss; one giant weight does."""
SUDDEN = 5
"""Reports before a NaN in which nothing may have climbed for it to have come out of nothing."""
LEAPT, LEAPT_WITHIN = 10.0, 2
"""Times all reports before the last few, in one of these, before the numbers were lost: an
explosion."""
FAR_APART, LEAST_APART = 10, 50
"""Steps between reports in which a training can come apart unseen, and reports looked at."""
SHOWN_AS_ZERO = 3
"""Losses of 0 beside words of a lost loss that show how the log writes it."""
LEAST_CALM = 3
"""Reports before a NaN that show a level at all."""
UNREST = frozenset(
    {
        "spike",
        "kl_high",
        "kl_leapt",
        "loss_leapt",
        "loss_climbs",
        "loss_rose_from_start",
        "loss_zero",
        "rate_leapt",
        "rate_zero",
        "reward_leapt",
        "spread_leapt",
        "policy_loss_leapt",
        "scale_keeps_falling",
        "gradient_zero",
    }
)
"""With one of these a run was not calm."""
_TENSOR = re.compile(r"tensor\((\[\[.*?\]\])", re.DOTALL)


def step_signs(columns: Columns, seen: Signs) -> Signs:
    signs = policy_signs(columns.until_lost)
    signs |= _spike(columns) | _numbers(columns) | _gradients(columns) | _scale(columns)
    signs |= _hidden(columns)
    ending = _ending(columns, seen | signs)
    leapt = _leapt_before_lost(columns, signs | ending)
    if leapt:
        signs.pop("nonfinite_out_of_nothing", None)
    signs |= leapt | _far_apart(columns)
    if "all_finite" in signs and "gradient_nonfinite" in signs:
        signs["all_finite"] = f"but for gradients, {signs['all_finite']}"
    return signs | ending


def _far_apart(columns: Columns) -> Signs:
    """Whether many steps lie between two reports: what came suddenly may have come by and by."""
    if columns.family != "supervised":
        return {}  # An agent's steps are those of its environment, thousands an update.
    steps = [row.step for row in columns.rows[-LEAST_APART:]]
    apart = sorted(after - before for before, after in itertools.pairwise(steps))
    if len(apart) < LEAST_CALM or apart[len(apart) // 2] < FAR_APART:
        return {}
    return {"reports_far_apart": f"{apart[len(apart) // 2]} steps lie between two reports"}


def _spike(columns: Columns) -> Signs:
    records = [
        (record[0], metric, record[1], record[2])
        for metric in SPIKING
        if (record := columns.first_record(metric))
        if abs(record[1]) > FLOORS.get(metric, 0.0)
        if metric in FLOORS
    ]
    fired = sorted(name for name in columns.fired if name.endswith("Record"))
    if not records and not fired:
        return {}
    if not records:
        return {"spike": f"{', '.join(fired)} fired"} | _frozen(columns, 0)
    row, metric, value, before = min(records)
    name = columns.name(metric)
    text = f"{name} = {value:.4g} at {columns.where(row)}, after at most {before:.4g}"
    return {"spike": text} | _frozen(columns, row)


def _frozen(columns: Columns, since: int) -> Signs:
    kls, clips = columns.column(KL), columns.column(CLIP)
    still = 0
    for kl, clip in zip(reversed(kls[since:]), reversed(clips[since:]), strict=True):
        if kl is None and clip is None:
            continue
        if kl is None or not abs(kl) < 1e-6 or (clip or 0.0) > 0.0:
            break
        still += 1
    before = [value for row, value in columns.finite(KL) if row < since]
    if still < 3 or (before and median(before) < 1e-5):
        return {}
    return {
        "frozen": (
            f"{columns.name(KL)} was below 1e-6 and nothing was clipped in the last {still} reports"
        )
    }


def _numbers(columns: Columns) -> Signs:
    signs: Signs = {}
    for metric in PARAMETERS:
        values = [(row, value) for row, value in columns.finite(metric) if value > 0.0]
        if values:
            signs["parameters_nonfinite"] = (
                f"{metric} = {values[0][1]:.0f} at {columns.where(values[0][0])}"
            )
            break
    norms = [value for _, value in columns.finite("train/grad_norm")]
    if len(norms) >= 12 and columns.family != "supervised":
        low = min(median(norms[at : at + 5]) for at in range(0, len(norms) - 9, 5))
        late = median(norms[-5:])
        if late > 6.0 * low and late > 10.0:
            name = columns.name("train/grad_norm")
            signs["gradient_stays_high"] = f"{name} is {late:.3g} now, and was {low:.3g}"
    first = columns.nonfinite()
    if first is None:
        if len(columns) >= 3:
            signs["all_finite"] = f"every core reading of {len(columns)} reports is finite"
        return signs
    row, metric, value = first
    signs["nonfinite"] = f"{metric} = {value} at {columns.where(row)}"
    if math.isinf(value):
        signs["infinite_first"] = f"{metric} was infinite before anything was NaN"
    return signs | _before_nonfinite(columns, row) | _rollout(columns, row, metric)


def _before_nonfinite(columns: Columns, row: int) -> Signs:
    """Whether the numbers were lost out of nothing, or at the end of a climb."""
    signs: Signs = {}
    if row == 0 and columns.is_whole:
        return {"nonfinite_at_once": f"and so from {columns.where(0)}, the first update, on"}
    factor = 3.0 if columns.family == "supervised" else 10.0
    for metric in columns.core:
        points = [point for point in columns.finite(metric) if point[0] < row]
        if not points:
            continue
        jump = leap(points, factor)
        sizes = [abs(value) for _, value in points]
        calm = median(sizes[-30:-SUDDEN] or sizes[:-1] or sizes)
        late = max(sizes[-SUDDEN:])
        still = len(sizes) >= 3 and sizes[-2] < 5.0 * min(calm, max(sizes[:-2]))
        if still and sizes[-1] > ASTRONOMIC * max(sizes[-2], calm, 1e-12):
            signs["astronomic_before_nonfinite"] = (
                f"{metric} had leapt from {sizes[-2]:.4g} to {sizes[-1]:.4g} in one report"
            )
        # A log that begins within the climb has only its first report to compare with.
        before = calm if len(sizes) >= 8 else sizes[0]
        climbed = late > 10.0 * max(before, 1e-12)
        if columns.family == "supervised" and not climbed:
            rise = climb(points)
            before, climbed = (before, False) if rise is None else (rise.low, True)
        climbed = climbed and late == max(sizes)
        recent = jump is not None and not jump.is_over and jump.row >= row - 2 * SUDDEN
        if recent or climbed:
            signs["climbed_before_nonfinite"] = (
                f"{metric} had reached {late:.4g} before, from {before:.4g}"
            )
            break
    else:
        earlier = [[at for at, _ in columns.finite(name) if at < row] for name in columns.core]
        reports = min(SUDDEN, max((len(rows) for rows in earlier), default=0))
        if reports >= LEAST_CALM:
            signs["nonfinite_out_of_nothing"] = (
                f"no loss had grown {factor:g}-fold in the {reports} reports before"
                f" {columns.where(row)}"
            )
    return signs


def _leapt_before_lost(columns: Columns, seen: Signs) -> Signs:
    """Whether a loss or a gradient leapt in the last reports before the numbers were lost."""
    lost = _lost_at(columns, seen)
    if lost is None or columns.family != "supervised" or "astronomic_before_nonfinite" in seen:
        return {}
    for metric in (*columns.core, *GRADIENTS, *columns.of_role("grad_norm")):
        points = [(row, abs(value)) for row, value in columns.finite(metric) if row < lost]
        calm = points[:-LEAPT_WITHIN] or points[:1]
        highest = max((size for _, size in calm), default=0.0)
        for row, size in points[-LEAPT_WITHIN:]:
            if 0.0 < LEAPT * highest < size:
                return {
                    "leapt_before_lost": (
                        f"{columns.name(metric)} had leapt within {LEAPT_WITHIN} reports from at"
                        f" most {highest:.4g} to {size:.4g} at {columns.where(row)}, right before"
                        " the numbers were lost"
                    )
                }
    return {}


def _lost_at(columns: Columns, seen: Signs) -> int | None:
    """The row at which the numbers were lost, by readings, by a loss of 0 or by last words."""
    first = columns.nonfinite()
    if first is not None:
        return first[0]
    if "loss_hidden" in seen:
        losses = columns.column(LOSS)
        return next(row for row, loss in enumerate(losses) if loss == 0.0)
    return len(columns) if "died_of_nan" in seen else None


def _rollout(columns: Columns, row: int, metric: str) -> Signs:
    """Whether the rollout's advantages were lost already, where they are logged."""
    raw = [columns.column(name)[row] for name in (SPREAD, MEAN)]
    advantages = [value for value in raw if value is not None]
    if any(value - value != 0.0 for value in advantages):
        return {
            "rollout_nonfinite": (
                f"the raw advantages were already non-finite at {columns.where(row)}: the rollout"
                " brought it, not the optimizer"
            )
        }
    if metric.startswith("train/advantages_"):
        return {
            "rollout_nonfinite": (
                "the advantages of the first batch were already non-finite at"
                f" {columns.where(row)}: the rollout brought it, not the optimizer"
            )
        }
    if advantages:
        text = f"the raw advantages were still finite at {columns.where(row)}"
        return {"rollout_finite": text}
    return {}


def _gradients(columns: Columns) -> Signs:
    signs: Signs = {}
    names = {*GRADIENTS, *columns.of_role("grad_norm")}
    bad = {
        row
        for metric in names
        for row, value in enumerate(columns.column(metric))
        if value is not None and value - value != 0.0
    }
    bad |= {row for row, value in columns.finite("guard/nonfinite_gradients") if value > 0.0}
    core = columns.nonfinite()
    if not bad:
        return signs
    finite_losses = core is None and bool(columns.core)
    text = f"the gradient was not finite in {len(bad)} of the {len(columns)} reports looked at"
    signs["gradient_nonfinite"] = f"{text}, first at {columns.where(min(bad))}"
    if finite_losses and max(bad) < len(columns) - 1:
        signs["gradient_isolated"] = "the losses stayed finite, and finite gradients followed"
    elif finite_losses:
        signs["gradient_only"] = "the losses were finite all the same"
    tail = range(len(columns) - 5, len(columns))
    if core is None and len(columns) >= 10 and bad.issuperset(tail):
        signs["every_step_overflows"] = "and so it is at every one of the newest reports"
    return signs


def _scale(columns: Columns) -> Signs:
    signs: Signs = {}
    name = columns.name(SCALE)
    if not columns.finite(name):
        name = next(iter(columns.of_role("scale")), "")
    scales = columns.finite(name) if name else []
    if all(value == 1.0 for _, value in scales):
        return signs  # Nothing is scaled, as in bfloat16.
    signs["loss_scaled"] = f"{name} = {scales[-1][1]:.4g}: a loss scaler is at work"
    falls = [(row, before, now) for (_, before), (row, now) in pairwise(scales) if now < before]
    if not falls:
        return signs
    row, before, now = falls[-1]
    text = f"{name} fell {len(falls)} times, last from {before:.4g} to {now:.4g}"
    signs["scale_fell"] = f"{text} at {columns.where(row)}"
    # A scaler doubles after thousands of good steps and halves once; one that only halves has
    # no scale left that would do.
    newest = [value for _, value in scales[-8:]]
    drops = sum(later < earlier for earlier, later in pairwise(newest))
    largest = max(value for _, value in scales)
    if scales[-1][1] <= largest / 64.0 or drops >= 5:
        signs["scale_keeps_falling"] = f"{name} is {scales[-1][1]:.4g} now, and was {largest:.4g}"
    return signs


def _hidden(columns: Columns) -> Signs:
    losses, name = columns.column(LOSS), columns.name(LOSS)
    zero = [
        row
        for row, loss in enumerate(losses)
        if loss == 0.0
        and any(
            (norm := columns.column(metric)[row]) is not None and norm - norm != 0.0
            for metric in GRADIENTS
        )
    ]
    if zero:
        where = columns.where(zero[0])
        return {"loss_hidden": f"{name} reads exactly 0 at {where} beside a gradient of NaN"}
    texts = (str(event.get("text", "")) for event in columns.events)
    words = next((text for text in texts if SAYS_LOSS_LOST.search(text)), "")
    if words and losses.count(0.0) >= SHOWN_AS_ZERO:
        where = columns.where(losses.index(0.0))
        return {"loss_hidden": f"{name} reads exactly 0 from {where} on, and it is said: {words}"}
    seen = [row for row, loss in enumerate(losses) if loss is not None]
    gone = len(losses) - 1 - seen[-1] if seen else 0
    # The last row of a run that finished may be a summary of its own.
    needed = 2 if any(event.get("kind") == "finished" for event in columns.events) else 1
    if len(seen) >= 2 and gone >= needed and len(seen) >= 0.6 * (len(losses) - gone):
        rates = ("train/learning_rate", SCALE)
        rest = [metric for metric in rates if columns.column(metric)[-1] is not None]
        if rest or "LossMissing" in columns.fired:
            text = f"{name} is missing from {columns.where(seen[-1] + 1)} on; other metrics go on"
            return {"loss_vanished": text}
    return {}


def _ending(columns: Columns, seen: Signs) -> Signs:
    signs: Signs = {}
    for event in columns.events:
        text = str(event.get("text") or event.get("reason") or "")
        if "checkpoint" in text.lower() and "corrupt" in text.lower():
            signs["said_corrupted"] = f"the trainer said: {text[:120]}"
    if columns.last_words is not None:
        signs |= _last_words(columns.last_words)
    for event in columns.events[-3:]:
        if event.get("kind") == "hung" and not event.get("moving"):
            place = f", in {event['innermost']}" if event.get("innermost") else ""
            signs["went_silent"] = f"no update for {event.get('since_s', 0)} s{place}"
            signs["died_from_outside"] = ""
    if columns.fired & {"RunLost", "RunStalled"}:
        signs["went_silent"] = "the run went silent without saying that it finished"
    if "all_finite" in seen and not seen.keys() & UNREST:
        signs["calm"] = "no reading was out of the ordinary before"
    return signs


def _last_words(text: str) -> Signs:
    signs = {"failed": f"the trainer died: {text[:300]}" if text else "the trainer died"}
    if SAYS_SCALE_EXHAUSTED.search(text):
        signs["died_of_scale"] = "its last words are that the loss scale cannot fall further"
    elif SAYS_NONFINITE.search(text):
        signs["died_of_nan"] = "its last words speak of NaN or infinity"
        signs |= _which_rows(text)
    elif failure_title(text):
        signs["died_from_outside"] = ""
    elif text:
        signs["died_of_else"] = "its last words are not about NaN or infinity"
    return signs


def _which_rows(text: str) -> Signs:
    """Whether all rows of the printed tensor hold NaN, or only some.

    Corrupted parameters spoil every row; a bad observation only its own environment's.
    """
    printed = _TENSOR.search(text)
    if printed is None:
        return {}
    rows = [row for row in printed.group(1).split("]") if any(char.isalnum() for char in row)]
    bad = [row for row in rows if "nan" in row.lower()]
    if len(rows) < 2:
        return {}
    if len(bad) < len(rows):
        return {"some_rows_nan": f"{len(bad)} of {len(rows)} rows printed hold NaN"}
    return {"all_rows_nan": f"all {len(rows)} rows printed hold NaN"}
