"""What the fold remembers of one run, and how it is written down and read back.

mypyc compiles this module where a compiler is, see hatch_build.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from watchstep.core.arithmetic import UNKNOWN
from watchstep.core.compiling import Instance, WindowSlot
from watchstep.core.context import Context
from watchstep.core.evaluator import Schedule
from watchstep.core.nodes import YES
from watchstep.core.ruleset import Plan, RuleSet
from watchstep.core.sorted_windows import LevelWindow
from watchstep.core.updates import Update
from watchstep.core.windows import Window

IDLE, PENDING, FIRING = 0, 1, 2
SNAPSHOT_VERSION = 1
OPENING_UPDATES = 20
"""Updates of an attempt whose metric names tell what kind of training the run is.

They are counted from the first that tells anything: a console may print returns for minutes
before a file says of what.
"""
LEFT_UPDATES = 100
"""Updates for which a restored state keeps what no rule has a place for yet."""
NEVER = -1


class Life:
    """Where one rule, or one for one metric, stands in one run."""

    def __init__(self) -> None:
        self.streak = 0
        self.since_time = 0.0
        self.first_seq = 0
        self.held_age = NEVER
        self.held_seq = 0
        self.held_time = 0.0
        self.firing_age = NEVER
        self.reason = ""

    def dump(self) -> list[Any]:
        return [
            self.firing_age,
            self.first_seq,
            self.held_age,
            self.held_seq,
            self.held_time,
            self.reason,
            self.since_time,
            self.streak,
        ]

    def load(self, dumped: Sequence[Any]) -> None:
        firing_age, first_seq, held_age, held_seq, held_time, reason, since_time, streak = dumped
        # The first release wrote ages as floats.
        self.firing_age, self.held_age = int(firing_age), int(held_age)
        self.first_seq, self.held_seq, self.streak = first_seq, held_seq, streak
        self.held_time, self.since_time, self.reason = held_time, since_time, reason


class _Memory:
    """What one state leaves to another: by rule and metric, by window, by metric.

    Attributes:
        lives: Status and life of rules, by the name that snapshots have them under.
        windows: By key; windows, or what they dumped.
        reports: For every watched metric, when it was last reported, how often, and the longest
            gap.
        before: Reports that a metric is taken to have had that is not among these.
    """

    def __init__(self) -> None:
        self.lives: dict[str, tuple[int, Life]] = {}
        self.windows: dict[str, Any] = {}
        self.reports: dict[str, tuple[int, int, int]] = {}
        self.before = 0


class State(Context):
    """What the fold remembers of one run. Owned by its one user; `step` advances it in place.

    Attributes:
        rules: The set as it is expanded for the metrics of this run.
        attempt: Attempt of the last update, 0 before the first.
        seq, training_step: Of the last update.
        suspicious: Whether any of its readings may be non-finite.
        schedule: What to do at calm updates, where that is worked out for its names.
        lives: Of the instances that ever were.
        not_judged: The most metrics of one update that `each` rules are for and that the run
            has no room for.
    """

    def __init__(self, rules: RuleSet) -> None:
        super().__init__()
        self.rules = rules
        self.attempt = 0
        self.seq = 0
        # Whatever number the trainer counts in: compiled, an `int` would refuse a float.
        self.training_step: Any = 0
        self.not_judged = 0
        self._plan: Plan | None = None
        self._raw: list[float] = []
        self.suspicious = False
        self.schedule: Schedule | None = None
        self._globs: list[float] = []
        self._left: _Memory | None = None
        self._left_until = 0
        self._opening: set[str] = set()
        self._opening_until = OPENING_UPDATES
        self.lives: dict[int, Life] = {}
        self._become(rules, _Memory())

    def begin_attempt(self, attempt: int, *, resumes: bool = True) -> None:
        """Forget the history of the attempt before; alerts stay as they are.

        A resumed run starts from an older checkpoint, so the old windows are no baseline for
        it; but that it was resumed is no evidence that it is healthy. Only levels are kept, for
        `before`; and not even these where nothing was resumed, as with a cross-validation's folds.
        """
        self.attempt = attempt
        self.age = 0
        self._opening.clear()
        self._opening_until = OPENING_UPDATES
        program = self.rules.program
        self.hold(
            [
                _resumed(window, slot.make(slot.span)) if resumes else slot.make(slot.span)
                for window, slot in zip(self.windows, program.windows, strict=True)
            ],
            self.evaluator.feeds,
        )
        self.rested = False
        for counts in (self.seen, self.reports, self.gaps):
            counts[:] = [0] * len(program.watched)
        self._left = None
        for at, life in self.lives.items():
            life.streak = life.held_seq = 0
            life.held_age = life.firing_age = NEVER
            if self.active[at] == PENDING:
                self.active[at] = IDLE
        self.busy = any(self.active)

    def firing(self) -> tuple[str, ...]:
        """Names of the rules that fire now, those with `each` for any metric."""
        return names_of(self.alerts())

    def alerts(self) -> tuple[Instance, ...]:
        """The rules that fire now, with the metrics that those with `each` fire for."""
        instances = self.rules.instances
        return tuple(instances[at] for at, status in enumerate(self.active) if status == FIRING)

    def held(self, since: int | None = None) -> tuple[str, ...]:
        """Names of the active rules whose condition held at the last update, or since that one."""
        return names_of(self.rules.instances[at] for at in self.held_now(since))

    def held_now(self, since: int | None = None) -> list[int]:
        oldest = self.seq if since is None else since
        return [
            at
            for at, status in enumerate(self.active)
            if status != IDLE and self.lives[at].held_seq >= oldest
        ]

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain JSON; infinities and NaN never occur in it but in times."""
        memory = self._remembered()
        left = self._left if self.age <= self._left_until else None
        if left is not None:
            memory.lives = {**left.lives, **memory.lives}
            memory.windows = {**left.windows, **memory.windows}
        return {
            "version": SNAPSHOT_VERSION,
            "last": [self.attempt, self.seq, self.training_step, self.time, self.age],
            "lives": {
                name: [status, *life.dump()] for name, (status, life) in memory.lives.items()
            },
            "windows": {
                key: window.dump() if isinstance(window, Window) else window
                for key, window in memory.windows.items()
            },
            "seen": {metric: seen for metric, (seen, _, _) in memory.reports.items()},
            "reports": {metric: [count, gap] for metric, (_, count, gap) in memory.reports.items()},
            "metrics": list(self.rules.metrics),
            "standing": dict(self.rules.names.sole),
            "family": self.rules.family,
            "opening": sorted(self._opening),
            "opening_until": self._opening_until,
            "left_until": 0 if left is None else self._left_until,
        }

    @classmethod
    def restore(cls, rules: RuleSet, snapshot: Mapping[str, Any]) -> State:
        """The state that was written down, for the same rules or for edited ones.

        A rule keeps its life by its name, or by one that it had formerly, and a window its
        values by what it looks at; what is new starts fresh. What has no place is kept for
        `LEFT_UPDATES`, since a metric of an `each` rule may be reported only then.

        Raises:
            ValueError: The snapshot is of another version.
        """
        if snapshot.get("version") != SNAPSHOT_VERSION:
            raise ValueError(f"snapshot of version {snapshot.get('version')!r}, not 1")
        state = cls(rules)
        last = snapshot["last"]
        state.attempt, state.seq, state.training_step, state.time, state.age = last
        memory = _Memory()
        for name, (status, *dumped) in snapshot["lives"].items():
            life = Life()
            life.load(dumped)
            memory.lives[name] = (status, life)
        memory.windows = dict(snapshot["windows"])
        reports = snapshot.get("reports", {})
        for metric, seen in snapshot["seen"].items():
            # The first release did not count reports: it is taken to have had one an update.
            count, gap = reports.get(metric, (seen, min(seen, 1)))
            memory.reports[metric] = (seen, count, gap)
        memory.before = 0 if "reports" in snapshot else state.age
        state._left_until = snapshot.get("left_until", 0) or state.age + LEFT_UPDATES
        state._opening = set(snapshot.get("opening", ()))
        state._opening_until = snapshot.get("opening_until", OPENING_UPDATES)
        family = snapshot.get("family") or None
        of_family = family if family in (None, rules.family) or family in rules.families else None
        standing = snapshot.get("standing", {})
        state._become(rules.expanded(snapshot.get("metrics", ()), of_family, standing), memory)
        return state

    def _remembered(self) -> _Memory:
        memory = _Memory()
        program = self.rules.program
        for at, life in self.lives.items():
            if self.active[at] != IDLE or life.firing_age != NEVER:
                memory.lives[_key(self.rules.instances[at])] = (self.active[at], life)
        for slot, window in zip(program.windows, self.windows, strict=True):
            memory.windows[slot.key] = window
        for at, watched in enumerate(program.watched):
            # The first release asks of all whether they were seen.
            seen = self.seen[at] if at in program.sighted else self.reports[at]
            counts = (seen, self.reports[at], self.gaps[at])
            memory.reports[program.slots[watched]] = counts
        return memory

    def _become(self, rules: RuleSet, memory: _Memory) -> None:
        """Take up another set of rules, with what is kept."""
        program = rules.program
        self.rules = rules
        self.evaluator = program.evaluator
        self._plan = None
        keys = {slot.key for slot in program.windows}
        spare = {key: window for key, window in memory.windows.items() if key not in keys}
        windows = []
        for slot in program.windows:
            window = memory.windows.get(slot.key)
            if window is None and spare:
                window = spare.pop(rules.former_key(slot.key, spare), None)
            windows.append(_window(slot, window))
        self.hold(windows, self.evaluator.feeds)
        metrics = [program.slots[slot] for slot in program.watched]
        counts = [memory.reports.get(name, (0, memory.before, 0)) for name in metrics]
        self.seen = [seen for seen, _, _ in counts]
        self.reports = [count for _, count, _ in counts]
        self.gaps = [gap for _, _, gap in counts]
        self.active = [IDLE] * len(rules.instances)
        self.lives = {}
        for at, (status, life) in rules.lives_of(memory.lives, _metric_of).items():
            self.active[at] = status
            self.lives[at] = life
        self.busy = any(self.active)
        memory.windows = spare
        self._left = memory if memory.lives or spare else None

    def _choose_family(self, names: tuple[str, ...]) -> None:
        """Judge by the rules for the kind of training that the metrics so far speak for."""
        if not self.rules.family:
            self._opening_until = self.age + OPENING_UPDATES
        if self.age >= self._opening_until:
            return
        self._opening.update(names)
        family = self.rules.family_for(self._opening)
        if family and family != self.rules.family:
            self._grow(names, family)

    def _grow(self, newcomers: tuple[str, ...], family: str | None = None) -> None:
        """Judge metrics that this run had not reported before, or by other rules."""
        memory = self._remembered()
        if self._left is not None and self.age <= self._left_until:
            memory.lives = {**self._left.lives, **memory.lives}
            memory.windows = {**self._left.windows, **memory.windows}
            memory.before = self._left.before
        metrics, standing = (*self.rules.metrics, *newcomers), self.rules.names.sole
        self._become(self.rules.expanded(metrics, family, standing), memory)

    def take(self, update: Update) -> None:
        """Lay the readings of an update into their slots."""
        readings = update.readings
        names = tuple(readings)
        plan = self._plan
        if plan is None or plan.names != names:
            if self.rules.families and not self._opening.issuperset(names):
                self._choose_family(names)
            plan = self.rules.plan(names)
            if plan.newcomers:
                self._grow(plan.newcomers)
                plan = self.rules.plan(names)
            self._plan = plan
            self.present, self.schedule, self.rested = plan.present, None, False
            self._globs = plan.globs
            self.judged, self.watched, self.sighted = plan.judged, plan.watched, plan.sighted
            self.not_judged = max(self.not_judged, plan.not_judged)
        raw = self._raw = list(readings.values())
        total = sum(raw)
        # Also true where finite readings overflow together; who asks looks again.
        self.suspicious = total - total != 0.0
        self.seq, self.training_step, self.time, self.event = (
            update.seq,
            update.step,
            update.time,
            update.event,
        )
        self.logged = plan.logged
        if plan.logged and not plan.logged_beside and self.has_event("guard"):
            self.logged = False
        if self.logged:
            self.age += 1
        self.calm = self.logged and update.event is None and not self.suspicious
        if self.schedule is None and self.calm:
            self.schedule = plan.schedule(self.evaluator)
        # What is absent takes the NaN behind the last reading.
        raw.append(UNKNOWN)
        self.values = plan.pick(raw)
        if plan.scaled:
            values = list(self.values)
            for slot, factor in plan.scaled:
                values[slot] *= factor
            self.values = tuple(values)

    def forget_readings(self) -> None:
        """Before a judgement that no reading has a part in."""
        self._plan, self.present, self.suspicious = None, frozenset(), False

    # What nodes ask of a run, see `Context`.

    def nonfinite(self, index: int) -> float:
        if self.suspicious and self._offender(index) is not None:
            return YES
        return self._globs[index]

    def _offender(self, index: int) -> int | None:
        """Position of the first reading that matches glob list `index` and is not finite."""
        assert self._plan is not None
        offending = (at for at in self._plan.matches[index] if self._raw[at] - self._raw[at] != 0.0)
        return next(offending, None)

    def saw_nan(self, slots: tuple[int, ...]) -> bool:
        return any(
            slot in self.present and self.values[slot] != self.values[slot] for slot in slots
        )

    def fired_within(self, index: int, updates: float) -> bool:
        life = self.lives.get(index)
        if life is None or life.firing_age == NEVER:
            return False
        return self.age - 1 - life.firing_age < updates

    def has_event(self, kind: str) -> bool:
        return self.event is not None and self.event.get("kind") == kind

    def has_logged(self, glob: str) -> bool:
        event = self.event or {}
        texts = [str(event[key]) for key in ("text", "error", "reason") if event.get(key)]
        return any(fnmatchcase(text.lower(), glob.lower()) for text in texts)

    def evidence(self, at: int) -> tuple[str, float, str]:
        """The reading that best shows why a rule holds, and all that it looked at."""
        program = self.rules.program
        if self.suspicious and self._plan is not None:
            offenders = map(self._offender, program.looked_over[at])
            offender = next((position for position in offenders if position is not None), None)
            if offender is not None:
                name, value = self._plan.names[offender], self._raw[offender]
                return name, value, f"{name} = {value:.6g}"
        # Of several conditions the one that holds is what the alert is about.
        holding = (own for node, own in program.alternatives[at] if node.value(self) == YES)
        own = next(holding, ())
        slots = [
            slot for slot in dict.fromkeys((*own, *program.metrics[at])) if slot in self.present
        ]
        if not slots:
            instance = self.rules.instances[at]
            return instance.subject, math.nan, instance.rule.expr
        shown = [f"{program.slots[slot]} = {self.values[slot]:.6g}" for slot in slots]
        return program.slots[slots[0]], self.values[slots[0]], ", ".join(shown)


def _window(slot: WindowSlot, earlier: Any) -> Window:
    """A window of the run, from what was kept of it: nothing, itself, or what it dumped."""
    if isinstance(earlier, Window):
        return earlier
    window = slot.make(slot.span)
    if earlier is not None:
        window.load(earlier)
    return window


def _resumed(window: Window, fresh: Window) -> Window:
    """A window at the start of an attempt."""
    if not isinstance(window, LevelWindow):
        return fresh
    window.begin_attempt()
    return window


def _key(instance: Instance) -> str:
    """What a snapshot keeps an instance's life under."""
    return f"{instance.rule.name}{{{instance.subject}}}" if instance.subject else instance.rule.name


def _metric_of(life: Life) -> str:
    """The metric that a life's reason begins with, "" where it names none."""
    name, equals, _ = life.reason.partition(" = ")
    return name if equals else ""


def names_of(instances: Iterable[Instance]) -> tuple[str, ...]:
    """Names of the rules of instances, once each."""
    return tuple(dict.fromkeys(instance.rule.name for instance in instances))
