"""Signs in the optimizer's steps, in the numbers, and in how the run ended."""

from __future__ import annotations

import math
import re
from itertools import pairwise

from watchstep.core.diagnosis.batches import MEAN, NORM, SPREAD, Signs
from watchstep.core.diagnosis.columns import CORE, SPIKING, Columns, median
from watchstep.core.error_texts import SAYS_NONFINITE, SAYS_SCALE_EXHAUSTED

POLICY_LOSS = "train/policy_loss"
CLIP_RANGE = "train/clip_range"
KL = "train/approx_kl"
CLIP = "train/clip_fraction"
RATE = "train/learning_rate"
ENTROPY = "train/entropy_loss"
SCALE = "train/loss_scale"
DEVIATION = "train/std"
GRADIENTS = ("train/grad_norm", "train/grad_norm_max")
LOSSES = ("train/loss", "train/policy_loss", "train/value_loss")
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
_TENSOR = re.compile(r"tensor\((\[\[.*?\]\])", re.DOTALL)


def step_signs(columns: Columns) -> Signs:
    """All signs of this file that the columns, events and alerts show."""
    found = _policy(columns) | _rate(columns) | _entropy(columns)
    found |= _spike(columns) | _numbers(columns) | _gradients(columns) | _hidden(columns)
    return found | _ending(columns, found)


def _policy(columns: Columns) -> Signs:
    found: Signs = {}
    kls = columns.finite(KL)
    high = [(row, value) for row, value in kls if value > 0.3]
    if high:
        row, value = max(high, key=lambda pair: pair[1])
        found["kl_high"] = (
            f"{KL} = {value:.3g} at {columns.where(row)}, above 0.3 in {len(high)} of"
            f" {len(kls)} updates"
        )
        if len(high) >= 0.2 * len(kls):
            found["kl_often_high"] = f"{KL} was above 0.3 in {len(high)} of {len(kls)} updates"
        if high[0][0] < 5:
            found["kl_high_from_start"] = f"{KL} = {high[0][1]:.3g} at {columns.where(high[0][0])}"
    elif len(kls) >= 5:
        found["kl_low"] = f"{KL} never exceeded {max(value for _, value in kls):.2g}"
    clipped = [(row, value) for row, value in columns.finite(CLIP) if value > 0.5]
    if clipped:
        row, value = max(clipped, key=lambda pair: pair[1])
        found["clipped"] = f"{CLIP} = {value:.2f} at {columns.where(row)}"
    widths = columns.finite(DEVIATION)
    if columns.finite(NORM):
        found |= _impossible_loss(columns)
    if len(widths) >= 3 and widths[0][1] > 0.0 and widths[-1][1] > 5.0 * widths[0][1]:
        found["deviation_ran_away"] = (
            f"{DEVIATION} grew from {widths[0][1]:.3g} to {widths[-1][1]:.3g}"
        )
    return found


def _impossible_loss(columns: Columns) -> Signs:
    """Losses that advantages of zero mean and unit deviation cannot give."""
    found: Signs = {}
    kls, clips, ranges = map(columns.column, (KL, CLIP, CLIP_RANGE))
    for row, loss in columns.finite(POLICY_LOSS):
        limit, kl = ranges[row], kls[row]
        if limit is not None and loss < -1.05 * limit < 0.0:
            found["loss_below_clip"] = (
                f"{POLICY_LOSS} = {loss:.3g} at {columns.where(row)}; standardised advantages"
                f" cannot give less than {-limit:.3g}"
            )
        # The mean of advantages times (ratio - 1) is at most the ratio's rms change, about the
        # square root of 2 KL; ten times that, since the KL may be the last epoch's only.
        still = kl is not None and clips[row] == 0.0
        if still and kl is not None and abs(loss) > 10.0 * math.sqrt(2.0 * abs(kl)) + 0.05:
            found["loss_without_change"] = (
                f"|{POLICY_LOSS}| = {abs(loss):.3g} at {columns.where(row)} although the policy"
                f" has moved by a KL of {kl:.2g} only"
            )
    return found


def _rate(columns: Columns) -> Signs:
    found: Signs = {}
    rates = columns.finite(RATE)
    if not rates:
        return found
    largest = max(rates, key=lambda pair: pair[1])
    for (_, before), (row, now) in pairwise(rates):
        if now > 4.0 * before > 0.0:
            found["rate_leapt"] = (
                f"{RATE} rose from {before:.3g} to {now:.3g} at {columns.where(row)}"
            )
            break
    # PPO is run with 1e-5 to 1e-3 almost everywhere.
    if largest[1] >= 0.02:
        found["rate_high"] = f"{RATE} = {largest[1]:.3g}; PPO is commonly run with at most 0.001"
    elif "rate_leapt" not in found and largest[1] <= 2e-3:
        found["rate_ordinary"] = f"{RATE} stayed at or below {largest[1]:.3g}"
    return found


def _entropy(columns: Columns) -> Signs:
    """Entropy of discrete actions; a Gaussian's may have any sign and is left alone."""
    values = [value for _, value in columns.finite(ENTROPY)]
    if len(values) < 10 or columns.finite(DEVIATION):
        return {}
    first, last = median([-value for value in values[:3]]), median([-v for v in values[-3:]])
    if first <= 0.0:
        return {}
    if last < 0.03 * first:
        return {"entropy_gone": f"entropy fell from {first:.3g} to {last:.3g} nats"}
    if last > 0.5 * first:
        return {"entropy_left": f"entropy is still {last:.2g} nats of {first:.2g}"}
    if last > 0.2 * first:
        return {}
    return {"entropy_low": f"entropy fell from {first:.3g} to {last:.3g} nats"}


