"""The fold: a rule set, the state of one run, and one event make transitions.

`step` is the whole of live judgement, of the service's and of the post-mortem's. It reads
no clock and does no input or output, so the same stream gives the same transitions in one
go, in any split, and from any snapshot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from watchstep.core.evaluator import Judged
from watchstep.core.nodes import YES, Context
from watchstep.core.ruleset import Plan, RuleSet
from watchstep.core.silence import silent
from watchstep.core.updates import Action, Change, Tick, Transition, Update, Verdict

__all__ = ["RuleSet", "State", "judge", "step"]

IDLE, PENDING, FIRING = 0, 1, 2
SNAPSHOT_VERSION = 1
_HEALTHY = Verdict()
_NEVER = -1


class _Life:
    """Where one rule stands in one run."""

    def __init__(self) -> None:
        self.streak = 0
        self.since_time = 0.0
        self.first_seq = 0
        self.held_age = _NEVER
        self.held_seq = 0
        self.held_time = 0.0
        self.firing_age = _NEVER
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


class State(Context):
    """What the fold remembers of one run. Owned by its one user; `step` advances it in place.

    Attributes:
        attempt: Attempt of the last update, 0 before the first.
        seq, training_step: Of the last update.
        suspicious: Whether any of its readings may be non-finite.
        calm: `Plan.calm` for its names.
        busy: Whether any rule is pending or firing.
    """

    def __init__(self, rules: RuleSet) -> None:
        super().__init__()
        self.rules = rules
        self.attempt = 0
        self.seq = 0
        # Whatever number the trainer counts in: compiled, an `int` would refuse a float.
        self.training_step: Any = 0
        self.active = [IDLE] * len(rules.rules)
        self.busy = False
        self.lives = [_Life() for _ in rules.rules]
        self._plan: Plan | None = None
        self._raw: list[float] = []
        self.suspicious = False
        self.calm: list[float] = []
        self._fresh_history()

    def _fresh_history(self) -> None:
        program = self.rules.program
        self.windows = [window.make(window.span) for window in program.windows]
        self.seen = [0] * len(program.watched)

    def begin_attempt(self, attempt: int) -> None:
        """Forget the history of the attempt before; alerts stay as they are.

        A resumed run starts from an older checkpoint, so the old windows are no baseline for
        it; but that it was resumed is no evidence that it is healthy.
        """
        self.attempt = attempt
        self.age = 0
        self._fresh_history()
        for at, life in enumerate(self.lives):
            life.streak = life.held_seq = 0
            life.held_age = life.firing_age = _NEVER
            if self.active[at] == PENDING:
                self.active[at] = IDLE
        self.busy = any(self.active)

    def firing(self) -> tuple[str, ...]:
        """Names of the rules that fire now."""
        return tuple(
            rule.name
            for rule, status in zip(self.rules.rules, self.active, strict=True)
            if status == FIRING
        )

    def held(self) -> tuple[str, ...]:
        """Names of the rules whose condition held at the last update."""
        return tuple(
            rule.name
            for rule, status, life in zip(self.rules.rules, self.active, self.lives, strict=True)
            if status != IDLE and life.held_seq == self.seq
        )

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain JSON; infinities and NaN never occur in it but in times."""
        lives = {
            rule.name: [status, *life.dump()]
            for rule, status, life in zip(self.rules.rules, self.active, self.lives, strict=True)
            if status != IDLE or life.firing_age != _NEVER
        }
        windows = self.rules.program.windows
        watched = [self.rules.program.slots[slot] for slot in self.rules.program.watched]
        return {
            "version": SNAPSHOT_VERSION,
            "last": [self.attempt, self.seq, self.training_step, self.time, self.age],
            "lives": lives,
            "windows": {
                slot.key: window.dump() for slot, window in zip(windows, self.windows, strict=True)
            },
            "seen": dict(zip(watched, self.seen, strict=True)),
        }

    @classmethod
    def restore(cls, rules: RuleSet, snapshot: Mapping[str, Any]) -> State:
        """The state that was written down, for the same rules or for edited ones.

        A rule keeps its life by its name and a window its values by what it looks at; what is
        new starts fresh and what is gone is forgotten.

        Raises:
            ValueError: The snapshot is of another version.
        """
        if snapshot.get("version") != SNAPSHOT_VERSION:
            raise ValueError(f"snapshot of version {snapshot.get('version')!r}, not 1")
        state = cls(rules)
        last = snapshot["last"]
        state.attempt, state.seq, state.training_step, state.time, state.age = last
        for at, rule in enumerate(rules.rules):
            if rule.name in snapshot["lives"]:
                status, *life = snapshot["lives"][rule.name]
                state.active[at] = status
                state.lives[at].load(life)
        state.busy = any(state.active)
        for slot, window in zip(rules.program.windows, state.windows, strict=True):
            if slot.key in snapshot["windows"]:
                window.load(snapshot["windows"][slot.key])
        for at, watched in enumerate(rules.program.watched):
            state.seen[at] = snapshot["seen"].get(rules.program.slots[watched], 0)
        return state

    def take(self, update: Update) -> None:
        """Lay the readings of an update into their slots."""
        readings = update.readings
        names = tuple(readings)
        plan = self._plan
        if plan is None or plan.names != names:
            plan = self._plan = self.rules.plan(names)
            self.present, self.calm = plan.present, plan.calm
        raw = self._raw = list(readings.values())
        total = sum(raw)
        # Also true where finite readings overflow together; who asks looks again.
        self.suspicious = total - total != 0.0
        if raw:
            self.age += 1
        self.seq, self.training_step, self.time, self.event = (
            update.seq,
            update.step,
            update.time,
            update.event,
        )
        self.values = plan.lay(raw)

    def forget_readings(self) -> None:
        """Before a judgement that no reading has a part in."""
        self._plan, self.present, self.suspicious = None, frozenset(), False

    # What nodes ask of a run, see `Context`.

    def nonfinite(self, index: int) -> float:
        if self.suspicious and self._offender(index) is not None:
            return YES
        return self.calm[index]

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
        fired = self.lives[index].firing_age
        return fired != _NEVER and self.age - 1 - fired < updates

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
            found = map(self._offender, program.looked_over[at])
            offender = next((position for position in found if position is not None), None)
            if offender is not None:
                name, value = self._plan.names[offender], self._raw[offender]
                return name, value, f"{name} = {value:.6g}"
        slots = [slot for slot in program.metrics[at] if slot in self.present]
        if not slots:
            return "", math.nan, self.rules.rules[at].expr
        shown = [f"{program.slots[slot]} = {self.values[slot]:.6g}" for slot in slots]
        return program.slots[slots[0]], self.values[slots[0]], ", ".join(shown)


