"""One change of one run: gathered while folding, then written in a fixed order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from watchstep.core.updates import TRAINING, Update
from watchstep_monitor.service.clock import to_us
from watchstep_monitor.service.json_values import plain
from watchstep_monitor.service.run_state.records import (
    AlertRecord,
    AttemptRecord,
    CommandRecord,
    IncidentRecord,
    NewDelivery,
    RunRecord,
    TimelineEntry,
    TimelineKind,
)
from watchstep_monitor.service.run_state.run_cache import LiveRun

if TYPE_CHECKING:
    from watchstep_monitor.store.transaction import SqlTransaction

_PLACE_OF = {each.name: at for at, each in enumerate(fields(RunRecord))}
_record_values = attrgetter(*_PLACE_OF)


@dataclass(slots=True)
class UnitOfWork:
    """What one transaction does to one run.

    Attributes:
        transaction: Where it will be written, and where the past can be read.
        seen: The row as it was loaded; None for a run that is being created.
        now: The service's clock at the beginning of the change.
        others_spoke: Whether a source other than the training has come further.
    """

    transaction: SqlTransaction
    live: LiveRun
    seen: RunRecord | None
    now: datetime
    updates: list[Update] = field(default_factory=list)
    alerts: dict[str, AlertRecord] = field(default_factory=dict)
    cancelled: dict[str, AlertRecord] = field(default_factory=dict)
    incidents: dict[str, IncidentRecord] = field(default_factory=dict)
    timeline: list[TimelineEntry] = field(default_factory=list)
    commands: dict[str, CommandRecord] = field(default_factory=dict)
    attempts: dict[int, AttemptRecord] = field(default_factory=dict)
    deliveries: list[NewDelivery] = field(default_factory=list)
    needs_snapshot: bool = False
    others_spoke: bool = False
    _before: dict[str, list[Update]] = field(default_factory=dict)
    _begun: set[str] = field(default_factory=set)

    def newest(self, count: int, source: str = TRAINING) -> list[Update]:
        """A source's newest updates up to the one that is judged now, oldest first."""
        live, stored = self.live, self.seen
        last_seq = live.last_seq(source)
        if source not in self._before:
            self._before[source] = []
            if stored is not None and stored.attempt == live.record.attempt:
                place = (stored.attempt, stored.last_seq if source == TRAINING else last_seq)
                self._before[source] = self.transaction.newest(stored.run, source, place, count)
        fresh = (each for each in self.updates if each.source == source and each.seq <= last_seq)
        return [*self._before[source], *fresh][-count:]

    def alter(self, **changes: Any) -> None:
        # What `replace` does, in half of its time: it is called three times an update.
        values = list(_record_values(self.live.record))
        for name, value in changes.items():
            values[_PLACE_OF[name]] = value
        self.live.record = RunRecord(*values)

    def tell(
        self, kind: TimelineKind, detail: Mapping[str, Any], update: Update | None = None
    ) -> None:
        """Add to the timeline; `update` is what it is about, None for the newest."""
        record = self.live.record
        at_us = max(to_us(self.now), record.timeline_us + 1)
        self.alter(timeline_us=at_us)
        self.timeline.append(
            TimelineEntry(
                run=record.run,
                at_us=at_us,
                kind=kind,
                attempt=update.attempt if update else record.attempt,
                seq=update.seq if update else record.last_seq,
                step=(update.step if update else 0) or record.step,
                time=update.time if update else None,
                detail=plain(detail),
                source=update.source if update else TRAINING,
            )
        )

    def keep_alert(self, alert: AlertRecord) -> None:
        self.alerts[alert.id] = alert
        if alert.state == "resolved":
            self.live.alerts.pop(alert.key, None)
        else:
            self.live.alerts[alert.key] = alert
        incident = self.live.incident
        if incident is not None and alert.incident == incident.id:
            self.live.members[alert.id] = alert

    def begin_alert(self, alert: AlertRecord) -> None:
        self._begun.add(alert.id)
        self.alerts[alert.id] = self.live.alerts[alert.key] = alert

    def cancel_alert(self, alert: AlertRecord) -> None:
        self.live.alerts.pop(alert.key, None)
        self.alerts.pop(alert.id, None)
        if alert.id not in self._begun:
            self.cancelled[alert.id] = alert

    def keep_incident(self, incident: IncidentRecord) -> None:
        self.incidents[incident.id] = incident
        if incident.state == "resolved":
            self.live.incident = None
            self.live.members = {}
        else:
            self.live.incident = incident

    def is_only_heard(self, most_s: float) -> bool:
        """Whether all that is to be written is that the trainer lives, soon after the last time.

        What the process remembers of that is exact; the stored row is behind by less than this.
        Where others write too, the row has to be looked at anyhow.
        """
        live, seen = self.live, self.seen
        written = (
            self.updates,
            self.alerts,
            self.cancelled,
            self.incidents,
            self.timeline,
            self.commands,
            self.attempts,
            self.deliveries,
            self.needs_snapshot,
            self.others_spoke,
        )
        if self.transaction.is_shared or seen is None or seen.heard_at is None or any(written):
            return False
        if replace(live.record, heard_at=seen.heard_at) != seen:
            return False
        stored_at = live.heard_stored_at or seen.heard_at
        if (self.now - stored_at).total_seconds() >= most_s:
            return False
        live.heard_stored_at = stored_at
        return True

    def write(self, transaction: SqlTransaction, snapshot_every: int) -> None:
        """Write everything. The row comes first: it decides whether this change still fits.

        Raises:
            StaleRunError: Another process changed the run; nothing of this may stay.
        """
        run = self.live.record.run
        self.live.heard_stored_at = None
        self.alter(version=self.live.record.version + 1)
        if self.seen is None:
            transaction.create_run(self.live.record)
        else:
            transaction.advance(self.live.record, self.seen)
        for _, updates in groupby(self.updates, key=attrgetter("source")):
            transaction.append(run, list(updates))
        self._write_edges(transaction, run)
        if self.needs_snapshot or self.live.since_snapshot >= snapshot_every:
            transaction.save_snapshot(run, self.live.snapshot())
            self.live.since_snapshot = 0

    def _write_edges(self, transaction: SqlTransaction, run: str) -> None:
        for attempt in self.attempts.values():
            transaction.save_attempt(run, attempt)
        if self.others_spoke:
            transaction.save_last_seqs(run, self.live.record.attempt, self.live.last_seqs)
        for alert in self.cancelled.values():
            transaction.remove_alert(alert)
        for records in (self.alerts, self.incidents, self.commands):
            for record in records.values():
                transaction.save(record)
        if self.timeline:
            transaction.add_timeline(self.timeline)
        if self.deliveries:
            transaction.enqueue(self.deliveries)
