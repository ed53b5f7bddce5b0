"""Rows from several sources, the console and log files, as one run's updates.

Trainers tell the same thing in several places: on the console at three digits, in a CSV, in
TensorBoard's file two minutes later. Each metric is taken from one source at a time: the one that
told of it first; the richer one where both tell of it as often and at the same time; and another
one once that is further on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from watchstep.core.roles import role_of
from watchstep.outside.twins import Twins
from watchstep.postmortem.readers.logs import Joiner, Row, Strays

SETTLE_S = 0.3
"""How long a source's newest row waits for one that goes with it: an evaluation of its step."""

WAIT_S = 0.4
"""How long an update waits for what other sources say of its step; an alert may take 2 s."""

_SILENT_S = 1.5
_TURNS = 3
"""A metric's source that is silent for so long, while another one that is further tells of it at so
many turns, gives way to it: what is written rarely must not hide what is printed."""

_MOST_OWNERS = 10_000
_MOST_GATHERED = 1_000
"""Updates that wait at most: a log that is read for the first time comes all at once."""


class Source:
    """Where rows come from.

    Attributes:
        rank: As in `formats.RANKS`: the lower, the more it tells.
        strays: Holds back rows that go back in number, until it is known what they are.
        joiner: Makes its rows updates, each by itself.
        heard: When its newest row came, on the monotonic clock.
        step: The last number that it printed, None before the first.
    """

    def __init__(self, name: str, rank: int) -> None:
        self.name = name
        self.rank = rank
        self.strays = Strays()
        self.joiner = Joiner()
        self.heard = 0.0
        self.count = 0
        self.step: int | None = None


@dataclass
class MergedUpdate:
    """What all sources say of one step.

    Attributes:
        time: Seconds since the epoch by the log's own clock; None where it has none.
        attempt: By the count of resumes of the source that has seen most of them, from 1.
        since: When its first reading came, on the monotonic clock.
        told_by: Canonical metric to the name that it has here, and its source.
    """

    step: int
    readings: dict[str, float] = field(default_factory=dict)
    event: dict[str, object] | None = None
    time: float | None = None
    attempt: int = 1
    since: float = 0.0
    told_by: dict[str, tuple[str, Source]] = field(default_factory=dict)


@dataclass
class _Rival:
    """Another source that tells of a metric.

    Attributes:
        owners: The owner's, when this one last told of it.
        turns: Moments at which it did since then, and the last of these.
    """

    reports: int = 0
    owners: int = 0
    turns: int = 0
    heard: float = -1.0


@dataclass
class _Owner:
    """The source that a metric is taken from.

    Attributes:
        step: The last one that it told of.
        heard: When, on the monotonic clock.
    """

    source: Source
    step: int
    heard: float
    reports: int = 0
    rivals: dict[Source, _Rival] = field(default_factory=dict)

    def yields_to(self, source: Source, step: int, now: float, *, both: bool) -> bool:
        """Whether another source that tells of a step takes its place.

        Args:
            step: The one that it tells of.
            now: On the monotonic clock.
            both: Whether this one has told of the same step just now.
        """
        rival = self.rivals.setdefault(source, _Rival())
        if rival.owners != self.reports:
            rival.owners, rival.turns = self.reports, 0
        rival.reports += 1
        rival.turns += now != rival.heard
        rival.heard = now
        as_often = 2 * rival.reports >= self.reports
        if both and as_often and source.rank < self.source.rank:
            return True
        silent = now - self.heard > _SILENT_S and rival.turns >= _TURNS
        return silent and step > self.step


