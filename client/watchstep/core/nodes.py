"""What rules are evaluated by: one small object for each node of an expression.

Every node gives a float. NaN stands for the unknown, in numbers and in conditions alike: a
condition is 1.0, 0.0, or NaN where it cannot be told. Nodes keep nothing of a run, so all runs
share them; what a run remembers is in its `Context`. mypyc compiles this module where a
compiler is, see hatch_build.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from watchstep.core.arithmetic import UNKNOWN, greatest, known, least, ratio
from watchstep.core.context import Context

YES: Final = 1.0
NO: Final = 0.0


class Node:
    def value(self, now: Context) -> float:
        raise NotImplementedError


class Number(Node):
    def __init__(self, number: float) -> None:
        self.number = number

    def value(self, now: Context) -> float:
        return self.number


class Metric(Node):
    def __init__(self, slot: int) -> None:
        self.slot = slot

    def value(self, now: Context) -> float:
        reading: float = now.values[self.slot]
        return reading


class Unary(Node):
    def __init__(self, a: Node) -> None:
        self.a = a


class Negate(Unary):
    def value(self, now: Context) -> float:
        return -self.a.value(now)


class Not(Unary):
    def value(self, now: Context) -> float:
        return YES - self.a.value(now)


class Abs(Unary):
    def value(self, now: Context) -> float:
        return abs(self.a.value(now))


class Applied(Unary):
    """A function of one number, such as a square root."""

    def __init__(self, a: Node, function: Callable[[float], float]) -> None:
        super().__init__(a)
        self.function = function

    def value(self, now: Context) -> float:
        return self.function(self.a.value(now))


class Binary(Node):
    def __init__(self, a: Node, b: Node) -> None:
        self.a = a
        self.b = b


class And(Binary):
    def value(self, now: Context) -> float:
        a = self.a.value(now)
        if a == NO:
            return NO
        b = self.b.value(now)
        return NO if b == NO else a * b


class Or(Binary):
    def value(self, now: Context) -> float:
        a = self.a.value(now)
        if a == YES:
            return YES
        b = self.b.value(now)
        return YES if b == YES else a + b


class Less(Binary):
    def value(self, now: Context) -> float:
        a, b = self.a.value(now), self.b.value(now)
        return YES if a < b else NO if a == a and b == b else UNKNOWN


class AtMost(Binary):
    def value(self, now: Context) -> float:
        a, b = self.a.value(now), self.b.value(now)
        return YES if a <= b else NO if a == a and b == b else UNKNOWN


class Equal(Binary):
    def value(self, now: Context) -> float:
        a, b = self.a.value(now), self.b.value(now)
        return YES if a == b else NO if a == a and b == b else UNKNOWN


class Sum(Binary):
    def value(self, now: Context) -> float:
        return self.a.value(now) + self.b.value(now)


class Difference(Binary):
    def value(self, now: Context) -> float:
        return self.a.value(now) - self.b.value(now)


class Product(Binary):
    def value(self, now: Context) -> float:
        return self.a.value(now) * self.b.value(now)


class Ratio(Binary):
    def value(self, now: Context) -> float:
        return ratio(self.a.value(now), self.b.value(now))


class Least(Binary):
    def value(self, now: Context) -> float:
        return least(self.a.value(now), self.b.value(now))


class Greatest(Binary):
    def value(self, now: Context) -> float:
        return greatest(self.a.value(now), self.b.value(now))


class Known(Binary):
    def value(self, now: Context) -> float:
        return known(self.a.value(now), self.b.value(now))


class WindowNode(Node):
    """A function that reads a window.

    Args:
        place: Of the window among those of its kind.
        x: What is pushed into the window, or what it is made of.
        constant: The call's plain number; 0.0 where it has none.
    """

    def __init__(self, place: int, x: Node, constant: float) -> None:
        self.place = place
        self.x = x
        self.constant = constant


class WindowNodeOfNow(WindowNode):
    """A function that is unknown where its `x` is."""


class Median(WindowNode):
    def value(self, now: Context) -> float:
        return now.medians[self.place].median()


class Spike(WindowNodeOfNow):
    def value(self, now: Context) -> float:
        median = now.medians[self.place].median()
        return ratio(abs(self.x.value(now)), median)


class Drop(WindowNodeOfNow):
    def value(self, now: Context) -> float:
        median = now.medians[self.place].median()
        return ratio(median, abs(self.x.value(now)))


class Mean(WindowNode):
    def value(self, now: Context) -> float:
        return now.moments[self.place].mean()


class Std(WindowNode):
    def value(self, now: Context) -> float:
        return now.moments[self.place].std()


class Zscore(WindowNodeOfNow):
    def value(self, now: Context) -> float:
        return now.moments[self.place].zscore(self.x.value(now))


class Slope(WindowNodeOfNow):
    def value(self, now: Context) -> float:
        x = self.x.value(now)
        return now.trends[self.place].slope() if x - x == 0.0 else UNKNOWN


class Eta(WindowNodeOfNow):
    """Its constant is the logarithm of the limit."""

    def value(self, now: Context) -> float:
        x = self.x.value(now)
        if x - x != 0.0:
            return UNKNOWN
        return now.trends[self.place].updates_until(self.constant)


class Min(WindowNode):
    def value(self, now: Context) -> float:
        return now.extremes[self.place].smallest()


class Max(WindowNode):
    def value(self, now: Context) -> float:
        return now.extremes[self.place].largest()


class Flat(WindowNodeOfNow):
    def value(self, now: Context) -> float:
        x = self.x.value(now)
        if x - x != 0.0:
            return UNKNOWN
        return now.extremes[self.place].is_flat(self.constant)


class Stuck(WindowNodeOfNow):
    """Its constant is the number of values that must be equal."""

    def value(self, now: Context) -> float:
        x = self.x.value(now)
        if x - x != 0.0:
            return UNKNOWN
        return now.repeats[self.place].lasts(self.constant)


class Record(WindowNodeOfNow):
    def value(self, now: Context) -> float:
        window = now.records[self.place]
        return window.times_largest(self.x.value(now), self.constant)


class Lowest(WindowNode):
    def value(self, now: Context) -> float:
        return now.records[self.place].lowest(self.constant)


class Previous(WindowNode):
    def value(self, now: Context) -> float:
        return now.records[self.place].last


class Changed(WindowNodeOfNow):
    def value(self, now: Context) -> float:
        x, last = self.x.value(now), now.records[self.place].last
        return UNKNOWN if x != x or last != last else YES if x != last else NO


class Level(WindowNodeOfNow):
    """Its constant is the number of values that it is the median of."""

    def value(self, now: Context) -> float:
        x = self.x.value(now)
        if x - x != 0.0:
            return UNKNOWN
        return now.levels[self.place].current()


class Settled(WindowNode):
    def value(self, now: Context) -> float:
        return now.levels[self.place].settled()


class Growth(WindowNodeOfNow):
    """Its constant is the floor."""

    def value(self, now: Context) -> float:
        x = self.x.value(now)
        if x - x != 0.0:
            return UNKNOWN
        return now.levels[self.place].growth(self.constant)


class First(WindowNode):
    def value(self, now: Context) -> float:
        return now.levels[self.place].of_first()


class Before(WindowNode):
    def value(self, now: Context) -> float:
        return now.levels[self.place].before


class Count(Node):
    """Reads what a `Tally` put down at this update.

    Args:
        at: Where.
        x: What is counted.
        pace: Slot without which an update does not count, -1 for none.
    """

    def __init__(self, at: int, x: Node, pace: int) -> None:
        self.at = at
        self.x = x
        self.pace = pace

    def value(self, now: Context) -> float:
        return now.counts[self.at]


class Nonfinite(Node):
    def __init__(self, index: int) -> None:
        self.index = index

    def value(self, now: Context) -> float:
        return now.nonfinite(self.index)


class NonfiniteReading(Node):
    """Whether one metric is NaN or infinite; unknown where it is not reported."""

    def __init__(self, slot: int) -> None:
        self.slot = slot

    def value(self, now: Context) -> float:
        if self.slot not in now.present:
            return UNKNOWN
        x = now.values[self.slot]
        return NO if x - x == 0.0 else YES


class Missing(Node):
    def __init__(self, at: int, updates: float) -> None:
        self.at = at
        self.updates = updates

    def value(self, now: Context) -> float:
        if not now.logged:
            return UNKNOWN
        seen = now.seen[self.at]
        return YES if 0 < seen <= now.age - self.updates else NO


class Overdue(Node):
    """`missing` in a rule with `each`: its updates are the longest gaps between reports so far."""

    def __init__(self, at: int, reports: float) -> None:
        self.at = at
        self.reports = reports

    def value(self, now: Context) -> float:
        if not now.logged:
            return UNKNOWN
        gap = now.gaps[self.at]
        return YES if 0 < gap * self.reports <= now.age - now.seen[self.at] else NO


class Reports(Node):
    def __init__(self, at: int) -> None:
        self.at = at

    def value(self, now: Context) -> float:
        return float(now.reports[self.at])


class Present(Node):
    def __init__(self, slot: int) -> None:
        self.slot = slot

    def value(self, now: Context) -> float:
        is_absent = NO if now.logged else UNKNOWN
        return YES if self.slot in now.present else is_absent


class Fired(Node):
    """Whether any of these instances of a rule did."""

    def __init__(self, instances: tuple[int, ...], updates: float) -> None:
        self.instances = instances
        self.updates = updates

    def value(self, now: Context) -> float:
        fired = any(now.fired_within(index, self.updates) for index in self.instances)
        return YES if fired else NO


class Event(Node):
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def value(self, now: Context) -> float:
        return YES if now.event is not None and now.has_event(self.kind) else NO


class Logged(Node):
    def __init__(self, glob: str) -> None:
        self.glob = glob

    def value(self, now: Context) -> float:
        return YES if now.event is not None and now.has_logged(self.glob) else NO


class Age(Node):
    def value(self, now: Context) -> float:
        return float(now.age)


class Step(Node):
    def value(self, now: Context) -> float:
        return float(now.training_step)


class Silence(Node):
    def value(self, now: Context) -> float:
        return now.silence


class Stalled(Node):
    def value(self, now: Context) -> float:
        return YES if now.stalled else NO
