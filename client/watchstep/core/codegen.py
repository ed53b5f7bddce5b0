"""Writes the body of the function that `program` compiles: one line a distinct part.

What a rule looks at is written once and shared. The right-hand side of an `and` or `or` is
put under a branch, the dearer operand last, so that a healthy update never reads a window
that could not change the outcome; whatever advances a window stands outside of branches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from watchstep.core.grammar import Node, Span
from watchstep.core.windows import (
    CountWindow,
    ExtremeWindow,
    MedianWindow,
    MomentWindow,
    RecordWindow,
    RepeatWindow,
    TrendWindow,
    Window,
)
from watchstep.errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEPEST_BRANCH = 20
"""Branches within branches; Python's own tokenizer gives up at a hundred."""


@dataclass(frozen=True, slots=True)
class Site:
    """A window of the program: where its state lives and how to make a fresh one."""

    key: str
    make: Callable[[Span], Window]
    span: Span


@dataclass(frozen=True, slots=True)
class Compiled:
    """The trees of one rule."""

    condition: Node
    unless: Node | None
    clear: Node | None
    warmup: int
    fires_on_nan: bool


_WINDOWS: dict[str, tuple[type[Any], str, str]] = {
    # function: window, what is pushed into it, what is asked of it
    "median": (MedianWindow, "{x}", "{w}.median()"),
    "spike": (MedianWindow, "abs({x})", "_ratio(abs({x}), {w}.median())"),
    "drop": (MedianWindow, "abs({x})", "_ratio({w}.median(), abs({x}))"),
    "mean": (MomentWindow, "{x}", "{w}.mean()"),
    "std": (MomentWindow, "{x}", "{w}.std()"),
    "zscore": (MomentWindow, "{x}", "{w}.zscore({x})"),
    "slope": (TrendWindow, "{x}", "{w}.slope() if {x} - {x} == 0.0 else _nan"),
    "eta": (
        TrendWindow,
        "_log10(abs({x}))",
        "{w}.updates_until({n}) if {x} - {x} == 0.0 else _nan",
    ),
    "min": (ExtremeWindow, "{x}", "{w}.smallest()"),
    "max": (ExtremeWindow, "{x}", "{w}.largest()"),
    "flat": (ExtremeWindow, "{x}", "{w}.is_flat({n}) if {x} - {x} == 0.0 else None"),
    # `flat` without a tolerance, over updates: see `_window`.
    "repeated": (RepeatWindow, "{x}", "{w}.lasts({n}) if {x} - {x} == 0.0 else None"),
    "record": (RecordWindow, "{x}", "{w}.times_largest({x}, {n})"),
    "lowest": (RecordWindow, "{x}", "{w}.lowest({n})"),
    "previous": (RecordWindow, "{x}", "{w}.last"),
    "changed": (
        RecordWindow,
        "{x}",
        "({x} != {w}.last) if {x} == {x} and {w}.last == {w}.last else None",
    ),
}
_INCLUDING_NOW = {"slope", "eta", "flat", "repeated"}
_OPERATIONS = {
    "negate": "-{a}",
    "not": "None if {a} is None else not {a}",
    "/": "_ratio({a}, {b})",
}
_JOINED = {
    "and": "{b} if {a} else (False if {a} is False or {b} is False else None)",
    "or": "True if {a} or {b} else (None if {a} is None or {b} is None else False)",
}
_UNDECIDED = {"and": "if {a} is not False:", "or": "if not {a}:"}
COMPARISONS = {"<", "<=", ">", ">=", "==", "!="}
SIMPLE = {
    "abs": "abs({0})",
    "sqrt": "_sqrt({0})",
    "log10": "_log10({0})",
    "bound": "_bound({0})",
    "least": "_least({0}, {1})",
    "greatest": "_greatest({0}, {1})",
    "known": "_known({0}, {1})",
    "age": "float(st.age)",
    # Judged at ticks alone, see `watchstep.core.silence`.
    "silence": "0.0",
    "stalled": "False",
}
_DEAR = 6
_COSTS = {"number": 0, "metric": 0, "and": 0, "or": 0}


def _window(node: Node) -> str:
    """The row of the table that a call reads its window by."""
    name = str(node.value)
    if name == "flat":
        span = node.parts[1].value
        tolerances = [float(str(part.value)) for part in node.parts[2:]]
        if isinstance(span, Span) and span.updates and not any(tolerances):
            return "repeated"
    return name


def cost(node: Node) -> int:
    """Rough price of a node in additions, to decide which operand comes first."""
    if node.op == "call":
        name = str(node.value)
        own = _DEAR if name in _WINDOWS or name == "fired" else 1
    else:
        own = _COSTS.get(node.op, 1)
    return own + sum(cost(part) for part in node.parts)


