"""Carries one session to the service: begins its attempt, sends it in order, reads answers."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from watchstep.core.updates import TRAINING
from watchstep.errors import UnreachableError, WatchstepError
from watchstep.sender.session import Header
from watchstep.sender.transport import ConnectionClosedError, Reply, Transport
from watchstep.wire.packed import Record, Unpacker
from watchstep.wire.rows import ROWS_TYPE, Parcel, encode_rows
from watchstep.wire.text import encode_batch, with_source

BATCH_UPDATES = 500
BATCH_BYTES = 512 * 1024
"""Half of what the service takes by default, before compression."""

_ALIVE_S = 5.0
"""A trainer that lives is heard every 2 s."""
# One takes 15 us under the GIL. Without a pause the trainer's thread, which gives the GIL up in
# each `os.write`, would wait 5 ms to have it back.
_YIELD_UPDATES = 4
_YIELD_S = 50e-6

_PROBLEM = "application/problem+json"
_TRY_AGAIN = frozenset({408, 425, 429})
_CLOSED_DOOR = frozenset({401, 403, 404, 405, 407, 501})


class UpdateSource(Protocol):
    """What a sender carries: the unacknowledged updates of one session, without gaps."""

    @property
    def newest(self) -> int | None:
        """The last sequence number there is so far; None when nobody can know."""

    @property
    def unpacker(self) -> Unpacker:
        """Knows the names of what was read so far."""

    def read(self, from_seq: int, limit: int) -> list[Record]:
        """Up to `limit` updates from `from_seq` on, each one higher than the one before.

        Numbers are left out only where the service had acknowledged them before.
        """

    def placeholder(self, seq: int, reason: str) -> Record:
        """What is sent in place of an update that the service refuses."""

    def acknowledged(self) -> int:
        """The last sequence number known to be with the service, from an earlier process."""

    def acknowledge(self, seq: int) -> None:
        """Everything up to `seq` is with the service now."""

    def refused(self, seq: int, reason: str) -> None:
        """The service will never take this update."""


class SetbackError(WatchstepError):
    """The service did not take what it was sent, this time.

    Attributes:
        kind: "unreachable", "busy" (it asked for patience), "shut" (only a person can help:
            wrong token or address) or "session" (this session will never be taken).
        retry_after_s: What the service asked for, or None.
    """

    def __init__(
        self,
        kind: Literal["unreachable", "busy", "shut", "session"],
        reason: str,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the service said to one batch.

    Attributes:
        accepted, duplicates: Updates stored now, and stored before.
        rejected: Positions in the batch of updates that it will never store.
        rules: Fingerprint of the rules that judge the run; "" from a service before these.
        attempt: The run's newest; 0 from a service before this.
    """

    accepted: int
    duplicates: int
    rejected: tuple[int, ...]
    commands: tuple[Mapping[str, Any], ...]
    rules: str = ""
    attempt: int = 0


