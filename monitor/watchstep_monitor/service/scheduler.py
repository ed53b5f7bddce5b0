"""The service's own clock: silent runs, messages that are due, rules that were reloaded."""

from __future__ import annotations

import functools
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from watchstep.core.ruleset import RuleSet
from watchstep_monitor.service.errors import ServiceError, StorageTroubleError
from watchstep_monitor.service.ports import RunStatus
from watchstep_monitor.service.run_service import RunService
from watchstep_monitor.service.run_state.records import RunRecord, all_items
from watchstep_monitor.service.run_state.run_cache import RunView
from watchstep_monitor.service.run_state.status import shown_status
from watchstep_monitor.service.run_state.storage import RunFilter

log = logging.getLogger(__name__)

MESSAGES_INTERVAL_S = 0.1
"""Between looks for messages that are due; one indexed query."""

MOST_DUE = 200

LEAST_DEAF_S = 5.0
"""Trouble with the store that lasted so long counts as absence of the service."""


class Scheduler:
    """One thread; what it does takes effect in the writing threads."""

    def __init__(
        self,
        run_service: RunService,
        check_interval_s: float,
        leads: Callable[[], bool] = lambda: True,
        *,
        keep_ended_s: float = 600.0,
    ) -> None:
        """Prepare; nothing ticks before `start`.

        Args:
            check_interval_s: Between looks for silent runs.
            leads: Whether it is this process that ticks, where several share a store.
            keep_ended_s: How long gauges show runs that ended.
        """
        self._keep_ended_s = keep_ended_s
        self._run_service = run_service
        self._leads = leads
        self._check_interval_s = check_interval_s
        self._stop = threading.Event()
        self._lost: set[str] = set()
        self._deaf_since: datetime | None = None
        self._awake_at = run_service.clock.now()
        self._rules_version = run_service.book.version
        self._thread = threading.Thread(target=self._serve, name="scheduler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def look(self) -> None:
        now = self._run_service.clock.now()
        reloaded = self._rules_version != self._run_service.book.version
        self._rules_version = self._run_service.book.version
        if not self._leads():
            self._lost.clear()
            # Nothing to do but to notice when the store is away.
            self._run_service.store.due_incidents(now, 1)
            return
        for view in self._views(now):
            self._note_status(view, now)
            if reloaded or self._is_due(view, now):
                self._run_service.tick(view.record.run)

    def send_due(self) -> None:
        """Write the messages whose time has come."""
        if not self._leads():
            return
        for run in self._run_service.store.due_incidents(self._run_service.clock.now(), MOST_DUE):
            self._run_service.tick(run)

    def remember(self) -> None:
        """Bring into memory what was there before the service was restarted.

        Runs that had not ended, so that their silence is noticed and their alerts are shown,
        and runs that ended so recently that gauges still show them.
        """
        if not self._run_service.store.exclusive:
            return
        since = self._run_service.clock.now() - timedelta(seconds=self._keep_ended_s)
        # Newest heard of first.
        late = itertools.takewhile(
            lambda record: (record.heard_at or since) >= since, self._records(RunFilter())
        )
        alive = (self._records(RunFilter(status=status)) for status in ("running", "stalled"))
        for record in itertools.chain(late, *alive):
            self._run_service.view(record.run, None)

    def _serve(self) -> None:
        clock = self._run_service.clock
        looked = clock.monotonic()
        pause_s = min(MESSAGES_INTERVAL_S, self._check_interval_s)
        self._guarded(self.remember)
        while not self._stop.wait(pause_s):
            self.notice_absence()
            self._guarded(self.send_due)
            if clock.monotonic() - looked >= self._check_interval_s:
                looked = clock.monotonic()
                self._guarded(self.look)

    def notice_absence(self) -> None:
        """Look first whether this process was there since it last did so.

        Where it was stopped, the machine slept, or the clock was set forward, no trainer could be
        heard meanwhile, and none of them is silent for that.
        """
        now, before = self._run_service.clock.now(), self._awake_at
        self._awake_at = now
        if (now - before).total_seconds() >= self._least_absence_s():
            log.warning(
                "the service was absent, or its clock was set",
                extra={"seconds": round((now - before).total_seconds(), 1)},
            )
            self._run_service.policy.hearing.up_since = now

    def _least_absence_s(self) -> float:
        """What is shorter must not put off the silence of a run that is really gone."""
        return min(LEAST_DEAF_S, self._run_service.policy.hearing.timeout_s / 2)

    def _guarded(self, work: Callable[[], None]) -> None:
        now = self._run_service.clock.now()
        try:
            if self._deaf_since is not None or self._run_service.store.failing:
                self._require_store()
            work()
        except ServiceError as error:
            if self._deaf_since is None:
                self._deaf_since = now
                log.warning("the clock's work waits", extra={"reason": str(error)})
            self._excuse_silence(self._deaf_since, now)
            return
        if self._deaf_since is not None:
            self._excuse_silence(self._deaf_since, now)
            self._deaf_since = None
            log.info("the clock's work goes on")

    def _require_store(self) -> None:
        """Look whether commits work: while they do not, what trainers say is refused.

        Raises:
            StorageTroubleError: They do not.
        """
        trouble = self._run_service.store.commit_trouble()
        if trouble is not None:
            raise StorageTroubleError(trouble)

    def _excuse_silence(self, deaf_since: datetime, now: datetime) -> None:
        if (now - deaf_since).total_seconds() >= self._least_absence_s():
            self._run_service.policy.hearing.up_since = now

    def _views(self, now: datetime) -> Iterator[RunView]:
        """The runs that the clock may concern."""
        run_service = self._run_service
        if run_service.store.exclusive:
            yield from run_service.fleet.views()
            return
        # Memory knows little of runs that speak to other replicas; their rows know enough.
        back = set(self._lost)
        for record in self._silent_records(now):
            back.discard(record.run)
            view = run_service.fleet.view(record.run)
            is_current = view is not None and view.record.version == record.version
            yield view if view is not None and is_current else run_service.view(record.run, None)
        for run in back:
            yield run_service.view(run, None)

    def _silent_records(self, now: datetime) -> Iterator[RunRecord]:
        """Rows of runs that may have fallen silent, whoever heard them last."""
        run_service = self._run_service
        least = _least_silence_s(run_service.book.rules, run_service.policy.hearing.timeout_s)
        silent = now - timedelta(seconds=least)
        yield from self._records(RunFilter(status="lost", lost_before=silent))

    def _records(self, selection: RunFilter) -> Iterator[RunRecord]:
        records = all_items(functools.partial(self._run_service.store.runs, selection, 200))
        return itertools.takewhile(lambda _: not self._stop.is_set(), records)

    def _is_due(self, view: RunView, now: datetime) -> bool:
        record = view.record
        if record.ended_at is not None or record.last_seq == 0 or not view.rules.clocked:
            return False
        firing = {alert.rule for alert in view.alerts if alert.state == "firing"}
        if all(view.rules.rules[at].name in firing for at in view.rules.clocked):
            return False
        silence = now - self._run_service.policy.hearing.last_heard(record, now)
        least = _least_silence_s(view.rules, self._run_service.policy.hearing.timeout_s)
        return silence >= timedelta(seconds=least)

    def _note_status(self, view: RunView, now: datetime) -> None:
        """Tell listeners when a run falls silent; its own words announce the way back."""
        run = view.record.run
        status = shown_status(view.record, now, self._run_service.policy.hearing)
        if status == "lost" and run not in self._lost:
            self._lost.add(run)
            self._publish(view, status)
        elif status != "lost" and run in self._lost:
            self._lost.discard(run)
            self._publish(view, status)

    def _publish(self, view: RunView, status: RunStatus) -> None:
        record = view.record
        detail = {
            "status": status,
            "health": record.health,
            "attempt": record.attempt,
            "seq": record.last_seq,
        }
        self._run_service.bus.happened("status", record.run, record.project, detail)


def _least_silence_s(rules: RuleSet, timeout_s: float) -> float:
    """The shortest silence that any rule could be about."""
    numbers = [
        abs(float(str(node.value)))
        for tree in rules.clocked.values()
        for node in tree.walk()
        if node.op == "number"
    ]
    return min([timeout_s, *numbers])