class Writer:
    """Lines of the generated function, and what they refer to by number."""

    def __init__(self, rules: dict[str, int], absent: frozenset[str]) -> None:
        self.rules = rules
        self.absent = absent
        self.lines: list[str] = []
        self.pushes: list[str] = []
        self.pushed: set[str] = set()
        self.names: dict[str, str] = {}
        self.slots: dict[str, int] = {}
        self.sites: dict[str, tuple[int, Site]] = {}
        self.globs: dict[tuple[str, ...], int] = {}
        self.watched: dict[int, int] = {}
        self.indent = 0
        self._written = 0

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    @contextmanager
    def branch(self, condition: str) -> Iterator[None]:
        """Lines written within run under the condition, and what they name stays within."""
        self.line(condition)
        outside = dict(self.names)
        self.indent += 1
        yield
        self.indent -= 1
        self.names = outside

    def fresh(self, source: str, node: Node) -> str:
        self._written += 1
        name = self.names[str(node)] = f"t{self._written}"
        self.line(f"{name} = {source}")
        return name

    def slot(self, metric: str) -> int:
        return self.slots.setdefault(metric, len(self.slots))

    def rule(self, index: int, rule: Compiled) -> None:
        """Write a rule's three-valued form; it must have been prepared."""
        condition = self.write(rule.condition)
        if rule.unless is not None or rule.fires_on_nan or rule.warmup:
            condition = self.qualified(index, rule, condition)
        with self.branch(f"if {condition} or active[{index}]:"):
            clear = self.write(rule.clear) if rule.clear is not None else "True"
            self.line(f"out.append(({index}, {condition}, {clear}))")

    def qualified(self, index: int, rule: Compiled, condition: str) -> str:
        """What is left of a condition after `unless`, `on_nan` and `warmup`."""
        name = f"c{index}"
        self.line(f"{name} = {condition}")
        if rule.unless is not None:
            with self.branch(f"if {name} is not False:"):
                self.line(f"if {self.write(rule.unless)}: {name} = False")
        if rule.fires_on_nan:
            slots = tuple(self.slot(metric) for metric in metrics_of(rule.condition))
            self.line(f"if {name} is None and st.saw_nan({slots}): {name} = True")
        if rule.warmup:
            # Unknown, not false: a run resumed while the rule fires has not become healthy.
            self.line(f"if st.age <= {rule.warmup}: {name} = None")
        return name

    def prepare_rule(self, rule: Compiled) -> None:
        """Write all that must happen at every update whatever the rule says."""
        for tree in (rule.condition, rule.unless, rule.clear):
            if tree is not None:
                self.prepare(tree)

    def prepare(self, node: Node) -> None:
        """Write what advances windows, innermost first, outside of any branch."""
        for part in node.parts:
            self.prepare(part)
        if node.op != "call":
            return
        if node.value in _WINDOWS:
            self.advance(node, _window(node))
        elif node.value == "count":
            self.write(node)

    def advance(self, node: Node, name: str) -> None:
        x = self.write(node.parts[0])
        window, span = self.site(node, name)
        if window in self.pushed:
            return
        self.pushed.add(window)
        now = name in _INCLUDING_NOW
        if span.seconds is not None:
            self.line(f"{window}.expire(time)")
        pushed = _WINDOWS[name][1].format(x=x)
        # Zero has no logarithm, and is no point on a line through logarithms.
        finite = f"{x} - {x} == 0.0" + (f" != {x}" if name == "eta" else "")
        text = f"if {finite}: {window}.push({pushed}, time)"
        if now:
            self.line(text)
        else:
            self.pushes.append(text)

    def site(self, node: Node, name: str) -> tuple[str, Span]:
        """The window that a call reads, by what is pushed into it and when."""
        kind, pushed, _ = _WINDOWS[name]
        spans = [part.value for part in node.parts if isinstance(part.value, Span)]
        span = spans[0] if spans and kind is not RepeatWindow else Span()
        now = ", now" if name in _INCLUDING_NOW else ""
        key = f"{kind.__name__}({pushed.format(x=node.parts[0])}, {span}{now})"
        return self.numbered(key, kind, span), span

    def numbered(self, key: str, kind: type[Any], span: Span) -> str:
        if key not in self.sites:
            self.sites[key] = (len(self.sites), Site(key, kind, span))
        return f"w{self.sites[key][0]}"

    def write(self, node: Node) -> str:
        """Name or literal of a node's value, writing what it needs first."""
        if node.op == "number":
            value = float(str(node.value))
            return repr(value) if math.isfinite(value) else "_inf" if value > 0 else "(-_inf)"
        if node.op == "metric":
            return f"v{self.slot(str(node.value))}"
        known = self.names.get(str(node))
        if known is not None:
            return known
        if node.op == "call":
            return self.call(node)
        if node.op in _JOINED:
            return self.joined(node)
        parts = [self.write(part) for part in node.parts]
        return self.fresh(self.operation(node, parts), node)

    def operation(self, node: Node, parts: list[str]) -> str:
        a, b = parts[0], parts[-1]
        if node.op in _OPERATIONS:
            return _OPERATIONS[node.op].format(a=a, b=b)
        if node.op in COMPARISONS:
            known = [f"{part} == {part}" for part in dict.fromkeys(parts) if part[0] in "tv"]
            check = " and ".join(known) or "True"
            return f"({a} {node.op} {b}) if {check} else None"
        return f"{a} {node.op} {b}"

    def by_cost(self, node: Node) -> tuple[Node, Node]:
        """The operands of `and` or `or`, the cheaper one first."""
        first, second = sorted(node.parts, key=cost)
        return first, second

    def joined(self, node: Node) -> str:
        first, second = self.by_cost(node)
        a = self.write(first)
        if cost(second) < 2 or str(second) in self.names or self.indent >= DEEPEST_BRANCH:
            return self.fresh(_JOINED[node.op].format(a=a, b=self.write(second)), node)
        name = self.fresh(a, node)
        with self.branch(_UNDECIDED[node.op].format(a=a)):
            b = self.write(second)
            self.line(f"{name} = {_JOINED[node.op].format(a=a, b=b)}")
        return name

    def call(self, node: Node) -> str:
        if node.value in SIMPLE:
            parts = [self.write(part) for part in node.parts]
            return self.fresh(SIMPLE[str(node.value)].format(*parts), node)
        return self.fresh(self.source(node), node)

    def source(self, node: Node) -> str:
        """Expression for a call of anything that is not simple; its windows are prepared."""
        name = str(node.value)
        if name in _WINDOWS:
            return self.asked(node)
        return str(getattr(self, f"call_{name}")(node))

    def asked(self, node: Node) -> str:
        name = _window(node)
        x = self.write(node.parts[0])
        constants = [part.value for part in node.parts[1:] if part.op == "number"]
        number = float(str(constants[0])) if constants else 0.0
        if name == "eta":
            number = math.log10(number)
        elif name == "repeated":
            span = node.parts[1].value
            assert isinstance(span, Span)
            number = float(span.updates or 0)
        window, _ = self.site(node, name)
        return _WINDOWS[name][2].format(x=x, w=window, n=repr(number))

    def call_count(self, node: Node) -> str:
        held = self.write(node.parts[0])
        span = node.parts[1].value
        assert isinstance(span, Span)
        window = self.numbered(f"CountWindow({node.parts[0]}, {span})", CountWindow, span)
        if span.seconds is not None:
            return f"{window}.push({held}, time)"
        # Nearly always nothing holds and nothing held, and then there is nothing to remember.
        idle = f"0.0 if {held} is False else _nan"
        return f"{window}.push({held}, time) if {held} or {window}.held else ({idle})"

    def call_nonfinite(self, node: Node) -> str:
        index = self.globs.setdefault(patterns_of(node), len(self.globs))
        calm = f"g{index} is False and not suspicious"
        return f"False if {calm} else st.nonfinite({index})"

    def call_missing(self, node: Node) -> str:
        updates = float(str(node.parts[1].value))
        return f"0 < st.seen[{self.sighted(node)}] <= st.age - {updates!r}"

    def call_reported(self, node: Node) -> str:
        return f"st.seen[{self.sighted(node)}] > 0"

    def sighted(self, node: Node) -> int:
        """Where the age is kept at which a call's metric was last reported."""
        slot = self.slot(str(node.parts[0].value))
        return self.watched.setdefault(slot, len(self.watched))

    def call_present(self, node: Node) -> str:
        return f"{self.slot(str(node.parts[0].value))} in st.present"

    def call_fired(self, node: Node) -> str:
        rule = str(node.parts[0].value)
        if rule in self.absent:
            return "False"
        if rule not in self.rules:
            raise RuleError(f"fired() names no rule of this set: {rule!r}")
        updates = float(str(node.parts[1].value))
        return f"st.fired_within({self.rules[rule]}, {updates!r})"

    def call_event(self, node: Node) -> str:
        text = str(node.parts[0].value)
        return f"event is not None and st.has_event({text!r})"

    def call_logged(self, node: Node) -> str:
        text = str(node.parts[0].value)
        return f"event is not None and st.has_logged({text!r})"


def metrics_of(tree: Node) -> list[str]:
    """Names of the metrics that a tree looks at, in order of appearance, once each."""
    return list(dict.fromkeys(str(node.value) for node in tree.walk() if node.op == "metric"))


def patterns_of(call: Node) -> tuple[str, ...]:
    """The patterns of a call of `nonfinite`."""
    return tuple(str(part.value) for part in call.parts)
