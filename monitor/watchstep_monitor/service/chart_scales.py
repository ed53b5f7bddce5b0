"""What a chart is drawn against: the zones of its metric and the thresholds of the rules."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from watchstep.core.grammar import Syntax, parse
from watchstep.core.rules import Bands, Rule
from watchstep.core.ruleset import RuleSet

_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_BOUND_EDGE = 100.0
"""Edge that stands for the bound itself in zones `of: bound`; see `Bands.zone`."""


def scales(rules: RuleSet, latest: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Zones and thresholds by metric, as the run reports its names, for its newest readings.

    Numbers that move with the run (a bound that depends on a count) are those of now; open
    ends of zones are None.
    """
    found = {}
    for name in latest:
        zones = list(_zones(rules, name, latest))
        thresholds = list(_thresholds(rules, name, latest))
        if zones or thresholds:
            found[name] = {"zones": zones, "thresholds": thresholds}
    return found


def _zones(rules: RuleSet, name: str, latest: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    band = rules.bands.get(rules.canonical(name))
    if band is None:
        return
    beside = latest.get(band.beside, math.nan) if band.beside else math.nan
    edges = _edges(band, beside)
    factor = _factor(rules, name)
    shown = sorted({edge / factor for edge in edges})
    ends = [-math.inf, *shown, math.inf]
    for low, high in itertools.pairwise(ends):
        zone = rules.zone(name, {name: _between(low, high), band.beside: beside})
        yield {"from": _open(low), "to": _open(high), "zone": zone}


def _edges(band: Bands, beside: float) -> list[float]:
    scale = beside if beside == beside else band.fallback
    if band.of == "knee":
        return [scale if scale == scale else band.edges[0], *band.edges[1:]]
    if band.of == "value":
        return list(band.edges)
    unit = math.sqrt(scale - 1.0) / _BOUND_EDGE if band.of == "bound" and scale >= 2 else 1.0
    return [sign * edge * unit for edge in band.edges for sign in (1.0, -1.0)]


def _between(low: float, high: float) -> float:
    """Some number inside, to ask for its zone."""
    if math.isinf(low) and math.isinf(high):
        return 0.0
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
        (one.factor for one in rules.aliases if one.name == name and one.metric == canonical), 1.0
    )


def _thresholds(rules: RuleSet, name: str, latest: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    canonical, factor = rules.canonical(name), _factor(rules, name)
    readings = {rules.canonical(each): value for each, value in latest.items()} | dict(latest)
    for rule in rules.rules:
        for metric, op, limit in limits(rule, readings):
            if metric in {canonical, name}:
                scale = 1.0 if metric == name else factor
                yield {
                    "rule": rule.name,
                    "severity": rule.severity,
                    "op": op if scale > 0 else _MIRRORED[op],
                    "value": limit / scale,
                }


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