def step(rules: RuleSet, state: State, event: Update | Tick) -> tuple[State, Sequence[Transition]]:
    """Advance one run by one event.

    Args:
        rules: The set that `state` was made for.
        state: Advanced in place and returned; the caller gives it up.
        event: The run's next update, in order of (attempt, seq), or a tick of the service's
            clock, which concerns only rules that use `silence()`.

    Returns:
        The state, and the transitions of this event in the order of the rules. Readings that a
        rule cannot judge (missing, NaN) leave it as it is.
    """
    if isinstance(event, Tick):
        return state, _tick(rules, state, event)
    if event.attempt != state.attempt:
        state.begin_attempt(event.attempt)
    state.take(event)
    held = rules.program.evaluator.advance(state, state.active)
    if not held:
        return state, ()
    return state, _transitions(state, held)


def _tick(rules: RuleSet, state: State, tick: Tick) -> Sequence[Transition]:
    found: list[Transition] = []
    for at, tree in rules.clocked.items():
        condition = silent(tree, tick)
        if condition or state.active[at]:
            time, state.time = state.time, tick.now
            state.forget_readings()
            found.extend(_transitions(state, [(at, condition, True)]))
            state.time = time
    return found


def _transitions(state: State, held: list[Judged]) -> list[Transition]:
    found: list[Transition] = []
    for at, condition, clear in held:
        change = _advance_life(state, at, condition, clear)
        if state.active[at] == FIRING:
            state.lives[at].firing_age = state.age
        found.extend(_transition(state, at, word) for word in change)
    state.busy = any(state.active)
    return found


def _advance_life(
    state: State, at: int, condition: bool | None, clear: bool | None
) -> tuple[Change, ...]:
    """Move one rule through idle, pending and firing; returns what changed."""
    if condition is None:
        return ()
    rule, life, status = state.rules.rules[at], state.lives[at], state.active[at]
    if condition:
        return _held(state, at)
    if status == PENDING:
        state.active[at] = IDLE
        life.streak = 0
        return ("cancelled",)
    if rule.keep.seconds is not None:
        over = state.time - life.held_time >= rule.keep.seconds
    else:
        # A tick ends a silence at the very age at which it last held.
        over = not rule.keep.updates or state.age - life.held_age > rule.keep.updates
    if not over or (rule.clear is not None and clear is not True):
        return ()
    state.active[at] = IDLE
    life.streak = 0
    return ("resolved",)


def _held(state: State, at: int) -> tuple[Change, ...]:
    rule, life, status = state.rules.rules[at], state.lives[at], state.active[at]
    life.held_age, life.held_seq, life.held_time = state.age, state.seq, state.time
    if status == FIRING:
        return ()
    if status == IDLE:
        life.streak, life.since_time, life.first_seq = 0, state.time, state.seq
    life.streak += 1
    if rule.hold.seconds is not None:
        ripe = state.time - life.since_time >= rule.hold.seconds
    else:
        ripe = life.streak >= (rule.hold.updates or 1)
    if ripe:
        state.active[at] = FIRING
        life.reason = state.evidence(at)[2]
        return ("firing",)
    state.active[at] = PENDING
    return ("pending",) if status == IDLE else ()


def _transition(state: State, at: int, change: Change) -> Transition:
    rule = state.rules.rules[at]
    metric, reading, reason = state.evidence(at)
    return Transition(
        rule=rule.name,
        change=change,
        attempt=state.attempt,
        seq=state.seq,
        step=state.training_step,
        time=state.time,
        metric=metric,
        reading=reading,
        reason=reason,
        severity=rule.severity,
        action=rule.action,
    )


def judge(rules: RuleSet, state: State, *, most: Action = Action.ROLLBACK) -> Verdict:
    """What the rules ask of the trainer after the last update.

    Only rules that fire and whose condition held at that very update ask for anything: a rule
    kept firing by `keep_firing_for` has already been obeyed.

    Args:
        rules: The set that `state` was made for.
        state: Of the run.
        most: Stronger actions are not considered, whoever asks for them.
    """
    if not state.busy:
        return _HEALTHY
    firing, asking = [], []
    for at, status in enumerate(state.active):
        if status == FIRING:
            rule = rules.rules[at]
            firing.append(rule.name)
            if state.lives[at].held_seq == state.seq and Action.NONE < rule.action <= most:
                asking.append(at)
    action = max((rules.rules[at].action for at in asking), default=Action.NONE)
    strongest = [at for at in asking if rules.rules[at].action == action]
    return Verdict(
        action=action,
        rules=tuple(rules.rules[at].name for at in strongest),
        reason=state.lives[strongest[0]].reason if strongest else "",
        firing=tuple(firing),
    )
