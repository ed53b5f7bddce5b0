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
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from watchstep.core import arithmetic
from watchstep.core.codegen import Compiled, Site, Writer, metrics_of, patterns_of
from watchstep.core.quiet import idle_condition, share

Held = list[tuple[int, bool | None, bool | None]]
Advance = Callable[[Sequence[float], list[Any], Any, list[int]], Held]


_SCOPE: dict[str, Any] = {
    "_ratio": arithmetic.ratio,
    "_sqrt": arithmetic.sqrt,
    "_log10": arithmetic.log10,
    "_bound": arithmetic.bound,
    "_least": arithmetic.least,
    "_greatest": arithmetic.greatest,
    "_differ": arithmetic.differ,
    "_known": arithmetic.known,
    "_root": math.sqrt,
    "_insort": insort,
    "_bisect": bisect_left,
    "_nan": math.nan,
    "_inf": math.inf,
}
"""What the generated function may call."""


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled rule set.

    Attributes:
        slots: Canonical metric names in slot order.
        sites: Windows in order.
        globs: For every distinct `nonfinite` call, its patterns.
        watched: Slots whose presence is remembered, for `missing` and `reported`.
        metrics: For every rule, the slots it reads, in order of appearance.
        looked_over: For every rule, the indices in `globs` of its `nonfinite` calls.
        advance: Evaluates every rule and pushes the update into the windows. Takes values in
            slot order and two more, see `Plan.lay`. Returns rule index, condition and clear
            condition for the rules that hold or are not idle.
        text: The generated source, for tests and the curious.
    """

    slots: tuple[str, ...]
    sites: tuple[Site, ...]
    globs: tuple[tuple[str, ...], ...]
    watched: tuple[int, ...]
    metrics: tuple[tuple[int, ...], ...]
    looked_over: tuple[tuple[int, ...], ...]
    advance: Advance
    text: str


def compile_rules(
    rules: Sequence[Compiled], names: Sequence[str], absent: Iterable[str] = ()
) -> Program:
    """Compile trees into one function.

    Args:
        rules: Checked trees.
        names: The rules' names in the same order, for `fired`.
        absent: Rules that exist but do not watch this run; they never fired.

    Raises:
        RuleError: A call that only makes sense with the other rules does not.
    """
    writer = Writer({name: index for index, name in enumerate(names)}, frozenset(absent))
    for rule in rules:
        writer.prepare_rule(rule)
    with writer.branch("if st.busy:"):
        writer.line("pass")
        _write_busy(rules, writer)
    with writer.branch("else:"):
        writer.line("pass")
        _write_idle(rules, writer)
    metrics = [
        tuple(writer.slot(metric) for metric in metrics_of(rule.condition)) for rule in rules
    ]
    text = _text(writer)
    scope = dict(_SCOPE)
    exec(compile(text, "<rules>", "exec"), scope)  # noqa: S102 - text made from checked nodes only
    return Program(
        slots=tuple(writer.slots),
        sites=tuple(site for _, site in writer.sites.values()),
        globs=tuple(writer.globs),
        watched=tuple(writer.watched),
        metrics=tuple(metrics),
        looked_over=tuple(_looked_over(rule, writer.globs) for rule in rules),
        advance=scope["advance"],
        text=text,
    )


def _write_busy(rules: Sequence[Compiled], writer: Writer) -> None:
    """The way of an update while some rule is pending or firing."""
    share(rules, writer)
    for index, rule in enumerate(rules):
        condition = idle_condition(rule, writer)
        if condition is None:
            writer.rule(index, rule)
            continue
        with writer.branch(f"if active[{index}]:"):
            writer.rule(index, rule)
        writer.line(f"elif {condition}: out.append(({index}, True, True))")


def _write_idle(rules: Sequence[Compiled], writer: Writer) -> None:
    """The way of an update while none is."""
    share(rules, writer)
    for index, rule in enumerate(rules):
        condition = idle_condition(rule, writer)
        if condition is None:
            writer.rule(index, rule)
        else:
            writer.line(f"if {condition}: out.append(({index}, True, True))")


def _text(writer: Writer) -> str:
    """The whole function: what was reported, every rule, and then the windows' new values."""
    watched = [
        f"if {slot} in st.present: st.seen[{at}] = st.age" for slot, at in writer.watched.items()
    ]
    pushes = [
        line
        for finite, lines in writer.pushes.items()
        for line in [finite, *(f"    {line}" for line in lines)]
    ]
    lines = [
        "out = []",
        "time, event, suspicious = st.time, st.event, st.suspicious",
        _unpacking("v", len(writer.slots), "v", "_, _"),
        _unpacking("w", len(writer.sites), "w"),
        _unpacking("g", len(writer.globs), "st.calm"),
        *watched,
        *writer.lines,
        *pushes,
        "return out",
    ]
    return "def advance(v, w, st, active):\n" + "".join(f"    {line}\n" for line in lines)


def _unpacking(letter: str, count: int, source: str, rest: str = "") -> str:
    names = "".join(f"{letter}{at}, " for at in range(count))
    return f"({names}{rest}) = {source}"


def _looked_over(rule: Compiled, globs: dict[tuple[str, ...], int]) -> tuple[int, ...]:
    calls = (node for node in rule.condition.walk() if node.value == "nonfinite")
    return tuple(globs[patterns_of(node)] for node in calls if node.op == "call")
