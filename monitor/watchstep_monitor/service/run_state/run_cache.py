"""Runs as the service holds them in memory: rule state beside the row it belongs to.

A `LiveRun` is owned by the thread that writes its run. Everyone else sees a `RunView`, made
anew after each commit and never changed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from watchstep.core.engine import RuleSet, State, step
from watchstep.core.health import Health
from watchstep.core.updates import TRAINING, Update
from watchstep_monitor.service.run_state.records import (
    SEVERITIES,
    AlertKey,
    AlertRecord,
    CommandRecord,
    IncidentRecord,
    RunRecord,
    StateSnapshot,
)
from watchstep_monitor.service.run_state.rulebook import RuleBook
from watchstep_monitor.service.run_state.status import Reports, health_now

if TYPE_CHECKING:
    from watchstep_monitor.store.transaction import SqlTransaction


@dataclass(slots=True)
class Fold:
    """Where one source of a run stands.

    Attributes:
        latest: The newest reading of every metric.
        reports: Of the present attempt.
    """

    engine: State
    latest: dict[str, float] = field(default_factory=dict)
    reports: Reports = field(default_factory=Reports)

    def note(self, rules: RuleSet, updates: Sequence[Update]) -> None:
        """Take over the readings of updates that follow each other.

        Of those with the same names only the newest can leave a trace.
        """
        newest: dict[tuple[str, ...], Mapping[str, float]] = {}
        for update in reversed(updates):
            newest.setdefault(tuple(update.readings), update.readings)
        for readings in reversed(newest.values()):
            self.latest.update(readings)
        self.reports.take(rules, updates)

    def snapshot(self) -> StateSnapshot:
        return StateSnapshot(
            self.engine.attempt,
            self.engine.seq,
            self.engine.snapshot(),
            dict(self.latest),
            self.reports.snapshot(),
        )


@dataclass(slots=True)
class LiveRun:
    """One run's state, owned by its writing thread.

    Attributes:
        training: Where the training stands.
        others: Where each other source of the present attempt stands.
        last_seqs: Their newest numbers; that of the training is in `record`.
        alerts: Open alerts by rule, subject and source.
        members: All alerts of the open incident by id, resolved ones too.
        diagnosed: The incident whose causes were looked for last, open or not; forgotten with
            the process.
        since_snapshot: Updates since the rule state was last saved.
        condition: What may turn into an incident, as noted last; forgotten with the process.
        condition_seq: The update at which that was looked for.
        newest: The newest update of the training, of any attempt, once one came.
        heard_stored_at: What the stored row says of `record.heard_at`, where a duplicate or a
            pulse has moved that and nothing else.
    """

    record: RunRecord
    rules: RuleSet
    rules_version: int
    training: Fold
    others: dict[str, Fold] = field(default_factory=dict)
    last_seqs: dict[str, int] = field(default_factory=dict)
    alerts: dict[AlertKey, AlertRecord] = field(default_factory=dict)
    incident: IncidentRecord | None = None
    members: dict[str, AlertRecord] = field(default_factory=dict)
    commands: list[CommandRecord] = field(default_factory=list)
    since_snapshot: int = 0
    diagnosed: IncidentRecord | None = None
    condition: str = ""
    condition_seq: int = 0
    newest: Update | None = None
    heard_stored_at: datetime | None = None

    def last_seq(self, source: str) -> int:
        """The newest number of a source in the present attempt."""
        return self.record.last_seq if source == TRAINING else self.last_seqs.get(source, 0)

    def folds(self) -> dict[str, Fold]:
        return {TRAINING: self.training, **self.others}

    def judge_by(self, rules: RuleSet) -> None:
        """Take other rules; what they share with the ones before goes on as it was."""
        self.rules = rules
        for fold in self.folds().values():
            fold.engine = State.restore(rules, fold.engine.snapshot())

    def readings(self) -> dict[str, float]:
        """The newest reading of every metric; where two sources have one, the training speaks."""
        readings: dict[str, float] = {}
        for fold in (*self.others.values(), self.training):
            readings.update(fold.latest)
        return readings

    def health(self) -> Health:
        return health_now([fold.reports for fold in self.folds().values()], self.firing())

    def firing(self) -> list[AlertRecord]:
        return [alert for alert in self.alerts.values() if alert.state == "firing"]

    def snapshot(self) -> StateSnapshot:
        """The rule state of all sources as the store keeps it."""
        others = {source: fold.snapshot() for source, fold in self.others.items()}
        return replace(self.training.snapshot(), sources=others)


@dataclass(frozen=True, slots=True)
class RunView:
    """One run at one moment, for readers in any thread.

    Attributes:
        last_seqs: Newest number of each source but the training.
    """

    record: RunRecord
    rules: RuleSet
    latest: Mapping[str, float]
    alerts: tuple[AlertRecord, ...]
    incident: IncidentRecord | None
    commands: tuple[CommandRecord, ...]
    last_seqs: Mapping[str, int]

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
            if self.rules.canonical(name) in worst or is_looked_at(self.rules, name)
        }


def is_looked_at(rules: RuleSet, name: str) -> bool:
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

    def holds(self, run: str) -> bool:
        """Whether a run is in memory, at this moment."""
        return run in self._live

    def hold(self, live: LiveRun) -> None:
        with self._lock:
            self._live[live.record.run] = live
            while len(self._live) > self._most_runs:
                dropped, _ = self._live.popitem(last=False)
                self._views.pop(dropped, None)

    def forget(self, run: str, *, views: bool = False) -> None:
        """Drop a run whose change came to nothing; the next use rebuilds it.

        Args:
            views: Whether nobody may see it any more.
        """
        with self._lock:
            self._live.pop(run, None)
            if views:
                self._views.pop(run, None)

    def publish(self, live: LiveRun) -> RunView:
        view = RunView(
            live.record,
            live.rules,
            live.readings(),
            tuple(live.alerts.values()),
            live.incident,
            tuple(live.commands),
            dict(live.last_seqs),
        )
        with self._lock:
            if live.record.run in self._live:
                self._views[live.record.run] = view
        return view

    def view(self, run: str) -> RunView | None:
        """The newest committed state of a run held in memory."""
        return self._views.get(run)

    def views(self) -> list[RunView]:
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
        _replay(
            transaction, live, TRAINING, (0, 0) if saved is None else (saved.attempt, saved.seq)
        )
        live.last_seqs = {
            source: seq
            for attempt in transaction.attempts(run)
            if attempt.attempt == record.attempt
            for source, seq in attempt.last_seqs.items()
        }
        for source in live.last_seqs:
            mine = None if saved is None else saved.sources.get(source)
            if mine is not None and mine.attempt != record.attempt:
                mine = None
            live.others[source] = _restored(rules, mine)
            _replay(transaction, live, source, (record.attempt, 0 if mine is None else mine.seq))
        live.alerts = {alert.key: alert for alert in transaction.open_alerts(run)}
        live.incident = transaction.open_incident(run)
        if live.incident is not None:
            members = transaction.incident_alerts(live.incident)
            live.members = {alert.id: alert for alert in members}
        live.commands = transaction.commands(run)
        return live


def _replay(
    transaction: SqlTransaction, live: LiveRun, source: str, since: tuple[int, int]
) -> None:
    """Fold a source's updates after (attempt, seq)."""
    fold = live.folds()[source]
    for update in transaction.updates_after(live.record.run, source, *since):
        if update.attempt != fold.engine.attempt:
            fold.reports = Reports()
        step(live.rules, fold.engine, update)
        fold.note(live.rules, [update])
        live.since_snapshot += 1


def _restored(rules: RuleSet, saved: StateSnapshot | None) -> Fold:
    if saved is None:
        return Fold(State(rules))
    try:
        engine = State.restore(rules, saved.engine)
    except (ValueError, KeyError, TypeError):
        # Written by another version of the engine: windows start anew, open alerts stay.
        engine = State(rules)
    return Fold(engine, dict(saved.latest), Reports.restored(saved.reports))