def _spike(columns: Columns) -> Signs:
    records = [
        (found[0], metric, found[1], found[2])
        for metric in SPIKING
        if (found := columns.first_record(metric)) and abs(found[1]) > FLOORS.get(metric, 0.0)
        if metric in FLOORS
    ]
    fired = sorted(name for name in columns.fired if name.endswith("Record"))
    if not records and not fired:
        return {}
    if not records:
        return {"spike": f"{', '.join(fired)} fired"} | _frozen(columns, 0)
    row, metric, value, before = min(records)
    text = f"{metric} = {value:.4g} at {columns.where(row)}, after at most {before:.4g}"
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
    return {"frozen": f"{KL} was below 1e-6 and nothing was clipped in the last {still} updates"}


def _numbers(columns: Columns) -> Signs:
    found: Signs = {}
    for metric in PARAMETERS:
        values = [(row, value) for row, value in columns.finite(metric) if value > 0.0]
        if values:
            found["parameters_nonfinite"] = (
                f"{metric} = {values[0][1]:.0f} at {columns.where(values[0][0])}"
            )
            break
    norms = [value for _, value in columns.finite("train/grad_norm")]
    if len(norms) >= 12:
        low = min(median(norms[at : at + 5]) for at in range(0, len(norms) - 9, 5))
        late = median(norms[-5:])
        if late > 6.0 * low and late > 10.0:
            found["gradient_stays_high"] = f"train/grad_norm is {late:.3g} now, and was {low:.3g}"
    first = columns.nonfinite(CORE)
    if first is None:
        if len(columns) >= 3:
            found["all_finite"] = f"every core reading of {len(columns)} updates is finite"
        return found
    row, metric, value = first
    found["nonfinite"] = f"{metric} = {value} at {columns.where(row)}"
    raw = [columns.column(name)[row] for name in (SPREAD, MEAN)]
    known = [value for value in raw if value is not None]
    if any(value - value != 0.0 for value in known):
        found["rollout_nonfinite"] = (
            f"the raw advantages were already non-finite at {columns.where(row)}: the rollout"
            " brought it, not the optimizer"
        )
    elif metric.startswith("train/advantages_"):
        found["rollout_nonfinite"] = (
            f"the advantages of the first batch were already non-finite at {columns.where(row)}:"
            " the rollout brought it, not the optimizer"
        )
    elif known:
        found["rollout_finite"] = f"the raw advantages were still finite at {columns.where(row)}"
    return found


def _gradients(columns: Columns) -> Signs:
    found: Signs = {}
    bad = {
        row
        for metric in GRADIENTS
        for row, value in enumerate(columns.column(metric))
        if value is not None and value - value != 0.0
    }
    bad |= {row for row, value in columns.finite("guard/nonfinite_gradients") if value > 0.0}
    core = columns.nonfinite(LOSSES)
    if bad:
        text = f"the gradient was not finite in {len(bad)} of {len(columns)} updates"
        found["gradient_nonfinite"] = f"{text}, first at {columns.where(min(bad))}"
        if core is None and max(bad) < len(columns) - 1:
            found["gradient_isolated"] = "the losses stayed finite, and finite gradients followed"
        elif core is None:
            found["gradient_only"] = "the losses were finite all the same"
    scales = columns.finite(SCALE)
    if scales and bad:
        found["loss_scaled"] = f"{SCALE} = {scales[-1][1]:.4g}: a loss scaler is at work"
    falls = [(row, before, now) for (_, before), (row, now) in pairwise(scales) if now < before]
    if falls:
        row, before, now = falls[-1]
        found["scale_fell"] = (
            f"{SCALE} fell {len(falls)} times, last from {before:.4g} to {now:.4g} at"
            f" {columns.where(row)}"
        )
    return found


def _hidden(columns: Columns) -> Signs:
    losses = columns.column("train/loss")
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
        return {"loss_hidden": f"train/loss reads exactly 0 at {where} beside a gradient of NaN"}
    seen = [row for row, loss in enumerate(losses) if loss is not None]
    gone = len(losses) - 1 - seen[-1] if seen else 0
    # The last row of a run that finished may be a summary of its own.
    needed = 2 if any(event.get("kind") == "finished" for event in columns.events) else 1
    if len(seen) >= 2 and gone >= needed and len(seen) >= 0.6 * (len(losses) - gone):
        rest = [metric for metric in (RATE, SCALE) if columns.column(metric)[-1] is not None]
        if rest or "LossMissing" in columns.fired:
            text = (
                f"train/loss is missing from {columns.where(seen[-1] + 1)} on; other metrics go on"
            )
            return {"loss_vanished": text}
    return {}


def _ending(columns: Columns, seen: Signs) -> Signs:
    found: Signs = {}
    for event in columns.events:
        text = str(event.get("error") or event.get("text") or event.get("reason") or "")
        if event.get("kind") == "failed":
            found["failed"] = f"the trainer died: {text[:160]}" if text else "the trainer died"
            if SAYS_SCALE_EXHAUSTED.search(text):
                found["died_of_scale"] = (
                    "its last words are that the loss scale cannot fall further"
                )
            elif SAYS_NONFINITE.search(text):
                found["died_of_nan"] = "its last words speak of NaN or infinity"
                found |= _which_rows(text)
            elif text:
                found["died_of_else"] = "its last words speak of no NaN or infinity"
        elif event.get("kind") == "finished":
            found["finished"] = "the trainer said that it finished"
        elif "checkpoint" in text.lower() and "corrupt" in text.lower():
            found["said_corrupted"] = f"the trainer said: {text[:120]}"
    if "RunStalled" in columns.fired:
        found["went_silent"] = "the run went silent without saying that it finished"
    if "all_finite" in seen and "spike" not in seen and "kl_high" not in seen:
        found["calm"] = "no reading was out of the ordinary before"
    return found


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
