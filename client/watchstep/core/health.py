"""What a run's numbers are: one word, and since when, for the service and the post-mortem alike.

Health belongs to the present attempt. What the process does (finished, failed, silent) is its
status, and no part of this.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from watchstep.core.roles import CORE_ROLES, is_core
from watchstep.core.stages import (
    FALLING,
    NONFINITE,
    ONSET_UPDATES,
    OUTCOMES,
    STANDSTILL,
    UNMOVED,
    Holding,
    Lead,
    Mark,
    Stage,
    first_bad,
    leads,
    may_climb,
    may_only_fall,
    onset,
    stage_of,
)
from watchstep.core.updates import Severity, Transition, Update

Health = Literal["healthy", "suspicious", "exploded", "diverged", "unjudged"]
HEALTHS: Mapping[Health, str] = {
    "healthy": "no warning and no critical alert fires, and there is enough to judge by",
    "suspicious": "a warning fires, nothing is learnt, or a core reading is often not finite",
    "exploded": "a critical alert fires, of more than a standstill; core readings are finite",
    "diverged": "a core reading is no finite number any more, or an alert says that all is lost",
    "unjudged": "no warning fires; too little was reported, or no loss has moved beyond its noise",
}
"""Every word and what it means."""

JUDGED_ROLES = CORE_ROLES | {"eval_loss", "eval_score", "reward", "value"}
"""Roles of which one must have been reported before a run is called healthy."""
REPORTS_TO_JUDGE = 10
"""Reports of such a metric that it takes: as many as a window needs before it says anything."""
REPORTS_KEPT = 5
_ENDS = frozenset({"failed", "halted", "finished", "preempted"})
MOST_HOLDINGS = 200
"""Alerts of an attempt that are remembered for its story, the first ones."""


class FiringAlert(NamedTuple):
    """What of a firing alert counts for health.

    Attributes:
        metric: The reading that it is about; "" for alerts about events, texts and silence, which
            are the run's status and not its health.
        stage: Its rule's label `stage`: "divergence", `NONFINITE`, `UNMOVED`, one of
            `STANDSTILL`, or none.
    """

    severity: Severity
    metric: str
    stage: str = ""


def health_of(
    alerts: Iterable[FiringAlert], reports: Iterable[Sequence[bool]], *, judged: bool
) -> Health:
    """The word for a run.

    Args:
        reports: For every core reading, whether its last reports were finite, oldest first; the
            last `REPORTS_KEPT` count.
        judged: Whether enough was reported to call the run healthy.
    """
    counted = [alert for alert in alerts if alert.metric]
    latest = [list(row)[-REPORTS_KEPT:] for row in reports]
    lost = [row.count(False) for row in latest]
    often = any(2 * count > REPORTS_KEPT for count in lost)
    is_lost_now = often or any(row and not row[-1] for row in latest)
    calm = STANDSTILL if is_lost_now else STANDSTILL | {NONFINITE}
    critical = [
        alert for alert in counted if alert.severity == "critical" and alert.stage not in calm
    ]
    # One NaN may come of a mask that left nothing; all of five are no accident, whatever the
    # rules say. Where a critical alert says so too, the newest report is enough.
    says_lost = any(alert.stage == "divergence" for alert in critical)
    if says_lost or any(count >= REPORTS_KEPT for count in lost):
        return "diverged"
    if critical:
        return "diverged" if is_lost_now else "exploded"
    if often or any(alert.severity != "info" for alert in counted):
        return "suspicious"
    unmoved = any(alert.stage == UNMOVED for alert in counted)
    return "healthy" if judged and not unmoved else "unjudged"


_NOTHING = Mark(0, 0, 0)
_BLOCK, _FALLS, _REPEATS = 20, 1e-3, 3
"""Reports whose mean is a level of a loss, and by what share that falls; equal reports that are no
chance."""


@dataclass
class _Course:
    """Since when a loss repeats itself, and since when it falls below zero, however long that is.

    Attributes:
        repeats, since: How many of the newest reports are equal, and the first of them.
        is_first: Whether no other was ever reported in this attempt.
        falls_since: Of a loss below zero the first of those blocks of reports, up to the newest,
            of which each has a lower mean than the one before; None above zero.
        block: Reports and their sum in the block that is not full yet, and its first report.
        level: The mean of the last full block.
    """

    value: float
    since: Mark
    repeats: int = 0
    is_first: bool = True
    falls_since: Mark | None = None
    block: tuple[int, float, Mark] = (0, 0.0, _NOTHING)
    level: float = math.inf

    def add(self, value: float, mark: Mark) -> None:
        if value == self.value:
            self.repeats += 1
        else:
            self.value, self.since, self.repeats, self.is_first = value, mark, 1, False
        if not value < 0.0:
            self.falls_since, self.block, self.level = None, (0, 0.0, mark), math.inf
            return
        count, total, first = self.block if self.block[0] else (0, 0.0, mark)
        self.falls_since = self.falls_since or first
        self.block = count + 1, total + value, first
        if count + 1 == _BLOCK:
            mean = (total + value) / _BLOCK
            if not mean < self.level - _FALLS * abs(self.level) and self.level < math.inf:
                self.falls_since = None
            self.block, self.level = (0, 0.0, mark), mean


@dataclass
class _Attempt:
    """What is remembered of one attempt.

    Attributes:
        start, last: The first and the newest update with readings; row 0 before the first.
        reports: For every core reading a character for each of its last reports, oldest first:
            "1" where it was finite, else "0".
        lost_since: For every core reading that was not finite at its newest report, the first
            update from which it has not been.
        judged: For every metric that a run can be judged by, its reports, while they are too few.
        enough: Whether one of them had enough.
        damage: The first update whose core reading was lost, while that makes the run diverged.
        is_lost: Whether that is so, and no death.
        exploded: Since when the first critical alert about a reading holds.
        ended: Whether the trainer has said that it stopped.
        recent: The newest updates with readings.
        series: The newest reports of losses and outcomes, since evaluations are rare.
        courses: Of every loss.
    """

    number: int = 0
    start: Mark = _NOTHING
    last: Mark = _NOTHING
    reports: dict[str, str] = field(default_factory=dict)
    lost_since: dict[str, Mark] = field(default_factory=dict)
    judged: dict[str, int] = field(default_factory=dict)
    enough: bool = False
    holdings: list[Holding] = field(default_factory=list)
    damage: Mark | None = None
    is_lost: bool = False
    exploded: Mark | None = None
    ended: bool = False
    recent: deque[tuple[Mark, Mapping[str, float]]] = field(
        default_factory=lambda: deque(maxlen=ONSET_UPDATES)
    )
    series: dict[str, deque[tuple[Mark, float]]] = field(default_factory=dict)
    courses: dict[str, _Course] = field(default_factory=dict)


class HealthTracker:
    """Health, first bad update and stage of a run's present attempt, update by update.

    Args:
        role: The role of a name as reported, see `watchstep.core.roles`.
        canonical: The vocabulary's name for it.
        stage: The label `stage` of the rule of that name.
    """

    def __init__(
        self,
        role: Callable[[str], str],
        canonical: Callable[[str], str] = str,
        stage: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._role = role
        self._canonical = canonical
        self._stage = stage
        self._alerts: dict[tuple[str, str], FiringAlert] = {}
        self._began: dict[tuple[str, str], Mark] = {}
        self._attempt = _Attempt()
        # Of the names of an update, which nearly all have in common.
        self._names: tuple[str, ...] = ()
        self._core: list[str] = []
        self._judging: list[str] = []
        self._losses: list[str] = []
        self._rare: list[str] = []

    @property
    def health(self) -> Health:
        """After the last update."""
        now = self._attempt
        reports = ([part == "1" for part in row] for row in now.reports.values())
        return health_of(self._alerts.values(), reports, judged=now.enough)

    @property
    def first_bad(self) -> Mark | None:
        """The first sign of what came, see `watchstep.core.stages.first_bad`.

        The last good update is the one before it: its `previous_seq` and `previous_step`.
        """
        now = self._attempt
        return first_bad(now.holdings, now.damage, lost=now.is_lost)

    @property
    def damage(self) -> Mark | None:
        """The first update whose core readings were lost, or at which the run died."""
        return self._attempt.damage

    @property
    def lost_since(self) -> Mapping[str, Mark]:
        """For every core reading that is not finite, the first update of the unbroken run."""
        return self._attempt.lost_since

    def fires(self, rule: str) -> bool:
        return any(name == rule for name, _ in self._alerts)

    @property
    def unmoved_metric(self) -> str:
        """A loss that has not moved beyond its noise yet, by a rule that fires; "" without."""
        return next((alert.metric for alert in self._alerts.values() if alert.stage == UNMOVED), "")

    @property
    def diverging_rule(self) -> str:
        """A critical rule that fires and says that the numbers are lost; "" without."""
        return next(
            (
                rule
                for (rule, _), alert in self._alerts.items()
                if alert.metric and alert.stage == "divergence" and alert.severity == "critical"
            ),
            "",
        )

    @property
    def stage(self) -> Stage:
        """Where an incident of this attempt stands."""
        now = self._attempt
        exploded = None if now.exploded is None else now.exploded.row
        damage = None if now.damage is None else now.damage.row
        return stage_of(now.last.row, exploded, damage, ended=now.ended)

    def leads(self) -> tuple[Lead, ...]:
        """How early each rule saw the damage, or the first critical alert; empty without."""
        now = self._attempt
        after = now.damage or now.exploded
        return () if after is None else leads(now.holdings, after)

    def update(self, update: Update, transitions: Iterable[Transition]) -> None:
        """Take in an update and what the rules made of it."""
        if update.attempt != self._attempt.number:
            self._attempt = _Attempt(number=update.attempt)
            self._began.clear()
        now, before = self._attempt, self._attempt.last
        previous = (before.seq, before.step) if before.row else (None, None)
        kind = (update.event or {}).get("kind")
        if update.readings:
            mark = now.last = Mark(before.row + 1, update.seq, update.step, *previous)
            now.start = now.start if now.start.row else mark
            now.ended = False
            now.recent.append((mark, update.readings))
            self._count(update.readings, mark)
        else:
            mark = Mark(before.row, update.seq, update.step, *previous)
        for transition in transitions:
            self._note(transition, mark)
        now.ended = now.ended or kind in _ENDS
        if now.damage is None and kind == "failed":
            now.damage = mark
        trouble = bool(now.is_lost or now.lost_since or self._alerts)
        if not trouble or (now.damage is not None and not now.is_lost):
            return
        if self.health != "diverged":
            now.damage, now.is_lost = None, False
        elif now.damage is None:
            now.is_lost = True
            firing = (
                holding.mark
                for holding in now.holdings
                if holding.severity == "critical" and holding.explodes and holding.ceased is None
            )
            now.damage = min(now.lost_since.values(), default=min(firing, default=mark))

    def _count(self, readings: Mapping[str, float], mark: Mark) -> None:
        now = self._attempt
        names = tuple(readings)
        if names != self._names:
            self._look_up(names)
        for name in () if now.enough else self._judging:
            reports = now.judged[name] = now.judged.get(name, 0) + 1
            now.enough = now.enough or reports >= REPORTS_TO_JUDGE
        for name in self._losses:
            now.courses.setdefault(name, _Course(readings[name], mark)).add(readings[name], mark)
        for name in self._rare:
            series = now.series.setdefault(name, deque(maxlen=ONSET_UPDATES))
            series.append((mark, readings[name]))
        for name in self._core:
            value = readings[name]
            finite = value - value == 0.0
            row = now.reports.get(name, "") + ("1" if finite else "0")
            now.reports[name] = row[-REPORTS_KEPT:]
            if finite:
                now.lost_since.pop(name, None)
            else:
                now.lost_since.setdefault(name, mark)

    def _look_up(self, names: tuple[str, ...]) -> None:
        """Which names are core readings, and by which a run can be judged."""
        self._names = names
        roles = {name: self._role(name) for name in names}
        self._core = [name for name in names if is_core(self._canonical(name), roles[name])]
        self._judging = [name for name in names if roles[name] in JUDGED_ROLES]
        self._losses = [name for name in names if may_only_fall(roles[name], name)]
        self._rare = [name for name in names if roles[name] in FALLING | OUTCOMES]

    def _note(self, transition: Transition, mark: Mark) -> None:
        now, key = self._attempt, (transition.rule, transition.subject)
        if transition.change == "pending":
            self._began[key] = mark
            return
        began = self._began.pop(key, mark)
        if transition.change == "resolved":
            self._alerts.pop(key, None)
            for at in range(len(now.holdings) - 1, -1, -1):
                if now.holdings[at][:2] == key:
                    now.holdings[at] = now.holdings[at]._replace(ceased=mark)
                    break
        if transition.change != "firing":
            return
        stage = self._stage(transition.rule)
        alert = FiringAlert(transition.severity, transition.metric, stage)
        self._alerts[key] = alert
        if len(now.holdings) < MOST_HOLDINGS:
            first = began if alert.severity == "info" else self._onset(transition, began)
            if stage == "unlearnt" and now.start.row:
                first = now.start
            explodes = stage not in STANDSTILL and self._role(alert.metric) not in OUTCOMES
            now.holdings.append(Holding(*key, alert.severity, began, first, explodes))
        is_ruin = alert.severity == "critical" and alert.metric and stage not in STANDSTILL
        if is_ruin and now.exploded is None:
            now.exploded = began

    def _onset(self, transition: Transition, began: Mark) -> Mark:
        """The first evidence; the update before it is the last good report of that metric."""
        now, name = self._attempt, self._reported(transition)
        role = self._role(name)
        series = now.series.get(name) or [
            (mark, readings.get(name)) for mark, readings in now.recent
        ]
        rows = [(mark, value) for mark, value in series if mark.row <= began.row]
        if not rows or not name or not may_climb(role, transition.reading):
            return began
        course = now.courses.get(name)
        if course is not None and course.repeats >= _REPEATS:
            return min(began, now.start if course.is_first else course.since)
        if course is not None and course.falls_since and transition.reading < course.level:
            return min(began, course.falls_since)
        place = onset(
            [value for _, value in rows],
            is_loss=may_only_fall(role, name),
            is_reward=role == "reward",
            is_whole=len(series) < ONSET_UPDATES,
        )
        first = rows[place][0]
        if place == len(rows) - 1 and first.row < began.row:
            return began
        if not place:
            return first
        good = rows[place - 1][0]
        return first._replace(previous_seq=good.seq, previous_step=good.step)

    def _reported(self, transition: Transition) -> str:
        """What the run calls the metric of an alert; "" where that is not to be seen."""
        readings = self._attempt.recent[-1][1] if self._attempt.recent else {}
        metric, value = transition.metric, transition.reading
        if not metric or metric in readings:
            return metric
        names = [name for name in readings if self._canonical(name) == metric]
        # A run's only loss stands for `train/loss`, whatever it is called.
        names += [name for name, reading in readings.items() if reading == value]
        return next(iter(names), "")
