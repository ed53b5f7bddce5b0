"""The lines that rules draw on a metric's chart, as far as they say them plainly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from watchstep.core.arithmetic import bound, ratio
from watchstep.core.grammar import Syntax
from watchstep.core.updates import SEVERITIES, Severity

Direction = Literal["above", "below"]
_DIRECTIONS: Mapping[str, Direction] = {">": "above", ">=": "above", "<": "below", "<=": "below"}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


class Threshold(NamedTuple):
    """A line on a chart.

    Attributes:
        value: In the unit of the metric as it is reported.
        severity: Of the rule that holds beyond it.
        direction: The side on which it holds.
    """

    value: float
    severity: Severity
    direction: Direction
    rule: str


class Zone(NamedTuple):
    """A stretch between two neighbouring lines, its ends infinite where it is open.

    Attributes:
        severity: Of the worst rule that holds there by this reading alone; "" where none does.
    """

    low: float
    high: float
    severity: Severity | Literal[""]


def zones(thresholds: Sequence[Threshold]) -> Iterator[Zone]:
    """The whole line in zones, lowest first; nothing without a threshold."""
    edges = sorted({line.value for line in thresholds})
    for low, high in itertools.pairwise([-math.inf, *edges, math.inf] if edges else []):
        beyond = [line.severity for line in thresholds if _covers(line, low, high)]
        yield Zone(low, high, max(beyond, key=SEVERITIES.index, default=""))


def _covers(line: Threshold, low: float, high: float) -> bool:
    """Whether the stretch between two neighbouring edges lies beyond the line."""
    return low >= line.value if line.direction == "above" else high <= line.value


def lines(
    tree: Syntax, readings: Mapping[str, float], *, parts: bool = False
) -> Iterator[tuple[str, float, Direction]]:
    """Metric, value and direction of every line beyond which a condition holds by itself.

    What stands beside something else in an `and` holds not by itself and draws none; nor does what
    compares with a window.

    Args:
        readings: The newest, for limits that move with another metric; by canonical names.
        parts: Whether what stands beside something else in an `and` draws its line too.
    """
    for comparison in _sufficient(tree, "or and" if parts else "or"):
        left, right = comparison.parts
        for side, other, op in (
            (left, right, comparison.op),
            (right, left, _MIRRORED[comparison.op]),
        ):
            limit = _number(other, readings)
            if not math.isfinite(limit):
                continue
            if side.op == "metric":
                yield str(side.value), limit, _DIRECTIONS[op]
            elif side.op == "call" and side.value in {"abs", "level"}:
                inner = side.parts[0]
                if inner.op == "metric" and limit >= 0:
                    yield str(inner.value), limit, _DIRECTIONS[op]
                    yield str(inner.value), -limit, _DIRECTIONS[_MIRRORED[op]]


def _sufficient(tree: Syntax, joints: str) -> Iterator[Syntax]:
    """The comparisons that make the condition hold, or do in the long run."""
    if tree.op in joints.split():
        for part in tree.parts:
            yield from _sufficient(part, joints)
    elif tree.op in {">", ">="} and tree.parts[0].op == "call" and tree.parts[0].value == "count":
        yield from _sufficient(tree.parts[0].parts[0], joints)
    elif tree.op in _MIRRORED:
        yield tree


def _number(node: Syntax, readings: Mapping[str, float]) -> float:
    """What a side of a comparison comes to now; NaN where that is not plain."""
    if node.op == "number":
        return float(str(node.value))
    if node.op == "metric":
        return readings.get(str(node.value), math.nan)
    name = str(node.value) if node.op == "call" else node.op
    if name not in {"bound", "abs", "negate", "+", "-", "*", "/"}:
        return math.nan
    numbers = [_number(part, readings) for part in node.parts]
    if len(numbers) == 1:
        x = numbers[0]
        return bound(x) if name == "bound" else abs(x) if name == "abs" else -x
    left, right = numbers
    results = {"+": left + right, "-": left - right, "*": left * right}
    return results[name] if name in results else ratio(left, right)
