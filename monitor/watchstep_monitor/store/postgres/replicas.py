"""What replicas on one PostgreSQL say to each other: what time it is, who ticks, what happened.

One connection of its own per replica, beside its `voice`. It listens for what others committed,
holds the lock of the one that ticks, asks for the database's time, and looks at the timeline itself
every few seconds, should a notification have been lost with a connection.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, select

from watchstep_monitor.service.clock import SharedClock, to_us
from watchstep_monitor.service.errors import StorageTroubleError
from watchstep_monitor.service.events import RulesRead
from watchstep_monitor.store import schema
from watchstep_monitor.store.postgres.notify import CHANNEL, DELIVERY, REMEMBERED, TOKENS, Voice
from watchstep_monitor.store.postgres.session_settings import limit_silence
from watchstep_monitor.store.read_connection import reading, reason_of

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

CLOCK_LOCK = 0x5753544B
"""Key of the advisory lock whose holder ticks; PostgreSQL frees it with its connection."""

WAIT_S = 1.0
"""Between tries for the lock: half of what a hand-over may take."""

SWEEP_S = 2.0
"""Between looks at the timeline itself."""

OVERLAP_US = 30_000_000
"""How far back a look goes: longer than any commit takes, and than clocks usually differ."""

FROZEN_MS = 8_000
"""A replica that says nothing for so long loses its session, and with it the lock: a stopped
process keeps its connection, and no one else would tick."""

SETTLED_US = 2_000_000
"""What is younger a look leaves to its notification, which is under way."""

MOST_A_LOOK = 1_000

RELOAD = "reload"


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that another replica committed.

    Attributes:
        kind: As listeners are told it; a timeline's kind, or "delivery". Or "tokens": some
            were made or revoked. Or "reload": no commit, but rule files to be read again,
            wherever they are.
        at_us: Of the timeline entry; None for a delivery.
    """

    kind: str
    run: str
    project: str
    detail: Mapping[str, Any]
    at_us: int | None = None


Heard = Callable[[Told], None]


class Replicas:
    """One thread with one connection; reconnects for ever.

    Attributes:
        voice: What tells the others; still speaks after `stop`, until it is closed.
    """

    def __init__(
        self, target: Mapping[str, Any], engine: Engine, voice: Voice, clock: SharedClock
    ) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            target: What to connect to, as psycopg takes it.
            clock: Told the database's time every second.
        """
        self._target = target
        self._engine = engine
        self.voice = voice
        self._clock = clock
        self._heard: Heard | None = None
        self._stop = threading.Event()
        self._leads = threading.Event()
        self._reloaded = threading.Event()
        self._known: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._newest_us = 0
        self._swept = False
        self._thread = threading.Thread(target=self._serve, name="replicas", daemon=True)

    def start(self, heard: Heard) -> None:
        """Begin.

        Args:
            heard: Called in this object's thread; must return soon and not raise.
        """
        self._heard = heard
        self._newest_us = to_us(self._clock.now())
        self._thread.start()

    def stop(self) -> None:
        """End, and let another replica keep the clock."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=WAIT_S + 5.0)

    def leads(self) -> bool:
        """Whether this replica keeps the clock.

        May be true for some seconds too long after its connection was cut: two that tick at
        once do no harm, since a tick is committed against the run's version like an update.
        """
        return self._leads.is_set()

    def tell_of_reload(self, event: RulesRead) -> None:
        """Have the others read their rule files again too, within a second or so."""
        if event.ok and event.asked_here:
            self._reloaded.set()

    def _serve(self) -> None:
        import psycopg

        while not self._stop.is_set():
            try:
                with psycopg.connect(**self._target, autocommit=True) as connection:
                    limit_silence(connection)
                    connection.execute(f"SET idle_session_timeout = {FROZEN_MS}")
                    connection.execute(f"LISTEN {CHANNEL}")
                    self._hold(connection)
            except (psycopg.Error, OSError) as error:
                log.warning("replicas cannot be heard", extra={"reason": reason_of(error)})
            finally:
                self._leads.clear()
            self._stop.wait(WAIT_S)

    def _hold(self, connection: psycopg.Connection[Any]) -> None:
        swept = 0.0
        while not self._stop.is_set():
            self._ask_the_time(connection)
            self._take_lock(connection)
            if self._reloaded.is_set():
                notification = (CHANNEL, f"{self.voice.origin} {RELOAD}")
                connection.execute("SELECT pg_notify(%s, %s)", notification)
                self._reloaded.clear()
            for notice in connection.notifies(timeout=WAIT_S, stop_after=100):
                self._hear(notice.payload)
            if time.monotonic() - swept >= SWEEP_S:
                swept = time.monotonic()
                self._sweep()

    def _ask_the_time(self, connection: psycopg.Connection[Any]) -> None:
        # Also what keeps the session from counting as frozen.
        asked_at = time.monotonic()
        row = connection.execute("SELECT clock_timestamp()").fetchone()
        if row is not None:
            self._clock.told(row[0], asked_at, time.monotonic())

    def _take_lock(self, connection: psycopg.Connection[Any]) -> None:
        if self._leads.is_set():
            return
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (CLOCK_LOCK,)).fetchone()
        if row is not None and row[0]:
            self._leads.set()
            log.info("this replica keeps the clock")

    def _hear(self, payload: str) -> None:
        origin, _, rest = payload.partition(" ")
        if origin == self.voice.origin or self._heard is None:
            return
        if rest in {RELOAD, TOKENS}:
            self._heard(Told(rest, "", "", {}))
            return
        if rest.startswith(DELIVERY):
            self._heard(Told(DELIVERY, **json.loads(rest.removeprefix(DELIVERY))))
            return
        parts = payload.split(" ")
        if len(parts) != 4 or not all(part.lstrip("-").isdigit() for part in parts[1:]):
            return
        key, first_us, last_us = (int(part) for part in parts[1:])
        table = schema.timeline.c
        entries = _entries().where(table.run_key == key, table.at_us.between(first_us, last_us))
        self._tell(entries, silently=False)

    def _sweep(self) -> None:
        settled_us = to_us(self._clock.now()) - SETTLED_US
        # A moment of the future would end the looks until it has come.
        span = (min(self._newest_us, settled_us) - OVERLAP_US, settled_us)
        query = _entries().where(schema.timeline.c.at_us.between(*span))
        self._tell(query, silently=not self._swept)
        self._swept = True

    def _tell(self, query: Any, *, silently: bool) -> None:
        """Tell of the entries that are new here.

        Args:
            silently: Only remember them: they are older than this replica.
        """
        try:
            with reading(self._engine) as connection:
                query = query.order_by(schema.timeline.c.at_us).limit(MOST_A_LOOK)
                rows = connection.execute(query).all()
        except StorageTroubleError:
            # The next sweep looks again.
            return
        self._remember_own()
        for row in rows:
            mark = (row.run_key, row.at_us)
            if mark in self._known:
                continue
            self._known[mark] = None
            self._newest_us = max(self._newest_us, row.at_us)
            if not silently and self._heard is not None:
                self._heard(_told(row))
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _remember_own(self) -> None:
        own = self.voice.own
        while own:
            mark = own.popleft()
            self._known[mark] = None
            self._newest_us = max(self._newest_us, mark[1])


def _entries() -> Any:
    return select(schema.timeline, schema.runs.c.run, schema.runs.c.project).join(
        schema.runs, schema.runs.c.run_key == schema.timeline.c.run_key
    )


def _told(row: Any) -> Told:
    detail = {**json.loads(row.detail), "attempt": row.attempt, "seq": row.seq}
    return Told(row.kind, row.run, row.project, detail, row.at_us)
