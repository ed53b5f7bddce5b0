"""What of a rule set can have an effect at a calm update.

Most updates are calm: the trainer logged them, without an event, and every reading is finite. For a
set of reported names it is then known beforehand what many nodes come to: what looks at a metric
that is absent is unknown, and nothing is not finite. Rules that cannot hold so are left out, and a
rule that needs a reading beyond a number waits for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from watchstep.core import nodes
from watchstep.core.arithmetic import UNKNOWN
from watchstep.core.context import Context
from watchstep.core.evaluator import Advance, Evaluator, Expire, Guard, Schedule, Steps, Tally
from watchstep.core.nodes import NO, YES, Node, Number


class Range(NamedTuple):
    """Where a reading stays; one beyond matters for `reach` updates more."""

    low: float
    high: float
    reach: int = 0

    def and_of(self, other: Range) -> Range:
        """What lies in both."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Range(low, high, max(self.reach, other.reach))


Ranges = dict[int, Range]
_NOTHING = Context()


@dataclass(frozen=True, slots=True)
class Calm:
    """Calm updates of one set of names.

    Attributes:
        present: Slots that they fill.
        exact: Those of them that hold a reading as it was reported, and so a finite number.
        globs: What `nonfinite` is, for every glob list.
    """

    present: frozenset[int]
    exact: frozenset[int]
    globs: list[float]
    _values: dict[Node, float | None] = field(default_factory=dict)

    def schedule(self, evaluator: Evaluator, judged: Iterable[int]) -> Schedule:
        """What to do at such an update.

        Args:
            judged: Instances of rules that are judged at updates of these names.
        """
        counts = [UNKNOWN] * evaluator.counts
        resting: list[int] = []
        before: list[Advance] = []
        for advance in evaluator.steps.before:
            counted = self.counted(advance) if isinstance(advance, Tally) else None
            if counted is None and (isinstance(advance, Expire | Tally) or self._moves(advance.x)):
                before.append(advance)
            elif isinstance(advance, Tally) and counted == NO:
                counts[advance.at] = NO
                resting.append(advance.place)
        awake: list[int] = []
        asleep: dict[tuple[int, Range], Guard] = {}
        for at in judged:
            ranges = self.ranges(evaluator.rules[at].condition)
            if ranges is None or not _can_stay(ranges):
                awake.append(at)
                continue
            for slot, limits in ranges.items():
                asleep.setdefault((slot, limits), Guard(slot, *limits, [])).rules.append(at)
        after = [*evaluator.steps.readings, *evaluator.steps.derived]
        steps = Steps(before, [push for push in after if self._moves(push.x)])
        return Schedule(steps, awake, list(asleep.values()), counts, resting)

    def counted(self, tally: Tally | nodes.Count) -> float | None:
        """What is counted, or that nothing is; None where there may be something."""
        if tally.pace >= 0 and tally.pace not in self.present:
            return UNKNOWN
        held = self.value(tally.x)
        return None if held == YES else held

    def _moves(self, x: Node) -> bool:
        value = self.value(x)
        return value is None or value == value

    def value(self, node: Node) -> float | None:
        """What a node comes to at every such update; None where that depends."""
        if node not in self._values:
            self._values[node] = self._value(node)
        return self._values[node]

    def _value(self, node: Node) -> float | None:
        if isinstance(node, nodes.Binary):
            return self._of_two(node, self.value(node.a), self.value(node.b))
        if isinstance(node, nodes.Applied):
            a = self.value(node.a)
            return None if a is None else node.function(a)
        if isinstance(node, nodes.Unary):
            a = self.value(node.a)
            return None if a is None else type(node)(Number(a)).value(_NOTHING)
        if isinstance(node, nodes.WindowNodeOfNow):
            x = self.value(node.x)
            return x if x is not None and x != x else None
        leaf = _LEAVES.get(type(node))
        return None if leaf is None else leaf(self, node)

    def reading(self, slot: int) -> float | None:
        """What the reading in a slot comes to: that it is unknown, or nothing beforehand."""
        return None if slot in self.present else UNKNOWN

    def _of_two(self, node: nodes.Binary, a: float | None, b: float | None) -> float | None:
        if a is not None and b is not None:
            return type(node)(Number(a), Number(b)).value(_NOTHING)
        if isinstance(node, nodes.And):
            return NO if NO in (a, b) else None
        if isinstance(node, nodes.Or):
            return YES if YES in (a, b) else None
        if isinstance(node, nodes.Known):
            return None
        return UNKNOWN if a != a or b != b else None

    def ranges(self, node: Node) -> Ranges | None:
        """Ranges of readings within which a condition cannot hold; None where none are plain.

        All of the readings have to stay within theirs. Without any the condition never holds.
        """
        value = self.value(node)
        if value is not None:
            return None if value == YES else {}
        ranges: Ranges | None = None
        match node:
            case nodes.And():
                either = (self.ranges(node.a), self.ranges(node.b))
                parts = (part for part in either if part is not None)
                ranges = min(parts, key=_preferred, default=None)
            case nodes.Or():
                a, b = self.ranges(node.a), self.ranges(node.b)
                ranges = None if a is None or b is None else _joined(a, b)
            case nodes.Less():
                ranges = self._below(node.a, node.b) or self._above(node.b, node.a)
            case nodes.AtMost():
                below = self._below(node.a, node.b, math.inf)
                ranges = below or self._above(node.b, node.a, -math.inf)
            case nodes.Equal():
                below = self._below(node.a, node.b, math.inf)
                ranges = below or self._below(node.b, node.a, math.inf)
        return ranges

    def _below(self, x: Node, limit: Node, toward: float | None = None) -> Ranges | None:
        """Where a reading, or a level, is not below a number, or the next one in a direction."""
        number, reading = self.value(limit), self._reading(x)
        if number is None or number != number:
            return None
        low = _next(number, toward)
        if isinstance(reading, nodes.Metric):
            return {reading.slot: Range(low, math.inf)}
        return self._of_level(reading, low, math.inf)

    def _above(self, x: Node, limit: Node, toward: float | None = None) -> Ranges | None:
        """Where a reading, its magnitude or its level is not above a number or the next one."""
        number, reading = self.least(limit), self._reading(x)
        if number == -math.inf:
            return None
        high = _next(number, toward)
        if isinstance(reading, nodes.Metric):
            return {reading.slot: Range(-math.inf, high)}
        if isinstance(reading, nodes.Difference) and self.least(reading.b) >= 0.0:
            return self._above(reading.a, limit, toward)
        inner = self._reading(reading.a) if isinstance(reading, nodes.Abs) else None
        if isinstance(inner, nodes.Metric):
            return {inner.slot: Range(-high, high)}
        return self._of_level(reading, -high, high) if high > 0.0 else None

    def _of_level(self, x: Node, low: float, high: float) -> Ranges | None:
        """A level is not beyond what none of its values is beyond."""
        inner = self._reading(x.x) if isinstance(x, nodes.Level) else None
        if not isinstance(x, nodes.Level) or not isinstance(inner, nodes.Metric):
            return None
        return {inner.slot: Range(low, high, int(x.constant) - 1)}

    def least(self, node: Node) -> float:
        """What a node is at least, wherever it is known; -inf where that is not told."""
        value = self.value(node)
        if value is not None:
            return value if value == value else -math.inf
        least = -math.inf
        if isinstance(node, _SIZES):
            least = 0.0
        elif isinstance(node, nodes.Binary):
            a, b = self.least(node.a), self.least(node.b)
            if isinstance(node, nodes.Greatest):
                least = max(a, b)
            elif isinstance(node, nodes.Known):
                least = min(a, b)
            elif isinstance(node, nodes.Product) and min(a, b) >= 0.0:
                least = a * b
        return least

    def _reading(self, x: Node) -> Node:
        """What an `x` of several names comes to."""
        while isinstance(x, nodes.Known):
            a = self.value(x.a)
            if a is not None and a != a:
                x = x.b
            elif isinstance(x.a, nodes.Metric) and x.a.slot in self.exact:
                x = x.a
            else:
                break
        return x


