"""The service's own clock: silent runs, messages that are due, rules that were reloaded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from watchstep.core.ruleset import RuleSet
from watchstep_monitor.service.desk import Desk
from watchstep_monitor.service.errors import ServiceError
from watchstep_monitor.service.live import RunView
from watchstep_monitor.service.status import shown_status
from watchstep_monitor.service.storage import RunFilter

log = logging.getLogger(__name__)

MESSAGES_INTERVAL_S = 0.1
"""Between looks for messages that are due; one indexed query."""

MOST_DUE = 200


class Ticker:
    """One thread; what it does takes effect in the writing threads."""

    def __init__(self, desk: Desk, check_interval_s: float) -> None:
        self._desk = desk
        self._check_interval_s = check_interval_s
        self._stop = threading.Event()
        self._stalled: set[str] = set()
        self._rules_version = desk.book.version
        self._thread = threading.Thread(target=self._serve, name="ticker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the tick under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def look(self) -> None:
        """Tick every run that the clock concerns now."""
        now = self._desk.clock.now()
        reloaded = self._rules_version != self._desk.book.version
        self._rules_version = self._desk.book.version
        for view in self._desk.fleet.views():
            self._note_status(view, now)
            if reloaded or self._is_due(view, now):
                self._desk.tick(view.record.run)

    def send_due(self) -> None:
        """Write the messages whose time has come."""
        for run in self._desk.store.due_incidents(self._desk.clock.now(), MOST_DUE):
            self._desk.tick(run)

    def remember_running(self) -> None:
        """Bring runs that were running into memory, so that their silence is noticed."""
        cursor: str | None = None
        while not self._stop.is_set():
            page = self._desk.store.runs(RunFilter(status="running"), 200, cursor)
            for record in page.items:
                self._desk.view(record.run, None)
            cursor = page.next_cursor
            if cursor is None:
                return

    def _serve(self) -> None:
        clock = self._desk.clock
        looked = clock.monotonic()
        pause_s = min(MESSAGES_INTERVAL_S, self._check_interval_s)
        self._guarded(self.remember_running)
        while not self._stop.wait(pause_s):
            self._guarded(self.send_due)
            if clock.monotonic() - looked >= self._check_interval_s:
                looked = clock.monotonic()
                self._guarded(self.look)

    @staticmethod
    def _guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except ServiceError as error:
            log.warning("the clock's work waits", extra={"reason": str(error)})

    def _is_due(self, view: RunView, now: datetime) -> bool:
        record = view.record
        if record.ended_at is not None or record.last_seq == 0 or not view.rules.clocked:
            return False
        firing = {alert.rule for alert in view.alerts if alert.state == "firing"}
        if all(view.rules.rules[at].name in firing for at in view.rules.clocked):
            return False
        silence = now - self._desk.policy.hearing.last_heard(record)
        least = _least_silence_s(view.rules, self._desk.policy.hearing.timeout_s)
        return silence >= timedelta(seconds=least)

    def _note_status(self, view: RunView, now: datetime) -> None:
        """Tell listeners when a run falls silent; its own words announce the way back."""
        run = view.record.run
        stalled = shown_status(view.record, now, self._desk.policy.hearing) == "stalled"
        if stalled and run not in self._stalled:
            self._stalled.add(run)
            self._publish(view, "stalled")
        elif not stalled and run in self._stalled:
            self._stalled.discard(run)
            self._publish(view, view.record.status)

    def _publish(self, view: RunView, status: str) -> None:
        record = view.record
        detail = {"status": status, "attempt": record.attempt, "seq": record.last_seq}
        self._desk.broadcast.publish("status", record.run, record.project, detail)


def _least_silence_s(rules: RuleSet, timeout_s: float) -> float:
    """The shortest silence that any rule could be about."""
    numbers = [
        abs(float(str(node.value)))
        for tree in rules.clocked.values()
        for node in tree.walk()
        if node.op == "number"
    ]
    return min([timeout_s, *numbers])
