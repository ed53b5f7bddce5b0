"""A post-mortem in a few plain sentences: since when, why, where to go back to, what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from watchstep.postmortem.verdict import WELL

if TYPE_CHECKING:
    from watchstep.postmortem.examination import Examination

_LONGEST = 300


def headline(examination: Examination) -> list[str]:
    """What a reader must know first, a sentence each, for the terminal and the page alike."""
    return list(_sentences(examination))


def _sentences(examination: Examination) -> Iterator[str]:
    unit = "row" if examination.unit == "row" else "update"
    if examination.verdict not in WELL:
        yield _since(examination, unit)
        why = examination.why()
        if why:
            yield f"Why: {why[:_LONGEST]}"
        yield f"Go back to: {_back_to(examination, unit)}"
    if examination.unjudged_because:
        yield f"Not judged: {examination.unjudged_because}"


def _since(examination: Examination, unit: str) -> str:
    bad, good = examination.first_bad_update, examination.last_good_update
    if bad is None:
        if examination.verdict == "died":
            return f"Since: its end; the numbers up to {unit} {good} show no reason"
        return "Since: unknown, for the rows from there on carry no number"
    before = "no good one before it" if good is None else f"the last good one is {good}"
    return f"Since: {unit} {bad}; {before}"


def _back_to(examination: Examination, unit: str) -> str:
    best = examination.checkpoints.best
    if best is not None:
        at = "" if best.step is None else f", saved at {best.step}"
        return f"{best.path} (intact and finite{at})"
    if examination.last_good_update is None:
        return "the beginning, with the fault mended: no update of this log was good"
    return f"any checkpoint saved up to {unit} {examination.last_good_update}"
