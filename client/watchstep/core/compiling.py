"""From the rules of a whole set to one evaluator, in which equal expressions are one node."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeGuard

from watchstep.core import arithmetic, evaluator, nodes, sorted_windows
from watchstep.core.adversaries import is_adversarial, is_discriminator
from watchstep.core.evaluator import Advance, Evaluator, Push, PushReading, RuleNode, Steps
from watchstep.core.extremes import AttemptExtremes, ExtremeWindow
from watchstep.core.grammar import Syntax, parse
from watchstep.core.nodes import Node
from watchstep.core.rules import Rule
from watchstep.core.running_stats import MomentWindow, TrendWindow
from watchstep.core.sorted_windows import LONGEST_PATIENT, Feed, LevelWindow, MedianWindow
from watchstep.core.spans import LONGEST_WINDOW, Span
from watchstep.core.windows import CountWindow, RecordWindow, RepeatWindow, Window
from watchstep.errors import RuleError


def _admit_rows(
    values: list[float], rows: list[tuple[float, ...]], begin: int, slot: int, magnitude: bool
) -> int:
    size = len(values)
    values += [row[slot] for row in rows[begin:]]
    total = sum(values[size:])
    if total - total != 0.0:
        values[size:] = [value for value in values[size:] if value - value == 0.0]
    if magnitude and size < len(values) and min(values[size:]) <= 0.0:
        values[size:] = map(abs, values[size:])
    return len(values) - size


if not evaluator.__file__.endswith(".so"):
    # Interpreted, the library's C is five times as fast as the loops.
    setattr(sorted_windows, "place_of", bisect_left)  # noqa: B010 - to mypy a function is no variable
    setattr(sorted_windows, "admit_rows", _admit_rows)  # noqa: B010

_UNARY: dict[str, Callable[[Node], Node]] = {
    "negate": nodes.Negate,
    "not": nodes.Not,
    "abs": nodes.Abs,
    "sqrt": lambda a: nodes.Applied(a, arithmetic.sqrt),
    "exp": lambda a: nodes.Applied(a, arithmetic.exp),
    "log10": lambda a: nodes.Applied(a, arithmetic.log10),
    "bound": lambda a: nodes.Applied(a, arithmetic.bound),
    "digits": lambda a: nodes.Applied(a, arithmetic.digits),
}
_BINARY: dict[str, Callable[[Node, Node], Node]] = {
    "and": nodes.And,
    "or": nodes.Or,
    "<": nodes.Less,
    "<=": nodes.AtMost,
    "==": nodes.Equal,
    ">": lambda a, b: nodes.Less(b, a),
    ">=": lambda a, b: nodes.AtMost(b, a),
    "!=": lambda a, b: nodes.Not(nodes.Equal(a, b)),
    "+": nodes.Sum,
    "-": nodes.Difference,
    "*": nodes.Product,
    "/": nodes.Ratio,
    "least": nodes.Least,
    "greatest": nodes.Greatest,
    "known": nodes.Known,
}


@dataclass(frozen=True, slots=True)
class _WindowUse:
    """How a function of the language uses its window.

    Attributes:
        pushed: What goes into it, as part of the window's key in snapshots.
        push: The same as a node; None for the value itself.
        now: Whether the present value is in it when it is read.
    """

    node: Callable[[int, Node, float], Node]
    window: type[Window]
    pushed: str = "{x}"
    push: Callable[[Node], Node] | None = None
    now: bool = False


_WINDOW_USES: dict[str, _WindowUse] = {
    "median": _WindowUse(nodes.Median, MedianWindow),
    "spike": _WindowUse(nodes.Spike, MedianWindow, "abs({x})", nodes.Abs),
    "drop": _WindowUse(nodes.Drop, MedianWindow, "abs({x})", nodes.Abs),
    "mean": _WindowUse(nodes.Mean, MomentWindow),
    "std": _WindowUse(nodes.Std, MomentWindow),
    "zscore": _WindowUse(nodes.Zscore, MomentWindow),
    "slope": _WindowUse(nodes.Slope, TrendWindow, now=True),
    # Zero has no logarithm: its -inf is not pushed, and so is no point on the line.
    "eta": _WindowUse(
        nodes.Eta,
        TrendWindow,
        "_log10(abs({x}))",
        lambda x: _UNARY["log10"](nodes.Abs(x)),
        now=True,
    ),
    "min": _WindowUse(nodes.Min, ExtremeWindow),
    "max": _WindowUse(nodes.Max, ExtremeWindow),
    "flat": _WindowUse(nodes.Flat, ExtremeWindow, now=True),
    "stuck": _WindowUse(nodes.Stuck, RepeatWindow, now=True),
    "level": _WindowUse(nodes.Level, LevelWindow, "abs({x})", nodes.Abs, now=True),
    "settled": _WindowUse(nodes.Settled, LevelWindow, "abs({x})", nodes.Abs, now=True),
    "growth": _WindowUse(nodes.Growth, LevelWindow, "abs({x})", nodes.Abs, now=True),
    "first": _WindowUse(nodes.First, LevelWindow, "abs({x})", nodes.Abs, now=True),
    "before": _WindowUse(nodes.Before, LevelWindow, "abs({x})", nodes.Abs, now=True),
    "record": _WindowUse(nodes.Record, RecordWindow),
    "lowest": _WindowUse(nodes.Lowest, RecordWindow),
    "previous": _WindowUse(nodes.Previous, RecordWindow),
    "changed": _WindowUse(nodes.Changed, RecordWindow),
}


SUBJECT = "metric"
"""What the expressions of a rule with `each` call the metric that it is judged for."""
_GUARDS = ("guard/", "checkpoint/")


class Instance(NamedTuple):
    """A rule as it is judged.

    Attributes:
        subject: The metric of a rule with `each`, as reported; "" for other rules.
    """

    rule: Rule
    subject: str = ""


@dataclass(frozen=True, slots=True)
class WindowSlot:
    """One window that every run of a set has.

    Attributes:
        key: What its values are kept under in a snapshot.
    """

    key: str
    make: Callable[[Span], Window]
    span: Span


@dataclass(frozen=True, slots=True)
class Program:
    """Compiled instances of rules.

    Attributes:
        slots: Canonical metric names, and those that `each` rules are for, in slot order.
        globs: For every distinct `nonfinite` call, its patterns.
        watched: Slots whose reports are counted.
        sighted: Positions in `watched` of those that some rule may find missing.
        metrics: For every instance, the slots it reads, in order of appearance.
        alternatives: For every instance that is not for one metric, the conditions of which one
            is enough, each with the slots it reads.
        looked_over: For every instance, the indices in `globs` of its `nonfinite` calls.
        paces: For every instance, the slot without which an update does not concern it; -1 where
            every update does.
    """

    slots: tuple[str, ...]
    windows: tuple[WindowSlot, ...]
    globs: tuple[tuple[str, ...], ...]
    watched: tuple[int, ...]
    sighted: frozenset[int]
    metrics: tuple[tuple[int, ...], ...]
    alternatives: tuple[tuple[tuple[Node, tuple[int, ...]], ...], ...]
    looked_over: tuple[tuple[int, ...], ...]
    paces: tuple[int, ...]
    evaluator: Evaluator


def compile_rules(
    instances: Sequence[Instance],
    absent: Iterable[str] = (),
    renamed: Mapping[str, Sequence[str]] | None = None,
) -> Program:
    """Compile rules into one evaluator.

    Args:
        absent: Rules that exist but have no instance; they never fired.
        renamed: What `fired` may call rules by their old names.

    Raises:
        RuleError: An expression is wrong, or does not make sense with the other rules.
    """
    compiler = _Compiler(instances, frozenset(absent), renamed or {})
    judged = [compiler.rule(instance) for instance in instances]
    trees = [tree_of(instance.rule.expr, instance.subject) for instance in instances]
    return Program(
        slots=tuple(compiler.slots),
        windows=tuple(compiler.windows.values()),
        globs=tuple(compiler.globs),
        watched=tuple(compiler.watched),
        sighted=frozenset(compiler.sighted),
        metrics=tuple(
            compiler.slots_of(tree, instance.subject)
            for tree, instance in zip(trees, instances, strict=True)
        ),
        alternatives=tuple(
            () if instance.subject else compiler.alternatives(tree)
            for tree, instance in zip(trees, instances, strict=True)
        ),
        looked_over=tuple(_looked_over(tree, compiler.globs) for tree in trees),
        paces=tuple(compiler.paces),
        evaluator=Evaluator(judged, Steps(compiler.before, compiler.after), compiler.feeds),
    )


def tree_of(expr: str, subject: str) -> Syntax:
    """The tree of an expression, in which `metric` stands for a subject where there is one.

    Raises:
        RuleError: It is no expression.
    """
    tree = parse(expr)
    return _about(tree, subject) if subject else tree


def _alternatives(tree: Syntax) -> list[Syntax]:
    """The parts of the first `or` of a condition; none where asking one again would count twice."""
    if tree.op == "and":
        return next((parts for part in tree.parts if (parts := _alternatives(part))), [])
    counts = any(part.op == "call" and part.value == "count" for part in tree.walk())
    if tree.op != "or" or counts:
        return []
    return [each for part in tree.parts for each in (_alternatives(part) or [part])]


def _about(tree: Syntax, subject: str) -> Syntax:
    if tree.op == "metric" and tree.value == SUBJECT:
        return replace(tree, value=subject)
    if tree.op == "call" and tree.value == "nonfinite":
        patterns = [part for part in tree.parts if part.value != SUBJECT]
        if len(patterns) == len(tree.parts):
            return tree
        own = Syntax("call", "bool", "nonfinite_reading", (Syntax("metric", "text", subject),))
        if not patterns:
            return own
        return Syntax("or", "bool", parts=(own, replace(tree, parts=tuple(patterns))))
    return replace(tree, parts=tuple(_about(part, subject) for part in tree.parts))


class _Compiler:
    """Makes nodes, and numbers what they refer to."""

    def __init__(
        self,
        instances: Sequence[Instance],
        absent: frozenset[str],
        renamed: Mapping[str, Sequence[str]],
    ) -> None:
        self.slots: dict[str, int] = {}
        self.windows: dict[str, WindowSlot] = {}
        self.globs: dict[tuple[str, ...], int] = {}
        self.watched: dict[int, int] = {}
        self.sighted: set[int] = set()
        self.paces: list[int] = []
        self.before: list[Advance] = []
        self.after: list[Push] = []
        self.feeds: list[Feed] = []
        self._places: dict[str, int] = {}
        self._counts = 0
        self._instances: dict[str, list[int]] = {}
        for at, instance in enumerate(instances):
            self._instances.setdefault(instance.rule.name, []).append(at)
        self._absent = absent
        self._renamed = renamed
        self._nodes: dict[str, Node] = {}
        self._subject = ""
        self._pace = -1

    def rule(self, instance: Instance) -> RuleNode:
        rule, self._subject = instance
        trees = [
            None if text is None else tree_of(text, self._subject)
            for text in (rule.expr, rule.unless, rule.clear)
        ]
        self._pace = self._pace_of([tree for tree in trees if tree is not None])
        self.paces.append(self._pace)
        condition, unless, clear = (None if tree is None else self.node(tree) for tree in trees)
        assert condition is not None
        assert trees[0] is not None
        return RuleNode(
            condition,
            unless,
            clear,
            rule.warmup,
            -1 if self._pace < 0 else self._watch(self._subject),
            self.slots_of(trees[0], "") if rule.on_nan == "fire" else (),
        )

    def _pace_of(self, trees: Sequence[Syntax]) -> int:
        """The slot whose reports a rule is judged at, -1 for one that is judged at all updates."""
        if not self._subject:
            return -1
        missing = any(
            part.op == "call" and part.value == "missing" and part.parts[0].value == self._subject
            for tree in trees
            for part in tree.walk()
        )
        # That a metric is missing shows in the updates that do not have it.
        return -1 if missing else self._slot(self._subject)

    def slots_of(self, tree: Syntax, subject: str) -> tuple[int, ...]:
        """Slots that a tree looks at, the subject's first, then in order of appearance."""
        names = [str(part.value) for part in tree.walk() if part.op == "metric"]
        return tuple(self._slot(name) for name in dict.fromkeys([subject, *names]) if name)

    def alternatives(self, tree: Syntax) -> tuple[tuple[Node, tuple[int, ...]], ...]:
        """The conditions of a tree of which one is enough, and what they look at."""
        self._subject, self._pace = "", -1
        return tuple((self.node(part), self.slots_of(part, "")) for part in _alternatives(tree))

    def node(self, tree: Syntax) -> Node:
        """The node of a tree; equal trees have one, where they count the same reports."""
        key = str(tree)
        if self._subject and _counts_reports(tree):
            key = f"{key} {self._subject} {self._pace}"
        if key not in self._nodes:
            self._nodes[key] = self._made(tree)
        return self._nodes[key]

    def _slot(self, metric: str) -> int:
        return self.slots.setdefault(metric, len(self.slots))

    def _made(self, tree: Syntax) -> Node:
        name = str(tree.value) if tree.op == "call" else tree.op
        if name in _UNARY:
            return _UNARY[name](self.node(tree.parts[0]))
        if name in _BINARY:
            return _BINARY[name](self.node(tree.parts[0]), self.node(tree.parts[1]))
        if name in _WINDOW_USES:
            return self._window_node(tree, name)
        if name == "start":
            above, below = (self._window_node(part, "first") for part in _sides(tree))
            return nodes.Difference(above, below)
        return self._leaf(name, tree, str(tree.parts[0].value) if tree.parts else "")

    def _leaf(self, name: str, tree: Syntax, argument: str) -> Node:
        leaves: dict[str, Callable[[], Node]] = {
            "number": lambda: nodes.Number(float(str(tree.value))),
            "metric": lambda: nodes.Metric(self._slot(str(tree.value))),
            "count": lambda: self._count(tree),
            "nonfinite_reports": lambda: self._nonfinite_reports(tree),
            "nonfinite": lambda: self._nonfinite(tree),
            "missing": lambda: self._missing(tree),
            "fired": lambda: self._fired(tree),
            "discriminator": lambda: nodes.Number(float(is_discriminator(argument))),
            "adversarial": lambda: nodes.Number(float(is_adversarial(argument))),
            "nonfinite_reading": lambda: nodes.NonfiniteReading(self._slot(argument)),
            "present": lambda: nodes.Present(self._slot(argument)),
            "reports": lambda: nodes.Reports(self._watch(argument)),
            "reported": lambda: nodes.Less(nodes.Number(0.0), nodes.Reports(self._watch(argument))),
            "event": lambda: nodes.Event(argument),
            "logged": lambda: nodes.Logged(argument),
            "age": nodes.Age,
            "step": nodes.Step,
            "silence": nodes.Silence,
            "stalled": nodes.Stalled,
        }
        return leaves[name]()

    def _window_node(self, tree: Syntax, name: str) -> Node:
        spans = [part.value for part in tree.parts if isinstance(part.value, Span)]
        constants = [float(str(part.value)) for part in tree.parts[1:] if part.op == "number"]
        constant = constants[0] if constants else 0.0
        if name == "flat" and spans[0].updates and not any(constants):
            # Equal to the bit over updates needs no more than a counter.
            name, constant = "stuck", float(spans[0].updates)
        elif name == "level":
            constant = float(spans[0].updates or 0)
        elif name == "eta":
            constant = math.log10(constant)
        use = _WINDOW_USES[name]
        span = spans[0] if spans and use.window is not RepeatWindow else Span()
        key = use.pushed.format(x=tree.parts[0])
        key = f"{use.window.__name__}({key}, {span}{', now' if use.now else ''})"
        x = self.node(tree.parts[0])
        # Of the longest windows the extremes are those of the attempt, which take no room.
        is_longest = name in ("min", "max") and span.updates == LONGEST_WINDOW
        slot = WindowSlot(key, AttemptExtremes if is_longest else use.window, span)
        if key not in self.windows:
            place = len(self.windows)
            self._place(slot)
            of_guard = _is_of_guard(tree)
            if span.seconds is not None:
                self.before.append(evaluator.Expire(place, x, of_guard))
            push = _push(place, x if use.push is None else use.push(x), of_guard)
            if _can_wait(push, slot):
                self.feeds.append(Feed(place, push.slot, push.magnitude, use.now))
            else:
                (self.before if use.now else self.after).append(push)
        return use.node(self._place(slot), x, constant)

    def _place(self, window: WindowSlot) -> int:
        """Where a window stands among those of its kind."""
        if window.key not in self.windows:
            kinds = [key.partition("(")[0] for key in self.windows]
            self._places[window.key] = kinds.count(window.key.partition("(")[0])
            self.windows[window.key] = window
        return self._places[window.key]

    def _count(self, tree: Syntax) -> Node:
        span = tree.parts[1].value
        assert isinstance(span, Span)
        return self._tally(tree, str(tree.parts[0]), self.node(tree.parts[0]), span)

    def _nonfinite_reports(self, tree: Syntax) -> Node:
        span = tree.parts[1].value
        assert isinstance(span, Span)
        metric = str(tree.parts[0].value)
        condition = nodes.NonfiniteReading(self._slot(metric))
        return self._tally(tree, f"nonfinite_reading({metric})", condition, span)

    def _tally(self, tree: Syntax, condition: str, x: Node, span: Span) -> Node:
        of = ""
        if self._subject:
            of = f", {'of' if self._pace >= 0 else 'beside'} {self._subject}"
        place = self._place(WindowSlot(f"CountWindow({condition}, {span}{of})", CountWindow, span))
        at, self._counts = self._counts, self._counts + 1
        self.before.append(evaluator.Tally(place, x, _is_of_guard(tree), at, self._pace))
        return nodes.Count(at, x, self._pace)

    def _nonfinite(self, tree: Syntax) -> Node:
        return nodes.Nonfinite(self.globs.setdefault(_patterns(tree), len(self.globs)))

    def _missing(self, tree: Syntax) -> Node:
        at = self._watch(str(tree.parts[0].value))
        self.sighted.add(at)
        kind = nodes.Overdue if self._subject else nodes.Missing
        return kind(at, float(str(tree.parts[1].value)))

    def _watch(self, metric: str) -> int:
        """Where the reports of a metric are counted."""
        return self.watched.setdefault(self._slot(metric), len(self.watched))

    def _fired(self, tree: Syntax) -> Node:
        name, updates = str(tree.parts[0].value), float(str(tree.parts[1].value))
        places: list[int] = []
        for rule in self._renamed.get(name, (name,)):
            places += self._instances.get(rule, ())
            if rule not in self._instances and rule not in self._absent:
                raise RuleError(f"fired() names no rule of this set: {rule!r}")
        return nodes.Fired(tuple(places), updates) if places else nodes.Number(nodes.NO)


