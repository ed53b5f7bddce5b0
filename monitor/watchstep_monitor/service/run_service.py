"""The service as its callers see it: every question and every order, in domain words."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from watchstep.errors import RuleError
from watchstep_monitor.service.alerting.links import SILENCED_FOR, Act
from watchstep_monitor.service.alerting.silences import check_matcher, silencing
from watchstep_monitor.service.clock import to_us
from watchstep_monitor.service.errors import (
    ConflictError,
    NotFoundError,
    OverCapError,
    ServiceError,
    StorageTroubleError,
)
from watchstep_monitor.service.events import (
    AlertChanged,
    DeliveriesDue,
    EventBus,
    RulesRead,
    SilencesChanged,
)
from watchstep_monitor.service.ingest.batch import Batch, Beginning, Begun, Receipt, RunEdit
from watchstep_monitor.service.ingest.ingest import Ingest, IngestPolicy
from watchstep_monitor.service.outcomes import Outcome
from watchstep_monitor.service.ports import Clock, FiringAlert, RunGauge
from watchstep_monitor.service.run_state.records import (
    AlertRecord,
    CommandRecord,
    Matcher,
    SilenceRecord,
    TimelineKind,
    Verdict,
    short_id,
)
from watchstep_monitor.service.run_state.run_cache import RunCache, RunView
from watchstep_monitor.service.run_state.status import shown_status
from watchstep_monitor.service.run_state.storage import AlertFilter, RunFilter
from watchstep_monitor.service.run_state.unit_of_work import UnitOfWork
from watchstep_monitor.service.series import Line, Point, thin

if TYPE_CHECKING:
    from watchstep_monitor.store.sql_store import SqlStore
    from watchstep_monitor.store.transaction import SqlTransaction

log = logging.getLogger(__name__)

Projects = tuple[str, ...] | None
"""Projects that a caller may see; None for all."""

WRITE_TIMEOUT_S = 30.0
CROWDED = "too many batches wait for a commit"
LINK = "link"
"""Who acted, where a message's link was used."""

MOST_SILENCES = 1_000
MOST_GAUGED = 1_000
"""Runs that one replica of several shows as gauges: those heard of last."""

MOST_POINTS_READ = 5_000_000
"""Readings of one metric that one answer looks at; beyond it the caller narrows the steps."""


@dataclass(frozen=True, slots=True)
class RunServiceOptions:
    """Beside the policy of ingest; `silences` gives those of a moment ago."""

    command_expire_s: float
    queued_requests: int
    silences: Callable[[], Iterable[SilenceRecord]]


