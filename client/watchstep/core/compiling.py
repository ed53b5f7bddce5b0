"""From the rules of a whole set to one Python function.

One generated function reads every metric once, shares every common part and advances every
window, at about a third of the cost of one closure a node (benchmarks/engine_cost.py). Its
text is made only from checked nodes: names go in as slot numbers and numbers through `repr`,
so nothing a rule file says is ever run as code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from watchstep.core.codegen import Compiled, Writer, metrics_of, patterns_of
from watchstep.core.grammar import parse
from watchstep.core.program import SCOPE, Program
from watchstep.core.quiet import idle_condition, share
from watchstep.core.rules import Rule
from watchstep.core.silence import clocked


def compile_rules(rules: Sequence[Rule], absent: Iterable[str] = ()) -> Program:
    """Compile rules into one function.

    Args:
        rules: In order.
        absent: Rules that exist but do not watch this run; they never fired.

    Raises:
        RuleError: An expression is wrong, or does not make sense with the other rules.
    """
    program, text = written(rules, absent)
    scope = dict(SCOPE)
    exec(compile(text, "<rules>", "exec"), scope)  # noqa: S102 - text made from checked nodes only
    return Program(**program, advance=scope["advance"])


def written(rules: Sequence[Rule], absent: Iterable[str] = ()) -> tuple[dict[str, Any], str]:
    """The fields of a program but for its function, and the text of that."""
    trees = [_trees(rule) for rule in rules]
    clock = tuple(at for at, rule in enumerate(rules) if clocked(rule) is not None)
    writer = Writer({rule.name: at for at, rule in enumerate(rules)}, frozenset(absent))
    for tree in trees:
        writer.prepare_rule(tree)
    with writer.branch("if st.busy:"):
        writer.line("pass")
        _write_busy(trees, writer)
    with writer.branch("else:"):
        writer.line("pass")
        _write_idle(trees, writer)
    metrics = [[writer.slot(metric) for metric in metrics_of(tree.condition)] for tree in trees]
    text = _text(writer)
    program = {
        "slots": tuple(writer.slots),
        "sites": tuple(site for _, site in writer.sites.values()),
        "globs": tuple(writer.globs),
        "watched": tuple(writer.watched),
        "metrics": tuple(map(tuple, metrics)),
        "looked_over": tuple(_looked_over(tree, writer.globs) for tree in trees),
        "clocked": clock,
    }
    return program, text


def _trees(rule: Rule) -> Compiled:
    return Compiled(
        condition=parse(rule.expr),
        unless=None if rule.unless is None else parse(rule.unless),
        clear=None if rule.clear is None else parse(rule.clear),
        warmup=rule.warmup,
        fires_on_nan=rule.on_nan == "fire",
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
