"""What is true of a broken run, measured against its healthy twin of the same seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.judgement.cases import Case, Recording, Trainer, half_of
from benchmarks.judgement.faults import FAULTS, MEASURE_ONLY_FAULTS, MEASURE_ONLY_TRAINERS
from benchmarks.judgement.runs import Truth, finite_or_none

HARMED, LOST = 0.8, 0.1
"""Shares of the twin's progress: a run that made less was harmed, or is lost."""
HARMED_BY_LUCK = 0.6
"""The same where what is tried decides what is learnt, so that sound runs differ by more."""
LEAST = 1e-6
"""A metric that is never above this is rounding, or always zero: no yardstick for growth."""
UNMEASURED = frozenset({"classic", "constant_reward", "curriculum", "memorised", "short"})
"""Difficulties in which the quality need not improve although all is well, or is not measured."""
GROWN = 1000.0
"""By how much a metric has to exceed all that the twin logged to have grown out of all measure."""
WINDOW = 10
"""Reports over which the level of a metric is compared with the twin's."""


def truth_of(
    case: Case, trainer: Trainer, recording: Recording, twin: Recording | None
) -> Truth | None:
    """The truth; None where the healthy run learnt nothing: it is no yardstick, and not healthy."""
    if not recording.updates:
        return None
    half = half_of(case.trainer, case.seed)
    if case.trainer in MEASURE_ONLY_TRAINERS or case.fault.name in MEASURE_ONLY_FAULTS:
        half = "measure"
    common: dict[str, Any] = {
        "trainer": trainer.name,
        "algorithm": trainer.algorithm,
        "family": trainer.family,
        "seed": case.seed,
        "variant": case.variant,
        "half": half,
        "start": finite_or_none(recording.start),
        "outcome": finite_or_none(recording.outcome),
        "updates": len(recording.updates),
    }
    if twin is None:
        return Truth(**common) if case.variant in UNMEASURED or _learnt(recording) else None
    if not _learnt(twin):
        return None
    kind = FAULTS[case.fault.name]
    logged = {name for update in recording.updates for name in update["metrics"]}
    names = [name for group in kind.chain for name in trainer.metrics.get(group, ())]
    chain = tuple(name for name in dict.fromkeys(names) if name in logged)
    harm, lost = _harm(case, trainer, recording, twin)
    harm = harm or any(_ends_grown(name, recording, twin) for name in chain)
    evidence = [_differs(name, recording, twin, case.fault.at) for name in chain]
    grown = [_grows(name, recording, twin, case.fault.at) for name in chain]
    return Truth(
        **common,
        fault=case.fault.name,
        fault_from_update=case.fault.at,
        size=case.fault.size,
        harm=harm,
        lost=lost,
        chain=chain,
        cause=kind.cause,
        detail=kind.detail,
        twin_outcome=finite_or_none(twin.outcome),
        evidence_update=_first(evidence),
        grown_update=_first(grown),
    )


def _learnt(recording: Recording) -> bool:
    return recording.outcome < recording.start - 0.02 * abs(recording.start)


def _first(updates: Iterable[int | None]) -> int | None:
    return min((update for update in updates if update is not None), default=None)


def _harm(case: Case, trainer: Trainer, recording: Recording, twin: Recording) -> tuple[bool, bool]:
    if case.fault.name == "slowdown":
        # It harms by its nature: the same quality for several times the hours.
        return True, False
    if not math.isfinite(recording.outcome):
        return True, True
    # After a resume the run has the rest of its time only; what counts is where it ended.
    share = (recording.start - recording.outcome) / (twin.start - twin.outcome)
    luck = trainer.family in {"on_policy", "off_policy", "grpo"}
    return share < (HARMED_BY_LUCK if luck else HARMED), share < LOST


def _series(name: str, recording: Recording) -> list[tuple[int, float]]:
    return [
        (number, update["metrics"][name])
        for number, update in enumerate(recording.updates, start=1)
        if name in update["metrics"]
    ]


def _differs(name: str, recording: Recording, twin: Recording, at: int) -> int | None:
    """First update from the fault on in which a metric tells the run from its twin.

    That is: not finite; outside what the twin reports within ten reports before and after by
    more than their range; or its level (the median of ten reports) apart from the twin's by
    three times the twin's spread.
    """
    ours, theirs = _series(name, recording), _series(name, twin)
    places = {number: place for place, (number, _) in enumerate(theirs)}
    for place, (number, value) in enumerate(ours):
        if number < at:
            continue
        if not math.isfinite(value):
            return number
        around = places.get(number, len(theirs) - 1)
        near = [value for _, value in theirs[max(0, around - WINDOW) : around + WINDOW + 1]]
        near = [value for value in near if math.isfinite(value)]
        if near and _outside(value, near):
            return number
        window = ours[max(0, place - WINDOW + 1) : place + 1]
        if window[0][0] >= at and len(window) == WINDOW and _apart(window, dict(theirs)):
            return number
    return None


def _outside(value: float, near: Sequence[float]) -> bool:
    low, high = min(near), max(near)
    width = max(high - low, 1e-6 * max(abs(low), abs(high)))
    return not low - width <= value <= high + width


def _apart(window: Sequence[tuple[int, float]], theirs: Mapping[int, float]) -> bool:
    twins = [theirs[number] for number, _ in window if number in theirs]
    if len(twins) < WINDOW:
        return False
    level = median(twins)
    spread = median(abs(value - level) for value in twins)
    return abs(median(value for _, value in window) - level) > 3.0 * max(spread, 0.02 * abs(level))


def _grows(name: str, recording: Recording, twin: Recording, at: int) -> int | None:
    sizes = [abs(value) for _, value in _series(name, twin) if math.isfinite(value)]
    largest = max(sizes, default=0.0)
    limit = GROWN * largest if largest > LEAST else math.inf
    for number, value in _series(name, recording):
        if number >= at and not abs(value) <= limit:
            return number
    return None


def _ends_grown(name: str, recording: Recording, twin: Recording) -> bool:
    """Whether a metric's last report is 1,000 times what the twin's ever was, or not finite."""
    last = _series(name, recording)[-1][0]
    return _grows(name, recording, twin, last) is not None