def _push(place: int, x: Node, of_guard: bool) -> Push:
    reading = x.a if isinstance(x, nodes.Abs) else x
    kind = evaluator.PushReading if isinstance(reading, nodes.Metric) else Push
    return kind(place, x, of_guard)


def _can_wait(push: Push, slot: WindowSlot) -> TypeGuard[PushReading]:
    """Whether a window can take what is pushed into it when it is asked."""
    is_patient = slot.make in (LevelWindow, MedianWindow) and slot.span.seconds is None
    is_short = (slot.span.updates or LONGEST_WINDOW) <= LONGEST_PATIENT
    return is_patient and is_short and isinstance(push, PushReading) and not push.of_guard


def _counts_reports(tree: Syntax) -> bool:
    """Whether a tree means something else in a rule with `each` than in others."""
    counting = {"count", "missing", "nonfinite_reports"}
    return any(part.op == "call" and part.value in counting for part in tree.walk())


def _sides(start: Syntax) -> tuple[Syntax, Syntax]:
    """What is above 0, and what is below, of the number that `start` is asked for.

    A level is that of a magnitude, so of either side one is taken.
    """
    x, reports = start.parts
    zero = Syntax("number", "number", 0.0)
    negated = Syntax("-", "number", None, (zero, x))
    above, below = (Syntax("call", "number", "greatest", (part, zero)) for part in (x, negated))
    first_of = (Syntax("call", "number", "first", (part, reports)) for part in (above, below))
    return next(first_of), next(first_of)


def _is_of_guard(tree: Syntax) -> bool:
    """Whether a tree looks at nothing but what the guard tells, and events."""
    metrics = [str(part.value) for part in tree.walk() if part.op in {"metric", "glob"}]
    return all(name.startswith(_GUARDS) for name in metrics)


def _patterns(call: Syntax) -> tuple[str, ...]:
    return tuple(str(part.value) for part in call.parts)


def _looked_over(tree: Syntax, globs: dict[tuple[str, ...], int]) -> tuple[int, ...]:
    calls = (part for part in tree.walk() if part.op == "call" and part.value == "nonfinite")
    return tuple(globs[_patterns(part)] for part in calls)
