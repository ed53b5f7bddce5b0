"""From the rules of a whole set to one evaluator, in which equal expressions are one node."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from watchstep.core import evaluator, nodes
from watchstep.core.evaluator import Advance, Evaluator, Push, RuleNode
from watchstep.core.extremes import ExtremeWindow
from watchstep.core.grammar import Syntax, parse
from watchstep.core.nodes import Node
from watchstep.core.rules import Rule
from watchstep.core.running_stats import MomentWindow, TrendWindow
from watchstep.core.silence import clocked
from watchstep.core.spans import Span
from watchstep.core.windows import CountWindow, MedianWindow, RecordWindow, RepeatWindow, Window
from watchstep.errors import RuleError

_UNARY: dict[str, Callable[[Node], Node]] = {
    "negate": nodes.Negate,
    "not": nodes.Not,
    "abs": nodes.Abs,
    "sqrt": nodes.Sqrt,
    "log10": nodes.Log10,
    "bound": nodes.Bound,
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
        node: Reads the window.
        window: Its class.
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
        nodes.Eta, TrendWindow, "_log10(abs({x}))", lambda x: nodes.Log10(nodes.Abs(x)), now=True
    ),
    "min": _WindowUse(nodes.Min, ExtremeWindow),
    "max": _WindowUse(nodes.Max, ExtremeWindow),
    "flat": _WindowUse(nodes.Flat, ExtremeWindow, now=True),
    "stuck": _WindowUse(nodes.Stuck, RepeatWindow, now=True),
    "record": _WindowUse(nodes.Record, RecordWindow),
    "lowest": _WindowUse(nodes.Lowest, RecordWindow),
    "previous": _WindowUse(nodes.Previous, RecordWindow),
    "changed": _WindowUse(nodes.Changed, RecordWindow),
}


@dataclass(frozen=True, slots=True)
class WindowSlot:
    """One window that every run of a set has.

    Attributes:
        key: What its values are kept under in a snapshot.
        make: Makes a fresh one.
    """

    key: str
    make: Callable[[Span], Window]
    span: Span


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled rule set.

    Attributes:
        slots: Canonical metric names in slot order.
        windows: In order.
        globs: For every distinct `nonfinite` call, its patterns.
        watched: Slots whose presence is remembered, for `missing` and `reported`.
        metrics: For every rule, the slots it reads, in order of appearance.
        looked_over: For every rule, the indices in `globs` of its `nonfinite` calls.
        clocked: Indices of the rules about silence.
    """

    slots: tuple[str, ...]
    windows: tuple[WindowSlot, ...]
    globs: tuple[tuple[str, ...], ...]
    watched: tuple[int, ...]
    metrics: tuple[tuple[int, ...], ...]
    looked_over: tuple[tuple[int, ...], ...]
    clocked: tuple[int, ...]
    evaluator: Evaluator


def compile_rules(rules: Sequence[Rule], absent: Iterable[str] = ()) -> Program:
    """Compile rules into one evaluator.

    Args:
        rules: In order.
        absent: Rules that exist but do not watch this run; they never fired.

    Raises:
        RuleError: An expression is wrong, or does not make sense with the other rules.
    """
    compiler = _Compiler({rule.name: at for at, rule in enumerate(rules)}, frozenset(absent))
    trees = [parse(rule.expr) for rule in rules]
    judged = [compiler.rule(rule, tree) for rule, tree in zip(rules, trees, strict=True)]
    return Program(
        slots=tuple(compiler.slots),
        windows=tuple(compiler.windows.values()),
        globs=tuple(compiler.globs),
        watched=tuple(compiler.watched),
        metrics=tuple(compiler.slots_of(tree) for tree in trees),
        looked_over=tuple(_looked_over(tree, compiler.globs) for tree in trees),
        clocked=tuple(at for at, rule in enumerate(rules) if clocked(rule) is not None),
        evaluator=Evaluator(judged, list(compiler.watched), compiler.before, compiler.after),
    )


