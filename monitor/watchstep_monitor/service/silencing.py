"""The silences of now, remembered so that no commit has to ask for them."""

from __future__ import annotations

import logging
import threading

from watchstep_monitor.service.errors import StorageTroubleError
from watchstep_monitor.service.ports import Clock
from watchstep_monitor.service.run_state.records import SilenceRecord
from watchstep_monitor.service.run_state.storage import Store

log = logging.getLogger(__name__)

FRESH_S = 1.0
"""How old they may be where another process can add some."""


class SilenceCache:
    """Thread-safe."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._known: list[SilenceRecord] | None = None
        self._read_at = 0.0

    def current(self) -> list[SilenceRecord]:
        """All silences; the newest that could be read, should the store not answer."""
        with self._lock:
            now = self._clock.monotonic()
            stale = not self._store.exclusive and now - self._read_at > FRESH_S
            if self._known is None or stale:
                try:
                    self._known, self._read_at = self._store.silences(), now
                except StorageTroubleError as error:
                    log.warning("silences cannot be read", extra={"reason": str(error)})
            return self._known or []

    def forget(self) -> None:
        """Read them again the next time: one was added or ended."""
        with self._lock:
            self._known = None
