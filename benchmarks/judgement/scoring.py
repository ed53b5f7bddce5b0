"""Holds answers against the truth: the arithmetic, which knows of no tool and no trainer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.judgement.answer import Alert, Answer
from benchmarks.judgement.faults import FAULTS
from benchmarks.judgement.runs import Run, Truth

SOON = 20
"""Updates after the first evidence within which a word comes soon."""
BINS = (0.0, 0.4, 0.6, 0.8, 0.9, 1.0001)
LOUD = ("warning", "critical")
LOST_AT_ONCE = frozenset({"nonfinite-input", "corrupted-parameters"})
"""Causes that leave the same log where the first reading that differs is not finite."""


@dataclass(frozen=True)
class Score:
    """One run's answer beside its truth.

    Attributes:
        told: First update in which a warning or critical alert spoke of the fault's chain after
            the fault had begun; None without one. The end of a run by an exception is told by
            any such alert in its last update.
        critical: The same for critical alerts alone.
        right_causes: Those that are right: the truth's, and what the log cannot tell from it.
    """

    name: str
    truth: Truth
    answer: Answer
    told: int | None = None
    critical: int | None = None
    right_causes: frozenset[str] = frozenset()

    @property
    def evidence(self) -> int:
        """The update from which on the fault can be seen."""
        return self.truth.evidence_update or self.truth.fault_from_update

    @property
    def lag(self) -> int | None:
        """Updates from the first evidence to the first word; negative where it came before."""
        return None if self.told is None else self.told - self.evidence

    @property
    def soon(self) -> bool:
        """Whether it was told within 20 updates of the first evidence."""
        return self.lag is not None and self.lag <= SOON

    @property
    def in_time(self) -> bool:
        """Whether it was told soon, or before a metric had grown 1,000-fold, if one ever did."""
        grown = self.truth.grown_update
        return self.soon or (self.told is not None and (grown is None or self.told < grown))

    @property
    def cause(self) -> str:
        """The likeliest cause by the tool; "" where it abstains."""
        return self.answer.causes[0][0] if self.answer.causes else ""

    @property
    def confidence(self) -> float:
        return self.answer.causes[0][1] if self.answer.causes else 0.0

    @property
    def cause_right(self) -> bool:
        """Whether the first cause is the right one. To abstain is not right."""
        return self.cause in self.right_causes

    def raised(self, severity: str) -> bool:
        return any(alert.severity == severity for alert in self.answer.alerts)


def scored(run: Run, answer: Answer) -> Score:
    """The run's score."""
    truth = run.truth
    if truth.fault is None:
        return Score(run.name, truth, answer)
    relevant = [alert for alert in answer.alerts if _speaks_of(alert, run)]
    return Score(
        run.name,
        truth,
        answer,
        _first(alert for alert in relevant if alert.severity in LOUD),
        _first(alert for alert in relevant if alert.severity == "critical"),
        right_causes(run),
    )


def right_causes(run: Run) -> frozenset[str]:
    """The truth's cause, and those that the log of this run cannot tell from it; see README.md."""
    truth = run.truth
    if not truth.cause or truth.fault is None:
        return frozenset()
    causes = {truth.cause, *FAULTS[truth.fault].also}
    if truth.cause in LOST_AT_ONCE and truth.evidence_update:
        first = run.updates[truth.evidence_update - 1]["metrics"]
        if not all(math.isfinite(first.get(name, 0.0)) for name in truth.chain):
            causes |= LOST_AT_ONCE
    shows_overflow = any("scale" in name or "grad" in name for name in truth.chain)
    if truth.fault == "fp16_overflow" and not shows_overflow:
        causes.add("nothing-trained")
    return frozenset(causes)


def _speaks_of(alert: Alert, run: Run) -> bool:
    if alert.update < run.truth.fault_from_update:
        return False
    ended = bool(run.failure) and alert.update >= len(run.updates)
    return alert.metric in run.truth.chain or ended


