"""What ingest and the reading side need of a store, free of SQL.

There is one implementation over SQLAlchemy Core, for SQLite and PostgreSQL, and one contract
test over both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from watchstep.core.health import Health
from watchstep.core.updates import Update
from watchstep_monitor.service.ports import DeliveryState, RunStatus
from watchstep_monitor.service.run_state.records import (
    AlertRecord,
    AttemptRecord,
    CommandRecord,
    DeliveryRecord,
    IncidentRecord,
    NewDelivery,
    Page,
    RuleAnswers,
    RunRecord,
    SilenceRecord,
    StateSnapshot,
    TimelineEntry,
)
from watchstep_monitor.service.series import Series

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class Transaction(Protocol):
    """One run's changes, committed together or not at all. Used by one thread."""

    def load_run(self, run: str) -> RunRecord | None:
        """The run's row, locked until the end of the transaction where others could write."""

    def create_run(self, record: RunRecord) -> None:
        """Insert a run.

        Raises:
            StaleRunError: Someone else did so in the meantime.
        """

    def advance(self, record: RunRecord, seen: RunRecord) -> None:
        """Replace the row if it still is at `seen`'s (attempt, last_seq, version).

        Raises:
            StaleRunError: It is not.
        """

    def delete_run(self, record: RunRecord, now: datetime) -> None:
        """Remove everything of a run, and remember that it was there.

        Raises:
            StaleRunError: Someone else changed it in the meantime.
        """

    def deleted_sessions(self, run: str) -> Collection[str] | None:
        """What the trainers of a deleted run called themselves; None if none of the name was."""

    def count_runs(self) -> int:
        """How many runs are stored."""

    def attempts(self, run: str) -> list[AttemptRecord]:
        """All attempts, first to last."""

    def save_attempt(self, run: str, attempt: AttemptRecord) -> None:
        """Insert or replace by number."""

    def append(self, run: str, updates: Sequence[Update]) -> None:
        """Insert updates that are not stored yet."""

    def stored(self, run: str, attempt: int, seqs: Collection[int]) -> Mapping[int, Update]:
        """Those of the given updates that are stored."""

    def updates_after(self, run: str, attempt: int, seq: int) -> Iterator[Update]:
        """Updates beyond (attempt, seq), in order."""

    def newest(self, run: str, attempt: int, last_seq: int, count: int) -> list[Update]:
        """At most `count` updates of an attempt, up to `last_seq`, in order.

        Costs the same however long the run is.
        """

    def remove_updates(self, run: str, kept: Sequence[tuple[int, int, int]]) -> int:
        """Remove a run's updates but for windows (attempt, first, last); returns the rows.

        Rows that reach into a window stay whole. The rule state must not need them: the run
        has ended.
        """

    def set_aside(self, run: str, week: int, kept: Sequence[tuple[int, int, int]]) -> None:
        """Move a run's updates of a week out of it, those of windows (attempt, first, last)."""

    def snapshot(self, run: str) -> StateSnapshot | None:
        """The newest saved rule state."""

    def save_snapshot(self, run: str, snapshot: StateSnapshot) -> None:
        """Replace the run's saved rule state."""

    def open_alerts(self, run: str) -> list[AlertRecord]:
        """Pending and firing alerts."""

    def save_alert(self, alert: AlertRecord) -> None:
        """Insert or replace by id."""

    def remove_alert(self, alert: AlertRecord) -> None:
        """Forget a pending alert that never fired."""

    def open_incident(self, run: str) -> IncidentRecord | None:
        """The run's open incident."""

    def incident_alerts(self, incident: IncidentRecord) -> list[AlertRecord]:
        """All alerts of an incident, resolved ones too."""

    def save_incident(self, incident: IncidentRecord) -> None:
        """Insert or replace by id."""

    def add_timeline(self, entries: Sequence[TimelineEntry]) -> None:
        """Append to timelines."""

    def commands(self, run: str) -> list[CommandRecord]:
        """Commands that wait, oldest first."""

    def save_command(self, command: CommandRecord) -> None:
        """Insert or replace by id."""

    def enqueue(self, deliveries: Sequence[NewDelivery]) -> None:
        """Add rows to the outbox."""

    def on_commit(self, call: Callable[[], None]) -> None:
        """Call this once the transaction is durable; in the writing thread, must not raise."""

    def on_rollback(self, call: Callable[[], None]) -> None:
        """Call this if the transaction, or the commit it shares, comes to nothing."""


class Job(Protocol[R_co]):
    """Work inside a transaction; may be called again after a rollback."""

    def __call__(self, transaction: Transaction, /) -> R_co:
        """Do it."""


