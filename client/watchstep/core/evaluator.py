"""Judges all rules of a set at one update, and pushes the update into the windows.

mypyc compiles this module where a compiler is, see hatch_build.py.
"""

from __future__ import annotations

from watchstep.core.arithmetic import UNKNOWN
from watchstep.core.context import Context
from watchstep.core.nodes import NO, YES, Abs, Metric, Node
from watchstep.core.sorted_windows import Feed

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


class PushReading(Push):
    """Pushes a bare reading, or its magnitude.

    It looks at no window, so it can be pushed at once. Of all others the values come first: what
    one window is asked may be pushed into another.
    """

    def __init__(self, place: int, x: Node, of_guard: bool) -> None:
        super().__init__(place, x, of_guard)
        self.magnitude = isinstance(x, Abs)
        reading = x.a if isinstance(x, Abs) else x
        assert isinstance(reading, Metric)
        self.slot = reading.slot

    def do(self, now: Context) -> None:
        reading = now.values[self.slot]
        value: float = reading
        if value - value == 0.0:
            if self.magnitude and value <= 0.0:
                reading = abs(value)
            now.windows[self.place].push(reading, now.time)


class Tally(Advance):
    """Counts how often a condition held.

    Args:
        place: Of the window among those that count.
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
        else:
            now.counts[self.at] = now.counters[self.place].tally(self.x.value(now), now.time)


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
        return YES if self.clear is None else self.clear.value(now)


class Steps:
    """What is done with windows at an update.

    Args:
        before: What happens to windows that hold the present value, and to counts.
        after: Pushes into all others, once the rules have been judged.
    """

    def __init__(self, before: list[Advance], after: list[Push]) -> None:
        self.before = before
        self.readings = [push for push in after if isinstance(push, PushReading)]
        self.derived = [push for push in after if not isinstance(push, PushReading)]

    def prepare(self, now: Context) -> None:
        for advance in self.before:
            if now.logged or advance.of_guard:
                advance.do(now)

    def push(self, now: Context) -> None:
        values = [push.x.value(now) for push in self.derived]
        for reading in self.readings:
            if now.logged or reading.of_guard:
                reading.do(now)
        for at, push in enumerate(self.derived):
            value = values[at]
            if value - value == 0.0 and (now.logged or push.of_guard):
                now.windows[push.place].push(value, now.time)


class Guard:
    """Rules that cannot begin to hold while a reading stays within a range.

    Args:
        reach: Updates for which a reading beyond it may make them hold, after its own.
    """

    def __init__(self, slot: int, low: float, high: float, reach: int, rules: list[int]) -> None:
        self.slot = slot
        self.low = low
        self.high = high
        self.reach = reach
        self.rules = rules


class Schedule:
    """What is to be done at a calm update, see `watchstep.core.calm`.

    Args:
        steps: Those that can have an effect.
        judged: Instances of rules that may begin to hold.
        guards: Others, which a reading has to wake.
        counts: What the steps that are left out put down.
        resting: Windows in which those must have counted nothing of late.
    """

    def __init__(
        self,
        steps: Steps,
        judged: list[int],
        guards: list[Guard],
        counts: list[float],
        resting: list[int],
    ) -> None:
        self.steps = steps
        self.judged = judged
        self.guards = guards
        self.counts = counts
        self.resting = resting

    def is_enough(self, now: Context) -> bool:
        """Whether nothing else can have an effect at this update."""
        if not now.calm:
            now.rested = False
        elif not now.rested and all(now.counters[at].is_empty() for at in self.resting):
            now.rested = True
            now.counts = list(self.counts)
            now.wary = [guard.reach for guard in self.guards]
        return now.rested

    def to_judge(self, now: Context) -> list[int]:
        """The rules that may hold, or are not idle."""
        judged, wary = self.judged, now.wary
        for at, guard in enumerate(self.guards):
            value: float = now.values[guard.slot]
            if not guard.low <= value <= guard.high:
                wary[at] = guard.reach
            elif wary[at]:
                wary[at] -= 1
            else:
                continue
            judged = judged + guard.rules
        if now.busy:
            judged = judged + [at for at in now.judged if now.active[at]]
        return judged if judged is self.judged else sorted(set(judged))


class Evaluator:
    """All rules of a set, in order, and all that they remember.

    Args:
        steps: What is done with windows that do not follow readings by themselves.
        feeds: What the others follow.
    """

    def __init__(self, rules: list[RuleNode], steps: Steps, feeds: list[Feed]) -> None:
        self.rules = rules
        self.steps = steps
        self.feeds = feeds
        self.counts = sum(isinstance(advance, Tally) for advance in steps.before)

    def advance(self, now: Context, schedule: Schedule | None) -> list[Judged]:
        """Judge rules and push the update into the windows.

        Args:
            now: The run, with the update's readings laid into their slots.
            schedule: What of all this has an effect at calm updates; None where that was not
                worked out.

        Returns:
            The rules that hold or are not idle, of those that are judged.
        """
        self._note_reports(now)
        steps, candidates = self.steps, now.judged
        if schedule is not None and schedule.is_enough(now):
            steps, candidates = schedule.steps, schedule.to_judge(now)
        elif len(now.counts) != self.counts or not now.logged:
            now.counts = [UNKNOWN] * self.counts
        if now.logged:
            now.with_present.add(now.values)
        steps.prepare(now)
        judged = self._judged(now, candidates)
        steps.push(now)
        if now.logged:
            now.before_present.add(now.values)
        return judged

    def _judged(self, now: Context, candidates: list[int]) -> list[Judged]:
        judged: list[Judged] = []
        for at in candidates:
            rule = self.rules[at]
            held = rule.held(now)
            if held == YES or (now.busy and now.active[at]):
                judged.append((at, _truth(held), _truth(rule.cleared(now))))
        return judged

    def _note_reports(self, now: Context) -> None:
        for at in now.watched:
            now.reports[at] += 1
        for at in now.sighted:
            seen = now.seen[at]
            if seen and now.age - seen > now.gaps[at]:
                now.gaps[at] = now.age - seen
            now.seen[at] = now.age


def _truth(held: float) -> bool | None:
    return None if held != held else held == YES
