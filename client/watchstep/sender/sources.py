"""What session senders carry: the stream of a living session, and what a dead one left.

The service's stream of a run has no holes that nobody explained, so a number whose update
is lost is sent as a placeholder that says why.
"""

from __future__ import annotations

import contextlib
import json
import struct
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby

from watchstep.core.updates import Update
from watchstep.sender.backlog import Backlog, Losses, Record
from watchstep.sender.session import Folder, Reader
from watchstep.sender.spool import Spool
from watchstep.wire import Parcel, Unpacker, encode_update, scan

DAMAGED = "spool_error"
"""Why an update is lost that was written and cannot be read any more."""

# Turning one update into JSON takes 15 us under the GIL. Without a pause the trainer's
# thread, which gives the GIL up in each `os.write`, would wait 5 ms to have it back. Rows from
# memory need none: a whole batch of 500 is 0.3 ms, and each pause would hand the GIL over twice.
_YIELD_UPDATES = 4
_YIELD_S = 50e-6
# Rows from disk take a fifth of JSON's time.
_YIELD_ROWS = 32

_STEP_AND_TIME = struct.Struct("<qd")


class LiveSource:
    """The updates of this process, from memory where they are still there, else from disk.

    The trainer's thread sets `newest` and appends to `introductions`; all else belongs to
    the sender's thread.

    Attributes:
        newest: The last sequence number that was put.
        introductions: Frames of tables of names that the sender has not learnt yet.
    """

    def __init__(self, backlog: Backlog, losses: Losses, spool: Spool | None) -> None:
        self.newest = 0
        self.introductions: deque[bytes] = deque()
        self.acked = 0
        self._backlog = backlog
        self._losses = losses
        self._spool = spool
        self._reader = Reader(spool.folder, self._yield_gil) if spool is not None else None
        self._unpacker = Unpacker()
        self._near: tuple[int, float] = (0, 0.0)
        self._explained: set[int] = set()
        self._rows = False

    def acknowledged(self) -> int:
        return self.acked

    def read(self, from_seq: int, limit: int, *, rows: bool = False) -> list[Parcel]:
        self._rows = rows
        if self._reader is not None:
            self._reader.rows = rows
        # Before anything else: what is put from here on is no hole.
        newest = self.newest
        found: list[Parcel] = []
        records = [one for one in self._backlog.take(limit) if one.seq >= from_seq]
        expected = from_seq
        for stretch in _stretches(records):
            self._from_disk(found, expected, stretch[0].seq, limit)
            found += self._encoded(stretch[: limit - len(found)])
            expected = stretch[-1].seq + 1
        self._from_disk(found, expected, newest + 1, limit)
        begin = max(from_seq, self.acked + 1)
        if found and _is_whole(found, begin, newest, limit):
            self._near = _step_and_time(found[0])
            return found
        return list(self._without_holes(found, begin, newest, limit))

    def placeholder(self, seq: int, reason: str) -> bytes:
        step, moment = self._near
        return _placeholder(seq, step, moment, reason)

    def acknowledge(self, seq: int) -> None:
        self.acked = max(self.acked, seq)
        self._backlog.settle(seq)
        self._losses.settle(seq, self._explained)
        self._explained = {one for one in self._explained if one > seq}
        if self._spool is not None:
            # Only this computer's note of it fails; the service keeps its own.
            with contextlib.suppress(OSError):
                self._spool.acknowledge(seq)

    def refused(self, seq: int, reason: str) -> None:
        if self._losses.reason_for(seq) is None:
            self._losses.count(reason)

    def _yield_gil(self, read: int) -> None:
        if not self._rows or read % _YIELD_ROWS == 0:
            _yield_gil(read)

    def _from_disk(self, found: list[Parcel], from_seq: int, until_seq: int, limit: int) -> None:
        if self._reader is None or self._spool is None or len(found) >= limit:
            return
        if from_seq < until_seq and from_seq <= self._spool.last_seq:
            found.extend(self._reader.read(from_seq, until_seq, limit - len(found)))

    def _encoded(self, records: Sequence[Record]) -> list[Parcel]:
        while self.introductions:
            for one in scan(self.introductions.popleft()):
                self._unpacker.learn(one)
        if self._rows:
            return self._unpacker.unframe_rows([(seq, framed) for seq, framed, _ in records])
        found: list[Parcel] = []
        for record in records:
            found.append(self._unpacker.unframe(record.framed))
            _yield_gil(len(found))
        return found

    def _without_holes(
        self, found: list[Parcel], begin: int, newest: int, limit: int
    ) -> Iterator[Parcel]:
        room = limit
        last = newest if len(found) < limit else found[-1].seq
        if found:
            self._near = _step_and_time(found[0])
        parcels = {one.seq: one for one in found}
        for seq in range(min(begin, found[0].seq) if found else begin, last + 1):
            parcel = parcels.get(seq)
            if parcel is None and seq < begin:
                continue
            if parcel is None:
                parcel = Parcel(seq, self.placeholder(seq, self._why(seq)))
                self._explained.add(seq)
            yield parcel
            room -= 1
            if not room:
                return

    def _why(self, seq: int) -> str:
        reason = self._losses.reason_for(seq)
        if reason is None:
            self._losses.add(seq, seq, DAMAGED)
        return reason or DAMAGED


