"""Writes a live session's updates to disk: one `os.write` an update, bounded in size.

The trainer's thread appends; the sender's thread acknowledges. They share a lock that is
held only while the list of segments changes, never during I/O.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from watchstep.sender.session import KEPT, Folder, Header

# Several segments within the limit, so that throwing the oldest away costs little of it.
_SEGMENTS = 16
_SEGMENT_MIN_BYTES = 16 * 1024
_SEGMENT_MAX_BYTES = 4 * 1024 * 1024
_KEPT_PER_SEGMENT = 512

# A hung disk must not hang training, so only writes in a row count. One that takes a second
# needs no second proof.
_SLOW_WRITE_S = 0.02
_SLOW_WRITES = 3
_HUNG_WRITE_S = 1.0
# The time of a write includes waiting for the GIL, of which each busy thread of the trainer
# takes turns of 5 ms: how long that is now is measured beside a slow write.
_GIL_TURNS = 3.0

_OPEN = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC


@dataclass(slots=True)
class _Segment:
    path: Path
    first_seq: int
    last_seq: int = 0
    size_bytes: int = 0
    keep_when_full: list[tuple[int, bytes]] = field(default_factory=list)


class SpoolBrokenError(Exception):
    """The disk took an update not at all, or so slowly that it must not be asked for a while."""


class Spool:
    """The disk half of an `Outbound`. One thread appends, another acknowledges.

    Args:
        on_lost: Told the first and last number of updates that the size limit threw away.
    """

    def __init__(
        self,
        folder: Folder,
        header: Header,
        limit_bytes: int,
        on_lost: Callable[[int, int], None],
    ) -> None:
        self.folder = folder
        self._preamble = header.to_frame()
        self._limit_bytes = limit_bytes
        self._on_lost = on_lost
        self._segment_bytes = min(
            max(limit_bytes // _SEGMENTS, _SEGMENT_MIN_BYTES), _SEGMENT_MAX_BYTES
        )
        self._segments: list[_Segment] = []
        self._current: _Segment | None = None
        self._lock = threading.Lock()
        self._shutting = threading.Lock()
        self._shut = False
        self._fd: int | None = None
        self._made = 0
        self._names = b""
        self._kept_bytes = 0
        self._slow = 0
        self._acknowledged = 0
        self.last_seq = 0

    @property
    def size_bytes(self) -> int:
        with self._lock:
            return self._kept_bytes + sum(segment.size_bytes for segment in self._segments)

    def holds(self, seq: int) -> bool:
        """Whether an update is still on disk, as far as the size limit is concerned."""
        segments = self._segments
        return bool(segments) and segments[0].first_seq <= seq <= self.last_seq

    def append(self, seq: int, record: bytes, names: bytes, *, keep_when_full: bool) -> None:
        """Put one framed update on disk; it survives the death of this process.

        Args:
            seq: Its sequence number, higher than any before.
            names: The frame of its table of names when that is new, else empty.
            keep_when_full: To be saved when the size limit throws its segment away.

        Raises:
            SpoolBrokenError: The update may not be on disk; see `begin_anew`.
        """
        size = len(record)
        try:
            if names:
                self._introduce(names)
            segment = self._current
            if segment is None or segment.size_bytes + size > self._segment_bytes:
                segment = self._next_segment(seq)
            self._write(record)
        except OSError as error:
            raise SpoolBrokenError(error.strerror or type(error).__name__) from error
        segment.size_bytes += size
        segment.last_seq = self.last_seq = seq
        if keep_when_full and len(segment.keep_when_full) < _KEPT_PER_SEGMENT:
            segment.keep_when_full.append((seq, record))

    def begin_anew(self) -> None:
        """After a failure: let the next update begin a segment of its own."""
        self._slow = 0
        self._current = None
        with contextlib.suppress(OSError):
            self._close_segment()

    def acknowledge(self, seq: int) -> None:
        """Persist the position and delete segments that are wholly with the service.

        Raises:
            OSError: The disk refuses; the service's own count then serves at the next start.
        """
        with self._shutting:
            if self._shut:
                return
            self._acknowledged = seq
            with self._lock:
                # Never the last: it is open for writing.
                done = [segment for segment in self._segments[:-1] if segment.last_seq <= seq]
                self._segments = self._segments[len(done) :]
            self.folder.acknowledge(seq)
            for segment in done:
                segment.path.unlink(missing_ok=True)

    def shut(self, *, remove: bool) -> None:
        """Close everything and give up the lock; later acknowledgements change nothing.

        Args:
            remove: Delete the folder as well, because nothing in it is needed.
        """
        with self._shutting:
            self._shut = True
            self._close_segment()
            if remove:
                with contextlib.suppress(OSError):
                    self.folder.remove()
            self.folder.release()

    def abandon(self) -> None:
        """In a forked child: drop the parent's files without touching what is in them."""
        self._lock = threading.Lock()
        self._shut = True
        self._close_segment()
        self.folder.release()

    def _next_segment(self, seq: int) -> _Segment:
        self._close_segment()
        self._made += 1
        segment = _Segment(self.folder.path / f"{self._made:06d}.seg", first_seq=seq)
        self._fd = os.open(segment.path, _OPEN, 0o644)
        self._write(self._preamble + self._names)
        segment.size_bytes = len(self._preamble) + len(self._names)
        with self._lock:
            self._segments.append(segment)
        self._current = segment
        self._keep_within_limit()
        return segment

    def _close_segment(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _introduce(self, names: bytes) -> None:
        self._names += names
        _append(self.folder.names_path, names)
        if self._fd is not None:
            self._write(names)

    def _write(self, record: bytes) -> None:
        if self._fd is None:
            raise OSError(9, "the segment is closed")
        began = time.monotonic()
        written = os.write(self._fd, record)
        took_s = time.monotonic() - began
        if written != len(record):
            raise OSError(28, "only a part was written")
        if took_s < _SLOW_WRITE_S or took_s < _GIL_TURNS * _gil_wait_s() + _SLOW_WRITE_S:
            self._slow = 0
            return
        self._slow += 1
        if self._slow >= _SLOW_WRITES or took_s >= _HUNG_WRITE_S:
            raise OSError(110, "the disk is too slow")

    def _keep_within_limit(self) -> None:
        while self.size_bytes + self._segment_bytes > self._limit_bytes:
            with self._lock:
                if len(self._segments) < 2:
                    return
                oldest = self._segments[0]
            saved = self._save_kept(oldest)
            with self._lock:
                self._segments = [segment for segment in self._segments if segment is not oldest]
            oldest.path.unlink(missing_ok=True)
            self._report_lost(oldest, saved)

    def _save_kept(self, segment: _Segment) -> list[int]:
        saved: list[int] = []
        batch = b"" if self._kept_bytes else self._preamble
        for seq, record in segment.keep_when_full:
            if seq <= self._acknowledged:
                continue
            if self._kept_bytes + len(batch) + len(record) > self._limit_bytes // 8:
                break
            batch += record
            saved.append(seq)
        if saved:
            _append(self.folder.path / KEPT, batch)
            self._kept_bytes += len(batch)
        return saved

    def _report_lost(self, segment: _Segment, saved: list[int]) -> None:
        begin = max(segment.first_seq, self._acknowledged + 1)
        for stop in (*saved, segment.last_seq + 1):
            if begin < stop:
                self._on_lost(begin, stop - 1)
            begin = max(begin, stop + 1)


def _gil_wait_s() -> float:
    """How long a thread that gives the GIL up waits to have it back."""
    began = time.monotonic()
    time.sleep(0)
    return time.monotonic() - began


def _append(path: Path, record: bytes) -> None:
    fd = os.open(path, _OPEN, 0o644)
    try:
        if os.write(fd, record) != len(record):
            raise OSError(28, "only a part was written")
    finally:
        os.close(fd)