_SIZES = (nodes.Abs, nodes.Level, nodes.Settled, nodes.First, nodes.Before, nodes.Std)
"""Nodes that are never below zero."""
_LEAVES: dict[type[Node], Callable[[Calm, Any], float | None]] = {
    Number: lambda _, node: float(node.number),
    nodes.Metric: lambda calm, node: calm.reading(node.slot),
    nodes.Nonfinite: lambda calm, node: calm.globs[node.index],
    nodes.NonfiniteReading: lambda calm, node: (
        NO if node.slot in calm.exact else calm.reading(node.slot)
    ),
    nodes.Event: lambda _calm, _node: NO,
    nodes.Logged: lambda _calm, _node: NO,
    nodes.Silence: lambda _calm, _node: 0.0,
    nodes.Stalled: lambda _calm, _node: NO,
    nodes.Present: lambda calm, node: YES if node.slot in calm.present else NO,
    nodes.Count: Calm.counted,
}


def _next(number: float, toward: float | None) -> float:
    return number if toward is None else math.nextafter(number, toward)


def _joined(a: Ranges, b: Ranges) -> Ranges:
    both = {slot: limits.and_of(b[slot]) for slot, limits in a.items() if slot in b}
    return {**a, **b, **both}


_LEAST_WIDTH = 1e-3
"""Readings that are about zero or below it are seldom within a narrower range."""


def _can_stay(ranges: Ranges) -> bool:
    """Whether readings are likely to stay there: most are positive, and none is infinite."""
    return all(max(limits.low, 0.0) + _LEAST_WIDTH < limits.high for limits in ranges.values())


def _preferred(ranges: Ranges) -> tuple[bool, int]:
    """Of two, where readings are likely to stay, and fewer of them are looked at."""
    return not _can_stay(ranges), len(ranges)
