"""From the trees of a whole rule set to one Python function.

One generated function reads every metric once, shares every common part and advances every
window, at about a third of the cost of one closure a node (benchmarks/engine_cost.py). Its
text is made only from checked nodes: names go in as slot numbers and numbers through `repr`,
so nothing a rule file says is ever run as code.

Values: numbers are floats, NaN also standing for "not reported". Conditions are True, False
or None, and None is "cannot be told": a comparison with NaN, or with what was not reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from watchstep.core.grammar import Node, Span
from watchstep.core.windows import (
    CountWindow,
    ExtremeWindow,
    MedianWindow,
    MomentWindow,
    RecordWindow,
    Window,
    ratio,
)
from watchstep.errors import RuleError

Held = list[tuple[int, bool | None, bool | None]]
Advance = Callable[[list[float], list[Any], Any, list[int]], Held]


@dataclass(frozen=True, slots=True)
class Site:
    """A window of the program: where its state lives and how to make a fresh one."""

    key: str
    make: Callable[[Span], Window]
    span: Span


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled rule set.

    Attributes:
        slots: Canonical metric names in slot order.
        sites: Windows in order.
        globs: For every `nonfinite` call, its patterns.
        watched: Slots whose presence is remembered, for `missing`.
        metrics: For every rule, the slots it reads, in order of appearance.
        advance: Evaluates every rule and pushes the update into the windows. Returns rule
            index, condition and clear condition for the rules that hold or are not idle.
        text: The generated source, for tests and the curious.
    """

    slots: tuple[str, ...]
    sites: tuple[Site, ...]
    globs: tuple[tuple[str, ...], ...]
    watched: tuple[int, ...]
    metrics: tuple[tuple[int, ...], ...]
    advance: Advance
    text: str


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
    "zscore": (MomentWindow, "{x}", "_ratio({x} - {w}.mean(), {w}.std())"),
    "slope": (MomentWindow, "{x}", "{w}.slope()"),
    "min": (ExtremeWindow, "{x}", "{w}.smallest()"),
    "max": (ExtremeWindow, "{x}", "{w}.largest()"),
    "record": (RecordWindow, "{x}", "{w}.times_largest({x}, {n})"),
    "lowest": (RecordWindow, "{x}", "{w}.lowest({n})"),
    "previous": (RecordWindow, "{x}", "{w}.last"),
}
_OPERATIONS = {
    "negate": "-{a}",
    "not": "None if {a} is None else not {a}",
    "and": "{b} if {a} else (False if {a} is False or {b} is False else None)",
    "or": "True if {a} or {b} else (None if {a} is None or {b} is None else False)",
    "/": "_ratio({a}, {b})",
}
_COMPARISONS = {"<", "<=", ">", ">=", "==", "!="}


