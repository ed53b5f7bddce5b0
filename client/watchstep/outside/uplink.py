"""One connection to the service for any number of followed runs."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

from watchstep.errors import UnreachableError
from watchstep.hook.options import Options
from watchstep.sender.config import Patience
from watchstep.sender.loop import Pacer
from watchstep.sender.transport import Reply, Target, Transport
from watchstep.wire.text import encode_batch

MOST_UPDATES = 500
"""Of one request; half of what the service takes by default."""


@dataclass(frozen=True, slots=True)
class Session:
    """One attempt of one run, as the service is told of it.

    Attributes:
        name: The same name is the same attempt, however often it is begun.
        packs: By which the service judges it.
    """

    run: str
    name: str
    trainer: str
    packs: str


class Uplink:
    """Sends updates, and waits after a failure; nothing here raises.

    Attributes:
        refused: Updates and sessions that the service will never take.
        failing: Why the last request came to nothing; "" where it was answered well.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        patience = Patience(total_s=10.0)
        target = Target.parse(options.url or "")
        self._transport = Transport(target, token=options.token, patience=patience)
        self._attempts: dict[str, tuple[int, int]] = {}
        self._pacer = Pacer(patience)
        self.refused = 0
        self.failing = ""

    def due(self, now: float) -> bool:
        return now >= self._pacer.not_before

    def send(self, session: Session, first_seq: int, bodies: Sequence[bytes]) -> int | None:
        """Send updates of one session, in order; sending them again has no second effect.

        Args:
            bodies: As `encode_update` makes them; none to say that the run is still watched.

        Returns:
            How many of them are dealt with for good; None where the service did not answer.
        """
        begun = self._attempts.get(session.name) or self._begin(session)
        if begun is None:
            return None
        attempt, last_seq = begun
        stored = max(min(last_seq + 1 - first_seq, len(bodies)), 0)
        batch = bodies[stored : stored + MOST_UPDATES]
        if stored and not batch:
            return stored
        reply = self._ask("POST", f"{_path(session)}/updates", encode_batch(attempt, batch))
        if reply is None:
            return None
        if reply.status != 202:
            # What can never be taken must not stop what comes after it.
            self.refused += len(batch)
        return stored + len(batch)

    def close(self) -> None:
        self._transport.close()

    def _begin(self, session: Session) -> tuple[int, int] | None:
        body = {
            "project": self._options.project,
            "tags": {"packs": session.packs, **self._options.tags},
            "config": self._options.config,
            "trainer": session.trainer,
            "session": session.name,
        }
        reply = self._ask("PUT", _path(session), json.dumps(body).encode())
        answer = reply.document if reply is not None and reply.status < 300 else {}
        attempt, last_seq = answer.get("attempt"), answer.get("last_seq")
        if not isinstance(attempt, int) or not isinstance(last_seq, int):
            self._failed(self.failing or "the session was not begun")
            return None
        self._attempts[session.name] = attempt, last_seq
        return attempt, last_seq

    def _ask(self, method: str, path: str, body: bytes) -> Reply | None:
        """An answer that is final; None, and a wait, where asking again can help."""
        try:
            reply = self._transport.request(method, path, body)
        except UnreachableError as error:
            self._failed(str(error))
            return None
        if reply.status in (401, 403, 404, 408, 425, 429) or reply.status >= 500:
            self._failed(f"HTTP {reply.status}", reply.retry_after_s)
            return None
        self._pacer.succeeded()
        self.failing = ""
        return reply

    def _failed(self, why: str, asked_s: float | None = None) -> None:
        self._pacer.failed(asked_s)
        self.failing = why


def _path(session: Session) -> str:
    return f"/api/v1/runs/{urllib.parse.quote(session.run, safe=':')}"
