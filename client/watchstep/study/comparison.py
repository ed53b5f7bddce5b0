"""Before against after: two runs or two fleets, and what can be said of the difference."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from watchstep.core.diagnosis.columns import CORE
from watchstep.core.engine import RuleSet, State
from watchstep.core.updates import Update
from watchstep.postmortem.examination import Examination
from watchstep.study.statistics import (
    LEAST_RUNS,
    Interval,
    median_difference,
    share_difference,
)
from watchstep.wire.text import number_to_json

_CORE = frozenset({*CORE, "train/grad_norm"})

Judgement = Literal["better", "worse", "no difference", "cannot tell", "differs"]
WINDOW = (1e-8, 1e-4)
"""The seed document's vulnerability window of the raw advantage deviation."""
LATE_SHARE = 0.1
"""Share of a run, at its end, whose reward counts as its result."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One number a run, taken from one metric.

    Attributes:
        kind: "worst" is the largest magnitude, "least" the smallest value, "late" the mean of
            the last tenth.
        better: Whether "lower" or "higher" is better; "" where neither is.
    """

    metric: str
    kind: Literal["worst", "least", "late"]
    better: Literal["lower", "higher", ""]
    inside_window: bool = False

    @property
    def name(self) -> str:
        words = {"worst": "largest", "least": "least", "late": "late mean of"}
        place = " while std is in the window" if self.inside_window else ""
        return f"{words[self.kind]} {self.metric}{place}"


MEASURES = (
    Measure("train/advantages_norm_max_abs", "worst", "lower", inside_window=True),
    Measure("train/advantages_norm_max_abs", "worst", "lower"),
    Measure("train/advantages_std_raw", "least", ""),
    Measure("train/policy_loss", "worst", "lower"),
    Measure("train/value_loss", "worst", "lower"),
    Measure("train/loss", "worst", "lower"),
    Measure("train/loss", "late", "lower"),
    Measure("train/grad_norm", "worst", "lower"),
    Measure("train/approx_kl", "worst", "lower"),
    Measure("train/clip_fraction", "worst", "lower"),
    Measure("train/explained_variance", "least", "higher"),
    Measure("rollout/ep_rew_mean", "late", "higher"),
)
"""The rows of the seed document's table, and those without which it would deceive."""


@dataclass
class RunFigures:
    """What one run contributes.

    Attributes:
        checkpoints: Found beside its log; looked for only where it failed.
        checkpoint_lost: Whether the newest of them is of no use.
    """

    values: dict[Measure, float] = field(default_factory=dict)
    nonfinite: int = 0
    window_updates: int = 0
    verdict: str = ""
    updates: int = 0
    wasted: int = 0
    checkpoints: int = 0
    checkpoint_lost: bool = False