def _first(alerts: Iterable[Alert]) -> int | None:
    return min((alert.update for alert in alerts), default=None)


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    hits: int
    total: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The exact (Clopper-Pearson) interval of the share."""
        tail = (1.0 - level) / 2.0
        hits, total = self.hits, self.total
        low = 0.0 if hits == 0 else _bisected(lambda p: 1.0 - _below(hits - 1, total, p) < tail)
        high = 1.0 if hits == total else _bisected(lambda p: _below(hits, total, p) > tail)
        return low, high

    def __str__(self) -> str:
        if not self.total:
            return "-"
        return f"{100.0 * self.hits / self.total:.1f} % ({self.hits} of {self.total})"


def _below(hits: int, total: int, p: float) -> float:
    """Probability of at most so many hits."""
    if p in {0.0, 1.0}:
        return float(p == 0.0 or hits >= total)
    return math.fsum(
        math.exp(
            math.lgamma(total + 1)
            - math.lgamma(k + 1)
            - math.lgamma(total - k + 1)
            + k * math.log(p)
            + (total - k) * math.log1p(-p)
        )
        for k in range(hits + 1)
    )


def _bisected(holds: Callable[[float], bool]) -> float:
    """Where a condition that holds at 0 ceases to hold."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class Summary:
    """The figures of a group of runs.

    Attributes:
        told, lost_critical, in_time, soon, cause_right: Of the faults that did harm;
            `lost_critical` of those whose training is lost, `cause_right` of those whose cause a
            log can tell.
        lag: Median of the updates from the first evidence to the first word; None without any.
        harmless: Faults that did no harm, and those of them that were told all the same.
        brier: Mean squared difference of the first cause's confidence and its being right, over
            the harmful faults whose cause was named; None where none was.
    """

    told: Share
    lost_critical: Share
    in_time: Share
    soon: Share
    cause_right: Share
    abstained: Share
    harmless: Share
    lag: float | None
    brier: float | None


def summary(scores: Sequence[Score]) -> Summary:
    """The figures of the faulty runs among these."""
    faulty = [score for score in scores if score.truth.fault is not None]
    harmed = [score for score in faulty if score.truth.harm]
    spared = [score for score in faulty if not score.truth.harm]
    lost = [score for score in harmed if score.truth.lost]
    nameable = [score for score in harmed if score.truth.cause]
    lags = [score.lag for score in harmed if score.lag is not None]
    return Summary(
        told=_share(harmed, lambda score: score.told is not None),
        lost_critical=_share(lost, lambda score: score.critical is not None),
        in_time=_share(harmed, lambda score: score.in_time),
        soon=_share(harmed, lambda score: score.soon),
        cause_right=_share(nameable, lambda score: score.cause_right),
        abstained=_share(nameable, lambda score: not score.cause),
        harmless=_share(spared, lambda score: score.told is not None),
        lag=median(lags) if lags else None,
        brier=brier(harmed),
    )


def _share(scores: Sequence[Score], holds: Callable[[Score], bool]) -> Share:
    return Share(sum(map(holds, scores)), len(scores))


def brier(scores: Iterable[Score]) -> float | None:
    """Of the first causes that were named; a fault that no log can tell has no right cause."""
    squares = [(each.confidence - each.cause_right) ** 2 for each in scores if each.cause]
    return sum(squares) / len(squares) if squares else None


def reliability(scores: Iterable[Score]) -> list[tuple[float, float, int, float, float]]:
    """For each bin of confidence: its edges, causes named, mean confidence, share right."""
    named = [(score.confidence, score.cause_right) for score in scores if score.cause]
    rows = []
    for low, high in itertools.pairwise(BINS):
        mine = [pair for pair in named if low <= pair[0] < high]
        if mine:
            confidence_said = sum(confidence for confidence, _ in mine) / len(mine)
            right = sum(right for _, right in mine) / len(mine)
            rows.append((low, min(high, 1.0), len(mine), confidence_said, right))
    return rows


def false_alarms(scores: Sequence[Score]) -> dict[str, Share]:
    """Of the healthy runs, those with an alert of each severity, and those halted or unjudged."""
    healthy = [score for score in scores if score.truth.fault is None]
    shares = {
        severity: _share(healthy, lambda score, of=severity: score.raised(of))  # type: ignore[misc]
        for severity in ("critical", "warning", "info")
    }
    shares["halt"] = _share(healthy, lambda score: score.answer.halted)
    shares["unjudged"] = _share(healthy, lambda score: not score.answer.judged)
    return shares
