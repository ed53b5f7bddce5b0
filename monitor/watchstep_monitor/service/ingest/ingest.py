"""The way of a batch: deduplicate, fold, and write everything in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from watchstep.core.engine import State, step
from watchstep.core.updates import TRAINING, Tick, Transition, Update
from watchstep_monitor.service.alerting.alerts import (
    STALLED,
    adopt_renamed,
    apply_transition,
    cancel_pending,
    closed,
    disagreements,
    moves_again,
    stalled,
    switch_rules,
)
from watchstep_monitor.service.alerting.diagnosis import note_condition
from watchstep_monitor.service.alerting.incidents import fold_incident, note_halt
from watchstep_monitor.service.alerting.notifications import (
    TellingPolicy,
    tell_if_due,
    tell_life,
)
from watchstep_monitor.service.clock import to_us
from watchstep_monitor.service.errors import (
    ConflictError,
    GoneError,
    NotFoundError,
    OverCapError,
)
from watchstep_monitor.service.ingest.batch import (
    Batch,
    Beginning,
    Begun,
    Receipt,
    RunEdit,
    check_attempt,
    resumed,
    sort_batch,
    within_names,
)
from watchstep_monitor.service.ingest.trainer_events import ENDS, take_event
from watchstep_monitor.service.run_state.records import (
    DEFAULT_PROJECT,
    AlertKey,
    AttemptRecord,
    CommandRecord,
    RunRecord,
)
from watchstep_monitor.service.run_state.run_cache import Fold, LiveRun, RunCache
from watchstep_monitor.service.run_state.status import Liveness, Reports
from watchstep_monitor.service.run_state.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from watchstep_monitor.store.transaction import SqlTransaction

ROOM_SHARE = 16
"""Of the runs that may still be added, one in so many is added before they are counted again."""

HEARD_SHARE = 10
"""Of the silence after which a run is lost, the part after which a sign of life that brings nothing
else is written down."""

_WAITING = frozenset({"pending", "cancelled"})
"""Changes that neither begin nor end anything that people are told of."""


@dataclass(frozen=True, slots=True)
class IngestPolicy:
    """What ingest needs to know of the settings."""

    telling: TellingPolicy
    hearing: Liveness
    snapshot_every: int
    most_runs: int
    most_metrics_per_run: int


class Ingest:
    """Everything that changes a run, each as a job for one transaction."""

    def __init__(
        self,
        fleet: RunCache,
        policy: IngestPolicy,
        committed: Callable[[UnitOfWork], None],
    ) -> None:
        """Take what it works with.

        Args:
            committed: Called in the writing thread with every change that is durable now.
        """
        self._book = fleet.book
        self._fleet = fleet
        self._policy = policy
        self._committed = committed
        self._room = 0

    def accept(self, transaction: SqlTransaction, batch: Batch, now: datetime) -> Receipt:
        """Store and judge a batch.

        The same update again is a duplicate and has no second effect. Updates may skip
        numbers, which counts as lost; one that arrives behind its successors is rejected,
        since the run has been judged without it.

        Raises:
            ConflictError: A stored update has another content; nothing of the batch is kept.
            GoneError: The run was deleted.
            InvalidError: The attempt is far beyond the run's last.
            NotFoundError: The run belongs to a project that is not the caller's.
            OverCapError: Too many runs.
            StorageTroubleError: See `SqlTransaction.check_sources`.
        """
        live = self._open(transaction, batch.run, batch.projects, now)
        check_attempt(batch.attempt, live)
        batch = within_names(live, batch, self._policy.most_metrics_per_run)
        if batch.attempt < live.record.attempt:
            return self._accept_late(transaction, live, batch, now)
        is_new = batch.attempt > live.record.attempt
        last_seqs = {TRAINING: live.record.last_seq, **live.last_seqs}
        sorted_ = sort_batch(transaction, batch, {} if is_new else last_seqs, live.newest)
        if not sorted_.fresh.keys() <= {TRAINING}:
            transaction.check_sources()
        change = self._change(transaction, live, now)
        if is_new:
            self._begin_attempt(transaction, change, batch.attempt, None)
        if not batch.updates:
            self._hear(change)
        else:
            self._take_rules(change)
            for source, fresh in sorted_.fresh.items():
                if source == TRAINING:
                    self._fold(change, fresh)
                else:
                    self._fold_other(change, source, fresh)
            note_condition(change)
        self._finish(transaction, change)
        return Receipt(
            sorted_.accepted,
            sorted_.duplicates,
            (*batch.rejected, *sorted_.rejected),
            live.record.last_seq,
            _outstanding(live, now),
            live.rules.fingerprint,
            live.record.attempt,
            batch.left_out,
            dict(live.last_seqs),
        )

    def begin(self, transaction: SqlTransaction, beginning: Beginning, now: datetime) -> Begun:
        """Create a run, or begin or resume one of its attempts.

        Raises:
            ConflictError: The attempt asked for is over.
            InvalidError: It is far beyond the run's last.
            NotFoundError: The run belongs to a project that is not the caller's.
            OverCapError: Too many runs.
        """
        live = self._open(transaction, beginning.run, beginning.projects, now, beginning)
        check_attempt(beginning.attempt or 0, live)
        change = self._change(transaction, live, now)
        attempts = transaction.attempts(beginning.run) if change.seen else []
        attempt = resumed(beginning, attempts, live.record)
        if attempt is not None and attempt.attempt < live.record.attempt:
            # The trainer of an earlier attempt sends what it could not send while it lived.
            record = replace(live.record, attempt=attempt.attempt, last_seq=attempt.last_seq)
            return Begun(record, attempt.last_seqs)
        self._describe(change, beginning)
        if attempt is None:
            number = beginning.attempt or live.record.attempt + 1
            self._begin_attempt(transaction, change, number, beginning.session)
        elif attempt.session is None and beginning.session is not None:
            change.attempts[attempt.attempt] = replace(attempt, session=beginning.session)
        self._finish(transaction, change)
        return Begun(live.record, dict(live.last_seqs))

    def tick(self, transaction: SqlTransaction, run: str, now: datetime) -> None:
        """Let the clock speak: rules about silence, messages that are due, new rules."""
        live = self._fleet.find(transaction, run)
        if live is None:
            return
        change = self._change(transaction, live, now)
        changed = self._take_rules(change)
        if live.record.ended_at is None and live.record.last_seq > 0:
            changed = (
                self._listen(change, self._policy.hearing.last_heard(live.record, now)) or changed
            )
        incident = live.incident
        due = incident is not None and incident.due_at is not None and incident.due_at <= now
        if changed or due:
            self._finish(transaction, change)

    def alter(self, transaction: SqlTransaction, run: str, now: datetime) -> UnitOfWork | None:
        """Begin any other change of a run; `commit_change` ends it. None: no such run."""
        live = self._fleet.find(transaction, run)
        return None if live is None else self._change(transaction, live, now)

    def edit(self, transaction: SqlTransaction, change: UnitOfWork, edit: RunEdit) -> None:
        if edit.notes is not None:
            change.alter(notes=edit.notes)
        if edit.archived is not None:
            change.alter(is_archived=edit.archived)
        if edit.tags is not None:
            self._retag(change, edit.tags)
        if edit.closed_by is not None:
            self._judge(change, list(closed(change.live, f"Closed by {edit.closed_by}.")))
        self._finish(transaction, change)

    def commit_change(self, transaction: SqlTransaction, change: UnitOfWork) -> None:
        self._finish(transaction, change)

    def _open(
        self,
        transaction: SqlTransaction,
        run: str,
        projects: tuple[str, ...] | None,
        now: datetime,
        beginning: Beginning | None = None,
    ) -> LiveRun:
        live = self._fleet.find(transaction, run)
        if live is not None:
            if projects is not None and live.record.project not in projects:
                raise NotFoundError("no such run")
            return live
        gone = transaction.deleted_sessions(run)
        if gone is not None and (beginning is None or beginning.session in gone):
            raise GoneError("the run was deleted")
        project = beginning.project if beginning is not None else None
        if project is None:
            project = projects[0] if projects else DEFAULT_PROJECT
        if projects is not None and project not in projects:
            raise NotFoundError("no such project")
        self._make_room(transaction)
        record = RunRecord(
            run=run, project=project, created_at=now, heard_at=now, timeline_us=to_us(now)
        )
        rules = self._book.for_tags(record.tags)
        live = LiveRun(record, rules, self._book.version, Fold(State(rules)))
        self._fleet.hold(live)
        return live

    def _make_room(self, transaction: SqlTransaction) -> None:
        """Count one new run; the store is asked only now and then, for it counts every row."""
        if self._room <= 0:
            left = self._policy.most_runs - transaction.count_runs()
            if left <= 0:
                raise OverCapError("the service holds as many runs as it may", retry_after_s=3600)
            # Replicas count each for itself, so none takes all that is left.
            self._room = max(left // ROOM_SHARE, 1)
        self._room -= 1

    def _change(self, transaction: SqlTransaction, live: LiveRun, now: datetime) -> UnitOfWork:
        """A change of a run whose live state is dropped if the change comes to nothing."""
        run = live.record.run
        transaction.on_rollback(lambda: self._fleet.forget(run))
        stored = live.record.version > 0
        return UnitOfWork(transaction, live, live.record if stored else None, now)

    def _finish(self, transaction: SqlTransaction, change: UnitOfWork) -> None:
        live = change.live
        health = live.health()
        if health != live.record.health:
            change.alter(health=health)
        tell_if_due(change, self._policy.telling)
        tell_life(change, self._policy.telling)
        seen, now = change.seen, live.record
        if seen is None or (seen.status, seen.health) != (now.status, now.health):
            change.tell("status", {"status": now.status, "health": now.health})
        if not change.is_only_heard(self._policy.hearing.timeout_s / HEARD_SHARE):
            change.write(transaction, self._policy.snapshot_every)
        transaction.on_commit(lambda: self._publish(live, change))

    def _publish(self, live: LiveRun, change: UnitOfWork) -> None:
        self._fleet.publish(live)
        self._committed(change)

    def _begin_attempt(
        self, transaction: SqlTransaction, change: UnitOfWork, attempt: int, session: str | None
    ) -> None:
        record = change.live.record
        for earlier in transaction.attempts(record.run) if change.seen else ():
            if earlier.attempt == record.attempt:
                change.attempts[earlier.attempt] = replace(earlier, last_seq=record.last_seq)
        cancel_pending(change)
        if over := list(closed(change.live, "A new attempt began.", others_only=True)):
            self._judge(change, over)
        change.live.others, change.live.last_seqs = {}, {}
        for command in change.live.commands:
            change.commands[command.id] = replace(command, state="void")
        change.live.commands = []
        change.live.training.reports = Reports()
        change.attempts[attempt] = AttemptRecord(attempt, session, 0, change.now)
        change.alter(
            attempt=attempt,
            last_seq=0,
            status="running",
            hung=None,
            ended_at=None,
            heard_at=change.now,
            error="",
            trainer_did="" if change.live.incident is None else record.trainer_did,
        )
        change.tell("attempt", {"attempt": attempt})
        if STALLED in change.live.alerts:
            self._judge(change, [moves_again(change.live)])
        fold_incident(change, (), self._policy.telling)

    def _describe(self, change: UnitOfWork, beginning: Beginning) -> None:
        record = change.live.record
        change.alter(
            config=record.config if beginning.config is None else dict(beginning.config),
            trainer=record.trainer if beginning.trainer is None else beginning.trainer,
            heard_at=change.now,
        )
        if beginning.tags is not None:
            self._retag(change, beginning.tags)

    def _retag(self, change: UnitOfWork, tags: Mapping[str, str]) -> None:
        live = change.live
        if tags == live.record.tags:
            return
        change.alter(tags=dict(tags))
        rules = self._book.for_tags(tags)
        if rules is not live.rules:
            live.judge_by(rules)
            change.needs_snapshot = True

    def _take_rules(self, change: UnitOfWork) -> bool:
        live = change.live
        switch_rules(live, self._book)
        changed = adopt_renamed(change)
        made = list(disagreements(live))
        if made:
            self._judge(change, made)
            change.needs_snapshot = True
        return changed or bool(made)

    def _listen(self, change: UnitOfWork, heard_at: datetime) -> bool:
        """Fold one tick; whether anything came of it."""
        live = change.live
        if not live.rules.clocked:
            return False
        tick = Tick(
            now=change.now.timestamp(),
            last_heard=heard_at.timestamp(),
            timeout_s=self._policy.hearing.timeout_s,
        )
        _, transitions = step(live.rules, live.training.engine, tick)
        if not transitions:
            return False
        # A tick is no update and cannot be replayed, so what it did is saved at once.
        change.needs_snapshot = True
        self._judge(change, transitions)
        return True

    def _judge(self, change: UnitOfWork, transitions: Iterable[Transition]) -> None:
        edges = [apply_transition(change, transition) for transition in transitions]
        fold_incident(change, [alert for alert in edges if alert is not None], self._policy.telling)

    def _fold(self, change: UnitOfWork, fresh: Sequence[Update]) -> None:
        """Updates of the training, which is the run's progress."""
        live, training = change.live, change.live.training
        # The end of a run that was lost or hung belongs to the incident of its silence, which
        # else would be called over a moment before the run has failed.
        ends = any(update.event and update.event.get("kind") in ENDS for update in fresh)
        if not ends:
            self._hear(change)
        last_seq = live.record.last_seq
        change.updates.extend(fresh)
        rules = live.rules
        noted = 0
        for at, update in enumerate(fresh, 1):
            _, transitions = step(rules, training.engine, update)
            if not transitions and update.event is None and live.record.hung is None:
                continue
            training.note(rules, fresh[noted:at])
            noted = at
            if update.event is None and live.record.hung is not None and not ends:
                change.alter(hung=None)
            elif update.event is None and all(each.change in _WAITING for each in transitions):
                for waiting in transitions:
                    apply_transition(change, waiting)
                continue
            self._take(change, update, transitions)
        training.note(rules, fresh[noted:])
        if ends:
            self._hear(change)
        live.since_snapshot += len(fresh)
        if not fresh:
            return
        record, newest = live.record, fresh[-1]
        live.newest = newest
        change.alter(
            last_seq=newest.seq,
            step=newest.step,
            time=newest.time,
            updates=record.updates + len(fresh),
            lost=record.lost + newest.seq - last_seq - len(fresh),
            updated_at=change.now if any(each.readings for each in fresh) else record.updated_at,
        )

    def _fold_other(self, change: UnitOfWork, source: str, fresh: Sequence[Update]) -> None:
        """Updates of another source: judged by themselves, and no progress of the run."""
        live, record = change.live, change.live.record
        if not record.last_seq:
            # Until its training speaks, a run lives as long as others speak of it.
            change.alter(heard_at=change.now)
        if not fresh:
            return
        if source not in live.others:
            live.others[source] = Fold(State(live.rules))
        fold = live.others[source]
        change.updates.extend(fresh)
        change.others_spoke = True
        lost = fresh[-1].seq - live.last_seq(source) - len(fresh)
        change.alter(updates=record.updates + len(fresh), lost=record.lost + lost)
        for update in fresh:
            live.last_seqs[source] = update.seq
            _, transitions = step(live.rules, fold.engine, update)
            fold.note(live.rules, [update])
            if transitions or update.event is not None:
                self._take(change, update, [replace(each, source=source) for each in transitions])
        live.since_snapshot += len(fresh)

    def _take(
        self, change: UnitOfWork, update: Update, transitions: Collection[Transition]
    ) -> None:
        """An update that says something, or at which the rules do."""
        if any(each.change == "resolved" for each in transitions):
            # Told while it is so: an incident may begin and end within one batch.
            tell_if_due(change, self._policy.telling)
        tell_life(change, self._policy.telling)
        if update.source == TRAINING:
            change.alter(last_seq=update.seq, step=update.step, time=update.time)
        made: list[Transition] = []
        if update.event is not None:
            take_event(change, update, update.event)
            if update.event.get("kind") == "halted":
                note_halt(change, self._policy.telling)
            if update.event.get("kind") == "hung" and change.live.record.hung is not None:
                made.append(stalled(change.live))
        if change.live.record.hung is None and STALLED in change.live.alerts:
            made.append(moves_again(change.live))
        self._judge(change, [*transitions, *made])

    def _hear(self, change: UnitOfWork) -> None:
        """The trainer lives: what its silence led to is over."""
        live = change.live
        change.alter(heard_at=change.now)
        if any(key in live.alerts for key in _clocked_keys(live)):
            self._listen(change, change.now)

    def _accept_late(
        self, transaction: SqlTransaction, live: LiveRun, batch: Batch, now: datetime
    ) -> Receipt:
        """Updates of an attempt that is over: kept for the record, too late to be judged."""
        attempts = {earlier.attempt: earlier for earlier in transaction.attempts(batch.run)}
        earlier = attempts.get(batch.attempt)
        if earlier is None:
            raise ConflictError("the run has begun a later attempt", loc=("attempt",))
        last_seqs = {TRAINING: earlier.last_seq, **earlier.last_seqs}
        sorted_ = sort_batch(transaction, batch, last_seqs)
        if sorted_.accepted:
            change = self._change(transaction, live, now)
            for source, fresh in sorted_.fresh.items():
                change.updates.extend(fresh)
                last_seqs[source] = max(last_seqs.get(source, 0), *(each.seq for each in fresh), 0)
            others = {source: seq for source, seq in last_seqs.items() if source != TRAINING}
            change.attempts[batch.attempt] = replace(
                earlier, last_seq=last_seqs[TRAINING], last_seqs=others
            )
            change.alter(updates=live.record.updates + sorted_.accepted)
            self._finish(transaction, change)
        rejected = (*batch.rejected, *sorted_.rejected)
        return Receipt(
            sorted_.accepted,
            sorted_.duplicates,
            rejected,
            last_seqs.pop(TRAINING),
            (),
            live.rules.fingerprint,
            live.record.attempt,
            batch.left_out,
            last_seqs,
        )


def _clocked_keys(live: LiveRun) -> list[AlertKey]:
    return [(live.rules.rules[at].name, "", TRAINING) for at in live.rules.clocked]


def _outstanding(live: LiveRun, now: datetime) -> tuple[CommandRecord, ...]:
    attempt = live.record.attempt
    return tuple(
        command
        for command in live.commands
        if command.attempt == attempt and command.expires_at > now
    )
