"""What a replica tells the others on the same PostgreSQL of what it has committed.

Never inside the transaction itself: PostgreSQL tells in the order of commits, for which each that
tells holds a lock on all others until it is synced, and group commits end. Told right afterwards,
many in one go, it costs them nothing. What is lost with the process or a connection, others find
by looking.
"""

from __future__ import annotations

import json
import logging
import queue
import secrets
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from watchstep_monitor.store.postgres.session_settings import limit_silence

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

CHANNEL = "watchstep"
VOICE = "watchstep_voice"
"""Where a writing connection keeps the voice of its replica."""

DELIVERY = "delivery"
TOKENS = "tokens"
MOST_NOTICE_BYTES = 7_900
"""PostgreSQL takes notifications of less than 8,000 bytes."""

MOST_AT_ONCE = 500
REMEMBERED = 20_000


class Voice:
    """One thread with one connection, both from the first word on.

    Attributes:
        origin: This replica's name among them.
        target: What to connect to, as psycopg takes it; None says nothing.
        own: Run and moment of the newest timeline entries that were told.
    """

    def __init__(self) -> None:
        self.origin = secrets.token_hex(8)
        self.target: Mapping[str, Any] | None = None
        self.own: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)
        self._words: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def say(self, words: str) -> None:
        """Have this told soon. From any thread; returns at once."""
        if self.target is None:
            return
        self._words.put(f"{self.origin} {words}")
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._speak, name="voice", daemon=True)
                self._thread.start()

    def close(self) -> None:
        self._words.put(None)
        if self._thread is not None:
            self._thread.join(5.0)

    def _speak(self) -> None:
        import psycopg

        connection: psycopg.Connection[Any] | None = None
        while (first := self._words.get()) is not None:
            words = [first, *self._waiting()]
            # An old connection may have been cut since; a second failure is an outage.
            for _ in range(2):
                try:
                    connection = connection or self._connected()
                    connection.execute(
                        "SELECT pg_notify(%s, word) FROM unnest(%s::text[]) AS word",
                        (CHANNEL, words),
                    )
                    break
                except (psycopg.Error, OSError):
                    log.debug("replicas cannot be told", extra={"count": len(words)})
                    if connection is not None:
                        connection.close()
                    connection = None
        if connection is not None:
            connection.close()

    def _waiting(self) -> Iterator[str]:
        for _ in range(MOST_AT_ONCE):
            try:
                word = self._words.get_nowait()
            except queue.Empty:
                return
            if word is None:
                # The sign to stop is for the loop outside.
                self._words.put(None)
                return
            yield word

    def _connected(self) -> psycopg.Connection[Any]:
        import psycopg

        assert self.target is not None
        connection = psycopg.connect(**self.target, autocommit=True)
        limit_silence(connection)
        # It changes nothing that a crash could take back.
        connection.execute("SET synchronous_commit = off")
        return connection


def tell_of_entries(connection: Connection, key: int, moments: list[int]) -> None:
    """Announce timeline entries of one run that were committed."""
    voice: Voice = connection.info[VOICE]
    voice.own.extend((key, at_us) for at_us in moments)
    voice.say(f"{key} {min(moments)} {max(moments)}")


def tell_of_delivery(
    connection: Connection, run: str, project: str, detail: Mapping[str, Any]
) -> None:
    """Announce how an attempt at a delivery ended, once that is committed."""
    voice: Voice = connection.info[VOICE]
    message = json.dumps({"run": run, "project": project, "detail": dict(detail)})
    if len(message.encode()) < MOST_NOTICE_BYTES:
        voice.say(f"{DELIVERY} {message}")


def tell_of_tokens(connection: Connection) -> None:
    """Announce that tokens changed, once that is committed."""
    if connection.dialect.name == "postgresql":
        voice: Voice = connection.info[VOICE]
        voice.say(TOKENS)
