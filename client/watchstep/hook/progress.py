"""When the next update is late, by the run's own rhythm."""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

LEAST_S = 30.0
"""A shorter silence is never late."""
PHASE_LEAST_S = 120.0
"""The same of a marked phase: saves and evaluations of one run differ more than its updates."""
FIRST_S = 600.0
"""Room for the first update, which may compile, and for a marked phase's first time."""
MEDIANS = 10.0
"""Medians of the gaps between updates, or of a marked phase's times, that are late."""
LONGEST = 2.0
"""Times the longest gap so far: an evaluation that nobody marked comes again."""
CRITICAL = 5.0
"""So many times as late is critical where the process stands still, and told where it moves."""
MOVING_CRITICAL = 50.0
"""The same for one that moves to be critical."""

_CALLS = 512
_PHASE_TIMES = 32

Severity = Literal["warning", "critical"]


@dataclass(slots=True)
class _Phase:
    """A marked phase: since when it lasts, and how long it took each time before."""

    name: str
    begun_s: float = 0.0
    took_s: deque[float] = field(default_factory=lambda: deque(maxlen=_PHASE_TIMES))


@dataclass(frozen=True, slots=True)
class Silence:
    """How long there has been no update, and from when on that is late.

    Attributes:
        phase: The marked phase that the process is in; "" for none.
    """

    since_s: float
    late_s: float
    phase: str

    def severity(self, *, moving: bool) -> Severity | None:
        """How bad it is, None while that is nothing to tell.

        Args:
            moving: Whether the trainer's thread is at work, which is slow and no hang.
        """
        if self.since_s < self.late_s:
            return None
        times_late = self.since_s / self.late_s
        if times_late >= (MOVING_CRITICAL if moving else CRITICAL):
            return "critical"
        return "warning" if not moving or times_late >= CRITICAL else None


class Progress:
    """What is known of a run's rhythm. All times are on the monotonic clock.

    The trainer's thread appends to `calls_ns` and marks phases; the watchdog's thread asks.

    Attributes:
        calls_ns: When `log` was called, newest last.
    """

    def __init__(self, begun_s: float, *, first_s: float = FIRST_S) -> None:
        self.calls_ns: deque[int] = deque(maxlen=_CALLS)
        self._begun_s = begun_s
        self._first_s = first_s
        self._phases: dict[str, _Phase] = {}
        self._within: list[_Phase] = []
        self._marked: deque[tuple[float, float]] = deque(maxlen=_CALLS)
        self._asleep: deque[tuple[float, float]] = deque(maxlen=_CALLS)

    def enter(self, name: str, now_s: float) -> None:
        phase = self._phases.setdefault(name, _Phase(name))
        phase.begun_s = now_s
        self._within.append(phase)

    def leave(self, now_s: float) -> None:
        phase = self._within.pop()
        phase.took_s.append(now_s - phase.begun_s)
        if not self._within:
            self._marked.append((phase.begun_s, now_s))

    def slept(self, begun_s: float, ended_s: float) -> None:
        """The whole process was stopped, or the machine asleep: nobody is late for that."""
        self._asleep.append((begun_s, ended_s))

    def silence(self, now_s: float) -> Silence:
        """How long there has been no update, of the present phase where one is marked."""
        phase = self._within[-1] if self._within else None
        if phase is not None:
            since_s = self._awake_s(phase.begun_s, now_s)
            late_s = self._late_s(list(phase.took_s), PHASE_LEAST_S, enough=2)
            return Silence(since_s, late_s, phase.name)
        calls_s = [call / 1e9 for call in list(self.calls_ns)]
        heard_s = max([self._begun_s, *calls_s[-1:], *(ended for _, ended in self._marked)])
        since_s = self._awake_s(heard_s, now_s)
        return Silence(since_s, self._late_s(self._gaps_s(calls_s), LEAST_S, enough=3), "")

    def _gaps_s(self, calls_s: list[float]) -> list[float]:
        """Times between updates, without what was marked or slept in between."""
        gaps = [ended - begun for begun, ended in pairwise(calls_s)]
        for begin, end in (*self._marked, *self._asleep):
            first = max(bisect_right(calls_s, begin) - 1, 0)
            for at in range(first, min(bisect_left(calls_s, end), len(gaps))):
                gaps[at] -= min(end, calls_s[at + 1]) - max(begin, calls_s[at])
        return gaps

    def _awake_s(self, begun_s: float, ended_s: float) -> float:
        return ended_s - begun_s - _overlap_s(list(self._asleep), begun_s, ended_s)

    def _late_s(self, times_s: list[float], least_s: float, *, enough: int) -> float:
        if not times_s:
            return max(self._first_s, LEAST_S)
        # One time alone says little of the next: an evaluation may begin with a short trial.
        few = self._first_s / len(times_s) if len(times_s) < enough else 0.0
        median_s = statistics.median(times_s)
        return max(least_s, few, MEDIANS * median_s, LONGEST * max(times_s))


def _overlap_s(spans: list[tuple[float, float]], begun_s: float, ended_s: float) -> float:
    return sum(max(min(end, ended_s) - max(begin, begun_s), 0.0) for begin, end in spans)
