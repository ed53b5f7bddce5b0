"""Conditions of rules that are idle, as one Python expression each.

While no rule is pending or firing, False and "cannot be told" mean the same: nothing happens.
So the three-valued form is not needed, a comparison with NaN may simply be false, and Python's
own `and` and `or` skip what cannot matter. That is the state of a run nearly always. The tests
hold both forms against each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from watchstep.core.codegen import COMPARISONS, SIMPLE, Compiled, Writer, cost
from watchstep.core.grammar import Node

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
        if made[text] > 1 and text not in writer.names and cost(node) > 1:
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
    a, b = (_value(part, writer) for part in node.parts)
    if operator == "!=":
        # Of all comparisons the only one that NaN would make true.
        return f"_differ({a}, {b})"
    return f"({a} {operator} {b})"


def _value(node: Node, writer: Writer) -> str:
    if node.op in {"number", "metric"} or str(node) in writer.names:
        return writer.write(node)
    if node.op == "call" and node.value not in SIMPLE:
        return f"({writer.source(node)})"
    parts = [_value(part, writer) for part in node.parts]
    if node.op == "call":
        plain = node.value == "known" and node.parts[0].op == "metric"
        form = "({0} if {0} == {0} else {1})" if plain else SIMPLE[str(node.value)]
        return form.format(*parts)
    if node.op == "negate":
        return f"(-{parts[0]})"
    if node.op == "/":
        return f"_ratio({parts[0]}, {parts[1]})"
    return f"({parts[0]} {node.op} {parts[1]})"
