"""What may go: updates of runs that ended long ago, or that a full store has no room for.

Alerts, incidents and timelines stay, and so do the updates around every incident's beginning:
they are what one comes back for.
"""

from __future__ import annotations

import functools
import logging
import threading
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from watchstep_monitor.service.errors import ServiceError
from watchstep_monitor.service.run_service import RunService
from watchstep_monitor.service.run_state.records import RunRecord, all_items
from watchstep_monitor.service.run_state.storage import PastWeek
from watchstep_monitor.settings.schema import RetentionSettings

if TYPE_CHECKING:
    from watchstep_monitor.store.transaction import SqlTransaction

log = logging.getLogger(__name__)

STRUCTURE_S = 3_600.0
"""Between looks at the file of an embedded store."""

RUNS_A_LOOK = 200

Windows = list[tuple[int, int, int]]
"""Attempt, first and last number of what is kept."""


class Retention:
    """One thread; it does nothing where the policy keeps all."""

    def __init__(self, run_service: RunService, policy: RetentionSettings) -> None:
        self._run_service = run_service
        self._policy = policy
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def look(self) -> int:
        """Remove what may go now; returns how many rows of updates went."""
        removed = 0
        if self._policy.updates_s is not None:
            before = self._run_service.clock.now() - timedelta(seconds=self._policy.updates_s)
            for week in self._run_service.store.over_weeks(before):
                removed += self._drop(week, before)
            for record in self._run_service.store.ended_with_updates(before, RUNS_A_LOOK):
                removed += self._thin(record)
        most = self._policy.size_bytes
        if most is not None and self._run_service.store.size_bytes() > most:
            now = self._run_service.clock.now()
            for week in self._run_service.store.over_weeks(now):
                removed += self._drop(week, now)
                if self._stop.is_set() or self._run_service.store.size_bytes() <= most:
                    return removed
            if not self._run_service.store.exclusive:
                # A database server gives no room back for rows: all runs would lose theirs.
                return removed
            for record in self._run_service.store.ended_with_updates(None, RUNS_A_LOOK):
                removed += self._thin(record)
                if self._stop.is_set() or self._run_service.store.size_bytes() <= most:
                    break
        return removed

    def _serve(self) -> None:
        checked = self._run_service.clock.monotonic()
        while not self._stop.wait(self._policy.check_interval_s):
            if self._run_service.clock.monotonic() - checked >= STRUCTURE_S:
                checked = self._run_service.clock.monotonic()
                self._run_service.store.check_structure()
            try:
                removed = self.look()
            except ServiceError as error:
                log.warning("retention waits", extra={"reason": str(error)})
                continue
            if removed:
                log.info("old updates removed", extra={"rows": removed})

    def _drop(self, past: PastWeek, before: datetime) -> int:
        """Drop a week at once, which costs nothing for each row and gives its room back."""
        for run in past.incidents_of:
            windows = self._windows(run)

            def job(
                transaction: SqlTransaction, run: str = run, windows: Windows = windows
            ) -> None:
                transaction.set_aside(run, past.week, windows)

            self._run_service.store.write(run, job).result(60.0)
        return self._run_service.store.drop_week(past.week, before)

    def _thin(self, record: RunRecord) -> int:
        windows = self._windows(record.run)

        def job(transaction: SqlTransaction) -> int:
            return transaction.remove_updates(record.run, windows)

        return self._run_service.store.write(record.run, job).result(60.0)

    def _windows(self, run: str) -> Windows:
        """What to keep of a run: around the beginning of each of its incidents."""
        incidents = functools.partial(self._run_service.store.incidents, None, run, 200)
        around = self._policy.incident_window_updates
        return [
            (incident.attempt, incident.first_bad - around, incident.first_bad + around)
            for incident in all_items(incidents)
        ]
