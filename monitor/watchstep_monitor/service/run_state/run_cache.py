"""Runs as the service holds them in memory: rule state beside the row it belongs to.

A `LiveRun` is owned by the thread that writes its run. Everyone else sees a `RunView`, made
anew after each commit and never changed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from watchstep.core.engine import RuleSet, State, step
from watchstep.core.updates import Update
from watchstep_monitor.service.run_state.records import (
    SEVERITIES,
    AlertRecord,
    CommandRecord,
    IncidentRecord,
    RunRecord,
    StateSnapshot,
)
from watchstep_monitor.service.run_state.rulebook import RuleBook
from watchstep_monitor.service.run_state.status import Reports

if TYPE_CHECKING:
    from watchstep_monitor.store.transaction import SqlTransaction


@dataclass(slots=True)
class LiveRun:
    """One run's state, owned by its writing thread.

    Attributes:
        latest: The newest reading of every metric.
        reports: Of the present attempt.
        alerts: Open alerts by rule and subject.
        members: All alerts of the open incident by id, resolved ones too.
        diagnosed: The incident whose causes were looked for last, open or not; forgotten with
            the process.
        since_snapshot: Updates since the rule state was last saved.
    """

    record: RunRecord
    rules: RuleSet
    rules_version: int
    engine: State
    latest: dict[str, float] = field(default_factory=dict)
    reports: Reports = field(default_factory=Reports)
    alerts: dict[tuple[str, str], AlertRecord] = field(default_factory=dict)
    incident: IncidentRecord | None = None
    members: dict[str, AlertRecord] = field(default_factory=dict)
    commands: list[CommandRecord] = field(default_factory=list)
    since_snapshot: int = 0
    diagnosed: IncidentRecord | None = None

    def note(self, updates: Sequence[Update]) -> None:
        """Take over the readings of updates that follow each other.

        Of those with the same names only the newest can leave a trace.
        """
        newest: dict[tuple[str, ...], Mapping[str, float]] = {}
        for update in reversed(updates):
            newest.setdefault(tuple(update.readings), update.readings)
        for readings in reversed(newest.values()):
            self.latest.update(readings)
        self.reports.take(self.rules, updates)

    def firing(self) -> list[AlertRecord]:
        """The alerts that fire."""
        return [alert for alert in self.alerts.values() if alert.state == "firing"]

    def snapshot(self) -> StateSnapshot:
        """The rule state as the store keeps it."""
        return StateSnapshot(
            self.engine.attempt,
            self.engine.seq,
            self.engine.snapshot(),
            dict(self.latest),
            self.reports.snapshot(),
        )


@dataclass(frozen=True, slots=True)
class RunView:
    """One run at one moment, for readers in any thread."""

    record: RunRecord
    rules: RuleSet
    latest: Mapping[str, float]
    alerts: tuple[AlertRecord, ...]
    incident: IncidentRecord | None
    commands: tuple[CommandRecord, ...]

    def zones(self) -> dict[str, str]:
        """The severity of the worst alert about each metric that rules look at, or "ok"."""
        worst: dict[str, int] = {}
        for alert in self.alerts:
            metric = self.rules.canonical(alert.subject or alert.metric)
            if alert.state == "firing" and metric:
                rank = SEVERITIES.index(alert.severity) + 1
                worst[metric] = max(rank, worst.get(metric, 0))
        words = ("ok", *SEVERITIES)
        return {
            name: words[worst.get(self.rules.canonical(name), 0)]
            for name in self.latest
            if self.rules.canonical(name) in worst or _is_looked_at(self.rules, name)
        }


def _is_looked_at(rules: RuleSet, name: str) -> bool:
    """Whether some rule is about a metric."""
    return bool(rules.targets(name)) or rules.role(name) in rules.each_roles


class RunCache:
    """The runs held in memory, least recently used ones dropped first.

    Attributes:
        book: The rules that judge them.
    """

    def __init__(self, book: RuleBook, most_runs: int) -> None:
        self.book = book
        self._most_runs = most_runs
        self._live: OrderedDict[str, LiveRun] = OrderedDict()
        self._views: dict[str, RunView] = {}
        self._lock = threading.Lock()

    def find(self, transaction: SqlTransaction, run: str) -> LiveRun | None:
        """The run's live state, from memory or rebuilt from the store; None if unknown."""
        with self._lock:
            live = self._live.get(run)
            if live is not None:
                self._live.move_to_end(run)
        if live is None:
            live = self._rebuild(transaction, run)
            if live is None:
                return None
            self.hold(live)
        return live

    def hold(self, live: LiveRun) -> None:
        """Keep a run in memory."""
        with self._lock:
            self._live[live.record.run] = live
            while len(self._live) > self._most_runs:
                dropped, _ = self._live.popitem(last=False)
                self._views.pop(dropped, None)

    def forget(self, run: str, *, views: bool = False) -> None:
        """Drop a run whose change came to nothing; the next use rebuilds it.

        Args:
            run: Which.
            views: Whether nobody may see it any more.
        """
        with self._lock:
            self._live.pop(run, None)
            if views:
                self._views.pop(run, None)

    def publish(self, live: LiveRun) -> RunView:
        """Show a run's committed state to readers."""
        view = RunView(
            live.record,
            live.rules,
            dict(live.latest),
            tuple(live.alerts.values()),
            live.incident,
            tuple(live.commands),
        )
        with self._lock:
            if live.record.run in self._live:
                self._views[live.record.run] = view
        return view

    def view(self, run: str) -> RunView | None:
        """The newest committed state of a run held in memory."""
        return self._views.get(run)

    def views(self) -> list[RunView]:
        """All runs held in memory."""
        with self._lock:
            return list(self._views.values())

    def _rebuild(self, transaction: SqlTransaction, run: str) -> LiveRun | None:
        """The state that folding the whole stream would give: last snapshot, then replay."""
        record = transaction.load_run(run)
        if record is None:
            return None
        version = self.book.version
        rules = self.book.for_tags(record.tags)
        saved = transaction.snapshot(run)
        live = LiveRun(record, rules, version, _restored(rules, saved))
        since = (0, 0)
        if saved is not None:
            live.latest.update(saved.latest)
            live.reports = Reports.restored(saved.reports)
            since = (saved.attempt, saved.seq)
        for update in transaction.updates_after(run, *since):
            if update.attempt != live.engine.attempt:
                live.reports = Reports()
            step(rules, live.engine, update)
            live.note([update])
            live.since_snapshot += 1
        live.alerts = {alert.key: alert for alert in transaction.open_alerts(run)}
        live.incident = transaction.open_incident(run)
        if live.incident is not None:
            members = transaction.incident_alerts(live.incident)
            live.members = {alert.id: alert for alert in members}
        live.commands = transaction.commands(run)
        return live


def _restored(rules: RuleSet, saved: StateSnapshot | None) -> State:
    if saved is None:
        return State(rules)
    try:
        return State.restore(rules, saved.engine)
    except (ValueError, KeyError, TypeError):
        # Written by another version of the engine: windows start anew, open alerts stay.
        return State(rules)
