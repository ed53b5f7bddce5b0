"""The readings of a run's recent updates as columns, by canonical name and by role."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise

from watchstep.core.error_texts import failure_rank
from watchstep.core.roles import Family, is_core, role_of
from watchstep.core.ruleset import RuleSet
from watchstep.core.updates import ANEW, Transition, Update
from watchstep.core.vocabulary import MetricNames

CORE = (
    "train/loss",
    "train/policy_loss",
    "train/value_loss",
    "train/entropy_loss",
    "train/approx_kl",
    "train/std",
    "train/advantages_mean_raw",
    "train/advantages_std_raw",
    "train/advantages_norm_max_abs",
)
"""Metrics that are finite as long as the training is.

The divisor of the advantages is none of them: it is NaN for a batch without any spread. Nor is
the gradient norm: under a loss scaler single NaN norms are normal.
"""
SPIKING = (
    "train/value_loss",
    "train/loss",
    "train/policy_loss",
    "train/grad_norm",
    "train/grad_norm_max",
    "train/advantages_std_raw",
    "train/advantages_norm_max_abs",
)
"""Metrics whose new records show an explosion."""
BASELINE_ROWS = 5
"""Finite values before a record counts as one: of fewer, the next is often ten times larger."""
RECORD = 10.0


_AS_JUDGED: Mapping[str, Family] = {
    "supervised": "supervised",
    "on_policy": "on_policy",
    "off_policy": "off_policy",
    "": "supervised",
    "grpo": "on_policy",
    "preference": "off_policy",
}
WHOLE = 3
"""A run whose readings begin at this update at the latest is known from its start."""
LATE = 100
"""Unless its first step lies this many times further out than the next one: an excerpt."""


class Columns:
    """Readings of one attempt by canonical and by reported name, oldest first.

    Attributes:
        attempt: The one looked at: that of the newest alert in the history, else the last.
        rows: Updates that carried readings.
        events: Events of the attempt in order.
        last_words: What the trainer said when it failed; of several texts in a row that which tells
            most. None where it did not fail, or finished after all.
        fired: Names of rules that fired in the attempt.
        reported: For every canonical name the one that was reported, where they differ.
    """

    def __init__(
        self,
        rules: RuleSet,
        history: Sequence[Update],
        alerts: Sequence[Transition],
        attempt: int | None = None,
    ) -> None:
        self.attempt = attempt = attempt or _attempt(history, alerts)
        mine = [update for update in history if update.attempt == attempt]
        self.rows = [update for update in mine if update.readings]
        self.events = [update.event for update in mine if update.event is not None]
        self.last_words = _last_words(mine)
        self.fired = {alert.rule for alert in alerts if alert.attempt == attempt}
        self.reported: dict[str, str] = {}
        self._columns = _lay(rules, self.rows, self.reported)
        self._finite: dict[str, list[tuple[int, float]]] = {}
        self._rules, self._history = rules, history

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def before(self) -> Columns | None:
        """The attempt that this one resumes, None where the history does not reach back to it."""
        if any(event.get(ANEW) for event in self.events):
            return None
        earlier = [
            update.attempt
            for update in self._history
            if update.attempt < self.attempt and update.readings
        ]
        return Columns(self._rules, self._history, (), max(earlier)) if earlier else None

    def until(self, row: int) -> Columns:
        """The rows before that one alone."""
        last = self.rows[row].seq if row < len(self) else math.inf
        kept = [
            update for update in self._history if update.attempt < self.attempt or update.seq < last
        ]
        return Columns(self._rules, kept, (), self.attempt)

    @cached_property
    def until_lost(self) -> Columns:
        """The rows until a core reading was lost for good: what comes after it is an effect."""
        lost = self.nonfinite()
        if lost is None or any(row > lost[0] for row, _ in self.finite(lost[1])):
            return self
        return self.until(lost[0] + 1)

    @property
    def is_whole(self) -> bool:
        """Whether the training is known from its start, so that a metric's start is too."""
        if self.attempt != 1 or not self.rows or self.rows[0].seq > WHOLE:
            return False
        steps = [update.step for update in self.rows[: WHOLE + 1]]
        return steps[0] <= LATE * max([1, *(now - before for before, now in pairwise(steps))])

    @cached_property
    def names(self) -> list[str]:
        """Every name as reported, in the order of the log."""
        return list(dict.fromkeys(name for update in self.rows for name in update.readings))

    @cached_property
    def family(self) -> Family:
        """The kind of training, as the rules are chosen by it; see `watchstep.core.families`.

        One of "supervised", "on_policy" and "off_policy": an answer is an action as well.
        """
        family = self._rules.family_for(self.names)
        roles = set(map(self._rules.role, self.names))
        # Rewards are enough to know an agent by, if not which rules are for it.
        return "on_policy" if not family and "reward" in roles else _AS_JUDGED[family]

    @cached_property
    def of_answers(self) -> bool:
        """Whether a language model is trained on what it answers: its inputs are tokens."""
        return self._rules.family_for(self.names) in ("grpo", "preference")

    @cached_property
    def _run_names(self) -> MetricNames:
        return self._rules.names.of_run(self.names)

    @cached_property
    def roles(self) -> dict[str, list[str]]:
        """Reported names by role, in the order of the log."""
        names: dict[str, list[str]] = {}
        for name in self.names:
            names.setdefault(self.role(name), []).append(name)
        return names

    def role(self, name: str) -> str:
        """The role of a reported metric in this kind of training."""
        role = self._run_names.role(name)
        given = self._run_names.roles
        is_given = name in given or self._rules.canonical(name) in given
        # Whether a loss has a sign hangs on the kind of training, and the rules may be those of
        # another kind.
        if is_given or role not in {"loss", "signed_loss", "unknown"}:
            return role
        by_words = role_of(name, self.family)
        return role if by_words == "unknown" else by_words

    def of_role(self, *roles: str) -> list[str]:
        """Reported names of these roles, in the order of the log."""
        return [name for role in roles for name in self.roles.get(role, ())]

    def name(self, metric: str) -> str:
        """What the log calls a canonical metric."""
        return self.reported.get(metric, metric)

    def column(self, metric: str) -> list[float | None]:
        """One value a row; None where the metric was not reported."""
        return self._columns.get(metric) or [None] * len(self.rows)

    def finite(self, metric: str) -> list[tuple[int, float]]:
        """Row and value wherever a finite one was reported."""
        points = self._finite.get(metric)
        if points is None:
            points = self._finite[metric] = [
                (row, value)
                for row, value in enumerate(self._columns.get(metric, ()))
                if value is not None and value - value == 0.0
            ]
        return points

    def moved(self, loss: str) -> bool:
        """Whether a loss fell by a tenth or rose by half, as none does at a rate of 0."""
        values = [abs(value) for _, value in self.finite(loss)]
        levels = [median(values[at : at + 10]) for at in range(0, len(values) - 9, 5)]
        return bool(levels) and (min(levels) < 0.9 * levels[0] or levels[-1] > 1.5 * levels[0])

    def last(self, metric: str, count: int) -> list[float]:
        """The newest finite values, at most `count`, oldest first."""
        return [value for _, value in self.finite(metric)[-count:]]

    def where(self, row: int) -> str:
        """How the log numbers a row."""
        return f"step {self.rows[row].step}"

    def between(self, seq: int, later: int) -> int:
        """Updates with readings from one update to a later one; negative the other way."""
        if later < seq:
            return -self.between(later, seq)
        return sum(seq < update.seq <= later for update in self.rows)

    def back(self, seq: int, rows: int) -> int:
        """The update that lies so many updates with readings before another."""
        if rows == 0:
            return seq
        earlier = [update.seq for update in self.rows if update.seq <= seq]
        return earlier[-1 - rows] if len(earlier) > rows else min([seq, *earlier[:1]])

    def forward(self, seq: int, rows: int) -> int | None:
        """The update that lies so many updates with readings after another, if there yet."""
        later = [update.seq for update in self.rows if update.seq > seq]
        return later[rows - 1] if len(later) >= rows else None

    def nonfinite(self, metrics: Iterable[str] | None = None) -> tuple[int, str, float] | None:
        """Row, metric and value of the first reading that is NaN or infinite; None if none.

        Args:
            metrics: None looks at every core reading, see `watchstep.core.roles.is_core`.
        """
        first: tuple[int, str, float] | None = None
        for metric in self.core if metrics is None else metrics:
            for row, value in enumerate(self._columns.get(metric, ())):
                if first is not None and row >= first[0]:
                    break
                if value is not None and value - value != 0.0:
                    first = (row, metric, value)
                    break
        return first

    @cached_property
    def core(self) -> list[str]:
        """Names, as reported, that are finite as long as the training is."""
        return [
            name for name in self.names if is_core(self._rules.canonical(name), self.role(name))
        ]

    def first_record(self, metric: str, above: float = 0.0) -> tuple[int, float, float] | None:
        """Row, value and largest magnitude before of the first tenfold record above a size."""
        largest = 0.0
        for seen, (row, value) in enumerate(self.finite(metric)):
            size = abs(value)
            if seen >= BASELINE_ROWS and size > above and 0.0 < largest * RECORD < size:
                return row, value, largest
            largest = max(largest, size)
        return None

    def before_and_at(self, metric: str, row: int) -> tuple[float, float] | None:
        """Median magnitude over the 20 rows before, and the largest at the row or the next."""
        values = self.column(metric)
        before = sorted(
            abs(value)
            for value in values[max(0, row - 20) : row]
            if value is not None and value - value == 0.0
        )
        after = [
            abs(value)
            for value in values[row : row + 2]
            if value is not None and value - value == 0.0
        ]
        if len(before) < 3 or not after:
            return None
        return before[len(before) // 2], max(after)


def _attempt(history: Sequence[Update], alerts: Sequence[Transition]) -> int:
    """The attempt to diagnose: that of the newest alert still in the history."""
    kept = {update.attempt for update in history}
    alerted = [alert.attempt for alert in alerts if alert.attempt in kept]
    if alerted:
        return max(alerted)
    return history[-1].attempt if history else 1


def _last_words(updates: Sequence[Update]) -> str | None:
    texts: list[str] = []
    goes_on = False
    for update in updates:
        goes_on = goes_on or bool(update.readings)
        event = update.event or {}
        if event.get("kind") == "finished":
            texts = []
        elif event.get("kind") == "failed":
            texts = [*([] if goes_on else texts), str(event.get("error", ""))]
            goes_on = False
    return min(texts, key=failure_rank, default=None)


def _lay(
    rules: RuleSet, rows: Sequence[Update], reported: dict[str, str]
) -> dict[str, list[float | None]]:
    columns: dict[str, list[float | None]] = {}
    plans: dict[tuple[str, ...], list[tuple[list[float | None], str, float]]] = {}
    for row, update in enumerate(rows):
        readings = update.readings
        names = tuple(readings)
        plan = plans.get(names)
        if plan is None:
            plan = plans[names] = []
            for metric, name, factor in _resolve(rules, names):
                plan.append((columns.setdefault(metric, [None] * len(rows)), name, factor))
                if metric != name:
                    reported.setdefault(metric, name)
        for column, name, factor in plan:
            column[row] = readings[name] * factor
    return columns


def _resolve(rules: RuleSet, names: Sequence[str]) -> list[tuple[str, str, float]]:
    """Canonical name, reported name and factor; the canonical name beats every alias."""
    best: dict[str, tuple[int, str, float]] = {}
    for name in names:
        for metric, rank, factor in [(name, 0, 1.0), *rules.names.targets(name)]:
            if metric not in best or rank < best[metric][0]:
                best[metric] = (rank, name, factor)
    return [(metric, name, factor) for metric, (_, name, factor) in best.items()]


def median(values: Sequence[float]) -> float:
    """Upper median of finite values; NaN of none."""
    return sorted(values)[len(values) // 2] if values else math.nan
