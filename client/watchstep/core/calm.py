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
from typing import Any

from watchstep.core import nodes
from watchstep.core.arithmetic import UNKNOWN
from watchstep.core.evaluator import Advance, Evaluator, Expire, Guard, Schedule, Steps, Tally
from watchstep.core.nodes import NO, YES, Context, Node, Number

Ranges = dict[int, tuple[float, float]]
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
            evaluator: Of the rules.
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
        asleep: dict[int, Guard] = {}
        for at in judged:
            ranges = self.ranges(evaluator.rules[at].condition)
            if ranges is None:
                awake.append(at)
            for slot, (low, high) in (ranges or {}).items():
                guard = asleep.setdefault(slot, Guard(slot, -math.inf, math.inf, []))
                guard.low, guard.high = max(guard.low, low), min(guard.high, high)
                guard.rules.append(at)
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
                ranges = min((part for part in either if part is not None), key=len, default=None)
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
        """Where a reading is not below a number, or the next number in a direction."""
        number, reading = self.value(limit), self._reading(x)
        if number is None or number != number or not isinstance(reading, nodes.Metric):
            return None
        return {reading.slot: (_next(number, toward), math.inf)}

    def _above(self, x: Node, limit: Node, toward: float | None = None) -> Ranges | None:
        """Where a reading, or its magnitude, is not above a number or the next one."""
        number, reading = self.value(limit), self._reading(x)
        if number is None or number != number:
            return None
        high = _next(number, toward)
        if isinstance(reading, nodes.Metric):
            return {reading.slot: (-math.inf, high)}
        inner = self._reading(reading.a) if isinstance(reading, nodes.Abs) else None
        return {inner.slot: (-high, high)} if isinstance(inner, nodes.Metric) else None

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


_LEAVES: dict[type[Node], Callable[[Calm, Any], float | None]] = {
    Number: lambda _, node: float(node.number),
    nodes.Metric: lambda calm, node: calm.reading(node.slot),
    nodes.Nonfinite: lambda calm, node: calm.globs[node.index],
    nodes.NonfiniteReading: lambda calm, node: (
        NO if node.slot in calm.exact else calm.reading(node.slot)
    ),
    nodes.Event: lambda _calm, _node: NO,
    nodes.Logged: lambda _calm, _node: NO,
    nodes.Present: lambda calm, node: YES if node.slot in calm.present else NO,
    nodes.Count: Calm.counted,
}


def _next(number: float, toward: float | None) -> float:
    return number if toward is None else math.nextafter(number, toward)


def _joined(a: Ranges, b: Ranges) -> Ranges:
    joined = dict(a)
    for slot, (low, high) in b.items():
        least, most = joined.get(slot, (-math.inf, math.inf))
        joined[slot] = (max(low, least), min(high, most))
    return joined
