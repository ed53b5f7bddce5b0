"""Why a run went wrong: ranked causes, with evidence for and against, and what it is worth.

`diagnose` looks for signs (`batches`, `returns`, `steps`) in the last updates and weighs them by
one table (`table`). Confidence is calibrated on labelled runs; see `docs/diagnosis.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from watchstep.core.diagnosis.batches import advantage_signs
from watchstep.core.diagnosis.columns import Columns
from watchstep.core.diagnosis.returns import return_signs
from watchstep.core.diagnosis.steps import step_signs
from watchstep.core.diagnosis.table import CAUSES, KINDS, OFFSET, SLOPE, Entry
from watchstep.core.ruleset import RuleSet
from watchstep.core.updates import Transition, Update

__all__ = ["NOT_ENOUGH", "Cause", "diagnose", "signs", "weigh"]

NOT_ENOUGH = "not-enough-evidence"
LEAST_CONFIDENCE = 0.2
"""Causes below this are not told."""
STANDS_OUT = 0.5
"""With no cause above this, not enough evidence is the first answer."""
MOST_FOR_NOTHING = 0.8
"""Confidence that nothing with a name is wrong, when no sign says otherwise: of the labelled
runs without one, about one in five had a fault that left no trace in its readings."""
_WRONG_SAMPLE = "wrong-sample-normalisation"


@dataclass(frozen=True, slots=True)
class Cause:
    """One possible cause of an incident.

    Attributes:
        name: Slug, such as "reward-scale".
        title: One line for people.
        confidence: Between 0 and 1: of all cases told with this much, about this share was
            really so, on the runs of `docs/diagnosis.md`.
        evidence: Sentences with numbers that speak for it, strongest first.
        against: Those that speak against it.
        page: Where the documentation says how to confirm and fix it.
        kind: For wrong-sample normalisation which one, where that can be told; else "".
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
            Only one attempt is looked at: that of the newest alert, else the last.
        alerts: "firing" transitions so far.

    Returns:
        Most likely first, at least one. A run in which nothing stands out has
        "not-enough-evidence" first.
    """
    seen = signs(rules, history, alerts)
    told = [_cause(entry, seen) for entry in CAUSES if any(sign in seen for sign in entry.needs)]
    told = [cause for cause in told if cause.confidence >= LEAST_CONFIDENCE]
    told.sort(key=lambda cause: -cause.confidence)
    best = told[0].confidence if told else 0.0
    if best < STANDS_OUT:
        told.insert(0, _not_enough(seen, best, len(history)))
    return tuple(told)


def signs(
    rules: RuleSet, history: Sequence[Update], alerts: Sequence[Transition]
) -> Mapping[str, str]:
    """Every sign that is seen, with the sentence that says where."""
    columns = Columns(rules, history, alerts)
    return advantage_signs(columns) | return_signs(columns) | step_signs(columns)


def weigh(entry: Entry, seen: Mapping[str, str]) -> float:
    """The logits of one entry before calibration."""
    return entry.prior + sum(each.logits for each in entry.weights if each.sign in seen)


def _cause(entry: Entry, seen: Mapping[str, str]) -> Cause:
    present = sorted(
        (each for each in entry.weights if each.sign in seen), key=lambda each: -abs(each.logits)
    )
    title, kind = entry.title, ""
    if entry.name == _WRONG_SAMPLE:
        kind, words = _kind(seen)
        title += f": {words}" if words else ""
    return Cause(
        name=entry.name,
        title=title,
        confidence=round(_logistic(SLOPE * weigh(entry, seen) + OFFSET), 3),
        evidence=tuple(seen[each.sign] for each in present if each.logits > 0.0),
        against=tuple(seen[each.sign] for each in present if each.logits < 0.0),
        page=f"causes/{entry.name}",
        kind=kind,
    )


def _kind(seen: Mapping[str, str]) -> tuple[str, str]:
    """Slug and words of the kind that is most likely, where one is likelier than not."""
    # One or two batches show that something is wrong with the statistics, but not what.
    if not any(sign.startswith("divisor_") for sign in seen):
        return "", ""
    scores = {
        entry: weigh(entry, seen) for entry in KINDS if any(sign in seen for sign in entry.needs)
    }
    best = max(scores, key=lambda entry: scores[entry], default=None)
    if best is None or scores[best] <= 0.0:
        return "", ""
    return best.name, best.title


def _not_enough(seen: Mapping[str, str], best: float, updates: int) -> Cause:
    quiet = [seen[sign] for sign in ("all_finite", "within_bound", "kl_low") if sign in seen]
    known = f"{updates} updates were looked at"
    return Cause(
        name=NOT_ENOUGH,
        title="Nothing stands out enough to name a cause",
        confidence=round(MOST_FOR_NOTHING * (1.0 - best), 3),
        evidence=(known, *quiet),
        against=(),
        page=f"causes/{NOT_ENOUGH}",
    )


def _logistic(logits: float) -> float:
    return 1.0 / (1.0 + math.exp(-logits))
