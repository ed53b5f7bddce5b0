"""Connecting to a database that may be out of reach, without everyone waiting to find out."""

from __future__ import annotations

import threading

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

RETRY_S = 0.2
"""Between tries to reach it again: of what an outage lasts on after its end."""


class Reach:
    """Whether a database can be reached. Thread-safe.

    Where packets are lost without a word, each try to connect takes its whole timeout. Once
    one has failed, a thread of this object tries, and everyone else is refused at once.

    Attributes:
        is_away: Whether the newest try failed.
    """

    def __init__(self) -> None:
        self.is_away = False
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def connect(self, engine: Engine) -> Connection:
        """A connection.

        Raises:
            DBAPIError: The database cannot be reached.
            ConnectionError: It could not be the last time, and is not back yet.
        """
        if self.is_away:
            raise ConnectionError("the database cannot be reached")
        try:
            return engine.connect()
        except DBAPIError:
            self._look_out(engine)
            raise

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _look_out(self, engine: Engine) -> None:
        with self._lock:
            if self.is_away:
                return
            self.is_away = True
            self._thread = threading.Thread(
                target=self._try, args=(engine,), name="reach", daemon=True
            )
            self._thread.start()

    def _try(self, engine: Engine) -> None:
        while not self._closed.wait(RETRY_S):
            try:
                engine.connect().close()
            except DBAPIError:
                continue
            self.is_away = False
            return
