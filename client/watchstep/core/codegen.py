"""Writes the body of the function that `program` compiles: one line a distinct part.

What a rule looks at is written once and shared. The right-hand side of an `and` or `or` is
put under a branch, the dearer operand last, so that a healthy update never reads a window
that could not change the outcome; whatever advances a window stands outside of branches.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from watchstep.core import arithmetic
from watchstep.core.grammar import Node, Span
from watchstep.core.inline import READINGS, ask, push, reading_of
from watchstep.core.windows import CountWindow, RepeatWindow, Window
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


_OPERATIONS = {
    "negate": "-{a}",
    "not": "None if {a} is None else not {a}",
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
_WITHOUT_CALL = {
    # For arguments that may be written several times.
    "sqrt": "(_root({0}) if {0} >= 0.0 else _nan)",
    "bound": "(_root({0} - 1.0) if {0} >= 2.0 else _nan)",
    "least": "({1} if {1} < {0} or {1} != {1} else {0})",
    "greatest": "({1} if {1} > {0} or {1} != {1} else {0})",
    "known": "({0} if {0} == {0} else {1})",
}
_CONSTANT: dict[str, Callable[..., float]] = {
    "abs": abs,
    "sqrt": arithmetic.sqrt,
    "log10": arithmetic.log10,
    "bound": arithmetic.bound,
    "least": arithmetic.least,
    "greatest": arithmetic.greatest,
}
_PLAIN = re.compile(r"[a-z]?[0-9][0-9.e+-]*")
_WITHIN = {"<": "-{c} < {x} < {c}", "<=": "-{c} <= {x} <= {c}"}
_BEYOND = {">": "{x} > {c} or {x} < -{c}", ">=": "{x} >= {c} or {x} <= -{c}"}
_DEAR = 6
_COSTS = {"number": 0, "metric": 0, "and": 0, "or": 0}


def cost(node: Node) -> int:
    """Rough price of a node in additions, to decide which operand comes first."""
    if node.op == "call":
        name = str(node.value)
        own = _DEAR if name in READINGS or name == "fired" else 1
    else:
        own = _COSTS.get(node.op, 1)
    return own + sum(cost(part) for part in node.parts)


def constant(node: Node) -> float | None:
    """The value of a node that looks at nothing; None for every other, and where it is NaN."""
    if node.op == "number":
        return float(str(node.value))
    if node.op != "call" or node.value not in _CONSTANT:
        return None
    parts = [constant(part) for part in node.parts]
    value = math.nan if None in parts else _CONSTANT[str(node.value)](*parts)
    return value if value == value else None


def literal(value: float) -> str:
    """A number as it stands in the generated text."""
    return repr(value) if math.isfinite(value) else "_inf" if value > 0 else "(-_inf)"


def simple(name: str, parts: list[str]) -> str:
    """A call of a function that has no window, without a call where that is cheap."""
    repeated = parts[:1] if name == "known" else parts
    plain = all(_PLAIN.fullmatch(part) for part in repeated)
    form = _WITHOUT_CALL.get(name) if plain else None
    return (form or SIMPLE[name]).format(*parts)


def arithmetic_of(operator: str, a: str, b: str) -> str:
    """One of + - * /, the last of which only a literal other than zero makes safe."""
    if operator == "/" and not (b[0].isdigit() and float(b) != 0.0):
        return f"_ratio({a}, {b})"
    return f"{a} {operator} {b}"


def magnitude_within(node: Node) -> Node | None:
    """What a comparison compares the magnitude of with a positive number; None for others."""
    if node.op not in {"<", "<=", ">", ">="}:
        return None
    a, limit = node.parts[0], constant(node.parts[1])
    if a.op == "call" and a.value == "abs" and limit is not None and 0 < limit < math.inf:
        return a.parts[0]
    return None


def against_magnitude(node: Node, operator: str, x: str) -> str:
    """A comparison of |x| with a positive number, by two of x, false for NaN."""
    limit = constant(node.parts[1])
    assert limit is not None
    return {**_WITHIN, **_BEYOND}[operator].format(x=x, c=literal(limit))


class Writer:
    """Lines of the generated function, and what they refer to by number."""

    def __init__(self, rules: dict[str, int], absent: frozenset[str]) -> None:
        self.rules = rules
        self.absent = absent
        self.lines: list[str] = []
        self.pushes: dict[str, list[str]] = {}
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
        if node.value in READINGS:
            self.advance(node, reading_of(node))
        elif node.value == "count":
            self.write(node)

    def advance(self, node: Node, name: str) -> None:
        x = self.write(node.parts[0])
        window, span = self.site(node, name)
        if window in self.pushed:
            return
        self.pushed.add(window)
        reading = READINGS[name]
        if span.seconds is not None:
            self.line(f"{window}.expire(time)")
        # Zero has no logarithm, and is no point on a line through logarithms.
        finite = f"if {x} - {x} == 0.0" + (f" != {x}:" if name == "eta" else ":")
        pushed = reading.pushed.format(x=x)
        lines = [] if pushed == x else [f"_x = {pushed}"]
        lines += push(reading.window, span, window, "_x" if lines else x)
        if reading.now:
            with self.branch(finite):
                for line in lines:
                    self.line(line)
        else:
            self.pushes.setdefault(finite, []).extend(lines)

    def site(self, node: Node, name: str) -> tuple[str, Span]:
        """The window that a call reads, by what is pushed into it and when."""
        reading = READINGS[name]
        spans = [part.value for part in node.parts if isinstance(part.value, Span)]
        span = spans[0] if spans and reading.window is not RepeatWindow else Span()
        now = ", now" if reading.now else ""
        pushed = reading.pushed.format(x=node.parts[0])
        key = f"{reading.window.__name__}({pushed}, {span}{now})"
        return self.numbered(key, reading.window, span), span

    def numbered(self, key: str, kind: type[Any], span: Span) -> str:
        if key not in self.sites:
            self.sites[key] = (len(self.sites), Site(key, kind, span))
        return f"w{self.sites[key][0]}"

    def write(self, node: Node) -> str:
        """Name or literal of a node's value, writing what it needs first."""
        value = constant(node)
        if value is not None:
            return literal(value)
        if node.op == "metric":
            return f"v{self.slot(str(node.value))}"
        known = self.names.get(str(node))
        return self.named(node) if known is None else known

    def named(self, node: Node) -> str:
        """The name of a value that has none yet."""
        if node.op in _JOINED:
            return self.joined(node)
        return self.fresh(self.call(node) if node.op == "call" else self.operation(node), node)

    def operation(self, node: Node) -> str:
        magnitude = magnitude_within(node)
        if magnitude is not None:
            x = self.write(magnitude)
            return f"({against_magnitude(node, node.op, x)}) if {x} == {x} else None"
        parts = [self.write(part) for part in node.parts]
        a, b = parts[0], parts[-1]
        if node.op in _OPERATIONS:
            return _OPERATIONS[node.op].format(a=a)
        if node.op in COMPARISONS:
            known = [f"{part} == {part}" for part in dict.fromkeys(parts) if part[0] in "tv"]
            check = " and ".join(known) or "True"
            return f"({a} {node.op} {b}) if {check} else None"
        return arithmetic_of(node.op, a, b)

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
            return simple(str(node.value), [self.write(part) for part in node.parts])
        return self.source(node)

    def source(self, node: Node) -> str:
        """Expression for a call of anything that is not simple; its windows are prepared."""
        name = str(node.value)
        if name in READINGS:
            return self.asked(node)
        return str(getattr(self, f"call_{name}")(node))

    def asked(self, node: Node) -> str:
        name = reading_of(node)
        x = self.write(node.parts[0])
        constants = [part.value for part in node.parts[1:] if part.op == "number"]
        number = float(str(constants[0])) if constants else 0.0
        if name == "eta":
            number = math.log10(number)
        elif name == "repeated":
            number = float(str(node.parts[1].value))
        window, span = self.site(node, name)
        return ask(name, span, window, x, number)

    def repeats(self, node: Node) -> str:
        """Whether `flat` without a tolerance is True, at no more than a comparison."""
        window, _ = self.site(node, "repeated")
        x = self.write(node.parts[0])
        return f"{window}.repeats >= {node.parts[1].value} and {x} - {x} == 0.0"

    def call_count(self, node: Node) -> str:
        held = self.write(node.parts[0])
        span = node.parts[1].value
        assert isinstance(span, Span)
        window = self.numbered(f"CountWindow({node.parts[0]}, {span})", CountWindow, span)
        pushed = f"{window}.push({held}, time)"
        if span.seconds is not None:
            return pushed
        # Nearly always the condition is what it was throughout, which changes nothing.
        unknown = f"_nan if {held} is None else {pushed}"
        return f"{window}.count if {held} is {window}.steady else {unknown}"

    def call_nonfinite(self, node: Node) -> str:
        index = self.globs.setdefault(patterns_of(node), len(self.globs))
        return f"st.nonfinite({index}) if suspicious else g{index}"

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