class _Writer:
    """Writes the body of the generated function, one line a distinct part."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.pushes: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.slots: dict[str, int] = {}
        self.sites: dict[str, tuple[int, Site]] = {}
        self.globs: dict[tuple[str, ...], int] = {}
        self.watched: dict[int, int] = {}
        self.rules: dict[str, int] = {}

    def fresh(self, source: str, node: Node) -> str:
        name = f"t{len(self.names)}"
        self.lines.append(f"{name} = {source}")
        self.names[str(node)] = name
        return name

    def slot(self, metric: str) -> int:
        return self.slots.setdefault(metric, len(self.slots))

    def site(self, kind: type[Any], pushed: str, span: Span, *, now: bool) -> str:
        """Name of the window over `pushed`, which is advanced before or after it is read."""
        key = f"{kind.__name__}({pushed}, {span}{', now' if now else ''})"
        if key not in self.sites:
            self.sites[key] = (len(self.sites), Site(key, kind, span))
        return f"w[{self.sites[key][0]}]"

    def write(self, node: Node) -> str:
        """Name or literal of a node's value, writing what it needs first."""
        known = self.names.get(str(node))
        if known is not None:
            return known
        if node.op == "number":
            value = float(str(node.value))
            return repr(value) if math.isfinite(value) else "_inf" if value > 0 else "(-_inf)"
        if node.op == "metric":
            return self.fresh(f"v[{self.slot(str(node.value))}]", node)
        if node.op == "call":
            return self.call(node)
        parts = [self.write(part) for part in node.parts]
        return self.fresh(self.operation(node, parts), node)

    def operation(self, node: Node, parts: list[str]) -> str:
        a, b = parts[0], parts[-1]
        if node.op in _OPERATIONS:
            return _OPERATIONS[node.op].format(a=a, b=b)
        if node.op in _COMPARISONS:
            known = [f"{part} == {part}" for part in dict.fromkeys(parts) if part[0] == "t"]
            check = " and ".join(known) or "True"
            return f"({a} {node.op} {b}) if {check} else None"
        return f"{a} {node.op} {b}"

    def call(self, node: Node) -> str:
        name = str(node.value)
        if name in _WINDOWS:
            return self.windowed(node, name)
        special = getattr(self, f"call_{name}", None)
        if special is not None:
            return str(special(node))
        simple = {
            "abs": "abs({0})",
            "sqrt": "_sqrt({0})",
            "log10": "_log10({0})",
            "bound": "_sqrt({0} - 1.0) if {0} >= 2.0 else _nan",
            "least": "({0} if {0} < {1} else {1}) if {0} == {0} and {1} == {1} else _nan",
            "greatest": "({0} if {0} > {1} else {1}) if {0} == {0} and {1} == {1} else _nan",
            "age": "float(st.age)",
            "silence": "0.0",
            "stalled": "False",
        }[name]
        parts = [self.write(part) for part in node.parts]
        return self.fresh(simple.format(*parts), node)

    def windowed(self, node: Node, name: str) -> str:
        kind, pushed, asked = _WINDOWS[name]
        x = self.write(node.parts[0])
        span = node.parts[1].value if len(node.parts) > 1 else None
        count = "0"
        if not isinstance(span, Span):
            count, span = repr(span or 0.0), Span()
        now = name == "slope"
        window = self.site(kind, pushed.format(x=node.parts[0]), span, now=now)
        self.push(window, x, pushed.format(x=x), span, now=now)
        return self.fresh(asked.format(x=x, w=window, n=count), node)

    def push(self, window: str, x: str, value: str, span: Span, *, now: bool) -> None:
        if window in self.pushes:
            return
        line = f"if {x} - {x} == 0.0: {window}.push({value}, time)"
        self.pushes[window] = "" if now else line
        if now:
            self.lines.append(line)
        if span.seconds is not None:
            self.lines.append(f"{window}.expire(time)")

    def call_changed(self, node: Node) -> str:
        previous = self.write(Node("call", "number", "previous", node.parts))
        x = self.write(node.parts[0])
        return self.fresh(
            f"({x} != {previous}) if {x} == {x} and {previous} == {previous} else None", node
        )

    def call_flat(self, node: Node) -> str:
        x = self.write(node.parts[0])
        span = node.parts[1].value
        assert isinstance(span, Span)
        window = self.site(ExtremeWindow, str(node.parts[0]), span, now=True)
        self.push(window, x, x, span, now=True)
        tolerance = self.write(node.parts[2]) if len(node.parts) > 2 else "0.0"
        return self.fresh(f"{window}.is_flat({tolerance})", node)

    def call_eta(self, node: Node) -> str:
        x = self.write(node.parts[0])
        limit, span = float(str(node.parts[1].value)), node.parts[2].value
        assert isinstance(span, Span)
        if limit <= 0:
            raise RuleError("eta looks at log10 of the magnitude, so its limit must be above 0")
        window = self.site(MomentWindow, f"log10(abs({node.parts[0]}))", span, now=True)
        self.push(window, f"_log10(abs({x}))", f"_log10(abs({x}))", span, now=True)
        return self.fresh(f"{window}.updates_until({math.log10(limit)!r})", node)

    def call_count(self, node: Node) -> str:
        held = self.write(node.parts[0])
        span = node.parts[1].value
        assert isinstance(span, Span)
        window = self.site(CountWindow, str(node.parts[0]), span, now=True)
        return self.fresh(f"{window}.push({held}, time)", node)

    def call_nonfinite(self, node: Node) -> str:
        patterns = tuple(str(part.value) for part in node.parts)
        index = self.globs.setdefault(patterns, len(self.globs))
        return self.fresh(f"st.nonfinite({index})", node)

    def call_missing(self, node: Node) -> str:
        slot = self.slot(str(node.parts[0].value))
        index = self.watched.setdefault(slot, len(self.watched))
        updates = float(str(node.parts[1].value))
        return self.fresh(f"0 < st.seen[{index}] <= st.age - {updates!r}", node)

    def call_present(self, node: Node) -> str:
        return self.fresh(f"{self.slot(str(node.parts[0].value))} in st.present", node)

    def call_fired(self, node: Node) -> str:
        rule = str(node.parts[0].value)
        if rule not in self.rules:
            raise RuleError(f"fired() names no rule of this set: {rule!r}")
        updates = float(str(node.parts[1].value))
        return self.fresh(f"st.fired_within({self.rules[rule]}, {updates!r})", node)

    def call_event(self, node: Node) -> str:
        return self.fresh(f"st.has_event({str(node.parts[0].value)!r})", node)

    def call_logged(self, node: Node) -> str:
        return self.fresh(f"st.has_logged({str(node.parts[0].value)!r})", node)

    def rule(self, index: int, rule: Compiled) -> tuple[int, ...]:
        condition = self.write(rule.condition)
        slots = [
            self.slot(str(node.value)) for node in rule.condition.walk() if node.op == "metric"
        ]
        if rule.unless is not None:
            self.lines.append(f"c{index} = False if {self.write(rule.unless)} else {condition}")
            condition = f"c{index}"
        if rule.fires_on_nan:
            saw = f"{condition} is None and st.saw_nan({tuple(slots)})"
            self.lines.append(f"c{index} = True if {saw} else {condition}")
            condition = f"c{index}"
        if rule.warmup:
            self.lines.append(f"c{index} = {condition} if st.age > {rule.warmup} else False")
            condition = f"c{index}"
        clear = self.write(rule.clear) if rule.clear is not None else "True"
        self.lines.append(
            f"if {condition} or active[{index}]: out.append(({index}, {condition}, {clear}))"
        )
        return tuple(dict.fromkeys(slots))


