"""One update as nodes see it, and what its run remembers.

mypyc compiles this module where a compiler is, see hatch_build.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from watchstep.core.extremes import ExtremeWindow
from watchstep.core.running_stats import MomentWindow, TrendWindow
from watchstep.core.sorted_windows import Backlog, Feed, LevelWindow, MedianWindow, SortedWindow
from watchstep.core.windows import CountWindow, RecordWindow, RepeatWindow, Window


class Context:
    """One update as nodes see it, and what its run remembers.

    Attributes:
        values: In slot order, NaN where nothing was reported.
        present: Slots that are reported.
        windows: Of the run, in the order of the program, see `hold`.
        medians, moments, trends, extremes, repeats, records, levels, counters: The same by kind.
        with_present, before_present: What windows follow that are read with the present value in
            them, or without.
        counts: Of this update, one for each `count` node.
        active: For every instance of a rule whether it is idle (0), pending or firing.
        busy: Whether any is pending or firing.
        judged: Instances of rules that are judged at this update.
        calm: Whether the trainer logged it, without an event, and every reading is finite.
        rested: Whether nothing was counted of late that does not happen at calm updates.
        wary: For every guard of the schedule, calm updates until its rules may sleep.
        watched: Positions of the watched slots that this update reports.
        sighted: Those of them that some rule may find missing.
        reports: For every watched slot, how often it was reported in this attempt.
        seen: For those that may be missing, the age at the last report; 0 before.
        gaps: For those, the most updates from one report to the next.
        logged: Whether the trainer logged this update, and not the guard alone.
        age: Updates of this attempt so far that the trainer logged.
        training_step, time, event: Of the update.
        silence, stalled: At a tick of the service's clock; 0 and False at updates.
    """

    def __init__(self) -> None:
        self.values: tuple[Any, ...] = ()
        self.present: frozenset[int] = frozenset()
        self.hold([], [])
        self.counts: list[float] = []
        self.active: list[int] = []
        self.busy = False
        self.judged: list[int] = []
        self.calm = False
        self.rested = False
        self.wary: list[int] = []
        self.watched: list[int] = []
        self.sighted: list[int] = []
        self.seen: list[int] = []
        self.reports: list[int] = []
        self.gaps: list[int] = []
        self.logged = True
        self.age = 0
        self.training_step: Any = 0
        self.time = 0.0
        self.event: Mapping[str, Any] | None = None
        self.silence = 0.0
        self.stalled = False

    def hold(self, windows: list[Window], feeds: list[Feed]) -> None:
        """Have these windows; each kind is a list, so that nodes need not ask what a window is."""
        self.windows = windows
        self.with_present, self.before_present = Backlog(), Backlog()
        for feed in feeds:
            window = windows[feed.place]
            assert isinstance(window, SortedWindow)
            window.follow(self.with_present if feed.now else self.before_present, feed)
        self.medians = [window for window in windows if isinstance(window, MedianWindow)]
        self.moments = [window for window in windows if isinstance(window, MomentWindow)]
        self.trends = [window for window in windows if isinstance(window, TrendWindow)]
        self.extremes = [window for window in windows if isinstance(window, ExtremeWindow)]
        self.repeats = [window for window in windows if isinstance(window, RepeatWindow)]
        self.records = [window for window in windows if isinstance(window, RecordWindow)]
        self.levels = [window for window in windows if isinstance(window, LevelWindow)]
        self.counters = [window for window in windows if isinstance(window, CountWindow)]

    def nonfinite(self, index: int) -> float:
        """Whether a reading that matches glob list `index` is not finite; unknown of none."""
        raise NotImplementedError

    def fired_within(self, index: int, updates: float) -> bool:
        """Whether a rule fired in the last updates, as of the previous one."""
        raise NotImplementedError

    def has_event(self, kind: str) -> bool:
        raise NotImplementedError

    def has_logged(self, glob: str) -> bool:
        """Whether the update carries a text that matches, ignoring case."""
        raise NotImplementedError

    def saw_nan(self, slots: tuple[int, ...]) -> bool:
        """Whether any of these slots was reported and is NaN."""
        raise NotImplementedError
