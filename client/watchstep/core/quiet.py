"""Conditions of rules that are idle, as one Python expression each.

While no rule is pending or firing, False and "cannot be told" mean the same: nothing happens.
So the three-valued form is not needed, a comparison with NaN may simply be false, and Python's
own `and` and `or` skip what cannot matter. That is the state of a run nearly always. The tests
hold both forms against each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from watchstep.core.codegen import (
    COMPARISONS,
    SIMPLE,
    Compiled,
    Writer,
    against_magnitude,
    arithmetic_of,
    constant,
    cost,
    literal,
    magnitude_within,
    simple,
)
from watchstep.core.grammar import Node
from watchstep.core.inline import reading_of

DEEPEST_EXPRESSION = 40
"""Levels of a tree that may become one expression; CPython's parser has limits of its own."""

_DUAL = {"and": "or", "or": "and"}
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def idle_condition(rule: Compiled, writer: Writer) -> str | None:
    """An expression that is true where the rule holds; None where there is no such form.

    Args:
        rule: Already prepared by the writer, so that what advances windows has been written.
        writer: Its names are used, and nothing is written.
    """
    trees = [rule.condition] + ([rule.unless] if rule.unless is not None else [])
    if rule.fires_on_nan or any(_deeper(tree, DEEPEST_EXPRESSION) for tree in trees):
        return None
    parts = [_holds(rule.condition, writer)]
    if rule.unless is not None:
        parts.append(f"not {_holds(rule.unless, writer)}")
    if rule.warmup:
        parts.insert(0, f"st.age > {rule.warmup}")
    return " and ".join(parts)


def share(rules: Sequence[Compiled], writer: Writer) -> None:
    """Write the calls that several idle conditions make, and one of them always, once."""
    made: Counter[str] = Counter()
    always: dict[str, Node] = {}
    for rule in rules:
        if rule.fires_on_nan:
            continue
        for tree in (rule.condition, rule.unless):
            if tree is not None:
                made.update({str(node) for node in tree.walk() if node.op == "call"})
        always |= {str(node): node for node in _certain(rule.condition)}
    for text, node in always.items():
        shared = made[text] > 1 and cost(node) > 1 and reading_of(node) != "repeated"
        if shared and text not in writer.names:
            writer.fresh(writer.source(node), node)


def _certain(node: Node) -> Iterator[Node]:
    """The calls that an idle condition makes whatever the readings are."""
    if node.op in {"and", "or"}:
        yield from _certain(_operands(node)[0])
        return
    if node.op == "call" and node.value not in SIMPLE:
        yield node
    for part in node.parts:
        yield from _certain(part)


def _deeper(tree: Node, levels: int) -> bool:
    return levels == 0 or any(_deeper(part, levels - 1) for part in tree.parts)


def _holds(node: Node, writer: Writer) -> str:
    """Whether a condition is True."""
    if node.op in {"and", "or"}:
        parts = [_holds(part, writer) for part in _operands(node)]
        return f"({f' {node.op} '.join(parts)})"
    if node.op == "not":
        return _fails(node.parts[0], writer)
    if node.op in COMPARISONS:
        return _compared(node, node.op, writer)
    if node.op == "call" and reading_of(node) == "repeated":
        return f"({writer.repeats(node)})"
    return f"({_value(node, writer)})"


def _operands(node: Node) -> list[Node]:
    """All that a row of one operator joins, the cheapest first."""
    found, open_ = [], [node]
    while open_:
        part = open_.pop(0)
        if part.op == node.op:
            open_ = [*part.parts, *open_]
        else:
            found.append(part)
    return sorted(found, key=cost)


def _fails(node: Node, writer: Writer) -> str:
    """Whether a condition is False, and not merely unknown."""
    if node.op in {"and", "or"}:
        parts = [_fails(part, writer) for part in _operands(node)]
        return f"({f' {_DUAL[node.op]} '.join(parts)})"
    if node.op == "not":
        return _holds(node.parts[0], writer)
    if node.op in COMPARISONS:
        return _compared(node, _OPPOSITE[node.op], writer)
    return f"(({_value(node, writer)}) is False)"


def _compared(node: Node, operator: str, writer: Writer) -> str:
    pairs = _split(node, operator, writer)
    if pairs:
        parts = [_compared(pair, operator, writer) for pair in sorted(pairs, key=cost)]
        return f"({' and '.join(parts)})"
    magnitude = magnitude_within(node)
    if magnitude is not None:
        x = _value(magnitude, writer)
        if x.isidentifier():
            return f"({against_magnitude(node, operator, x)})"
    a, b = (_value(part, writer) for part in node.parts)
    if operator == "!=":
        # Of all comparisons the only one that NaN would make true.
        return f"_differ({a}, {b})"
    return f"({a} {operator} {b})"


def _split(node: Node, operator: str, writer: Writer) -> list[Node]:
    """The two comparisons that one with `greatest` or `least` amounts to; none for others."""
    left, right = node.parts
    above, below = ("least", "greatest") if operator in {">", ">="} else ("greatest", "least")
    if operator in {"==", "!="}:
        return []
    if left.op == "call" and left.value == above and str(left) not in writer.names:
        return [Node(operator, "bool", parts=(part, right)) for part in left.parts]
    if right.op == "call" and right.value == below and str(right) not in writer.names:
        return [Node(operator, "bool", parts=(left, part)) for part in right.parts]
    return []


def _value(node: Node, writer: Writer) -> str:
    value = constant(node)
    if value is not None:
        return literal(value)
    if node.op == "metric" or str(node) in writer.names:
        return writer.write(node)
    if node.op == "call" and node.value not in SIMPLE:
        return f"({writer.source(node)})"
    parts = [_value(part, writer) for part in node.parts]
    if node.op == "call":
        return simple(str(node.value), parts)
    if node.op == "negate":
        return f"(-{parts[0]})"
    return f"({arithmetic_of(node.op, *parts)})"
