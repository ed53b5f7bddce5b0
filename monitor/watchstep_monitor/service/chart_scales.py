"""What a chart is drawn against: the zones of its metric and the thresholds of the rules."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from watchstep.core.compiling import SUBJECT
from watchstep.core.grammar import Syntax, parse
from watchstep.core.rules import Rule
from watchstep.core.ruleset import RuleSet
from watchstep.core.updates import Severity
from watchstep_monitor.service.run_state.records import SEVERITIES

_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def scales(rules: RuleSet, latest: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Zones and thresholds by metric, as the run reports its names, for its newest readings.

    A zone is the severity of the worst rule that would fire there by this reading alone: none is
    red where no alert would fire. Numbers that move with the run (a bound that depends on a count)
    are those of now; open ends of zones are None.
    """
    by_metric = {}
    for name in latest:
        lines = list(_lines(rules, name, latest))
        if lines:
            thresholds = [
                {"rule": each.rule, "severity": each.severity, "op": each.op, "value": each.value}
                for each in lines
            ]
            by_metric[name] = {"zones": list(_zones(lines)), "thresholds": thresholds}
    return by_metric


class _Line(NamedTuple):
    """A line that a rule draws.

    Attributes:
        decides: Whether the rule fires beyond it whatever else is true.
    """

    rule: str
    severity: Severity
    op: str
    value: float
    decides: bool


def _zones(lines: Sequence[_Line]) -> Iterator[dict[str, Any]]:
    deciding = [line for line in lines if line.decides]
    edges = sorted({line.value for line in deciding})
    if not edges:
        return
    for low, high in itertools.pairwise([-math.inf, *edges, math.inf]):
        inside = _between(low, high)
        worst = max(
            (SEVERITIES.index(line.severity) + 1 for line in deciding if _is_beyond(inside, line)),
            default=0,
        )
        yield {"from": _open(low), "to": _open(high), "zone": ("ok", *SEVERITIES)[worst]}


def _is_beyond(value: float, line: _Line) -> bool:
    return value > line.value if line.op in {">", ">="} else value < line.value


def _between(low: float, high: float) -> float:
    """Some number inside."""
    if math.isinf(low):
        return high - abs(high) - 1.0
    if math.isinf(high):
        return low + abs(low) + 1.0
    return (low + high) / 2.0


def _open(edge: float) -> float | None:
    return edge if math.isfinite(edge) else None


def _factor(rules: RuleSet, name: str) -> float:
    canonical = rules.canonical(name)
    return next(
        (each.factor for each in rules.aliases if each.name == name and each.metric == canonical),
        1.0,
    )


def _lines(rules: RuleSet, name: str, latest: Mapping[str, float]) -> Iterator[_Line]:
    canonical, factor = rules.canonical(name), _factor(rules, name)
    readings = {rules.canonical(each): value for each, value in latest.items()} | dict(latest)
    for rule in rules.rules:
        own = {canonical, name}
        if rule.each:
            own = {SUBJECT} if rules.role(name) in rule.each else set()
            readings[SUBJECT] = latest[name]
        # A condition of several parts that must all hold is decided by none of them.
        decides = "and" not in {node.op for node in _tree(rule.expr).walk()}
        for metric, op, limit in limits(rule, readings):
            if metric in own:
                scale = factor if metric == canonical != name else 1.0
                turned = op if scale > 0 else _MIRRORED[op]
                yield _Line(rule.name, rule.severity, turned, limit / scale, decides)


def limits(rule: Rule, readings: Mapping[str, float]) -> Iterator[tuple[str, str, float]]:
    """Lines that a rule draws: (metric, comparison, number), as far as it says them plainly.

    Conditions over windows, and sides that no reading settles, draw no line.
    """
    for node in _comparisons(_tree(rule.expr)):
        for side, other, op in (
            (node.parts[0], node.parts[1], node.op),
            (node.parts[1], node.parts[0], _MIRRORED[node.op]),
        ):
            limit = _number(other, readings)
            if limit is None or not math.isfinite(limit):
                continue
            if side.op == "metric":
                yield str(side.value), op, limit
            elif side.op == "call" and side.value == "abs" and side.parts[0].op == "metric":
                yield str(side.parts[0].value), op, limit
                yield str(side.parts[0].value), _MIRRORED[op], -limit


@functools.lru_cache(maxsize=512)
def _tree(expr: str) -> Syntax:
    return parse(expr)


def _comparisons(tree: Syntax) -> Iterator[Syntax]:
    if tree.op in {"and", "or"}:
        for part in tree.parts:
            yield from _comparisons(part)
    elif tree.op in _MIRRORED:
        yield tree


def _number(node: Syntax, readings: Mapping[str, float]) -> float | None:
    """What a side of a comparison comes to now, or None where that is not plain."""
    if node.op == "number":
        return float(str(node.value))
    if node.op == "metric":
        return readings.get(str(node.value))
    if node.op == "call" and node.value not in {"bound", "abs"}:
        return None
    parts = [_number(part, readings) for part in node.parts]
    numbers = [part for part in parts if part is not None]
    if not numbers or len(numbers) < len(parts):
        return None
    return _combined(node, numbers)


def _combined(node: Syntax, numbers: list[float]) -> float | None:
    if len(numbers) == 1:
        return _of_one(str(node.value) if node.op == "call" else node.op, numbers[0])
    left, right = numbers
    match node.op:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return left / right if right else None
        case _:
            return None


def _of_one(name: str, value: float) -> float | None:
    match name:
        case "negate":
            return -value
        case "abs":
            return abs(value)
        case "bound":
            return math.sqrt(value - 1.0) if value >= 1.0 else None
        case _:
            return None
