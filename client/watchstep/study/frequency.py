"""How often zones and rules are entered over a fleet, by phase of training and by tag."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from watchstep.core.engine import RuleSet, State
from watchstep.core.updates import Update
from watchstep.postmortem.examination import Examination
from watchstep.study.statistics import Interval, wilson

PHASES: tuple[tuple[str, float, float], ...] = (
    ("early", 0.0, 0.2),
    ("mid", 0.2, 0.7),
    ("late", 0.7, 1.0),
    ("near-optimal", 0.95, 1.0),
)
"""Phases of training by share of the run's updates, as the seed document cuts them; the last is
part of the one before."""
FAILED_VERDICTS = frozenset({"exploded", "diverged", "died"})
_TELLING_ZONES = frozenset({"warning", "danger", "explosion"})
_MOST_MARKS = 1_000_000
"""Updates of one run and zone that are remembered, four bytes each."""

Key = tuple[str, str]
"""What was entered, such as ("zone", "train/grad_norm danger") or ("rule", "KLHigh")."""


class Entries:
    """In which updates one run was in a zone, or a rule began to fire; an observer."""

    def __init__(self, rules: RuleSet) -> None:
        self.marks: dict[Key, array[int]] = {}
        self.updates = 0
        self._rules = rules
        self._before: frozenset[str] = frozenset()

    def observe(self, row: int, update: Update, state: State) -> None:
        self.updates = row
        for name in update.readings:
            zone = self._rules.zone(name, update.readings)
            if zone in _TELLING_ZONES:
                self._mark(("zone", f"{self._rules.canonical(name)} {zone}"), row)
        firing = frozenset(state.firing())
        for rule in firing - self._before:
            self._mark(("rule", rule), row)
        self._before = firing

    def _mark(self, key: Key, row: int) -> None:
        rows = self.marks.setdefault(key, array("I"))
        if len(rows) < _MOST_MARKS and (not rows or rows[-1] != row):
            rows.append(row)


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something was entered.

    Attributes:
        updates, of_updates: Updates in it, and updates in all. The updates of one run are
            alike, so their interval is narrower than the truth.
        runs, of_runs: Runs that entered it at least once; runs are independent.
    """

    kind: str
    name: str
    phase: str
    group: str
    updates: int
    of_updates: int
    runs: int
    of_runs: int

    @property
    def per_update(self) -> Interval:
        return wilson(self.updates, self.of_updates)

    @property
    def per_run(self) -> Interval:
        return wilson(self.runs, self.of_runs)

    @property
    def risk(self) -> str:
        """The incident report's word for the share of updates, "low to high" where it is open."""
        words = [risk_word(end) for end in self.per_update.ends]
        return " to ".join(dict.fromkeys(words))

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "risk": self.risk,
            "share_of_updates": self.updates / self.of_updates if self.of_updates else None,
            "share_of_updates_interval": self.per_update.ends,
            "share_of_runs": self.runs / self.of_runs if self.of_runs else None,
            "share_of_runs_interval": self.per_run.ends,
        }


RISKS = ((0.0001, "very low"), (0.001, "low"), (0.01, "moderate"), (0.05, "high"))
"""Shares of updates up to which a risk has each word; more is critical.

From the incident report's table: about 0 % very low, to 0.1 % low, to 1 % moderate to high, to 5 %
high to critical.
"""


def risk_word(share: float) -> str:
    return next((word for most, word in RISKS if share <= most), "critical")


class Census:
    """Sums over a fleet; one run at a time, then it is forgotten."""

    def __init__(self, by: Sequence[str] = ()) -> None:
        """Group runs by these tags; by every tag that the logs tell where none is named."""
        self._by = tuple(by)
        self.tags: set[str] = set()
        self.runs: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.wasted = 0
        self.saved = 0
        self.updates: Counter[tuple[str, str]] = Counter()
        self._in: Counter[tuple[Key, str, str]] = Counter()
        self._entered: Counter[tuple[Key, str, str]] = Counter()
        self._reached: Counter[tuple[str, str]] = Counter()

    def add(self, examination: Examination, entries: Entries) -> None:
        groups = ["all", *self._groups(examination)]
        spans = {name: _rows_of(low, high, entries.updates) for name, low, high in PHASES}
        spans["all"] = (1, entries.updates)
        for group in groups:
            self.runs[group] += 1
            self.failures[group] += examination.verdict in FAILED_VERDICTS
            for phase, (first, last) in spans.items():
                self.updates[group, phase] += max(last - first + 1, 0)
                self._reached[group, phase] += last >= first
        for key, rows in entries.marks.items():
            for phase, (first, last) in spans.items():
                count = sum(first <= row <= last for row in rows)
                for group in groups if count else ():
                    self._in[key, phase, group] += count
                    self._entered[key, phase, group] += 1
        self.wasted += examination.wasted_updates
        self.saved += examination.saved_updates

    def _groups(self, examination: Examination) -> list[str]:
        tags = {"kind": examination.kind or "unknown", **examination.tags}
        self.tags.update(tags)
        names = self._by or tuple(tags)
        return [f"{name}={tags[name]}" for name in names if name in tags]

    def rates(self) -> list[Rate]:
        """Everything that was entered, by phase and by group, most frequent first."""
        phases = ["all", *(name for name, _, _ in PHASES)]
        cells = [(phase, group) for group in self.runs for phase in phases]
        keys = {key for key, _, _ in self._in}
        rates = [self._rate(key, *cell) for key in keys for cell in cells]
        totals: Mapping[Key, int] = {key: self._in[key, "all", "all"] for key in keys}
        order = [name for name, _, _ in PHASES]
        return sorted(
            rates,
            key=lambda rate: (
                rate.kind,
                -totals[rate.kind, rate.name],
                rate.name,
                -1 if rate.phase == "all" else order.index(rate.phase),
                rate.group != "all",
                rate.group,
            ),
        )

    def _rate(self, key: Key, phase: str, group: str) -> Rate:
        return Rate(
            kind=key[0],
            name=key[1],
            phase=phase,
            group=group,
            updates=self._in[key, phase, group],
            of_updates=self.updates[group, phase],
            runs=self._entered[key, phase, group],
            of_runs=self._reached[group, phase],
        )


def _rows_of(low: float, high: float, updates: int) -> tuple[int, int]:
    """First and last row of a phase; empty, with first > last, in a very short run."""
    return math.floor(low * updates) + 1, math.floor(high * updates)


@dataclass(frozen=True, slots=True)
class Risk:
    """Failures to expect.

    Attributes:
        per_year: Expected failures, with an interval from that of the share alone.
        at_least_one: Probability of one failure or more in a year, likewise.
    """

    failures: int
    runs: int
    runs_per_year: float

    @property
    def per_run(self) -> Interval:
        return wilson(self.failures, self.runs)

    @property
    def per_year(self) -> Interval:
        return self.per_run * self.runs_per_year

    @property
    def at_least_one(self) -> Interval:
        """Interval of the probability of any failure within a year."""
        low, high = (1.0 - (1.0 - p) ** self.runs_per_year for p in self.per_run.ends)
        return Interval(low, high)

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "per_run": self.failures / self.runs if self.runs else None,
            "per_run_interval": self.per_run.ends,
            "per_year_interval": self.per_year.ends,
            "at_least_one_a_year_interval": self.at_least_one.ends,
        }
