"""The writing threads: jobs in order per run, gathered into group commits on SQLite."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from watchstep_monitor.service.errors import StaleRunError, StorageTroubleError
from watchstep_monitor.service.outcomes import Outcome
from watchstep_monitor.service.run_state.records import run_key
from watchstep_monitor.store.circuit_breaker import Reach
from watchstep_monitor.store.metric_sets import Shapes
from watchstep_monitor.store.postgres.partitions import make_partitions
from watchstep_monitor.store.postgres.pipeline import (
    NoPartitionError,
    StaleGuardError,
    find_absent,
    is_lost,
    roll_back,
    send_flight,
)
from watchstep_monitor.store.read_connection import reason_of
from watchstep_monitor.store.sqlite_file_check import Footing
from watchstep_monitor.store.statements import Statements
from watchstep_monitor.store.transaction import SqlTransaction

if TYPE_CHECKING:
    from watchstep_monitor.gauges.instruments import Instruments

log = logging.getLogger(__name__)

T = TypeVar("T")
Job = Callable[[SqlTransaction], T]
"""Work inside a transaction; may be called again after a rollback."""

MOST_TRIES = 20
"""Tries of a job that other replicas keep overtaking; each success of theirs is progress."""

MOST_IN_FLIGHT = 16
"""Transactions that one writer sends to PostgreSQL together; each is one run's."""

TIDY_INTERVAL_S = 30.0
"""Between truncations of the write-ahead log, which else keeps its greatest size."""

FAILING_S = 3.0
"""How long one commit that the database refused counts against all: the next may need no room on
the disk that is full, and succeed."""

_ALL_FAIL = (OperationalError, OSError)
"""What concerns the whole database, and with it everyone in the group."""


@dataclass(frozen=True, slots=True)
class _Task:
    run: str
    job: Job[Any]
    updates: int
    future: Outcome[Any]
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Done:
    """A job that was done in a transaction that is to be committed."""

    task: _Task
    result: Any
    transaction: SqlTransaction


@dataclass(frozen=True, slots=True)
class GroupCommit:
    """How much one commit gathers.

    Attributes:
        longest_s: Seconds after which it stops gathering.
        most_updates: Updates after which it stops gathering.
    """

    longest_s: float
    most_updates: int


