"""Bearer tokens as they are kept: their hashes, and who may do what with them until when."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from watchstep_monitor.service.errors import StorageTroubleError
from watchstep_monitor.service.ports import Clock

if TYPE_CHECKING:
    from watchstep_monitor.store.tokens import Tokens

log = logging.getLogger(__name__)

PREFIX = "wst_"
LOOK_S = 1.0
"""Between looks at the store, should no one tell of a change: another process makes and revokes
tokens."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What is kept of a token.

    Attributes:
        projects: Empty for all.
        created_at: None where nobody noted it: in settings, and in old files.
        expires_at: None for never.
        revoked_at: None while it is good.
        used_on: The newest day, UTC, on which it let someone in; None for never, or not noted.
    """

    name: str
    sha256: str
    scopes: tuple[str, ...]
    projects: tuple[str, ...]
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    used_on: date | None = None

    def state(self, now: datetime) -> str:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "good"


def new_token(
    name: str,
    scopes: Sequence[str],
    projects: Sequence[str],
    now: datetime,
    expires_at: datetime | None = None,
) -> tuple[str, TokenRecord]:
    """Make a token; the secret itself is shown to whoever asked, and never kept."""
    secret = PREFIX + secrets.token_urlsafe(32)
    record = TokenRecord(name, hash_of(secret), tuple(scopes), tuple(projects), now, expires_at)
    return secret, record


def hash_of(secret: str) -> str:
    """What is kept of a secret.

    One round of SHA-256 without a salt is enough: a secret is 256 random bits, which nobody
    finds by trying. Slow hashes are for what people make up.
    """
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


class TokenWatch:
    """The stored tokens as of a moment ago, and who used them: one thread.

    Whoever calls never waits for the store. While that is away the tokens of before hold.
    """

    def __init__(self, store: Tokens, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: tuple[TokenRecord, ...] = ()
        self._used: dict[str, date] = {}
        self._lock = threading.Lock()
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="tokens", daemon=True)

    def start(self) -> None:
        """Look once, then go on in a thread.

        Raises:
            StorageTroubleError: They cannot be read; nobody may be let in for that.
        """
        self._known = tuple(self._store.tokens())
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(LOOK_S + 5.0)

    def current(self) -> tuple[TokenRecord, ...]:
        """All that are stored; the same object until they change."""
        return self._known

    def look_soon(self) -> None:
        """Look now: someone changed them. From any thread; returns at once."""
        self._wake.set()

    def used(self, token: TokenRecord) -> None:
        """Note that a token let someone in. Costs a write a day and token."""
        today = self._clock.now().date()
        if token.used_on is None or token.used_on < today:
            with self._lock:
                self._used[token.sha256] = today

    def _watch(self) -> None:
        failing = False
        while not self._stopping:
            self._wake.wait(LOOK_S)
            self._wake.clear()
            try:
                self._look()
                failing = False
            except StorageTroubleError as error:
                if not failing:
                    log.warning("tokens cannot be read", extra={"reason": str(error)})
                failing = True

    def _look(self) -> None:
        stored = {token.sha256 for token in self._known}
        with self._lock:
            # Those of the settings have no row to write to.
            used = {sha256: day for sha256, day in self._used.items() if sha256 in stored}
            self._used = {}
        try:
            if used:
                self._store.note_used(used)
            stored_now = tuple(self._store.tokens())
        except StorageTroubleError:
            with self._lock:
                self._used = {**used, **self._used}
            raise
        if stored_now != self._known:
            self._known = stored_now
