"""Rules about silence, which only the service's clock can tell.

`silence()` and `stalled()` are judged at ticks and nowhere else, so a rule that uses them can
look at nothing but them: there are no readings in a silence.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from watchstep.core.arithmetic import ratio
from watchstep.core.grammar import Syntax, parse
from watchstep.core.rules import Rule
from watchstep.core.updates import Tick
from watchstep.errors import RuleError

CLOCK_FUNCTIONS = frozenset({"silence", "stalled"})

_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": ratio,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
}


def clocked(rule: Rule) -> Syntax | None:
    """The tree of a rule about silence, None for a rule about readings.

    Raises:
        RuleError: The rule mixes the two.
    """
    tree = parse(rule.expr)
    beside = [parse(text) for text in (rule.unless, rule.clear) if text is not None]
    if any(_asks_clock(other) for other in beside):
        raise RuleError("silence() and stalled() can stand in `expr` only")
    if not _asks_clock(tree):
        return None
    leaves = {node.op for node in tree.walk() if not node.parts}
    calls = {node.value for node in tree.walk() if node.op == "call"}
    if calls - CLOCK_FUNCTIONS or leaves - {"call", "number"}:
        raise RuleError("a rule about silence() or stalled() can look at nothing else")
    if beside or rule.warmup:
        raise RuleError("a rule about silence takes no `unless`, `clear` or `warmup`")
    return tree


def _asks_clock(tree: Syntax) -> bool:
    return any(node.op == "call" and node.value in CLOCK_FUNCTIONS for node in tree.walk())


def silent(tree: Syntax, tick: Tick) -> bool:
    """Whether the condition of a rule about silence holds at a tick."""
    return bool(_value(tree, tick))


def _value(node: Syntax, tick: Tick) -> float:
    if node.op == "number":
        return float(str(node.value))
    if node.op == "call":
        silence = tick.now - tick.last_heard
        return silence > tick.timeout_s if node.value == "stalled" else silence
    parts = [_value(part, tick) for part in node.parts]
    if node.op == "not":
        return not parts[0]
    if node.op == "negate":
        return -parts[0]
    return _OPERATORS[node.op](*parts)
