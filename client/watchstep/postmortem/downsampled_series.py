"""The summary of a log's metrics in bounded memory, fit to be drawn: nothing extreme is lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from watchstep.core.engine import RuleSet, State
from watchstep.core.updates import Update

POINTS = 320
"""Buckets of a metric at most; about one for each two pixels of a chart."""
MOST_METRICS = 400
"""Metrics of one log that are remembered; of a hostile log there could be millions."""

PREFERRED = (
    *("train/advantages_std_raw", "train/advantages_norm_max_abs", "train/grad_norm"),
    *("train/loss", "train/policy_loss", "train/value_loss", "train/approx_kl"),
    *("train/clip_fraction", "train/entropy_loss", "train/explained_variance"),
    *("rollout/ep_rew_mean", "train/learning_rate", "train/reward_std", "train/loss_scale"),
    *("eval/loss",),
)
"""Metrics in the order in which they explain a run."""


@dataclass(slots=True)
class Bucket:
    """Neighbouring readings of one metric.

    Attributes:
        low, high: Of the finite ones; NaN where there is none.
        lost: How many were not finite.
    """

    first_row: int
    last_row: int
    first_update: int
    last_update: int
    low: float
    high: float
    lost: int = 0

    def merged(self, other: Bucket) -> Bucket:
        # fmin and fmax in the spirit of C: a NaN gives way to a number.
        low = self.low if not other.low <= self.low else other.low
        high = self.high if not other.high >= self.high else other.high
        return Bucket(
            first_row=self.first_row,
            last_row=other.last_row,
            first_update=self.first_update,
            last_update=other.last_update,
            low=other.low if math.isnan(low) else low,
            high=other.high if math.isnan(high) else high,
            lost=self.lost + other.lost,
        )


@dataclass(slots=True)
class Series:
    """One metric: at most `POINTS` buckets of equal width, whatever the log's length."""

    buckets: list[Bucket] = field(default_factory=list)
    width: int = 1
    fill: int = 0

    @property
    def moves(self) -> bool:
        """Whether there is anything to see: two different values, or one that is not finite."""
        first = self.buckets[0].low
        return any(bucket.lost or not bucket.low == bucket.high == first for bucket in self.buckets)

    def add(self, row: int, update: int, value: float) -> None:
        """Append a reading; NaN and infinities are counted, not drawn."""
        finite = value - value == 0.0
        number = value if finite else math.nan
        bucket = Bucket(row, row, update, update, number, number, int(not finite))
        if self.buckets and self.fill < self.width:
            self.buckets[-1] = self.buckets[-1].merged(bucket)
            self.fill += 1
            return
        if len(self.buckets) >= POINTS:
            pairs = zip(self.buckets[::2], self.buckets[1::2], strict=True)
            self.buckets = [first.merged(second) for first, second in pairs]
            self.width *= 2
        self.buckets.append(bucket)
        self.fill = 1


class DownsampledSeries:
    """Every metric's series under its canonical name; an observer of `fold`.

    Of several that share one, as a loss and its negative log-likelihood do, the first has it.
    """

    def __init__(self, rules: RuleSet) -> None:
        self.series: dict[str, Series] = {}
        self.scales: dict[str, float] = {}
        self._rules = rules
        self._names: dict[str, str] = {}

    def observe(self, row: int, update: Update, _state: State) -> None:
        for name, value in update.readings.items():
            metric = self._rules.canonical(name)
            if self._names.setdefault(metric, name) != name:
                metric = name
            if metric in _SCALES:
                self.scales[metric] = value
            series = self.series.get(metric)
            if series is None:
                if len(self.series) >= MOST_METRICS:
                    continue
                series = self.series[metric] = Series()
            series.add(row, update.step, value)

    def chosen(self, most: int) -> Mapping[str, Series]:
        """The series that tell most of a run, best first."""
        preferred = [metric for metric in PREFERRED if metric in self.series]
        others = [
            metric
            for metric in sorted(self.series)
            if metric not in PREFERRED
            and metric not in _SCALES
            and not _is_counter(metric)
            and self.series[metric].moves
        ]
        return {metric: self.series[metric] for metric in [*preferred, *others][:most]}


_SCALES = frozenset({"train/advantages_count", "train/advantages_epsilon", "train/clip_range"})


def _is_counter(metric: str) -> bool:
    return metric.rsplit("/", 1)[-1] in _COUNTERS


_COUNTERS = frozenset(
    (
        *("iterations", "total_timesteps", "time_elapsed", "n_updates", "epoch", "step", "wall"),
        *("update", "consumed_samples", "consumed_tokens"),
    )
)
