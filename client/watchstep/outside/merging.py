"""Rows from several sources, the console and log files, as one run's updates.

Trainers tell the same thing in several places: on the console at three digits, in a CSV, in
TensorBoard's file two minutes later. Each metric is taken from one source only: the one that told
of it first, or the richer one where two tell of it at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from watchstep.postmortem.readers.logs import Row

WAIT_S = 0.5
"""How long an update waits for what other sources say of its step; an alert may take 2 s."""

_LAPSED_S = 60.0
"""Silence of a metric's source after which another one, that is further, takes its place."""

_MOST_OWNERS = 10_000
_MOST_GATHERED = 1_000
"""Updates that wait at most: a log that is read for the first time comes all at once."""


@dataclass
class Source:
    """Where rows come from.

    Attributes:
        name: For people.
        rank: As in `formats.RANKS`: the lower, the more it tells.
        step: The step of its newest row.
    """

    name: str
    rank: int
    step: int | None = None


@dataclass
class MergedUpdate:
    """What all sources say of one step.

    Attributes:
        time: Seconds since the epoch by the log's own clock; None where it has none.
        since: When its first reading came, on the monotonic clock.
        told_by: Canonical metric to the name that it has here, and its source.
    """

    step: int
    readings: dict[str, float] = field(default_factory=dict)
    event: dict[str, object] | None = None
    time: float | None = None
    since: float = 0.0
    told_by: dict[str, tuple[str, Source]] = field(default_factory=dict)


@dataclass
class _Owner:
    source: Source
    step: int
    heard: float


class Merger:
    """Gathers rows until their step is complete.

    Args:
        canonical: The vocabulary's name for a metric: two names for one are one metric.
        wait_s: See `WAIT_S`.
    """

    def __init__(self, canonical: Callable[[str], str], *, wait_s: float = WAIT_S) -> None:
        self.canonical = canonical
        self._wait_s = wait_s
        self._owners: dict[str, _Owner] = {}
        self._gathering: list[MergedUpdate] = []
        self._by_step: dict[int, MergedUpdate] = {}
        self._done: list[MergedUpdate] = []
        self._newest = 0

    def add(self, source: Source, rows: Iterable[Row], now: float) -> None:
        """Take rows of one source, in its order. `now` is monotonic."""
        for row in rows:
            if row.readings:
                self._add_readings(source, row, now)
            elif row.event is not None:
                self._add_event(row, now)

    def ready(self, now: float) -> list[MergedUpdate]:
        """Updates that have waited long enough, in the order in which their steps were begun."""
        whole = 0
        while whole < len(self._gathering) and now - self._gathering[whole].since >= self._wait_s:
            whole += 1
        self._let_go(whole)
        done, self._done = self._done, []
        return done

    def rest(self) -> list[MergedUpdate]:
        """All that still waits."""
        return self.ready(math.inf)

    @property
    def waits(self) -> bool:
        """Whether anything is being gathered."""
        return bool(self._gathering or self._done)

    def _add_readings(self, source: Source, row: Row, now: float) -> None:
        step = self._step(source, row)
        update = self._update(step, now)
        taken = self._taken(source, row, update, now)
        if not taken and row.event is None:
            if not update.readings and update.event is None:
                self._gathering.remove(update)
                del self._by_step[step]
            return
        if any(self._conflicts(update, source, name, value) for name, value in taken.items()):
            # The source itself says another thing of the same step: it is another update.
            update = self._begin(step, now)
        for name, value in taken.items():
            self._put(update, source, name, value)
        update.event = update.event or row.event
        if update.time is None:
            update.time = row.time

    def _step(self, source: Source, row: Row) -> int:
        if row.step is not None:
            source.step = row.step
        else:
            source.step = 1 if source.step is None else source.step + 1
        self._newest = max(self._newest, source.step)
        return source.step

    def _taken(
        self, source: Source, row: Row, update: MergedUpdate, now: float
    ) -> dict[str, float]:
        """Those of a row's readings that are this source's to tell."""
        taken: dict[str, float] = {}
        for name, value in row.readings.items():
            metric = self.canonical(name)
            owner = self._owners.get(metric)
            if owner is None or self._yields(owner, source, metric, update, now):
                if owner is None and len(self._owners) >= _MOST_OWNERS:
                    continue
                owner = self._owners[metric] = _Owner(source, update.step, now)
            if owner.source is source:
                owner.step, owner.heard = update.step, now
                taken[name] = value
        return taken

    def _yields(
        self, owner: _Owner, source: Source, metric: str, update: MergedUpdate, now: float
    ) -> bool:
        """Whether a metric's owner gives way to another source."""
        if owner.source is source:
            return False
        if metric in update.told_by and source.rank < owner.source.rank:
            return True
        return now - owner.heard > _LAPSED_S and update.step > owner.step

    def _conflicts(self, update: MergedUpdate, source: Source, name: str, value: float) -> bool:
        before = update.told_by.get(self.canonical(name))
        if before is None or before[1] is not source or before[0] != name:
            return False
        known = update.readings[name]
        return known != value and not (math.isnan(known) and math.isnan(value))

    def _put(self, update: MergedUpdate, source: Source, name: str, value: float) -> None:
        metric = self.canonical(name)
        before = update.told_by.get(metric)
        if before is not None and before[1] is not source:
            update.readings.pop(before[0], None)
        update.readings[name] = value
        update.told_by[metric] = (name, source)

    def _add_event(self, row: Row, now: float) -> None:
        """An event belongs to the update before it, unless that carries another."""
        if not self._gathering or self._gathering[-1].event is not None:
            self._begin(self._newest, now)
        self._gathering[-1].event = row.event

    def _update(self, step: int, now: float) -> MergedUpdate:
        return self._by_step.get(step) or self._begin(step, now)

    def _begin(self, step: int, now: float) -> MergedUpdate:
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