class _Compiler:
    """Makes nodes, and numbers what they refer to."""

    def __init__(self, rules: dict[str, int], absent: frozenset[str]) -> None:
        self.slots: dict[str, int] = {}
        self.windows: dict[str, WindowSlot] = {}
        self.globs: dict[tuple[str, ...], int] = {}
        self.watched: dict[int, int] = {}
        self.before: list[Advance] = []
        self.after: list[Push] = []
        self._places: dict[str, int] = {}
        self._counts = 0
        self._rules = rules
        self._absent = absent
        self._nodes: dict[str, Node] = {}

    def rule(self, rule: Rule, tree: Syntax) -> RuleNode:
        return RuleNode(
            self.node(tree),
            None if rule.unless is None else self.node(parse(rule.unless)),
            None if rule.clear is None else self.node(parse(rule.clear)),
            rule.warmup,
            self.slots_of(tree) if rule.on_nan == "fire" else (),
        )

    def slots_of(self, tree: Syntax) -> tuple[int, ...]:
        """Slots that a tree looks at, in order of appearance, once each."""
        names = dict.fromkeys(str(part.value) for part in tree.walk() if part.op == "metric")
        return tuple(self._slot(name) for name in names)

    def node(self, tree: Syntax) -> Node:
        """The node of a tree; equal trees have one."""
        text = str(tree)
        if text not in self._nodes:
            self._nodes[text] = self._made(tree)
        return self._nodes[text]

    def _slot(self, metric: str) -> int:
        return self.slots.setdefault(metric, len(self.slots))

    def _made(self, tree: Syntax) -> Node:
        if tree.op == "number":
            return nodes.Number(float(str(tree.value)))
        if tree.op == "metric":
            return nodes.Metric(self._slot(str(tree.value)))
        name = str(tree.value) if tree.op == "call" else tree.op
        if name in _UNARY:
            return _UNARY[name](self.node(tree.parts[0]))
        if name in _BINARY:
            return _BINARY[name](self.node(tree.parts[0]), self.node(tree.parts[1]))
        if name in _WINDOW_USES:
            return self._window_node(tree, name)
        made: Node = getattr(self, f"_{name}")(tree)
        return made

    def _window_node(self, tree: Syntax, name: str) -> Node:
        spans = [part.value for part in tree.parts if isinstance(part.value, Span)]
        constants = [float(str(part.value)) for part in tree.parts[1:] if part.op == "number"]
        constant = constants[0] if constants else 0.0
        if name == "flat" and spans[0].updates and not any(constants):
            # Equal to the bit over updates needs no more than a counter.
            name, constant = "stuck", float(spans[0].updates)
        elif name == "eta":
            constant = math.log10(constant)
        use = _WINDOW_USES[name]
        span = spans[0] if spans and use.window is not RepeatWindow else Span()
        key = use.pushed.format(x=tree.parts[0])
        key = f"{use.window.__name__}({key}, {span}{', now' if use.now else ''})"
        x = self.node(tree.parts[0])
        place = self._places.get(key)
        if place is None:
            place = self._place(WindowSlot(key, use.window, span))
            if span.seconds is not None:
                self.before.append(evaluator.Expire(place, x))
            push = Push(place, x if use.push is None else use.push(x))
            (self.before if use.now else self.after).append(push)
        return use.node(place, x, constant)

    def _place(self, window: WindowSlot) -> int:
        self.windows[window.key] = window
        return self._places.setdefault(window.key, len(self._places))

    def _count(self, tree: Syntax) -> Node:
        span = tree.parts[1].value
        assert isinstance(span, Span)
        x = self.node(tree.parts[0])
        place = self._place(WindowSlot(f"CountWindow({tree.parts[0]}, {span})", CountWindow, span))
        at, self._counts = self._counts, self._counts + 1
        self.before.append(evaluator.Tally(place, x, at))
        return nodes.Count(at)

    def _nonfinite(self, tree: Syntax) -> Node:
        return nodes.Nonfinite(self.globs.setdefault(_patterns(tree), len(self.globs)))

    def _missing(self, tree: Syntax) -> Node:
        return nodes.Missing(self._watch(tree), float(str(tree.parts[1].value)))

    def _reported(self, tree: Syntax) -> Node:
        return nodes.Reported(self._watch(tree))

    def _watch(self, tree: Syntax) -> int:
        """Where it is kept when a call's metric was last reported."""
        return self.watched.setdefault(self._slot(str(tree.parts[0].value)), len(self.watched))

    def _present(self, tree: Syntax) -> Node:
        return nodes.Present(self._slot(str(tree.parts[0].value)))

    def _fired(self, tree: Syntax) -> Node:
        rule, updates = str(tree.parts[0].value), float(str(tree.parts[1].value))
        if rule in self._absent:
            return nodes.Number(nodes.NO)
        if rule not in self._rules:
            raise RuleError(f"fired() names no rule of this set: {rule!r}")
        return nodes.Fired(self._rules[rule], updates)

    def _event(self, tree: Syntax) -> Node:
        return nodes.Event(str(tree.parts[0].value))

    def _logged(self, tree: Syntax) -> Node:
        return nodes.Logged(str(tree.parts[0].value))

    def _age(self, _: Syntax) -> Node:
        return nodes.Age()

    # Judged at ticks alone, see `watchstep.core.silence`.

    def _silence(self, _: Syntax) -> Node:
        return nodes.Number(0.0)

    def _stalled(self, _: Syntax) -> Node:
        return nodes.Number(nodes.NO)


def _patterns(call: Syntax) -> tuple[str, ...]:
    return tuple(str(part.value) for part in call.parts)


def _looked_over(tree: Syntax, globs: dict[tuple[str, ...], int]) -> tuple[int, ...]:
    calls = (part for part in tree.walk() if part.op == "call" and part.value == "nonfinite")
    return tuple(globs[_patterns(part)] for part in calls)