class SessionSender:
    """Brings one session over, one request at a time. Not thread-safe.

    Attributes:
        attempt: As the service numbers this start; None before it was heard.
        acked: The last update that is with the service.
        sent, refused: Updates that the service stored, and that it will never store.
        rival: What is known of another process that speaks for the same run; "" for none.
        follows_dead: Whether the attempt before is one that is known to be dead.
    """

    def __init__(
        self,
        transport: Transport,
        header: Header,
        source: UpdateSource,
        *,
        on_commands: Callable[[int, Sequence[Mapping[str, Any]]], None] | None = None,
        on_rules: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._transport = transport
        self._header = header
        self._announcement = header.announcement()
        self._source = source
        self._on_commands = on_commands
        self._on_rules = on_rules
        self._lost_touch = False
        self._rules = ""
        self._newest_rules = ""
        self._path = f"/api/v1/runs/{urllib.parse.quote(header.run, safe=':')}"
        self._limit = self._ceiling = BATCH_UPDATES
        self._replaced: dict[int, Record] = {}
        self._conflict_at = 0
        self._rows = False
        self.attempt: int | None = None
        self.acked = source.acknowledged()
        self.sent = 0
        self.refused = 0
        self.rival = ""
        self.follows_dead = False

    def advance(self, *, poll: bool = False) -> bool:
        """Make one request, if there is anything to say.

        Args:
            poll: Ask for commands even when there is nothing to send.

        Returns:
            Whether a request was made.

        Raises:
            UnreachableError: No HTTP answer came.
            SetbackError: One came that was no receipt.
        """
        if self.attempt is None or self._lost_touch:
            self._begin()
            return True
        if self._newest_rules != self._rules:
            self._fetch_rules()
            return True
        batch = self._batch()
        if not batch and not poll:
            return False
        try:
            reply = self._post(self.attempt, batch)
        except ConnectionClosedError:
            self._lost_touch = True
            return True
        except UnreachableError:
            # Whoever answers next may be another, or have lost its store: it gets the run's
            # tags, configuration and session first.
            self._lost_touch = True
            raise
        if reply.status == 202:
            self._received(batch, _receipt(reply))
        else:
            self._turned_down(batch, reply)
        return True

    def _post(self, attempt: int, parcels: Sequence[Parcel]) -> Reply:
        path = f"{self._path}/updates"
        if self._rows:
            body = encode_rows(attempt, parcels)
            return self._transport.request("POST", path, body, kind=ROWS_TYPE, again=False)
        bodies = [parcel.body for parcel in parcels]
        if self._header.source != TRAINING:
            bodies = [with_source(body, self._header.source) for body in bodies]
        body = encode_batch(attempt, bodies)
        return self._transport.request("POST", path, body, again=False)

    def _begin(self) -> None:
        reply = self._transport.request("PUT", self._path, self._announcement)
        if reply.status not in (200, 201):
            if _is_permanent(reply):
                bare = replace(self._header, config={}).announcement()
                if self._announcement != bare:
                    # The run matters more than its hyper-parameters.
                    self._announcement = bare
                    return
                deleted = ": the run was deleted" if reply.status == 410 else ""
                reason = f"HTTP {reply.status} to the start of the run{deleted}"
                raise SetbackError("session", reason)
            raise _setback(reply)
        answer = _json(reply)
        attempt, last_seq = _integer(answer, "attempt"), self._last_seq(answer)
        accepts = answer.get("accepts")
        is_training = self._header.source == TRAINING
        self._rows = is_training and isinstance(accepts, list) and ROWS_TYPE in accepts
        self._check_claim(last_seq)
        heard_s = answer.get("earlier_heard_s")
        if isinstance(heard_s, int | float) and heard_s < _ALIVE_S and not self.follows_dead:
            self.rival = (
                f"another process of run {self._header.run!r} was heard {heard_s:.1f} s ago; if it"
                " is still at work, its updates are stored from now on and not judged. Give each"
                " process a run name of its own"
            )
        # A service that was set back to an older state gets again what is still here.
        self.acked = last_seq
        self.attempt = attempt
        self._lost_touch = False
        if last_seq:
            self._source.acknowledge(last_seq)
        self._take_rules(answer.get("rules"))

    def _last_seq(self, answer: Mapping[str, Any]) -> int:
        """The newest number of the source that this session is."""
        source = self._header.source
        if source == TRAINING:
            return _integer(answer, "last_seq")
        if not isinstance(answer.get("last_seqs"), dict):
            raise SetbackError("session", "it is of a version before sources: upgrade it")
        return _integer({source: 0, **answer["last_seqs"]}, source)

    def _fetch_rules(self) -> None:
        """Ask for the rules that judge the run, which have changed."""
        reply = self._transport.request("GET", f"{self._path}/rules", b"")
        if reply.status in _TRY_AGAIN or reply.status >= 500:
            raise _setback(reply)
        # Whatever else came: asking again would have the same answer.
        self._rules = self._newest_rules
        if reply.status == 200:
            self._take_rules(reply.document)

    def _take_rules(self, rules: Any) -> None:
        # A service of the version before names the fingerprint only.
        if isinstance(rules, dict) and isinstance(rules.get("fingerprint"), str):
            self._rules = self._newest_rules = rules["fingerprint"]
            if self._on_rules is not None:
                self._on_rules(rules)

    def _batch(self) -> list[Parcel]:
        records = self._source.read(self.acked + 1, self._limit)
        if self._replaced:
            records = [self._replaced.get(record.seq, record) for record in records]
        unpacker = self._source.unpacker
        parcels = unpacker.parcels(records) if self._rows else _as_json(records, unpacker)
        size = 0
        for at, parcel in enumerate(parcels):
            size += len(parcel.body) + 1
            if at and size > BATCH_BYTES:
                return parcels[:at]
        return parcels

    def _received(self, batch: list[Parcel], receipt: Receipt) -> None:
        for index in receipt.rejected:
            if index < len(batch):
                self._refuse(batch[index].seq, "rejected")
        self._limit = min(self._limit * 2, self._ceiling)
        self._conflict_at = 0
        self.sent += receipt.accepted
        if batch:
            self._move_to(batch[-1].seq)
        if self.attempt is not None and receipt.attempt > self.attempt:
            self.rival = (
                f"another process has begun run {self._header.run!r} anew: the service stores what"
                " this one reports and judges it no more. Give each process a run name of its own"
            )
        if receipt.rules and self._on_rules is not None:
            self._newest_rules = receipt.rules
        if receipt.commands and self._on_commands is not None and self.attempt is not None:
            self._on_commands(self.attempt, receipt.commands)

    def _turned_down(self, batch: list[Parcel], reply: Reply) -> None:
        if reply.status == 409:
            self._conflicted(batch, reply)
        elif reply.status == 415 and self._rows:
            self._rows = False
        elif reply.status == 413 and len(batch) > 1:
            self._limit = self._ceiling = max(len(batch) // 2, 1)
        elif batch and _is_permanent(reply):
            self._narrow(batch, "refused")
        else:
            raise _setback(reply)

    def _conflicted(self, batch: list[Parcel], reply: Reply) -> None:
        """The service stands elsewhere in the stream, or holds another body for a number."""
        last_seq = reply.document.get("last_seq")
        if type(last_seq) is int and last_seq > self.acked:
            self._check_claim(last_seq)
            self._move_to(last_seq)
            return
        if self._conflict_at != self.acked + 1 or not batch:
            if self._conflict_at == self.acked + 1:
                raise SetbackError("session", "HTTP 409 to an empty batch")
            self._conflict_at = self.acked + 1
            self.attempt = None
            return
        if len(batch) > 1:
            self._limit = max(len(batch) // 2, 1)
            return
        self._refuse(batch[0].seq, "conflict")
        self._move_to(batch[0].seq)

    def _check_claim(self, last_seq: int) -> None:
        """Believing a service that has more than was ever put would lose what comes next."""
        newest = self._source.newest
        if newest is not None and last_seq > newest:
            raise SetbackError("session", "the service has updates that were never sent")

    def _narrow(self, batch: list[Parcel], reason: str) -> None:
        """Find the one update that is refused for good, and send a placeholder instead."""
        if len(batch) > 1:
            self._limit = max(len(batch) // 2, 1)
            return
        seq = batch[0].seq
        if seq in self._replaced:
            # Not even the placeholder is taken: its number stays empty.
            self._move_to(seq)
            return
        self._refuse(seq, reason)
        self._replaced[seq] = self._source.placeholder(seq, reason)

    def _refuse(self, seq: int, reason: str) -> None:
        self.refused += 1
        self._source.refused(seq, reason)

    def _move_to(self, seq: int) -> None:
        self.acked = seq
        self._replaced = {
            number: record for number, record in self._replaced.items() if number > seq
        }
        self._source.acknowledge(seq)


def _as_json(records: Sequence[Record], unpacker: Unpacker) -> list[Parcel]:
    """For services of the versions before rows."""
    parcels: list[Parcel] = []
    for record in records:
        parcels.append(Parcel(record.seq, unpacker.to_json(record.framed)))
        if len(parcels) % _YIELD_UPDATES == 0:
            time.sleep(_YIELD_S)
    return parcels


def _is_permanent(reply: Reply) -> bool:
    """Whether watchstep's own service says that these bytes can never be taken.

    A proxy's 400 with an HTML page says nothing about the updates, which are kept.
    """
    if reply.status == 413:
        return True
    return (
        400 <= reply.status < 500
        and reply.status not in _TRY_AGAIN | _CLOSED_DOOR
        and reply.kind == _PROBLEM
    )


def _setback(reply: Reply) -> SetbackError:
    reason = f"HTTP {reply.status}"
    if reply.status in _TRY_AGAIN or (reply.status >= 500 and reply.status != 501):
        return SetbackError("busy", reason, reply.retry_after_s)
    if 200 <= reply.status < 300:
        return SetbackError("busy", f"{reason} with an answer that is not the service's")
    return SetbackError("shut", reason, reply.retry_after_s)


def _receipt(reply: Reply) -> Receipt:
    answer = _json(reply)
    try:
        rules, attempt = answer.get("rules"), answer.get("attempt")
        return Receipt(
            accepted=_integer(answer, "accepted"),
            duplicates=_integer(answer, "duplicates"),
            rejected=tuple(_integer(refusal, "index") for refusal in answer.get("rejected", [])),
            commands=tuple(
                command for command in answer.get("commands", []) if isinstance(command, dict)
            ),
            rules=rules if isinstance(rules, str) else "",
            attempt=attempt if type(attempt) is int else 0,
        )
    except (AttributeError, TypeError):
        raise SetbackError("busy", "an answer that is no receipt") from None


def _json(reply: Reply) -> Mapping[str, Any]:
    answer = reply.document
    if not answer:
        raise _setback(reply)
    return answer


def _integer(answer: Mapping[str, Any], field: str) -> int:
    value = answer.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SetbackError("busy", f"an answer without {field}")
    return value
