"""Why a run went wrong: ranked causes, with evidence for and against, and what it is worth.

`diagnose` looks for signs (`losses`, `scores`, `parameters`, `rates`, `returns`, `steps`,
`batches`) in the last updates and weighs them by one table (`table`). Confidence is calibrated on
labelled runs; see `docs/judgement.md`. `conditions` names what may turn into an incident while all
is well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from watchstep.core.diagnosis.batches import advantage_signs
from watchstep.core.diagnosis.columns import Columns
from watchstep.core.diagnosis.conditions import CONDITIONS, Condition, conditions
from watchstep.core.diagnosis.losses import loss_signs, rate_or_data
from watchstep.core.diagnosis.parameters import parameter_signs
from watchstep.core.diagnosis.rates import rate_signs
from watchstep.core.diagnosis.returns import return_signs
from watchstep.core.diagnosis.scores import score_signs, signs_together
from watchstep.core.diagnosis.steps import step_signs
from watchstep.core.diagnosis.table import CAUSES, KINDS, NOTHING, SLOPE, Entry
from watchstep.core.error_texts import failure_title
from watchstep.core.ruleset import RuleSet
from watchstep.core.updates import Transition, Update

__all__ = [
    "CONDITIONS",
    "NOT_ENOUGH",
    "Cause",
    "Condition",
    "conditions",
    "diagnose",
    "scores",
    "signs",
]

NOT_ENOUGH = "not-enough-evidence"
OUTSIDE = "outside"
"""Label `stage` of rules about what lies outside of the training, such as a disk: what they tell
has no cause in the readings."""
LEAST_CONFIDENCE = 0.05
"""Causes below this are not told."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One possible cause of an incident.

    Attributes:
        name: Slug, such as "reward-scale".
        title: One line for people.
        confidence: Between 0 and 1: of all cases told with this much, about this share was
            really so, on the runs of `docs/judgement.md`. "not-enough-evidence" claims nothing
            and has 0.
        evidence: Sentences with numbers that speak for it, strongest first.
        against: Those that speak against it.
        page: Where the documentation says how to confirm and fix it.
        kind: Which of several ways to the same cause, where that can be told; else "".
    """

    name: str
    title: str
    confidence: float
    evidence: tuple[str, ...]
    against: tuple[str, ...]
    page: str
    kind: str = ""


def diagnose(
    rules: RuleSet, history: Sequence[Update], alerts: Sequence[Transition]
) -> tuple[Cause, ...]:
    """Rank the causes that the readings of a run speak for.

    Args:
        rules: Supplies the metric names; of the alerts only their names are used.
        history: The newest updates of the run, oldest first, events included; 300 are plenty.
            One attempt is looked at, that of the newest alert, else the last; and of the attempt
            before it, what was lost between the two.
        alerts: "firing" transitions so far.

    Returns:
        Most likely first, at least one. Where it is likelier that none of them is so,
        "not-enough-evidence" comes first.
    """
    if alerts and all(rules.stage_label(alert.rule) == OUTSIDE for alert in alerts):
        return (_not_of_training(alerts),)
    seen = signs(rules, history, alerts)
    shares, nothing = _shares(scores(seen))
    causes = [
        _cause(entry, seen, shares[entry.name])
        for entry in CAUSES
        if shares.get(entry.name, 0.0) >= LEAST_CONFIDENCE
    ]
    causes.sort(key=lambda cause: -cause.confidence)
    looked_at = sum(bool(update.readings) for update in history)
    if "died_of_nan" in seen and not looked_at:
        causes.clear()  # How the numbers were lost was not logged.
    if not causes or causes[0].confidence < nothing:
        causes.insert(0, _not_enough(seen, looked_at))
    return tuple(causes)


def signs(
    rules: RuleSet, history: Sequence[Update], alerts: Sequence[Transition]
) -> Mapping[str, str]:
    """Every sign that is seen, with the sentence that says where; "" where it needs none."""
    columns = Columns(rules, history, alerts)
    seen = advantage_signs(columns.until_lost) | return_signs(columns.until_lost)
    seen |= parameter_signs(columns) | loss_signs(columns) | rate_signs(columns)
    seen |= score_signs(columns)
    seen |= step_signs(columns, seen)
    seen |= signs_together(columns, seen)
    if seen.keys() & {"entropy_gone", "entropy_low"}:
        seen.pop("values_still", None)  # A policy that made up its mind was trained.
    return seen | rate_or_data(columns, seen)


def scores(seen: Mapping[str, str]) -> dict[str, float]:
    """The sum of weights of every cause that can be named, before calibration."""
    return {entry.name: _weigh(entry, seen) for entry in CAUSES if _has_needed(entry, seen)}


def _has_needed(entry: Entry, seen: Mapping[str, str]) -> bool:
    return any(sign in seen for sign in entry.needs)


def _weigh(entry: Entry, seen: Mapping[str, str]) -> float:
    return entry.prior + sum(each.logits for each in entry.weights if each.sign in seen)


def _shares(weighed: Mapping[str, float]) -> tuple[dict[str, float], float]:
    """The probability of each cause, and of none of them."""
    logits = {name: SLOPE * score for name, score in weighed.items()}
    highest = max([NOTHING, *logits.values()])
    sizes = {name: math.exp(logit - highest) for name, logit in logits.items()}
    nothing = math.exp(NOTHING - highest)
    whole = nothing + sum(sizes.values())
    return {name: size / whole for name, size in sizes.items()}, nothing / whole


def _cause(entry: Entry, seen: Mapping[str, str], confidence: float) -> Cause:
    present = sorted(
        (each for each in entry.weights if seen.get(each.sign)), key=lambda each: -abs(each.logits)
    )
    kind, words = _kind(entry, seen)
    title = f"{entry.title}: {words}" if words else entry.title
    if entry.name == "silent-death" and "failed" in seen:
        # Its last words say more than that the readings say nothing.
        title = failure_title(seen["failed"]) or seen["failed"][:1].upper() + seen["failed"][1:]
    return Cause(
        name=entry.name,
        title=title,
        confidence=round(confidence, 3),
        evidence=_once([seen[each.sign] for each in present if each.logits > 0.0]),
        against=_once([seen[each.sign] for each in present if each.logits < 0.0]),
        page=f"causes/{entry.name}",
        kind=kind,
    )


def _once(texts: Sequence[str]) -> tuple[str, ...]:
    """Sentences without those that another one says as well, and goes on."""
    return tuple(
        text for text in dict.fromkeys(texts) if not any(t.startswith(f"{text},") for t in texts)
    )


def _kind(entry: Entry, seen: Mapping[str, str]) -> tuple[str, str]:
    """Slug and words of the kind that is most likely, where one is likelier than not."""
    # One or two batches show that something is wrong with the statistics, but not what.
    if entry.name == "wrong-sample-normalisation" and not any(
        sign.startswith("divisor_") for sign in seen
    ):
        return "", ""
    weighed = {
        kind: _weigh(kind, seen) for kind in KINDS.get(entry.name, ()) if _has_needed(kind, seen)
    }
    best = max(weighed, key=lambda kind: weighed[kind], default=None)
    if best is None or weighed[best] <= 0.0:
        return "", ""
    return best.name, best.title


def _not_of_training(alerts: Sequence[Transition]) -> Cause:
    return Cause(
        name=NOT_ENOUGH,
        title="The machine or its disk, not what is trained",
        confidence=0.0,
        evidence=(f"all that was told is {', '.join(sorted({each.rule for each in alerts}))}",),
        against=(),
        page=f"causes/{NOT_ENOUGH}",
    )


def _not_enough(seen: Mapping[str, str], reports: int) -> Cause:
    quiet = [
        seen[sign]
        for sign in ("rate_or_data", "all_finite", "within_bound", "kl_low")
        if sign in seen
    ]
    return Cause(
        name=NOT_ENOUGH,
        title="Nothing stands out enough to name a cause",
        confidence=0.0,
        evidence=(f"{reports} reports were looked at", *quiet),
        against=(),
        page=f"causes/{NOT_ENOUGH}",
    )