def compile_rules(rules: Sequence[Compiled], names: Sequence[str]) -> Program:
    """Compile trees into one function.

    Args:
        rules: Checked trees.
        names: The rules' names in the same order, for `fired`.

    Raises:
        RuleError: A call that only makes sense with the other rules does not.
    """
    writer = _Writer()
    writer.rules = {name: index for index, name in enumerate(names)}
    metrics = tuple(writer.rule(index, rule) for index, rule in enumerate(rules))
    watched = [
        f"if {slot} in st.present: st.seen[{at}] = st.age" for slot, at in writer.watched.items()
    ]
    body = [*writer.lines, *filter(None, writer.pushes.values()), *watched]
    text = "\n    ".join(
        [
            "def advance(v, w, st, active):",
            "out = []",
            "time = st.time",
            *body,
            "return out",
        ]
    )
    scope: dict[str, Any] = {
        "_ratio": ratio,
        "_sqrt": lambda x: math.sqrt(x) if x >= 0 else math.nan,
        "_log10": _log10,
        "_nan": math.nan,
        "_inf": math.inf,
    }
    exec(compile(text, "<rules>", "exec"), scope)  # noqa: S102 - text made from checked nodes only
    return Program(
        slots=tuple(writer.slots),
        sites=tuple(site for _, site in writer.sites.values()),
        globs=tuple(writer.globs),
        watched=tuple(writer.watched),
        metrics=metrics,
        advance=scope["advance"],
        text=text,
    )


def _log10(x: float) -> float:
    if x > 0:
        return math.log10(x)
    return -math.inf if x == 0 else math.nan
