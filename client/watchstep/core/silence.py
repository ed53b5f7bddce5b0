"""Rules about silence, which only the service's clock can tell.

`silence()` and `stalled()` are judged at ticks and nowhere else, so a rule that uses them can
look at nothing but them: there are no readings in a silence.
"""

from __future__ import annotations

from watchstep.core.grammar import Syntax, parse
from watchstep.core.rules import Rule
from watchstep.errors import RuleError

CLOCK_FUNCTIONS = frozenset({"silence", "stalled"})


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