class Merger:
    """Gathers rows until their step is complete.

    Args:
        canonical: The vocabulary's name for a metric: two names for one are one metric.
        role: What kind of quantity a name is of.
        settle_s, wait_s: See `SETTLE_S` and `WAIT_S`.
    """

    def __init__(
        self,
        canonical: Callable[[str], str],
        role: Callable[[str], str] = role_of,
        *,
        settle_s: float = SETTLE_S,
        wait_s: float = WAIT_S,
    ) -> None:
        self.canonical = canonical
        self._twins = Twins(canonical, role)
        self._settle_s = settle_s
        self._wait_s = wait_s
        self._holding: set[Source] = set()
        self._owners: dict[str, _Owner] = {}
        self._gathering: list[MergedUpdate] = []
        self._by_step: dict[int, MergedUpdate] = {}
        self._done: list[MergedUpdate] = []
        self._furthest = 0
        self._attempt = 1
        self._resumed_after = 0

    def add(self, source: Source, rows: Iterable[Row], now: float) -> None:
        """Take rows of one source, in its order. `now` is monotonic."""
        for row in rows:
            source.heard = now
            self._holding.add(source)
            self._join(source, source.strays.add(row), now)

    def ready(self, now: float) -> list[MergedUpdate]:
        """Updates that have waited long enough, in the order of their steps."""
        for source in [source for source in self._holding if now - source.heard >= self._settle_s]:
            if now == math.inf:
                self._join(source, source.strays.rest(), source.heard)
            if not source.strays.holds:
                self._holding.discard(source)
            whole = source.joiner.rest()
            if whole is not None:
                self._take(source, whole, min(now, source.heard))
        waited = 0
        for update in self._gathering:
            waited += now - update.since >= self._wait_s
        self._let_go(waited)
        done, self._done = self._done, []
        if len({source for each in done for _, source in each.told_by.values()}) > 1:
            # What a burst of lines printed was written to a file meanwhile, of which each has steps
            # that the other lacks; numbers that go back would seem to be another attempt's.
            done.sort(key=lambda update: (update.attempt, update.step))
        return done

    def holds(self, source: Source) -> bool:
        """Whether a source's newest row is still waiting for one that goes with it."""
        return source in self._holding

    @property
    def waits(self) -> bool:
        return bool(self._gathering or self._done or self._holding)

    def _join(self, source: Source, rows: Iterable[Row], now: float) -> None:
        for row in rows:
            whole = source.joiner.add(row)
            if whole is not None:
                self._take(source, whole, now)

    def _take(self, source: Source, row: Row, now: float) -> None:
        source.count += bool(row.readings)
        if row.attempt > self._attempt:
            self._attempt, self._resumed_after = row.attempt, source.step or 0
            for waiting in self._gathering:
                waiting.attempt = self._attempt_at(waiting.step)
        # A row that its log prints no number for stands where the last numbered one stood.
        source.step = source.step if row.step is None else row.step
        step = source.step if source.step is not None else source.count
        if row.readings:
            self._furthest = max(self._furthest, step)
        elif row.step is None:
            # Words of a stream that numbers nothing, such as a traceback: of the newest step.
            step = max(step, self._furthest)
        row.readings = {
            self._twins.name(source, name, row.step, value): value
            for name, value in row.readings.items()
        }
        update = self._update(step, source, now)
        own = self._taken(source, row, update, now)
        for name, value in own.items():
            self._put(update, source, name, value)
        update.event = update.event or row.event
        # One source may not show that training was begun again: its file is another one now.
        update.attempt = max(update.attempt, row.attempt, self._attempt_at(step))
        if update.time is None:
            update.time = row.time

    def _attempt_at(self, step: int) -> int:
        """Of a step that another source tells; the one that says of a resume prints more rarely."""
        return self._attempt if step > self._resumed_after else max(self._attempt - 1, 1)

    def _taken(
        self, source: Source, row: Row, update: MergedUpdate, now: float
    ) -> dict[str, float]:
        """Those of a row's readings that are this source's to tell."""
        own: dict[str, float] = {}
        for name, value in row.readings.items():
            metric = self.canonical(name)
            owner = self._owners.get(metric)
            if owner is None and len(self._owners) >= _MOST_OWNERS:
                continue
            if owner is None or (
                owner.source is not source
                and owner.yields_to(source, update.step, now, both=metric in update.told_by)
            ):
                owner = self._owners[metric] = _Owner(source, update.step, now)
            if owner.source is source:
                owner.step, owner.heard = update.step, now
                owner.reports += 1
                own[name] = value
        return own

    def _put(self, update: MergedUpdate, source: Source, name: str, value: float) -> None:
        metric = self.canonical(name)
        before = update.told_by.get(metric)
        if before is not None and before[1] is not source:
            update.readings.pop(before[0], None)
        update.readings[name] = value
        update.told_by[metric] = (name, source)

    def _update(self, step: int, source: Source, now: float) -> MergedUpdate:
        """What other sources have said of a step so far, or nothing yet."""
        update = self._by_step.get(step)
        if update is None or any(teller is source for _, teller in update.told_by.values()):
            if len(self._gathering) >= _MOST_GATHERED:
                self._let_go(_MOST_GATHERED // 2)
            update = self._by_step[step] = MergedUpdate(step, since=now)
            self._gathering.append(update)
        return update

    def _let_go(self, count: int) -> None:
        """The oldest updates wait no longer."""
        for update in self._gathering[:count]:
            if self._by_step.get(update.step) is update:
                del self._by_step[update.step]
            if update.readings or update.event is not None:
                self._done.append(update)
        del self._gathering[:count]