class RunService:
    """Thread-safe. Writes go through the store's writing threads, reads do not wait for them."""

    def __init__(
        self,
        store: SqlStore,
        fleet: RunCache,
        clock: Clock,
        bus: EventBus,
        policy: IngestPolicy,
        options: RunServiceOptions,
    ) -> None:
        self.store = store
        self.book = fleet.book
        self.fleet = fleet
        self.clock = clock
        self.bus = bus
        self.policy = policy
        self.ingest = Ingest(fleet, policy, self._committed)
        self._options = options
        self._waiting = 0
        self._waiting_lock = threading.Lock()

    def admit(self) -> None:
        """Ask whether one more batch may come, before anything is done for it.

        Raises:
            OverCapError: Too many wait already.
        """
        if self._waiting >= self._options.queued_requests:
            raise OverCapError(CROWDED, retry_after_s=1)

    def accept(self, batch: Batch) -> Future[Receipt]:
        """Queue a batch; the future is done once it is durable. Raises as `admit` does."""
        future: Future[Receipt] = Future()
        self.hand_over(batch, future)
        future.add_done_callback(self.left)
        return future

    def hand_over(self, batch: Batch, outcome: Outcome[Receipt]) -> None:
        """Queue a batch; what comes of it is put into `outcome` once that is durable.

        Raises as `admit` does; else `left` is called when nobody waits for the batch any more.
        """
        with self._waiting_lock:
            self.admit()
            self._waiting += 1
        now = self.clock.now()
        self.store.hand_over(
            batch.run,
            lambda transaction: self.ingest.accept(transaction, batch, now),
            len(batch.updates),
            outcome,
            is_new=not self.fleet.holds(batch.run),
        )

    def left(self, _: object = None) -> None:
        """One batch fewer waits."""
        with self._waiting_lock:
            self._waiting -= 1

    def begin(self, beginning: Beginning, outcome: Outcome[tuple[Begun, float | None]]) -> None:
        """Have an attempt begun or resumed; see `Ingest.begin`.

        With what it came to: seconds since an attempt that it ends without a word was heard.
        """
        now = self.clock.now()

        def job(transaction: SqlTransaction) -> tuple[Begun, float | None]:
            live = self.fleet.find(transaction, beginning.run)
            earlier = None if live is None else live.record
            begun = self.ingest.begin(transaction, beginning, now)
            if earlier is None or earlier.ended_at or begun.record.attempt <= earlier.attempt:
                return begun, None
            heard = earlier.heard_at or earlier.created_at
            return begun, max((now - heard).total_seconds(), 0.0)

        is_new = not self.fleet.holds(beginning.run)
        self.store.hand_over(beginning.run, job, 0, outcome, is_new=is_new)

    def view(self, run: str, projects: Projects) -> RunView:
        """One run as of its newest commit.

        Raises:
            NotFoundError: There is none that this caller may see.
        """
        view = self.fleet.view(run)
        if view is None or not self.store.exclusive:
            record = self.store.run(run)
            if record is None or not _may_see(record.project, projects):
                raise NotFoundError("no such run")
            if view is None or view.record.version != record.version:
                view = self._reload_view(run)
        if not _may_see(view.record.project, projects):
            raise NotFoundError("no such run")
        return view

    def series(
        self, run: str, metric: str, steps: tuple[int | None, int | None], points: int
    ) -> tuple[list[Point], bool]:
        """A metric's readings, thinned to about `points`.

        Raises:
            OverCapError: The run has more readings of it than one answer may look at.
        """
        line = Line()
        series = self.store.series(run, metric, *steps, points)
        for stretch in series.stretches:
            line.append(stretch)
            if len(line) > MOST_POINTS_READ:
                raise OverCapError("too many readings: give from_step and to_step")
        thinned_points, thinned = thin(line, points)
        return thinned_points, thinned or not series.whole

    def alert(self, alert_id: str, projects: Projects) -> AlertRecord:
        """One alert.

        Raises:
            NotFoundError: There is none that this caller may see.
        """
        alert = self.store.alert(alert_id)
        if alert is None or not _may_see(alert.project, projects):
            raise NotFoundError("no such alert")
        return alert

    def is_silenced(self, alert: AlertRecord) -> bool:
        view = self.fleet.view(alert.run)
        rules = self.book.rules if view is None else view.rules
        return silencing(self._options.silences(), alert, self.clock.now(), rules) is not None

    def newest_seq(self, alert: AlertRecord) -> int | None:
        """The run's newest update, if it is in memory and the alert is of this attempt."""
        view = self.fleet.view(alert.run)
        if view is None or view.record.attempt != alert.attempt:
            return None
        return view.record.last_seq

    def command(
        self, run: str, kind: Literal["halt", "checkpoint"], reason: str, projects: Projects
    ) -> CommandRecord:
        """Ask a run's trainer for something; asking again while it waits gives the same.

        Raises:
            NotFoundError: No such run.
            ConflictError: The run has ended: no one would hear it.
        """
        self.view(run, projects)
        now = self.clock.now()

        def job(transaction: SqlTransaction) -> CommandRecord:
            change = self._altering(transaction, run, now)
            live = change.live
            for waiting in live.commands:
                if waiting.kind == kind and waiting.expires_at > now:
                    return waiting
            if live.record.ended_at is not None:
                raise ConflictError("the run has ended", loc=("run",))
            command = CommandRecord(
                id=short_id("cm", run, live.record.attempt, kind, to_us(now)),
                run=run,
                attempt=live.record.attempt,
                kind=kind,
                reason=reason,
                created_at=now,
                expires_at=now + timedelta(seconds=self._options.command_expire_s),
            )
            live.commands = [each for each in live.commands if each.expires_at > now]
            live.commands.append(command)
            change.commands[command.id] = command
            change.tell("command", {"command": command.id, "asks": kind, "reason": reason})
            self.ingest.commit_change(transaction, change)
            return command

        return self.store.write(run, job).result(WRITE_TIMEOUT_S)

    def edit(self, run: str, edit: RunEdit, projects: Projects) -> None:
        """Change what people say of a run, and put it away.

        Raises:
            NotFoundError: No such run.
            ConflictError: It goes on, so that its incident cannot be closed.
        """
        self.view(run, projects)
        now = self.clock.now()

        def job(transaction: SqlTransaction) -> None:
            change = self._altering(transaction, run, now)
            if edit.closed_by is not None and change.live.record.ended_at is None:
                raise ConflictError("the run has not ended", loc=("closed",))
            self.ingest.edit(transaction, change, edit)

        self.store.write(run, job).result(WRITE_TIMEOUT_S)

    def delete(self, run: str, projects: Projects) -> None:
        """Remove an ended run and everything of it.

        Raises:
            NotFoundError: No such run.
            ConflictError: It goes on.
        """
        self.view(run, projects)
        now = self.clock.now()

        def job(transaction: SqlTransaction) -> None:
            record = self._altering(transaction, run, now).live.record
            if record.ended_at is None:
                raise ConflictError("the run has not ended", loc=("run",))
            transaction.delete_run(record, now)
            transaction.on_commit(lambda: self.fleet.forget(run, views=True))

        self.store.write(run, job).result(WRITE_TIMEOUT_S)
        log.info("a run was deleted", extra={"run": run})

    def acknowledge(self, alert_id: str, by: str, projects: Projects) -> AlertRecord:
        """Note that a person looks after an alert: no more reminders of it.

        Raises:
            NotFoundError: No such alert.
        """

        def amend(alert: AlertRecord, now: datetime) -> AlertRecord:
            if alert.acknowledged_at is not None:
                return alert
            return replace(alert, acknowledged_at=now, acknowledged_by=by)

        return self._amend(alert_id, projects, amend, "acknowledged", {"by": by})

    def answer(self, alert_id: str, answer: Verdict, by: str, projects: Projects) -> AlertRecord:
        """Note whether a person calls an alert right or a false alarm; the newest answer counts.

        Raises:
            NotFoundError: No such alert.
        """

        def amend(alert: AlertRecord, _: datetime) -> AlertRecord:
            return replace(alert, answer=answer, answered_by=by)

        detail = {"by": by, "answer": answer}
        return self._amend(alert_id, projects, amend, "answered", detail)

    def act(self, run: str, incident_id: str, act: Act) -> None:
        """What the link of a message asks for, on all alerts of its incident.

        Raises:
            NotFoundError: The incident, or its run, is gone.
        """
        alerts = self.store.alerts(AlertFilter(run=run, incident=incident_id), 500, None).items
        if not alerts:
            raise NotFoundError("no such incident")
        if act == "silence":
            now = self.clock.now()
            matchers = [Matcher("run", "=", run), Matcher("project", "=", alerts[0].project)]
            self.silence(matchers, (now, now + SILENCED_FOR), "by the link of a message", LINK)
            return
        for alert in alerts:
            if act == "acknowledge" and alert.state == "firing":
                self.acknowledge(alert.id, LINK, None)
            elif act != "acknowledge" and alert.severity != "info":
                self.answer(alert.id, "right" if act == "right" else "false alarm", LINK, None)

    def _amend(
        self,
        alert_id: str,
        projects: Projects,
        amend: Callable[[AlertRecord, datetime], AlertRecord],
        kind: TimelineKind,
        detail: Mapping[str, str],
    ) -> AlertRecord:
        run = self.alert(alert_id, projects).run
        now = self.clock.now()

        def job(transaction: SqlTransaction) -> AlertRecord:
            change = self._altering(transaction, run, now)
            live = change.live
            before = next((each for each in live.alerts.values() if each.id == alert_id), None)
            if before is None:
                before = live.members.get(alert_id) or self.alert(alert_id, None)
            alert = amend(before, now)
            if alert == before:
                return alert
            if alert.state == "resolved":
                change.alerts[alert.id] = alert
                if alert.id in live.members:
                    live.members[alert.id] = alert
            else:
                change.keep_alert(alert)
            change.tell(kind, {"alert": alert.id, "rule": alert.rule, **detail})
            self.ingest.commit_change(transaction, change)
            return alert

        return self.store.write(run, job).result(WRITE_TIMEOUT_S)

    def silence(
        self, matchers: Sequence[Matcher], span: tuple[datetime, datetime], comment: str, by: str
    ) -> SilenceRecord:
        """Silence alerts that match, between two moments.

        Raises:
            InvalidError: A matcher cannot be used.
            OverCapError: Too many silences.
        """
        for at, matcher in enumerate(matchers):
            check_matcher(matcher, loc=("matchers", at, "value"))
        now = self.clock.now()
        if len(self.store.silences()) >= MOST_SILENCES:
            raise OverCapError("there are as many silences as there may be", retry_after_s=3600)
        record = SilenceRecord(
            id=short_id("si", to_us(now), comment, *matchers),
            matchers=tuple(matchers),
            starts_at=span[0],
            ends_at=span[1],
            comment=comment,
            created_by=by,
            created_at=now,
        )
        self.store.save_silence(record)
        self.bus.publish(SilencesChanged())
        return record

    def end_silence(self, silence_id: str) -> None:
        """End a silence now.

        Raises:
            NotFoundError: There is none.
        """
        if not self.store.delete_silence(silence_id):
            raise NotFoundError("no such silence")
        self.bus.publish(SilencesChanged())

    def reload(self) -> None:
        """Load the rule files again, here and wherever else this store is served.

        Raises:
            RuleError: A file is wrong; the old rules stay live, everywhere.
        """
        self.read_rules(asked_here=True)

    def read_rules(self, *, asked_here: bool) -> None:
        """Load the rule files again, here only; see `reload`."""
        try:
            self.book.reload()
        except RuleError:
            self.bus.publish(RulesRead(ok=False, asked_here=asked_here))
            raise
        self.bus.publish(RulesRead(ok=True, asked_here=asked_here))
        log.info("rules loaded", extra={"rules": len(self.book.rules.rules)})

    def tick(self, run: str) -> None:
        """Let the clock speak to one run; see `Ingest.tick`."""
        now = self.clock.now()
        future = self.store.write(run, lambda job: self.ingest.tick(job, run, now))
        try:
            future.result(WRITE_TIMEOUT_S)
        except ServiceError as error:
            log.warning("a tick failed", extra={"run": run, "reason": str(error)})

    def iter_runs(self) -> Iterator[RunGauge]:
        """The runs in memory, most recently heard of first, as they are now."""
        now = self.clock.now()
        views = self._current_views()
        oldest = now - timedelta(days=36_500)
        views.sort(key=lambda view: view.record.heard_at or oldest, reverse=True)
        for view in views:
            record = view.record
            yield RunGauge(
                run=record.run,
                project=record.project,
                status=shown_status(record, now, self.policy.hearing),
                health=record.health,
                step=record.step,
                last_update_at=record.updated_at.timestamp() if record.updated_at else None,
                last_heard_at=record.heard_at.timestamp() if record.heard_at else None,
                lost_updates=record.lost,
                readings=view.latest,
                zones=view.zones(),
                firing=tuple(
                    FiringAlert(alert.rule, alert.severity, alert.subject)
                    for alert in view.alerts
                    if alert.state == "firing"
                ),
                ended_at=record.ended_at.timestamp() if record.ended_at else None,
                has_incident=view.incident is not None,
            )

    def _current_views(self) -> list[RunView]:
        """The views in memory, but for those of runs that went on at another replica.

        So each run shows once, at whoever committed its newest update.
        """
        views = self.fleet.views()
        if self.store.exclusive:
            return views
        try:
            records = self.store.runs(RunFilter(), MOST_GAUGED, None).items
        except StorageTroubleError:
            return views
        newest = {record.run: record.version for record in records}
        return [view for view in views if newest.get(view.record.run) == view.record.version]

    def _altering(self, transaction: SqlTransaction, run: str, now: datetime) -> UnitOfWork:
        change = self.ingest.alter(transaction, run, now)
        if change is None:
            raise NotFoundError("no such run")
        return change

    def _reload_view(self, run: str) -> RunView:
        def job(transaction: SqlTransaction) -> RunView:
            if not self.store.exclusive:
                self.fleet.forget(run)
            live = self.fleet.find(transaction, run)
            if live is None:
                raise NotFoundError("no such run")
            return self.fleet.publish(live)

        return self.store.write(run, job).result(WRITE_TIMEOUT_S)

    def _committed(self, change: UnitOfWork) -> None:
        """In the writing thread, after a commit: publish what it changed."""
        project = change.live.record.project
        for entry in change.timeline:
            detail = {**entry.detail, "attempt": entry.attempt, "seq": entry.seq}
            self.bus.happened(entry.kind, entry.run, project, detail, entry.at_us)
        for alert in change.alerts.values():
            self.bus.publish(AlertChanged(alert.severity, alert.state))
        if change.deliveries:
            self.bus.publish(DeliveriesDue())


def _may_see(project: str, projects: Projects) -> bool:
    return projects is None or project in projects