@dataclass(frozen=True, slots=True)
class PastWeek:
    """A week of stored updates that may go as a whole.

    Attributes:
        incidents_of: Those of its runs that ever had an incident.
    """

    week: int
    incidents_of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list shows.

    Attributes:
        projects: None for all.
        archived: Whether only those that are archived, or only those that are not.
        status: A status word; `lost_before` says since when a lost run is silent.
    """

    projects: tuple[str, ...] | None = None
    status: RunStatus | None = None
    health: Health | None = None
    archived: bool | None = None
    lost_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries to list; None means no restriction."""

    projects: tuple[str, ...] | None = None
    state: DeliveryState | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """Which alerts a list shows; None does not filter."""

    projects: tuple[str, ...] | None = None
    state: str | None = None
    run: str | None = None
    severity: str | None = None
    incident: str | None = None


class Store(Protocol):
    """Everything that is kept.

    Attributes:
        exclusive: Whether no other process can write, so that what this one remembers of a
            run is the truth.
    """

    exclusive: bool

    def write(self, run: str, job: Job[T], updates: int = 0) -> Future[T]:
        """Run a job in a transaction of its own or of a group; resolves once it is durable.

        Jobs of one run are done in the order given. What the job raises is the future's
        error, and nothing of it is kept.

        Args:
            run: Whose rows it touches; "" for none.
            job: The work.
            updates: How many updates it stores, for the size of the group.

        Raises (through the future):
            StorageTroubleError: Nothing was kept.
        """

    def run(self, run: str) -> RunRecord | None:
        """One run's row."""

    def runs(self, wanted: RunFilter, limit: int, cursor: str | None) -> Page[RunRecord]:
        """Runs, newest heard of first."""

    def attempts(self, run: str) -> list[AttemptRecord]:
        """All attempts of a run."""

    def alerts(self, wanted: AlertFilter, limit: int, cursor: str | None) -> Page[AlertRecord]:
        """Alerts, newest first."""

    def alert(self, alert_id: str) -> AlertRecord | None:
        """One alert."""

    def answers(self, projects: tuple[str, ...] | None) -> list[RuleAnswers]:
        """How often people called the alerts of each rule right or false, by rule."""

    def shared_key(self, name: str) -> bytes:
        """A secret of 32 bytes, the same for all who share the store; made when first asked."""

    def incidents(
        self, projects: tuple[str, ...] | None, run: str | None, limit: int, cursor: str | None
    ) -> Page[IncidentRecord]:
        """Incidents, newest first."""

    def due_incidents(self, now: datetime, limit: int) -> list[str]:
        """Runs whose incident has a message due."""

    def series(
        self,
        run: str,
        metric: str,
        from_step: int | None,
        to_step: int | None,
        points: int | None = None,
    ) -> Series:
        """The readings of one metric in order, over all attempts, within inclusive steps.

        Args:
            run: Whose.
            metric: Which.
            from_step: None for no bound.
            to_step: None for no bound.
            points: To how many they will be thinned: where there are far more, only those
                come that thinning could keep. None for all.
        """

    def updates(self, run: str) -> Iterator[Update]:
        """All updates of a run in order, as far as retention has left them."""

    def timeline(
        self, run: str, limit: int, cursor: str | None, *, newest_first: bool = False
    ) -> Page[TimelineEntry]:
        """What happened to a run, in order, or the other way round."""

    def timeline_since(self, at_us: int, limit: int) -> list[TimelineEntry]:
        """What happened to any run after a moment, in order."""

    def silences(self) -> list[SilenceRecord]:
        """All that have not been deleted, newest first."""

    def save_silence(self, silence: SilenceRecord) -> None:
        """Insert or replace by id, durably."""

    def delete_silence(self, silence_id: str) -> bool:
        """Whether there was one."""

    def deliveries(
        self, wanted: DeliveryFilter, limit: int, cursor: str | None
    ) -> Page[DeliveryRecord]:
        """Deliveries, newest first."""

    def ended_with_updates(self, before: datetime | None, limit: int) -> list[RunRecord]:
        """Ended runs that still have all their updates, first ended first.

        Args:
            before: Only those that ended earlier; None for all.
            limit: At most so many.
        """

    def over_weeks(self, before: datetime) -> list[PastWeek]:
        """Weeks all of whose runs ended earlier, first to last; none where weeks are not apart."""

    def drop_week(self, week: int, before: datetime) -> int:
        """Drop all that is still in such a week; returns the rows.

        None where one of its runs goes on again. What is to be kept was set aside.
        """

    def size_bytes(self) -> int:
        """Bytes that the store takes on disk, as far as they are in use."""

    @property
    def failing(self) -> bool:
        """Whether the newest attempt at a commit failed, and so would any other now."""

    def ready(self) -> str | None:
        """None when reads and commits work and there is room for more; else one short sentence."""

    def commit_trouble(self) -> str | None:
        """None when a read and a commit work, tried at most once a second; else one sentence."""
