"""One session's folder in the spool: its lock, its header, and reading it back.

```
SPOOL/0000001764000000-<session>/
    lock        held by flock for as long as a process owns the session
    names       header frame, then every table of metric names
    000001.seg  header frame, tables of names, updates
    kept.seg    updates saved from segments that the size limit threw away
    ack         the last acknowledged sequence number
```
Folder names sort by the time a session began. Header and names stand in two files, so that
damage to one costs no update in the other.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from watchstep.core.updates import TRAINING
from watchstep.wire import packed
from watchstep.wire.packed import HEADER, PLAIN, UPDATE, Frame, Record, Unpacker, scan, seq_of
from watchstep.wire.text import to_json

KEPT = "kept.seg"
_LOCK = "lock"
_NAMES = "names"
_ACK = "ack"
# The session is 128 random bits, with the hyphens of a UUID or without.
_SESSION_FOLDER = re.compile(r"[0-9]+-[0-9a-f-]{32,36}")
_ACK_RECORD = struct.Struct("<QI")


@dataclass(frozen=True, slots=True)
class Header:
    """Who wrote a session, as the service is told it.

    Attributes:
        session: Made once by the trainer; the service gives the same attempt for it again.
        source: Whose updates these are.
    """

    session: str
    run: str
    project: str
    tags: Mapping[str, str]
    config: Mapping[str, Any]
    trainer: str
    source: str = TRAINING

    def announcement(self) -> bytes:
        own = _fields_of(self)
        return to_json({name: own[name] for name in own if name not in {"run", "source"}})

    def to_frame(self) -> bytes:
        return packed.frame(HEADER, to_json(_fields_of(self)))


def _fields_of(header: Header) -> dict[str, Any]:
    return {field.name: getattr(header, field.name) for field in fields(header)}


class Folder:
    """A session's folder, locked by this process. Not thread-safe, but for `forget`."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd: int | None = lock_fd
        self._ack_fd: int | None = None

    @property
    def names_path(self) -> Path:
        return self.path / _NAMES

    def segments(self) -> list[Path]:
        """The files with updates in the order of their sequence numbers."""
        return sorted(path for path in self.path.glob("*.seg") if path.name != KEPT)

    def acknowledged(self) -> int:
        """The last acknowledged sequence number; 0 when none is entries."""
        try:
            record = (self.path / _ACK).read_bytes()
        except OSError:
            return 0
        if len(record) != _ACK_RECORD.size:
            return 0
        seq, checksum = _ACK_RECORD.unpack(record)
        return int(seq) if zlib.crc32(record[:8]) == checksum else 0

    def acknowledge(self, seq: int) -> None:
        """Write down that everything up to `seq` is with the service.

        One small write over the old record: a reader sees the old one, the new one, or one
        whose checksum fails, after which the service itself is asked.
        """
        if self._ack_fd is None:
            self._ack_fd = os.open(self.path / _ACK, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        number = struct.pack("<Q", seq)
        os.pwrite(self._ack_fd, number + struct.pack("<I", zlib.crc32(number)), 0)

    def remove(self) -> None:
        """Delete the folder with all that is in it; the lock is held to the end."""
        for path in sorted(self.path.iterdir(), key=lambda path: path.name == _LOCK):
            path.unlink(missing_ok=True)
        self.path.rmdir()

    def release(self) -> None:
        """Give up the lock; what is in the folder stays. May be called twice."""
        for fd in (self._ack_fd, self._lock_fd):
            if fd is not None:
                os.close(fd)
        self._ack_fd = self._lock_fd = None


def create(root: Path, header: Header, started_ms: int) -> Folder:
    """A new session's folder, locked before any other process can see it.

    Raises:
        OSError: The disk refuses.
    """
    root.mkdir(parents=True, exist_ok=True)
    name = f"{started_ms:016d}-{header.session}"
    hidden = root / f".{name}"
    hidden.mkdir()
    fd = os.open(hidden / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (hidden / _NAMES).write_bytes(header.to_frame())
        hidden.rename(root / name)
    except OSError:
        os.close(fd)
        raise
    return Folder(root / name, fd)


def sessions(root: Path) -> list[Path]:
    """The folders of all sessions under a root, oldest first; empty when there is no root."""
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and _is_session(path.name))
    except OSError:
        return []


def take_over(path: Path) -> Folder | None:
    """A dead session's folder; None while a living process owns it, or when it is gone."""
    try:
        fd = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another process may have emptied and removed it between the two calls above.
        if os.fstat(fd).st_nlink:
            return Folder(path, fd)
    except OSError:
        pass
    os.close(fd)
    return None


def read_header(path: Path) -> Header | None:
    """Who wrote the session in this folder; None when no intact header is left."""
    for file in (path / _NAMES, *sorted(path.glob("*.seg"))):
        for frame in scan(_bytes_of(file)):
            if frame.kind == HEADER:
                entries = json.loads(frame.payload)
                # A header of the version before names no source.
                entries.setdefault("source", TRAINING)
                return Header(**{field.name: entries[field.name] for field in fields(Header)})
    return None


# A batch of 500 updates of 20 readings is 108 KB: with all of a segment read, each batch of a
# sender that has fallen behind would read 4 MiB.
_READ_BYTES = 128 * 1024


class Reader:
    """Reads a session's updates in order, also while its owner goes on writing.

    Remembers where it stopped, so that reading on costs only what is new. Not thread-safe.

    Attributes:
        damaged: Stretches of bytes that were no updates any more.

    Args:
        unpacker: Learns the names; one of its own where none is given.
        yield_gil: Called after each update that is read, with how many there are so far.
    """

    def __init__(
        self,
        folder: Folder,
        unpacker: Unpacker | None = None,
        yield_gil: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._yield_gil = yield_gil
        self.unpacker = unpacker or Unpacker()
        self._names_read = -1
        self._place: tuple[str, int] = ("", 0)
        self._next_seq = 0
        self.damaged = 0

    def read(self, from_seq: int, until_seq: int | None, limit: int) -> list[Record]:
        """Up to `limit` updates with `from_seq <= seq < until_seq`, in order.

        Missing numbers are left out; damaged stretches are counted in `damaged`.

        Args:
            until_seq: None reads to the end.
        """
        # What comes later stands later in the files: only a step back begins anew.
        if from_seq < self._next_seq:
            self._place = ("", 0)
        self._learn_names()
        records: list[Record] = []
        expected = from_seq
        for path, begin, frame in self._frames():
            if frame.kind not in (UPDATE, PLAIN):
                continue
            seq = seq_of(frame.framed)
            if until_seq is not None and seq >= until_seq:
                break
            self._place = (path.name, begin)
            if seq < expected:
                continue
            if len(records) >= limit:
                break
            expected = seq + 1
            if self.unpacker.can_read(frame.framed):
                records.append(Record(seq, frame.framed))
                self._yield_gil(len(records))
            else:
                self.damaged += 1
        self._next_seq = expected
        return records

    def _frames(self) -> Iterator[tuple[Path, int, Frame]]:
        # Segments are listed before the kept file is read: an owner that throws a segment
        # away saves from it first, so nothing can slip between the two.
        files = self._folder.segments()
        kept_segment = self._folder.path / KEPT
        if self._place[0] != KEPT and self._place[0] not in {path.name for path in files}:
            self._place = ("", 0)
        if not self._place[0] or self._place[0] == KEPT:
            yield from self._frames_of(kept_segment)
        for path in files:
            if self._place[0] in ("", KEPT) or path.name >= self._place[0]:
                yield from self._frames_of(path)

    def _frames_of(self, path: Path) -> Iterator[tuple[Path, int, Frame]]:
        at = self._place[1] if path.name == self._place[0] else 0
        most = _READ_BYTES
        while True:
            begin = at
            data = _bytes_of(path, begin, most)
            for frame in scan(data):
                self.damaged += frame.damaged
                self.unpacker.learn(frame)
                yield path, at, frame
                at = begin + frame.end
            if len(data) < most:
                return
            if at == begin:
                # A frame longer than that, or a long stretch of damage.
                most *= 2

    def _learn_names(self) -> None:
        data = _bytes_of(self._folder.names_path)
        if len(data) != self._names_read:
            for frame in scan(data):
                self.unpacker.learn(frame)
            self._names_read = len(data)


def _is_session(name: str) -> bool:
    return _SESSION_FOLDER.fullmatch(name) is not None


def _bytes_of(path: Path, begin: int = 0, most: int = -1) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(begin)
            return file.read(most)
    except OSError:
        return b""