class SpooledSource:
    """What a trainer that is gone left in its folder."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.lost: dict[int, str] = {}
        self._reader = Reader(folder)
        self._acked_before = folder.acknowledged()
        self._near: tuple[int, float] = (0, 0.0)

    @property
    def newest(self) -> None:
        """Unknown: what was last in the files may be damaged."""

    @property
    def damaged(self) -> int:
        """Stretches of bytes that were no updates any more."""
        return self._reader.damaged

    def acknowledged(self) -> int:
        return self._acked_before

    def read(self, from_seq: int, limit: int, *, rows: bool = False) -> list[Parcel]:
        self._reader.rows = rows
        found = self._reader.read(from_seq, None, limit)
        if not found:
            return []
        self._near = _step_and_time(found[0])
        begin = max(from_seq, self._acked_before + 1)
        whole: list[Parcel] = []
        for parcel in found:
            for hole in range(begin, parcel.seq):
                self.lost.setdefault(hole, DAMAGED)
                whole.append(Parcel(hole, self.placeholder(hole, DAMAGED)))
                if len(whole) >= limit:
                    return whole
            whole.append(parcel)
            begin = parcel.seq + 1
        return whole[:limit]

    def placeholder(self, seq: int, reason: str) -> bytes:
        step, moment = self._near
        return _placeholder(seq, step, moment, reason)

    def acknowledge(self, seq: int) -> None:
        self.folder.acknowledge(seq)

    def refused(self, seq: int, reason: str) -> None:
        self.lost.setdefault(seq, reason)


def _yield_gil(encoded: int) -> None:
    if encoded % _YIELD_UPDATES == 0:
        time.sleep(_YIELD_S)


def _stretches(records: list[Record]) -> Iterator[list[Record]]:
    """Records grouped into runs of adjoining sequence numbers."""
    if records and records[-1].seq - records[0].seq == len(records) - 1:
        # The usual case: they ascend, so none is missing.
        yield records
        return
    numbered = enumerate(records)
    for _, group in groupby(numbered, key=lambda pair: pair[1].seq - pair[0]):
        yield [record for _, record in group]


def _is_whole(found: list[Parcel], begin: int, newest: int, limit: int) -> bool:
    """Whether parcels, which ascend, leave out nothing between `begin` and their end."""
    first, last = found[0].seq, found[-1].seq
    ends = len(found) >= limit or last >= newest
    return first <= begin and ends and last - first == len(found) - 1


def _step_and_time(parcel: Parcel) -> tuple[int, float]:
    if parcel.names is not None:
        return _STEP_AND_TIME.unpack_from(parcel.body, 8)
    told = json.loads(parcel.body)
    return told["step"], told["time"]


def _placeholder(seq: int, step: int, moment: float, reason: str) -> bytes:
    event = {
        "kind": "log",
        "level": "warning",
        "text": f"update dropped by the trainer: {reason}",
    }
    return encode_update(Update(seq, step, moment, {}, event))
