"""What session senders carry: the stream of a living session, and what a dead one left.

The service's stream of a run has no holes that nobody explained, so a number whose update
is lost is sent as a placeholder that says why.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from itertools import groupby, islice

from watchstep.core.updates import Update
from watchstep.sender.backlog import Backlog, Losses
from watchstep.sender.session import Folder, Reader
from watchstep.sender.spool import Spool
from watchstep.wire.packed import Record, Unpacker, plain_frame, scan, step_and_time

DAMAGED = "spool_error"
"""Why an update is lost that was written and cannot be read any more."""

# Reading 32 updates from disk takes 50 us under the GIL. Without a pause the trainer's thread,
# which gives the GIL up in each `os.write`, would wait 5 ms to have it back.
_YIELD_UPDATES = 32
_YIELD_S = 50e-6


class _Source:
    """Fills the holes in a stream with placeholders."""

    def __init__(self) -> None:
        self._near: tuple[int, float] = (0, 0.0)

    def placeholder(self, seq: int, reason: str) -> Record:
        event = {
            "kind": "log",
            "level": "warning",
            "text": f"update dropped by the trainer: {reason}",
        }
        # Placed in time where the batch that it is sent with begins.
        step, moment = self._near
        return Record(seq, plain_frame(Update(seq, step, moment, {}, event)))

    def _lost(self, seq: int) -> str:
        """Count an update as lost, and say why it is."""
        raise NotImplementedError

    def _whole(self, records: list[Record], begin: int, last: int, limit: int) -> list[Record]:
        """The records, which ascend, and a placeholder for each number missing from `begin` on."""
        first = begin
        if records:
            self._near = step_and_time(records[0].framed)
            first, newest = min(begin, records[0].seq), records[-1].seq
            if len(records) >= limit:
                last = newest
            if newest >= last and len(records) == newest - first + 1:
                return records
        by_seq = {record.seq: record for record in records}
        seqs = (seq for seq in range(first, last + 1) if seq in by_seq or seq >= begin)
        return [
            by_seq.get(seq) or self.placeholder(seq, self._lost(seq)) for seq in islice(seqs, limit)
        ]


class LiveSource(_Source):
    """The updates of this process, from memory where they are still there, else from disk.

    The trainer's thread sets `newest` and appends to `introductions`; all else belongs to
    the sender's thread.

    Attributes:
        newest: The last sequence number that was put.
        introductions: Frames of tables of names that the sender has not learnt yet.
    """

    def __init__(self, backlog: Backlog, losses: Losses, spool: Spool | None) -> None:
        super().__init__()
        self.newest = 0
        self.introductions: deque[bytes] = deque()
        self.acked = 0
        self._backlog = backlog
        self._losses = losses
        self._spool = spool
        self._unpacker = Unpacker()
        self._reader = Reader(spool.folder, self._unpacker, _yield_gil) if spool else None
        self._explained: set[int] = set()

    def acknowledged(self) -> int:
        return self.acked

    @property
    def unpacker(self) -> Unpacker:
        """Knows the names of all that was read so far."""
        while self.introductions:
            for frame in scan(self.introductions.popleft()):
                self._unpacker.learn(frame)
        return self._unpacker

    def read(self, from_seq: int, limit: int) -> list[Record]:
        # Before anything else: what is put from here on is no hole.
        newest = self.newest
        records: list[Record] = []
        in_memory = [record for record in self._backlog.take(limit) if record.seq >= from_seq]
        expected = from_seq
        for stretch in _stretches(in_memory):
            self._from_disk(records, expected, stretch[0].seq, limit)
            records += stretch[: limit - len(records)]
            expected = stretch[-1].seq + 1
        self._from_disk(records, expected, newest + 1, limit)
        return self._whole(records, max(from_seq, self.acked + 1), newest, limit)

    def acknowledge(self, seq: int) -> None:
        self.acked = max(self.acked, seq)
        self._backlog.settle(seq)
        self._losses.settle(seq, self._explained)
        self._explained = {number for number in self._explained if number > seq}
        if self._spool is not None:
            # Only this computer's note of it fails; the service keeps its own.
            with contextlib.suppress(OSError):
                self._spool.acknowledge(seq)

    def refused(self, seq: int, reason: str) -> None:
        if self._losses.reason_for(seq) is None:
            self._losses.count(reason)

    def _from_disk(self, records: list[Record], from_seq: int, until_seq: int, limit: int) -> None:
        if self._reader is None or self._spool is None or len(records) >= limit:
            return
        if from_seq < until_seq and from_seq <= self._spool.last_seq:
            records.extend(self._reader.read(from_seq, until_seq, limit - len(records)))

    def _lost(self, seq: int) -> str:
        self._explained.add(seq)
        reason = self._losses.reason_for(seq)
        if reason is None:
            self._losses.add(seq, seq, DAMAGED)
        return reason or DAMAGED


class SpooledSource(_Source):
    """What a trainer that is gone left in its folder."""

    def __init__(self, folder: Folder) -> None:
        super().__init__()
        self.folder = folder
        self.lost: dict[int, str] = {}
        self._reader = Reader(folder)
        self.unpacker = self._reader.unpacker
        self._acked_before = folder.acknowledged()

    @property
    def newest(self) -> None:
        """Unknown: what was last in the files may be damaged."""

    @property
    def damaged(self) -> int:
        """Stretches of bytes that were no updates any more."""
        return self._reader.damaged

    def acknowledged(self) -> int:
        return self._acked_before

    def read(self, from_seq: int, limit: int) -> list[Record]:
        records = self._reader.read(from_seq, None, limit)
        if not records:
            return []
        begin = max(from_seq, self._acked_before + 1)
        return self._whole(records, begin, records[-1].seq, limit)

    def _lost(self, seq: int) -> str:
        return self.lost.setdefault(seq, DAMAGED)

    def acknowledge(self, seq: int) -> None:
        self.folder.acknowledge(seq)

    def refused(self, seq: int, reason: str) -> None:
        self.lost.setdefault(seq, reason)


def _yield_gil(read: int) -> None:
    if read % _YIELD_UPDATES == 0:
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
