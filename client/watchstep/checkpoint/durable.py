"""Files that are there whole or not at all, whatever is killed in between."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

LARGE_BYTES = 256 << 10
"""Below this a chunk is hashed before another thread would have woken up."""

SYNC_EVERY_BYTES = 32 << 20
"""Bytes after which the disk is asked to begin, so that the last sync finds little left."""

_BLOCK_BYTES = 1 << 20
TEMPORARY_PREFIX = ".saving-"
STRANGER_AGE_S = 24 * 3600.0
"""A temporary file of another machine is swept after a day: its process cannot be asked."""


class HashingFile:
    """A file that is hashed, and brought to the disk, while it is written.

    Hashing takes about as long as writing, and the disk is idle meanwhile: so large chunks
    are hashed by one thread while they are written by another, and a third has the disk
    begin early. `close` ends these threads.

    Attributes:
        size_bytes: Bytes written so far.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._hasher = Beside("watchstep-hash")
        self._syncer = Beside("watchstep-sync")
        self._unsynced_bytes = 0
        self.size_bytes = 0

    def write(self, chunk: bytes) -> int:
        """Append all of it; `chunk` is not used any more after the call."""
        if len(chunk) < LARGE_BYTES:
            self._digest.update(chunk)
            self._write_all(chunk)
        else:
            self._hasher.begin(lambda: self._digest.update(chunk))
            try:
                self._write_all(chunk)
            finally:
                self._hasher.wait()
            self._sync_early(len(chunk))
        self.size_bytes += len(chunk)
        return len(chunk)

    def flush(self) -> None:
        """Nothing is buffered; here because files have it."""

    def sync(self) -> None:
        """Return once every byte is on the disk."""
        self._syncer.wait()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """End the threads; the file stays open."""
        self._hasher.end()
        self._syncer.end()

    def _write_all(self, chunk: bytes) -> None:
        rest = memoryview(chunk).cast("B")
        while rest:
            # An unbuffered write may take less than it was given.
            rest = rest[self._stream.write(rest) :]

    def _sync_early(self, written_bytes: int) -> None:
        self._unsynced_bytes += written_bytes
        if self._unsynced_bytes >= SYNC_EVERY_BYTES and self._syncer.idle:
            self._unsynced_bytes = 0
            # An error is told to one caller of fsync only, so it must not get lost here.
            self._syncer.wait()
            self._syncer.begin(lambda: os.fsync(self._stream.fileno()))

    def sha256(self) -> str:
        """Of what was written so far, 64 hexadecimal digits."""
        return self._digest.hexdigest()


class Beside:
    """A thread that does one piece of work at a time beside its owner's.

    It starts with the first piece, and does not keep the interpreter from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._done = threading.Event()
        self._done.set()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def idle(self) -> bool:
        """Whether the last piece is done."""
        return self._done.is_set()

    def begin(self, work: Callable[[], object]) -> None:
        """Start a piece of work; the last one must have been waited for."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._done.clear()
        self._work.put(work)

    def wait(self) -> None:
        """Return once the last piece is done, and raise what it raised."""
        self._done.wait()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def end(self) -> None:
        """Let the thread end once its piece is done; what it raised is dropped."""
        if self._thread is not None:
            self._done.wait()
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised again by the owner's wait
                self._error = error
            self._done.set()


@contextlib.contextmanager
def beside(name: str, work: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Do something in a thread of its own during a block; after it, the result or its error."""
    results: list[T] = []
    thread = Beside(name)
    thread.begin(lambda: results.append(work()))

    def result() -> T:
        thread.wait()
        return results[0]

    try:
        yield result
    finally:
        thread.end()


@contextlib.contextmanager
def temporary(directory: Path) -> Iterator[Path]:
    """A name in `directory` for a file or folder that is not finished; removed if still there.

    The name says who writes, so that `sweep` of another process leaves it alone.
    """
    name = f"{TEMPORARY_PREFIX}{_host()}-{os.getpid()}-{secrets.token_hex(6)}"
    path = directory / name
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            discard(path)


def write_synced(path: Path, fill: Callable[[HashingFile], object]) -> HashingFile:
    """Write a new file and return once its bytes are on the disk."""
    with path.open("xb", buffering=0) as stream:
        hashing = HashingFile(stream)
        try:
            fill(hashing)
            hashing.sync()
        finally:
            hashing.close()
    return hashing


def copy_synced(source: Path, target: Path) -> None:
    """Copy a file to a name on another place; it is there whole or not at all."""

    def fill(stream: HashingFile) -> None:
        with source.open("rb") as original:
            while block := original.read(1 << 20):
                stream.write(block)

    with temporary(target.parent) as unfinished:
        write_synced(unfinished, fill)
        unfinished.replace(target)


def hash_stream(stream: IO[bytes]) -> tuple[int, str]:
    """Length and SHA-256 of the rest of a stream."""
    digest, size_bytes = hashlib.sha256(), 0
    while block := stream.read(_BLOCK_BYTES):
        digest.update(block)
        size_bytes += len(block)
    return size_bytes, digest.hexdigest()


def discard(path: Path) -> None:
    """Remove a file, or a folder of files; nothing happens if it is not there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Return once the names in a directory are on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(directory: Path) -> int:
    """Remove what dead processes left unfinished in `directory`; returns how many files."""
    swept = 0
    for path in directory.glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):
            if _abandoned(path):
                discard(path)
                swept += 1
    return swept


def _abandoned(path: Path) -> bool:
    host, pid, _ = path.name.removeprefix(TEMPORARY_PREFIX).rsplit("-", 2)
    if host != _host():
        return time.time() - path.stat().st_mtime > STRANGER_AGE_S
    return not _alive(int(pid))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _host() -> str:
    return socket.gethostname().replace("/", "_") or "localhost"