class Writer:
    """Threads that own the writing connections; a run always has the same one.

    Jobs that wait are committed together: none waits for company, since the queue fills while
    the commit before is being synced. On SQLite they share one transaction; on PostgreSQL each has
    its own, and they share a round trip.

    Attributes:
        failing: Whether the newest attempt at a commit failed for a reason that concerns everyone.
    """

    def __init__(
        self,
        engine: Engine,
        reach: Reach | None,
        *,
        threads: int,
        group: GroupCommit,
        metrics: Instruments | None = None,
        footing: Footing | None = None,
    ) -> None:
        self._engine = engine
        self._footing = footing
        self._reach = reach
        self.failing = False
        self._statements = Statements(engine.dialect)
        self._shapes = Shapes()
        self._group = group
        self._metrics = metrics
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._queues: list[queue.SimpleQueue[_Task | None]] = [
            queue.SimpleQueue() for _ in range(threads)
        ]
        self._closed = False
        self._failed_at = -FAILING_S
        self._threads = [
            threading.Thread(target=self._serve, args=(tasks,), name=f"writer-{at}", daemon=True)
            for at, tasks in enumerate(self._queues)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, run: str, job: Job[T], updates: int = 0) -> Future[T]:
        future: Future[T] = Future()
        self.hand_over(run, job, updates, future)
        return future

    def hand_over(
        self, run: str, job: Job[T], updates: int, outcome: Outcome[T], *, is_new: bool = False
    ) -> None:
        """Queue a job; what comes of it is put into `outcome`. See `SqlStore.hand_over`."""
        if self._closed:
            outcome.set_exception(StorageTroubleError("the store is closing"))
        elif self._reach is not None and self._reach.is_away:
            outcome.set_exception(StorageTroubleError("the database cannot be reached"))
        else:
            at = run_key(run) % len(self._queues) if run else 0
            self._queues[at].put(_Task(run, job, updates, outcome, is_new))

    def waiting(self) -> int:
        return sum(tasks.qsize() for tasks in self._queues)

    @property
    def failed_lately(self) -> bool:
        """Whether one did a moment ago, whatever became of those after it."""
        return time.monotonic() - self._failed_at < FAILING_S

    def close(self) -> None:
        self._closed = True
        for tasks in self._queues:
            tasks.put(None)
        for thread in self._threads:
            thread.join(timeout=30.0)

    def _serve(self, tasks: queue.SimpleQueue[_Task | None]) -> None:
        connection: Connection | None = None
        tidied = time.monotonic()
        held: _Task | None = None
        while True:
            task, held = held or _awaited(tasks), None
            if task is None:
                break
            trouble = None
            if self._footing is not None:
                trouble = self._footing.trouble(is_open=connection is not None)
            if trouble is not None:
                # The connection is kept: should the files come back, it goes on as it was.
                self._note_failure(trouble)
                _refuse(task.future, StorageTroubleError(trouble))
                continue
            try:
                if connection is None or connection.invalidated:
                    connection = self._connected(tasks)
                if self._is_sqlite:
                    self._commit_group(connection, task, tasks)
                else:
                    flight, held = _flight(task, tasks)
                    self._commit_flight(connection, flight)
                if self._is_sqlite and time.monotonic() - tidied > TIDY_INTERVAL_S:
                    tidied = time.monotonic()
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            except (SQLAlchemyError, OSError) as error:
                self._note_failure(reason_of(error))
                _refuse(task.future, error)
                _drop(connection)
                connection = None
        _drop(connection)

    def _connected(self, tasks: queue.SimpleQueue[_Task | None]) -> Connection:
        """A new connection; if there is none to be had, for no one who waits now."""
        try:
            return (
                self._engine.connect() if self._reach is None else self._reach.connect(self._engine)
            )
        except (SQLAlchemyError, OSError) as error:
            # One after the other, each would wait for the same attempt to time out.
            for _ in range(tasks.qsize()):
                task = _next(tasks)
                if task is None:
                    break
                _refuse(task.future, error)
            raise

    def _commit_group(
        self, connection: Connection, first: _Task, tasks: queue.SimpleQueue[_Task | None]
    ) -> None:
        began = time.monotonic()
        done: list[tuple[_Task, Any, BaseException | None]] = []
        calls: list[SqlTransaction] = []
        updates = 0
        task: _Task | None = first
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            while task is not None:
                done.append((task, *self._attempt(connection, task, calls)))
                updates += task.updates
                if time.monotonic() - began > self._group.longest_s:
                    break
                if updates >= self._group.most_updates:
                    break
                task = _next(tasks)
            connection.exec_driver_sql("COMMIT")
        except (SQLAlchemyError, OSError) as error:
            _roll_back(connection)
            for transaction in calls:
                _call(transaction.rolled_back)
            self._note_failure(reason_of(error))
            attempted = {id(entry[0]) for entry in done}
            if task is not None and id(task) not in attempted:
                _refuse(task.future, error)
            for entry in done:
                _refuse(entry[0].future, error)
            return
        self._settle(done, calls, time.monotonic() - began, updates)

    def _commit_flight(self, connection: Connection, tasks: Sequence[_Task]) -> None:
        """Do jobs of different runs, and commit them in one flight; a job that reads goes alone."""
        began = time.monotonic()
        unsent: list[_Done] = []
        is_flight = len(tasks) > 1
        try:
            absent = self._absent(connection, tasks) if is_flight else ()
            for task in tasks:
                self._commit_one(connection, task, unsent if is_flight else None, absent)
            statements = [each.transaction.whole() for each in unsent]
            while unsent:
                count, failure = send_flight(connection, statements)
                if count:
                    self._settle_flight(unsent[:count], time.monotonic() - began)
                statements, unsent = statements[count + 1 :], unsent[count:]
                if failure is not None:
                    # It stopped those behind it too, which are none the worse for it.
                    self._commit_again(connection, unsent.pop(0), failure)
        except (SQLAlchemyError, OSError) as error:
            for each in unsent:
                _call(each.transaction.rolled_back)
            for task in tasks:
                _refuse(task.future, error)
            raise

    def _settle_flight(self, done: Sequence[_Done], took_s: float) -> None:
        outcomes = [(each.task, each.result, None) for each in done]
        transactions = [each.transaction for each in done]
        self._settle(outcomes, transactions, took_s, sum(each.task.updates for each in done))

    def _commit_again(self, connection: Connection, failed: _Done, failure: Exception) -> None:
        """Do alone what failed in a flight, if that can help."""
        _undo(connection, failed.transaction)
        if isinstance(failure, NoPartitionError):
            make_partitions(connection)
        elif not isinstance(failure, StaleGuardError):
            self._note_failure(reason_of(failure))
            _refuse(failed.task.future, failure)
            if is_lost(connection):
                raise failure
            return
        self._commit_one(connection, failed.task)

    def _absent(self, connection: Connection, tasks: Sequence[_Task]) -> Collection[str]:
        """Of the runs that may be new those that are; else the job of each would read by itself."""
        keys = {task.run: run_key(task.run) for task in tasks if task.is_new}
        return find_absent(connection, self._statements.trace_of_run, keys) if keys else ()

    def _commit_one(
        self,
        connection: Connection,
        task: _Task,
        unsent: list[_Done] | None = None,
        absent: Collection[str] = (),
    ) -> None:
        """Do a job and commit it; one that has read nothing is added to `unsent` instead."""
        for _ in range(MOST_TRIES):
            began = time.monotonic()
            transaction = SqlTransaction(connection, self._statements, self._shapes, absent)
            absent = ()
            try:
                result = task.job(transaction)
                if unsent is not None and not transaction.is_open:
                    unsent.append(_Done(task, result, transaction))
                    return
                transaction.commit()
            except NoPartitionError:
                _undo(connection, transaction)
                make_partitions(connection)
                continue
            except StaleRunError:
                # Another replica was faster: forget what we remembered, and look again.
                _undo(connection, transaction)
                continue
            except (SQLAlchemyError, OSError):
                _undo(connection, transaction)
                raise
            except Exception as error:
                _undo(connection, transaction)
                task.future.set_exception(error)
                return
            took_s = time.monotonic() - began
            self._settle([(task, result, None)], [transaction], took_s, task.updates)
            return
        _refuse(task.future, StorageTroubleError("other replicas keep changing this run"))

    def _attempt(
        self, connection: Connection, task: _Task, calls: list[SqlTransaction]
    ) -> tuple[Any, BaseException | None]:
        """Do one job of a group inside a savepoint, so that its failure is its own."""
        failure: BaseException = StorageTroubleError("the run keeps changing")
        for _ in range(2):
            transaction = SqlTransaction(connection, self._statements, self._shapes)
            connection.exec_driver_sql("SAVEPOINT job")
            try:
                result = task.job(transaction)
            except _ALL_FAIL:
                _call(transaction.rolled_back)
                raise
            except Exception as error:
                connection.exec_driver_sql("ROLLBACK TO job")
                connection.exec_driver_sql("RELEASE job")
                _call(transaction.rolled_back)
                if not isinstance(error, StaleRunError):
                    return None, _own_failure(error)
                continue
            connection.exec_driver_sql("RELEASE job")
            calls.append(transaction)
            return result, None
        return None, failure

    def _note_failure(self, reason: str) -> None:
        self._failed_at = time.monotonic()
        # Once for each stretch of trouble: a full disk is met by every trainer, again and again.
        if not self.failing:
            self.failing = True
            log.error("the store cannot commit", extra={"reason": reason})

    def _settle(
        self,
        done: Sequence[tuple[_Task, Any, BaseException | None]],
        calls: Sequence[SqlTransaction],
        took_s: float,
        updates: int,
    ) -> None:
        if self.failing:
            self.failing = False
            log.info("the store commits again")
        if self._metrics is not None:
            self._metrics.commit_took(took_s, updates)
        for transaction in calls:
            _call(transaction.committed)
        for task, result, error in done:
            if error is None:
                task.future.set_result(result)
            else:
                task.future.set_exception(error)