class Gauge:
    """Takes a run's figures during the fold; an observer."""

    def __init__(self, rules: RuleSet) -> None:
        self.figures = RunFigures()
        self._rules = rules
        self._late: dict[str, list[float]] = {}

    def observe(self, _row: int, update: Update, _state: State) -> None:
        values = {self._rules.canonical(name): x for name, x in update.readings.items()}
        std = values.get("train/advantages_std_raw", math.nan)
        inside = WINDOW[0] <= std <= WINDOW[1]
        self.figures.window_updates += inside
        for measure in MEASURES:
            value = values.get(measure.metric)
            if value is None or (measure.inside_window and not inside):
                continue
            if not math.isfinite(value):
                self.figures.nonfinite += measure.metric in _CORE
            elif measure.kind == "late":
                self._late.setdefault(measure.metric, []).append(value)
            else:
                self._keep(measure, value)

    def _keep(self, measure: Measure, value: float) -> None:
        value = abs(value) if measure.kind == "worst" else value
        before = self.figures.values.get(measure)
        pick: Callable[[float, float], float] = max if measure.kind == "worst" else min
        self.figures.values[measure] = value if before is None else pick(before, value)

    def closed(self, examination: Examination) -> RunFigures:
        for measure in MEASURES:
            late = self._late.get(measure.metric)
            if measure.kind == "late" and late:
                tail = late[-max(int(len(late) * LATE_SHARE), 1) :]
                self.figures.values[measure] = statistics.fmean(tail)
        self.figures.verdict = examination.verdict
        self.figures.updates = examination.updates
        self.figures.wasted = examination.wasted_updates
        self.figures.checkpoints = examination.checkpoints.seen
        self.figures.checkpoint_lost = bool(examination.checkpoints.refused)
        return self.figures


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table.

    Attributes:
        old, new: The median over the runs, or a share; NaN where nothing was logged.
        interval: Of the new minus the old; None where the runs are too few.
        runs: With a value, on either side.
    """

    name: str
    old: float
    new: float
    interval: Interval | None
    runs: tuple[int, int]
    judgement: Judgement
    share: bool = False

    def as_json(self) -> dict[str, Any]:
        between = self.interval
        return {
            "name": self.name,
            "old": None if math.isnan(self.old) else number_to_json(self.old),
            "new": None if math.isnan(self.new) else number_to_json(self.new),
            "interval": between and [number_to_json(end) for end in between.ends],
            "runs": list(self.runs),
            "judgement": self.judgement,
        }


def compared(old: Sequence[RunFigures], new: Sequence[RunFigures]) -> list[Line]:
    """The table: what every run ended as, then each measure that either side has.

    Either side holds at least one run.
    """
    lines = [
        _share("runs that finished healthy", old, new, _healthy, "higher"),
        _share("runs that exploded", old, new, lambda run: run.verdict == "exploded", "lower"),
        _share(
            "runs that diverged or died",
            old,
            new,
            lambda run: run.verdict in ("diverged", "died"),
            "lower",
        ),
        _share("runs with core readings not finite", old, new, _lost, "lower"),
        _median("updates after the first bad one", _wasted(old), _wasted(new), "lower"),
    ]
    lived = (_lived(old), _lived(new))
    if any(lived):
        lines.append(_median("updates to the failure, of failed runs", *lived, "higher"))
    before, after = ([run for run in side if run.checkpoints] for side in (old, new))
    if before and after:
        name = "failed runs whose newest checkpoint is of no use"
        lines.append(_share(name, before, after, lambda run: run.checkpoint_lost, "lower"))
    for measure in MEASURES:
        first, second = ([run.values.get(measure) for run in side] for side in (old, new))
        values = ([x for x in first if x is not None], [x for x in second if x is not None])
        if any(values):
            lines.append(_median(measure.name, *values, measure.better))
    return lines


def _lost(run: RunFigures) -> bool:
    return run.nonfinite > 0


def _healthy(run: RunFigures) -> bool:
    return run.verdict in ("healthy", "suspicious")


def _wasted(runs: Sequence[RunFigures]) -> list[float]:
    return [float(run.wasted) for run in runs]


def _lived(runs: Sequence[RunFigures]) -> list[float]:
    """Updates up to the first bad one; of a run that died without one, all of them."""
    return [
        float(run.updates - run.wasted)
        for run in runs
        if run.verdict in ("exploded", "diverged", "died")
    ]


def _share(
    name: str,
    old: Sequence[RunFigures],
    new: Sequence[RunFigures],
    holds: Callable[[RunFigures], bool],
    better: str,
) -> Line:
    hits = (sum(map(holds, old)), sum(map(holds, new)))
    trials = (len(old), len(new))
    interval = share_difference(hits, trials)
    first, second = (hit / trial for hit, trial in zip(hits, trials, strict=True))
    enough = min(trials) >= LEAST_RUNS
    judgement = _judged(interval, better, first, second) if enough else "cannot tell"
    shown = interval if enough else None
    return Line(name, first, second, shown, trials, judgement, share=True)


def _median(name: str, old: Sequence[float], new: Sequence[float], better: str) -> Line:
    first, second = (statistics.median(side) if side else math.nan for side in (old, new))
    interval = median_difference(old, new)
    judgement = _judged(interval, better, first, second) if interval else "cannot tell"
    return Line(name, first, second, interval, (len(old), len(new)), judgement)


def _judged(interval: Interval, better: str, old: float, new: float) -> Judgement:
    if interval.low == interval.high == 0.0:
        return "no difference"
    # Written so that a NaN at either end is no proof of anything.
    if interval.low > 0.0:
        raised = True
    elif interval.high < 0.0:
        raised = False
    else:
        return "no difference" if old == new else "cannot tell"
    if not better:
        return "differs"
    return "better" if raised == (better == "higher") else "worse"


def times_better(line: Line) -> str:
    """How many times smaller or larger the new value is, in words; "" where that says nothing."""
    old, new = abs(line.old), abs(line.new)
    if not (math.isfinite(old) and math.isfinite(new)) or not old or not new or line.share:
        return ""
    if line.old * line.new < 0:
        return "sign changed"
    ratio = old / new if old > new else new / old
    return "same" if ratio < 1.005 else f"{ratio:.3g}x {'smaller' if old > new else 'larger'}"


def as_json(lines: Sequence[Line], sides: Mapping[str, Sequence[RunFigures]]) -> dict[str, Any]:
    return {
        "runs": {side: len(runs) for side, runs in sides.items()},
        "updates": {side: sum(run.updates for run in runs) for side, runs in sides.items()},
        "window_updates": {
            side: sum(run.window_updates for run in runs) for side, runs in sides.items()
        },
        "rows": [line.as_json() for line in lines],
        "method": f"medians over runs; 95 percent bootstrap intervals with a fixed seed from "
        f"{LEAST_RUNS} runs a side on; shares by Newcombe's interval",
    }
