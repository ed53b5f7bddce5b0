"""Judges all rules of a set at one update, and pushes the update into the windows.

mypyc compiles this module where a compiler is, see hatch_build.py.
"""

from __future__ import annotations

from typing import cast

from watchstep.core.arithmetic import UNKNOWN
from watchstep.core.nodes import NO, YES, Abs, Context, Metric, Node
from watchstep.core.windows import CountWindow

Judged = tuple[int, bool | None, bool | None]
"""Index of a rule, its condition, and its `clear` condition."""


class Advance:
    """What happens to one window at an update.

    Args:
        place: Of the window among those of the run.
        x: What the window is about.
        of_guard: Whether that is only what the guard tells: such a window also advances at an
            update that the trainer did not log.
    """

    def __init__(self, place: int, x: Node, of_guard: bool) -> None:
        self.place = place
        self.x = x
        self.of_guard = of_guard

    def do(self, now: Context) -> None:
        """Advance the window of that run."""
        raise NotImplementedError


class Expire(Advance):
    def do(self, now: Context) -> None:
        now.windows[self.place].expire(now.time)


class Push(Advance):
    """No window takes what is not finite."""

    def do(self, now: Context) -> None:
        value = self.x.value(now)
        if value - value == 0.0:
            now.windows[self.place].push(value, now.time)


class Tally(Advance):
    """Counts how often a condition held.

    Args:
        at: Where the update's count is put down.
        pace: Slot without which an update does not count, -1 for none.
    """

    def __init__(self, place: int, x: Node, of_guard: bool, at: int, pace: int) -> None:
        super().__init__(place, x, of_guard)
        self.at = at
        self.pace = pace

    def do(self, now: Context) -> None:
        if self.pace >= 0 and self.pace not in now.present:
            now.counts[self.at] = UNKNOWN
            return
        window = cast(CountWindow, now.windows[self.place])
        now.counts[self.at] = window.tally(self.x.value(now), now.time)


class RuleNode:
    """The expressions of one rule, or of one for one metric.

    Args:
        warmup: Updates of an attempt before which the rule cannot hold.
        counted: Position of the watched slot whose reports are counted in place of updates; -1
            for none.
        fires_on_nan: Slots of which a NaN makes it hold.
    """

    def __init__(
        self,
        condition: Node,
        unless: Node | None,
        clear: Node | None,
        warmup: int,
        counted: int,
        fires_on_nan: tuple[int, ...],
    ) -> None:
        self.condition = condition
        self.unless = unless
        self.clear = clear
        self.warmup = warmup
        self.counted = counted
        self.fires_on_nan = fires_on_nan

    def age(self, now: Context) -> int:
        """What `for`, `keep_firing_for` and `warmup` count."""
        return now.age if self.counted < 0 else now.reports[self.counted]

    def held(self, now: Context) -> float:
        """Whether the rule holds."""
        if self.warmup and self.age(now) <= self.warmup:
            # Unknown, not false: a run resumed while the rule fires has not become healthy.
            return UNKNOWN
        held = self.condition.value(now)
        if held == NO:
            return NO
        if self.unless is not None and self.unless.value(now) == YES:
            return NO
        if held != held and self.fires_on_nan and now.saw_nan(self.fires_on_nan):
            return YES
        return held

    def cleared(self, now: Context) -> float:
        """Whether it may resolve."""
        return YES if self.clear is None else self.clear.value(now)


class Evaluator:
    """All rules of a set.

    Args:
        rules: In order.
        before: What happens to windows that hold the present value, and to counts.
        after: Pushes into all others, once the rules have been judged.
    """

    def __init__(self, rules: list[RuleNode], before: list[Advance], after: list[Push]) -> None:
        self.rules = rules
        self.before = before
        # A bare reading looks at no window, so it can be pushed at once. Of all others the values
        # come first: what one window is asked may be pushed into another.
        self.readings = [push for push in after if _is_reading(push.x)]
        self.derived = [push for push in after if not _is_reading(push.x)]
        self.counts = sum(isinstance(advance, Tally) for advance in before)

    def advance(self, now: Context, active: list[int]) -> list[Judged]:
        """Judge rules and push the update into the windows.

        Args:
            now: The run, with the update's readings laid into their slots.
            active: For every instance of a rule 0 where it is idle.

        Returns:
            The rules that hold or are not idle, of those that are judged.
        """
        self._note_reports(now)
        if len(now.counts) != self.counts or not now.logged:
            now.counts = [UNKNOWN] * self.counts
        for advance in self.before:
            if now.logged or advance.of_guard:
                advance.do(now)
        judged: list[Judged] = []
        for at in now.judged:
            rule = self.rules[at]
            held = rule.held(now)
            if held == YES or active[at]:
                judged.append((at, _truth(held), _truth(rule.cleared(now))))
        self._push(now)
        return judged

    def _note_reports(self, now: Context) -> None:
        for at in now.watched:
            now.reports[at] += 1
        for at in now.sighted:
            seen = now.seen[at]
            if seen and now.age - seen > now.gaps[at]:
                now.gaps[at] = now.age - seen
            now.seen[at] = now.age

    def _push(self, now: Context) -> None:
        values = [push.x.value(now) for push in self.derived]
        for push in self.readings:
            if now.logged or push.of_guard:
                push.do(now)
        for at, push in enumerate(self.derived):
            value = values[at]
            if value - value == 0.0 and (now.logged or push.of_guard):
                now.windows[push.place].push(value, now.time)


def _is_reading(node: Node) -> bool:
    return isinstance(node, Metric) or (isinstance(node, Abs) and isinstance(node.a, Metric))


def _truth(held: float) -> bool | None:
    return None if held != held else held == YES