def _own_failure(error: Exception) -> BaseException:
    if not isinstance(error, SQLAlchemyError):
        return error
    log.warning("a row was refused", extra={"reason": reason_of(error)})
    return StorageTroubleError(reason_of(error))


def _awaited(tasks: queue.SimpleQueue[_Task | None]) -> _Task | None:
    """The next task, once there is one; None to stop."""
    while (task := tasks.get()) is not None:
        if task.future.set_running_or_notify_cancel():
            return task
        # Whoever asked has given up; what is sent again waits behind it.
    return None


def _next(tasks: queue.SimpleQueue[_Task | None]) -> _Task | None:
    """The next task that someone still waits for, if there is one already."""
    while True:
        try:
            task = tasks.get_nowait()
        except queue.Empty:
            return None
        if task is None:
            # The sign to stop is for the loop outside; it comes after everything queued.
            tasks.put(None)
            return None
        if task.future.set_running_or_notify_cancel():
            return task


def _flight(
    first: _Task, tasks: queue.SimpleQueue[_Task | None]
) -> tuple[list[_Task], _Task | None]:
    """Tasks of different runs that can go together, and one that was taken and has to wait."""
    flight = [first]
    runs = {first.run, ""}
    while first.run and len(flight) < MOST_IN_FLIGHT:
        task = _next(tasks)
        if task is None:
            break
        if task.run in runs:
            return flight, task
        runs.add(task.run)
        flight.append(task)
    return flight, None


def _refuse(future: Outcome[Any], error: BaseException) -> None:
    if not future.done():
        trouble = StorageTroubleError(reason_of(error))
        trouble.__cause__ = error
        future.set_exception(trouble)


def _undo(connection: Connection, transaction: SqlTransaction) -> None:
    _roll_back(connection)
    _call(transaction.rolled_back)


def _roll_back(connection: Connection) -> None:
    try:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("ROLLBACK")
        else:
            roll_back(connection)
    except SQLAlchemyError:
        # SQLite has rolled back by itself on a full disk; a lost connection has too.
        log.debug("nothing to roll back")


def _drop(connection: Connection | None) -> None:
    if connection is not None:
        try:
            connection.close()
        except SQLAlchemyError:
            log.debug("the connection was gone already")


def _call(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()
