"""Old runs sent into the service through the wire format, as if a trainer did."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from watchstep.core.updates import Update
from watchstep.errors import UnreachableError, WatchstepError, WireError
from watchstep.postmortem.readers import Log
from watchstep.rules import AUTO, loaded
from watchstep.sender.config import Patience
from watchstep.sender.loop import Pacer
from watchstep.sender.transport import Reply, Target, Transport
from watchstep.wire.names import RUN_NAME
from watchstep.wire.text import encode_batch, encode_update

MOST_UPDATES, MOST_BYTES, MOST_METRICS = 500, 512 * 1024, 256
"""Of one request; half of what the service takes by default, and its limit of metrics."""
_LONGEST_NAME = 128
_TRIES = 6
_CLOCKLESS = 1e6
"""Times below this are the rows' numbers, which logs without a clock are given."""
_SILENCE_S = 600.0


class RefusedError(WatchstepError):
    """The service will not take a run, or a token is wrong; says why."""


@dataclass
class Imported:
    """What became of one log.

    Attributes:
        accepted, duplicates: As the service counted them.
        rejected: Updates that it, or the wire format, would not take.
        dropped_metrics: Readings left out since an update may hold only so many.
        failure: Why it ended early; "" when it did not.
    """

    run: str
    path: str
    attempts: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    dropped_metrics: int = 0
    failure: str = ""


@dataclass
class Importer:
    """One connection to the service, for any number of logs.

    Attributes:
        quiet: Whether a silence keeps the imported runs' alerts from paging anybody.
    """

    url: str
    token: str | None
    project: str = "default"
    prefix: str = ""
    quiet: bool = True
    patience: Patience = field(default_factory=lambda: Patience(total_s=30.0))
    _names: dict[str, int] = field(default_factory=dict)
    _reached: bool = False

    def __post_init__(self) -> None:
        self._transport = Transport(
            Target.parse(self.url), token=self.token, patience=self.patience
        )

    def close(self) -> None:
        self._transport.close()

    def send(self, log: Log) -> Imported:
        """Send one log. Sending it again has no second effect.

        Raises:
            UnreachableError: The service does not answer; nothing else can be sent either.
        """
        result = Imported(self._name_of(log), str(log.path))
        try:
            if self.quiet:
                self._silence(result.run)
            self._send_attempts(log, result)
        except RefusedError as error:
            result.failure = str(error)
        return result

    def _name_of(self, log: Log) -> str:
        """A name that the service takes; logs of one name in one import are numbered."""
        name = re.sub(r"[^A-Za-z0-9_.:-]", "-", f"{self.prefix}{log.run}")[:_LONGEST_NAME]
        name = name if RUN_NAME.match(name) else f"run{name}"[:_LONGEST_NAME]
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name[: _LONGEST_NAME - 8]}-{count}"

    def _silence(self, run: str) -> None:
        body = {
            "matchers": [f'run="{run}"'],
            "duration_s": _SILENCE_S,
            "comment": "an old run is being imported",
        }
        try:
            self._ask("POST", "/silences", json.dumps(body).encode())
        except RefusedError as error:
            raise RefusedError(f"no silence for {run}: {error}; --notify imports without") from None

    def _send_attempts(self, log: Log, result: Imported) -> None:
        fallback = log.files[0].stat().st_mtime if log.files else 0.0
        attempt, last = 0, None
        batch: list[bytes] = []
        served = 0
        for update in _renumbered(log.updates, fallback):
            if update.attempt != attempt:
                self._flush(result, served, batch)
                attempt = update.attempt
                served = self._begin(log, result.run, attempt)
                result.attempts += 1
            encoded = _encoded(update, result)
            if sum(map(len, batch)) + len(encoded) > MOST_BYTES or len(batch) >= MOST_UPDATES:
                self._flush(result, served, batch)
            batch.append(encoded)
            last = update
        if last is not None and (last.event or {}).get("kind") not in ("finished", "failed"):
            event = {"kind": "finished", "imported": True}
            ending = last._replace(seq=last.seq + 1, readings={}, event=event)
            batch.append(encode_update(ending))
        self._flush(result, served, batch)

    def _begin(self, log: Log, run: str, attempt: int) -> int:
        """Begin an attempt, or resume it where it was imported before; its number there."""
        origin = hashlib.sha256(str(log.path.resolve()).encode("utf-8", "replace")).hexdigest()
        body = {
            "project": self.project,
            "tags": {"imported": "true", **_tags(log)},
            "trainer": f"imported from {log.format}",
            "session": f"import-{origin[:24]}-{attempt}",
        }
        reply = self._ask("PUT", f"/runs/{quote(run, safe='')}", json.dumps(body).encode())
        return int(_object(reply)["attempt"])

    def _flush(self, result: Imported, attempt: int, batch: list[bytes]) -> None:
        if not batch:
            return
        path = f"/runs/{quote(result.run, safe='')}/updates"
        reply = self._ask("POST", path, encode_batch(attempt, batch))
        answer = _object(reply)
        result.accepted += int(answer.get("accepted", 0))
        result.duplicates += int(answer.get("duplicates", 0))
        result.rejected += len(answer.get("rejected", ()))
        batch.clear()

    def _ask(self, method: str, path: str, body: bytes) -> Reply:
        """A request, tried again where that can help.

        Raises:
            RefusedError: The service said no.
            UnreachableError: It said nothing, however often it was asked.
        """
        pacer = Pacer(self.patience)
        # A service that has never answered is more likely a wrong address than a busy one.
        for tries_left in reversed(range(_TRIES if self._reached else 2)):
            try:
                reply = self._transport.request(method, f"/api/v1{path}", body)
            except UnreachableError:
                if not tries_left:
                    raise
                pacer.failed()
            else:
                self._reached = True
                if reply.status < 300:
                    return reply
                if reply.status not in (429, 503) or not tries_left:
                    raise RefusedError(_reason(reply))
                pacer.failed(reply.retry_after_s)
            pacer.sleep()
        raise UnreachableError("the service does not answer")


