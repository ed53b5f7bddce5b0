"""The fold: a rule set, the state of one run, and one event make transitions.

`step` is the whole of live judgement, of the service's and of the post-mortem's. It reads
no clock and does no input or output, so the same stream gives the same transitions in one
go, in any split, and from any snapshot.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from watchstep.core.grammar import Node, parse
from watchstep.core.program import Compiled, Held, Program, compile_rules
from watchstep.core.rules import Alias, Bands, Rule, canonical_form
from watchstep.core.updates import Action, Change, Tick, Transition, Update, Verdict
from watchstep.core.windows import Window
from watchstep.errors import RuleError

IDLE, PENDING, FIRING = 0, 1, 2
SNAPSHOT_VERSION = 1
MOST_PLANS = 64
"""Distinct sets of metric names remembered a rule set; a trainer has a handful."""

CLOCK_FUNCTIONS = frozenset({"silence", "stalled"})
_HEALTHY = Verdict()
_NOT_EVALUATED = -1.0


class _Plan:
    """How one set of reported names maps to the slots, worked out once."""

    __slots__ = ("fill", "matches", "names", "present")

    def __init__(self, rules: RuleSet, names: tuple[str, ...]) -> None:
        self.names = names
        best: dict[int, tuple[int, int, float]] = {}
        for position, name in enumerate(names):
            for slot, rank, factor in rules.targets(name):
                if slot not in best or rank < best[slot][0]:
                    best[slot] = (rank, position, factor)
        self.fill = [(slot, at, factor) for slot, (_, at, factor) in best.items()]
        self.present = frozenset(best)
        self.matches = [
            [at for at, name in enumerate(names) if rules.matches(name, patterns)]
            for patterns in rules.program.globs
        ]


class RuleSet:
    """Compiled rules, zones and metric names. Immutable; one serves any number of runs.

    Args:
        rules: In the order in which they are reported. Names must differ.
        bands: Zones, one `Bands` a metric.
        aliases: Other names for metrics; of several reported ones the first listed wins, and
            the canonical name itself beats them all.

    Raises:
        RuleError: A rule cannot be compiled, or two have one name.
    """

    def __init__(
        self, rules: Iterable[Rule], bands: Iterable[Bands] = (), aliases: Iterable[Alias] = ()
    ) -> None:
        self.rules = tuple(rules)
        self.bands = {band.metric: band for band in bands}
        self.aliases = tuple(aliases)
        self.index = {rule.name: at for at, rule in enumerate(self.rules)}
        if len(self.index) < len(self.rules):
            names = [rule.name for rule in self.rules]
            twice = next(name for name in names if names.count(name) > 1)
            raise RuleError(f"two rules are called {twice!r}")
        self.program: Program = compile_rules(
            [_compiled(rule) for rule in self.rules], list(self.index)
        )
        self.slot = {name: at for at, name in enumerate(self.program.slots)}
        self.clocked = {
            at: tree
            for at, tree in enumerate(map(parse, (rule.expr for rule in self.rules)))
            if any(node.op == "call" and node.value in CLOCK_FUNCTIONS for node in tree.walk())
        }
        self._aliases: dict[str, list[tuple[str, int, float]]] = {}
        for rank, alias in enumerate(self.aliases, start=1):
            self._aliases.setdefault(alias.name, []).append((alias.metric, rank, alias.factor))
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._by_tags: dict[tuple[str, ...], RuleSet] = {}

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything that changes what the rules do, in hex."""
        text = json.dumps([canonical_form(rule) for rule in self.rules], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def for_tags(self, tags: Mapping[str, str]) -> RuleSet:
        """The rules whose `where` the tags satisfy; the set itself when that is all."""
        kept = tuple(
            rule.name
            for rule in self.rules
            if all(tags.get(key) == value for key, value in rule.where.items())
        )
        if len(kept) == len(self.rules):
            return self
        if kept not in self._by_tags:
            chosen = [rule for rule in self.rules if rule.name in set(kept)]
            self._by_tags[kept] = RuleSet(chosen, self.bands.values(), self.aliases)
        return self._by_tags[kept]

    def canonical(self, name: str) -> str:
        """The vocabulary's name for a metric as some trainer reports it."""
        found = self._aliases.get(name)
        return found[0][0] if found else name

    def targets(self, name: str) -> list[tuple[int, int, float]]:
        """Slots that a reported name may fill, with its rank there (0 is best) and factor."""
        direct = [(self.slot[name], 0, 1.0)] if name in self.slot else []
        return direct + [
            (self.slot[metric], rank, factor)
            for metric, rank, factor in self._aliases.get(name, [])
            if metric in self.slot
        ]

    def matches(self, name: str, patterns: Sequence[str]) -> bool:
        """Whether a reported name, or its canonical one, matches any pattern."""
        canonical = self.canonical(name)
        return any(fnmatchcase(name, glob) or fnmatchcase(canonical, glob) for glob in patterns)

    def zone(self, metric: str, readings: Mapping[str, float]) -> str | None:
        """Zone of a metric among the readings of an update, or None where it has none.

        Args:
            metric: As reported or canonical.
            readings: The update's readings, which hold `metric` and, where known, the count or
                epsilon that its zones scale with.
        """
        band = self.bands.get(self.canonical(metric))
        value = readings.get(metric)
        if band is None or value is None:
            return None
        beside = readings.get(band.beside, math.nan) if band.beside else math.nan
        return band.zone(value * self._factor(metric), beside)

    def _factor(self, name: str) -> float:
        found = self._aliases.get(name)
        return found[0][2] if found else 1.0

    def plan(self, names: tuple[str, ...]) -> _Plan:
        """The remembered mapping of one set of names."""
        plan = self._plans.get(names)
        if plan is None:
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            plan = self._plans[names] = _Plan(self, names)
        return plan


def _compiled(rule: Rule) -> Compiled:
    """The checked trees of a rule.

    Raises:
        RuleError: An expression is wrong, or mixes the service's clock with readings.
    """
    condition = parse(rule.expr)
    calls = {node.value for node in condition.walk() if node.op == "call"}
    leaves = {node.op for node in condition.walk() if not node.parts} - {"call", "number"}
    if calls & CLOCK_FUNCTIONS and (leaves or calls - CLOCK_FUNCTIONS):
        raise RuleError("a rule about silence() or stalled() can look at nothing else")

    return Compiled(
        condition=condition,
        unless=None if rule.unless is None else parse(rule.unless),
        clear=None if rule.clear is None else parse(rule.clear),
        warmup=rule.warmup,
        fires_on_nan=rule.on_nan == "fire",
    )


class _Life:
    """Where one rule stands in one run."""

    __slots__ = (
        "firing_age",
        "first_seq",
        "held_age",
        "held_time",
        "reason",
        "since_time",
        "streak",
    )

    def __init__(self) -> None:
        self.streak = 0
        self.since_time = 0.0
        self.first_seq = 0
        self.held_age = _NOT_EVALUATED
        self.held_time = 0.0
        self.firing_age = _NOT_EVALUATED
        self.reason = ""

    def dump(self) -> list[Any]:
        return [getattr(self, name) for name in _Life.__slots__]

    def load(self, dumped: Sequence[Any]) -> None:
        for name, value in zip(_Life.__slots__, dumped, strict=True):
            setattr(self, name, value)


class State:
    """What the fold remembers of one run. Owned by its one user; `step` advances it in place.

    Attributes:
        attempt: Attempt of the last update, 0 before the first.
        seq, training_step, time: Of the last update.
        age: Updates of this attempt so far.
    """

    def __init__(self, rules: RuleSet) -> None:
        self.rules = rules
        self.attempt = 0
        self.seq = 0
        self.training_step = 0
        self.time = 0.0
        self.age = 0
        self.active = [IDLE] * len(rules.rules)
        self.lives = [_Life() for _ in rules.rules]
        self.present: frozenset[int] = frozenset()
        self._fresh_history()
        self._values: list[float] = []
        self._update: Update | None = None
        self._plan: _Plan | None = None
        self._raw: list[float] = []
        self._suspicious = False
        self.offender = ""

    def _fresh_history(self) -> None:
        program = self.rules.program
        self.windows: list[Window] = [site.make(site.span) for site in program.sites]
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
            life.streak = 0
            life.held_age = life.firing_age = _NOT_EVALUATED
            if self.active[at] == PENDING:
                self.active[at] = IDLE

    def firing(self) -> tuple[str, ...]:
        """Names of the rules that fire now."""
        return tuple(
            rule.name
            for rule, status in zip(self.rules.rules, self.active, strict=True)
            if status == FIRING
        )

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain JSON; infinities and NaN never occur in it but in times."""
        lives = {
            rule.name: [status, *life.dump()]
            for rule, status, life in zip(self.rules.rules, self.active, self.lives, strict=True)
            if status != IDLE or life.firing_age != _NOT_EVALUATED
        }
        sites = self.rules.program.sites
        watched = [self.rules.program.slots[slot] for slot in self.rules.program.watched]
        return {
            "version": SNAPSHOT_VERSION,
            "last": [self.attempt, self.seq, self.training_step, self.time, self.age],
            "lives": lives,
            "windows": {
                site.key: window.dump() for site, window in zip(sites, self.windows, strict=True)
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
        for site, window in zip(rules.program.sites, state.windows, strict=True):
            if site.key in snapshot["windows"]:
                window.load(snapshot["windows"][site.key])
        for at, slot in enumerate(rules.program.watched):
            state.seen[at] = snapshot["seen"].get(rules.program.slots[slot], 0)
        return state

    def take(self, update: Update) -> list[float]:
        """Lay the readings of an update into their slots."""
        readings = update.readings
        plan = self.rules.plan(tuple(readings))
        raw = self._raw = list(readings.values())
        total = sum(raw)
        self._suspicious = total - total != 0.0
        values = [math.nan] * len(self.rules.program.slots)
        for slot, at, factor in plan.fill:
            values[slot] = raw[at] * factor
        self._update, self._plan, self._values = update, plan, values
        self.present = plan.present
        self.seq, self.training_step, self.time = update.seq, update.step, update.time
        self.age += 1
        self.offender = ""
        return values

    # What the generated function asks of a state:

    def nonfinite(self, index: int) -> bool | None:
        """Whether a reading that matches glob list `index` is not finite; None if none is there."""
        assert self._plan is not None
        matches = self._plan.matches[index]
        if not matches:
            return None
        if self._suspicious:
            for at in matches:
                if self._raw[at] - self._raw[at] != 0.0:
                    self.offender = self._plan.names[at]
                    return True
        return False

    def saw_nan(self, slots: Sequence[int]) -> bool:
        """Whether any of these metrics was reported and is NaN."""
        return any(
            slot in self.present and self._values[slot] != self._values[slot] for slot in slots
        )

    def fired_within(self, index: int, updates: float) -> bool:
        """Whether a rule fired in the last updates, as of the previous one."""
        fired = self.lives[index].firing_age
        return fired != _NOT_EVALUATED and self.age - 1 - fired < updates

    def has_event(self, kind: str) -> bool:
        """Whether the update carries an event of that kind."""
        event = self._update.event if self._update else None
        return event is not None and event.get("kind") == kind

    def has_logged(self, glob: str) -> bool:
        """Whether the update carries a text that matches, ignoring case."""
        event = self._update.event if self._update else None
        if event is None:
            return False
        texts = [str(event[key]) for key in ("text", "error", "reason") if event.get(key)]
        return any(fnmatchcase(text.lower(), glob.lower()) for text in texts)

    def evidence(self, at: int) -> tuple[str, float, str]:
        """The reading that best shows why a rule holds, and all that it looked at."""
        program = self.rules.program
        slots = [slot for slot in program.metrics[at] if slot in self.present]
        shown = [f"{program.slots[slot]} = {self._values[slot]:.6g}" for slot in slots]
        if self.offender and self.rules.rules[at].expr.lstrip("( ").startswith("nonfinite"):
            value = (
                dict(zip(self._plan.names, self._raw, strict=True))[self.offender]
                if self._plan
                else math.nan
            )
            return self.offender, value, f"{self.offender} = {value:.6g}"
        if not slots:
            return "", math.nan, self.rules.rules[at].expr
        return program.slots[slots[0]], self._values[slots[0]], ", ".join(shown)


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
    values = state.take(event)
    held = rules.program.advance(values, state.windows, state, state.active)
    if not held:
        return state, ()
    return state, _transitions(state, held)


def _tick(rules: RuleSet, state: State, tick: Tick) -> Sequence[Transition]:
    found: list[Transition] = []
    for at, tree in rules.clocked.items():
        condition = _clock_condition(tree, tick)
        if condition or state.active[at]:
            time, state.time = state.time, tick.now
            state.present = frozenset()
            found.extend(_transitions(state, [(at, condition, True)]))
            state.time = time
    return found


def _clock_condition(tree: Node, tick: Tick) -> bool:
    """A condition about silence alone; `RuleSet` has made sure that it is."""
    if tree.op in {"and", "or"}:
        parts = [_clock_condition(part, tick) for part in tree.parts]
        return all(parts) if tree.op == "and" else any(parts)
    if tree.op == "not":
        return not _clock_condition(tree.parts[0], tick)
    silence = tick.now - tick.last_heard
    if tree.op == "call":
        return silence > tick.timeout_s
    a, b = (silence if part.op == "call" else float(str(part.value)) for part in tree.parts)
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[tree.op]


def _transitions(state: State, held: Held) -> list[Transition]:
    found: list[Transition] = []
    for at, condition, clear in held:
        change = _advance_life(state, at, condition, clear)
        if state.active[at] == FIRING:
            state.lives[at].firing_age = state.age
        found.extend(_transition(state, at, word) for word in change)
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
        over = state.age - life.held_age > (rule.keep.updates or 0)
    if not over or (rule.clear is not None and clear is not True):
        return ()
    state.active[at] = IDLE
    life.streak = 0
    return ("resolved",)


def _held(state: State, at: int) -> tuple[Change, ...]:
    rule, life, status = state.rules.rules[at], state.lives[at], state.active[at]
    life.held_age, life.held_time = state.age, state.time
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


def judge(rules: RuleSet, state: State) -> Verdict:
    """What the rules ask of the trainer after the last update.

    Only rules that fire and whose condition held at that very update ask for anything: a rule
    kept firing by `keep_firing_for` has already been obeyed.
    """
    if not any(state.active):
        return _HEALTHY
    firing, asking = [], []
    for at, status in enumerate(state.active):
        if status == FIRING:
            firing.append(rules.rules[at].name)
            if state.lives[at].held_age == state.age and rules.rules[at].action:
                asking.append(at)
    action = max((rules.rules[at].action for at in asking), default=Action.NONE)
    strongest = [at for at in asking if rules.rules[at].action == action]
    return Verdict(
        action=action,
        rules=tuple(rules.rules[at].name for at in strongest),
        reason=state.lives[strongest[0]].reason if strongest else "",
        firing=tuple(firing),
    )
