"""The seed document's checklist for old logs, item by item, with what was measured about it."""

from __future__ import annotations

import csv
import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from watchstep.core.engine import RuleSet
from watchstep.core.updates import Update

Answer = Literal["yes", "no", "not logged"]

BEFORE_UPDATES = 50
"""The seed document looks 10 to 50 updates back; its own example enters the window only two
updates before the crash, so the last ten count as well."""
CRASH_UPDATES = 2
"""Updates around the crash that are looked at, either side: loggers run one update late."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question of the checklist.

    Attributes:
        found: The value that decided; NaN where none was logged.
        update: Where it was read, as the log prints it; None where none was.
        claim: What the seed document concludes from a yes.
        measured: What measurements made of that conclusion.
    """

    question: str
    answer: Answer
    found: float
    update: int | None
    claim: str
    measured: str


@dataclass(frozen=True, slots=True)
class _Question:
    metric: str
    text: str
    limit: float
    below: bool
    before: bool
    claim: str
    measured: str


def checklist(
    rules: RuleSet, window: Sequence[tuple[int, Update]], crash_row: int
) -> tuple[Item, ...]:
    """Answer the checklist from the updates around a crash.

    Args:
        window: Row and update, oldest first.
        crash_row: Row of the first damage, or of the last update.
    """
    columns = _columns(rules, window)
    items = [
        _answered(question, columns.get(question.metric, []), crash_row)
        for question in _questions()
    ]
    items.insert(3, _together(columns, crash_row))
    return tuple(items)


@functools.cache
def _questions() -> tuple[_Question, ...]:
    text = files("watchstep.postmortem").joinpath("checklist.csv").read_text(encoding="utf-8")
    return tuple(
        _Question(
            row["metric"],
            row["question"],
            float(row["limit"]),
            below=row["side"] == "below",
            before=row["when"] == "before",
            claim=row["claim"],
            measured=row["measured"],
        )
        for row in csv.DictReader(text.splitlines())
    )


_Column = list[tuple[int, int, float]]


def _columns(rules: RuleSet, window: Sequence[tuple[int, Update]]) -> dict[str, _Column]:
    columns: dict[str, _Column] = {}
    for row, update in window:
        for name, value in update.readings.items():
            metric = rules.canonical(name)
            # A maximum over the update's steps says more than their mean.
            metric = "train/grad_norm" if metric == "train/grad_norm_max" else metric
            columns.setdefault(metric, []).append((row, update.step, value))
    return columns


def _answered(question: _Question, column: _Column, crash_row: int) -> Item:
    if question.before:
        near = [
            reading for reading in column if crash_row - BEFORE_UPDATES <= reading[0] <= crash_row
        ]
    else:
        near = [reading for reading in column if abs(reading[0] - crash_row) <= CRASH_UPDATES]
    finite = [reading for reading in near if math.isfinite(reading[2])]
    pick = min if question.below else max
    best = pick(finite, key=lambda reading: reading[2], default=None)
    answer: Answer = "not logged" if not near else "no"
    if best is not None:
        holds = best[2] < question.limit if question.below else best[2] > question.limit
        answer = "yes" if holds else "no"
    elif near:
        # Only NaN and infinities: beyond any limit, yet no value to compare.
        best = near[0]
    return Item(
        question=question.text,
        answer=answer,
        found=best[2] if best else math.nan,
        update=best[1] if best else None,
        claim=question.claim,
        measured=question.measured,
    )


_TOGETHER = ("train/policy_loss", "train/value_loss", "train/grad_norm")
_LEAP = 100.0


def _together(columns: dict[str, _Column], crash_row: int) -> Item:
    """Whether several losses leapt a hundredfold at once, as the seed document has it."""
    logged = [columns[metric] for metric in _TOGETHER if columns.get(metric)]
    leaps = [leap for column in logged if (leap := _largest_leap(column, crash_row)) is not None]
    together = sum(leap[0] > _LEAP for leap in leaps)
    best = max(leaps, key=lambda leap: leap[0], default=None)
    answer: Answer = "not logged" if len(logged) < 2 else "yes" if together >= 2 else "no"
    return Item(
        question="two or more of the losses and the gradient leap a hundredfold at once",
        answer=answer,
        found=best[0] if best else math.nan,
        update=best[1] if best else None,
        claim="that bug was triggered",
        measured="The value loss does not follow a normalisation fault, since returns are "
        "computed before it: in a run made with that bug it stayed at 30 to 53 beside advantages "
        "of 1.8e9. Leaps of all at once speak for rewards out of scale.",
    )


def _largest_leap(column: _Column, crash_row: int) -> tuple[float, int] | None:
    """Largest ratio between neighbours near the crash, and the update it led to."""
    best: tuple[float, int] | None = None
    for (_, _, before), (row, update, after) in itertools.pairwise(column):
        if abs(row - crash_row) > CRASH_UPDATES or not math.isfinite(after) or not before:
            continue
        ratio = abs(after / before) if math.isfinite(before) else 0.0
        if best is None or ratio > best[0]:
            best = (ratio, update)
    return best