def _renumbered(updates: Iterator[Update], fallback: float) -> Iterator[Update]:
    """Updates as the service wants them: each attempt from 1, without gaps, with a clock."""
    attempt, seq, real = 0, 0, 0
    for update in updates:
        if update.attempt != real:
            real, attempt, seq = update.attempt, attempt + 1, 0
        seq += 1
        moment = update.time if update.time > _CLOCKLESS else fallback
        yield update._replace(seq=seq, attempt=attempt, step=max(update.step, 0), time=moment)


def _encoded(update: Update, result: Imported) -> bytes:
    """One update as JSON; one that the wire cannot hold becomes an event that says so."""
    readings = _most_telling(update.readings)
    result.dropped_metrics += len(update.readings) - len(readings)
    try:
        return encode_update(update._replace(readings=readings))
    except WireError as error:
        result.rejected += 1
        event = {"kind": "log", "level": "warning", "text": f"not importable: {error}"}
        return encode_update(update._replace(readings={}, event=event))


def _most_telling(readings: Mapping[str, float]) -> dict[str, float]:
    """As many readings as an update may hold, those that rules watch first."""
    if len(readings) <= MOST_METRICS:
        return dict(readings)
    rules = loaded((AUTO,))
    names = sorted(readings, key=lambda name: not rules.looks_at(name))
    return {name: readings[name] for name in names[:MOST_METRICS]}


def _tags(log: Log) -> dict[str, str]:
    tags = {"kind": log.kind} if log.kind else {}
    for name, value in list(log.tags.items())[:32]:
        clean = re.sub(r"[^A-Za-z0-9_]", "_", name)[:64]
        if re.match(r"[A-Za-z_]", clean):
            tags[clean] = str(value)[:200]
    return tags


def _object(reply: Reply) -> dict[str, Any]:
    answer = reply.document
    if not answer:
        raise RefusedError(f"HTTP {reply.status}, but not from watchstep's service")
    return answer


def _reason(reply: Reply) -> str:
    answer = reply.document
    detail = answer.get("detail") or answer.get("title") or ""
    return f"the service refused: HTTP {reply.status}{': ' if detail else ''}{detail}"
