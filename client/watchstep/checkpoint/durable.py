"""Files that are there whole or not at all, whatever is killed in between."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

_BUFFER_BYTES = 1 << 20
"""What is smaller is gathered; what is larger is hashed in a thread while it is written."""
TEMPORARY_PREFIX = ".saving-"
UNLOCKED_AGE_S = 24 * 3600.0
"""Where a file system knows no locks, what is unfinished is swept after a day."""


class HashedFile:
    """Hashes a file while it is written; whoever opened it closes it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.size_bytes = 0
        self.flush = stream.flush
        self.before_write: Callable[[], object] = lambda: None
        self._stream = stream
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> int:
        """Append all of it; `chunk` is not used any more after the call."""
        self.before_write()
        view = memoryview(chunk).cast("B")
        if len(view) < _BUFFER_BYTES:
            self._digest.update(view)
            self._stream.write(view)
        else:
            with in_thread("watchstep-hash", lambda: self._digest.update(view)):
                self._stream.write(view)
        self.size_bytes += len(view)
        return len(view)

    def sha256(self) -> str:
        return self._digest.hexdigest()


@contextlib.contextmanager
def in_thread(name: str, work: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Do something in a thread of its own during a block; after it, the result or its error."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield future.result
    finally:
        thread.join()


@contextlib.contextmanager
def temporary(directory: Path, *, folder: bool = False) -> Iterator[Path]:
    """A new file or folder in `directory` that is not finished; removed if it is still there.

    It is locked until then, so `sweep` of any other process, also in another container on the
    same files, leaves it alone while this one lives, and takes it when this one is dead.
    """
    path, handle = _new_and_locked(directory, folder=folder)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            discard(path)
        os.close(handle)


def _new_and_locked(directory: Path, *, folder: bool) -> tuple[Path, int]:
    while True:
        path = directory / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        if folder:
            path.mkdir()
            handle = os.open(path, os.O_RDONLY)
        else:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        # A sweep may have come between the two.
        if path.exists():
            return path, handle
        os.close(handle)


def write_synced(path: Path, fill: Callable[[HashedFile], object]) -> HashedFile:
    """Write a file and return once its bytes are on the disk."""
    with path.open("wb", buffering=_BUFFER_BYTES) as stream:
        hashed = HashedFile(stream)
        fill(hashed)
        stream.flush()
        os.fsync(stream.fileno())
    return hashed


def copy_synced(source: Path, target: Path) -> None:
    """Copy a file to a name on another place; it is there whole or not at all."""
    with temporary(target.parent) as unfinished:
        with source.open("rb") as original, unfinished.open("wb") as stream:
            shutil.copyfileobj(original, stream, _BUFFER_BYTES)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(target)


def hash_stream(stream: IO[bytes]) -> tuple[int, str]:
    """Length and SHA-256 of a file from its beginning."""
    digest = hashlib.file_digest(stream, "sha256")  # type: ignore[arg-type]
    return stream.tell(), digest.hexdigest()


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


def sweep(directory: Path) -> None:
    """Remove what dead processes left unfinished in `directory`."""
    for path in directory.glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
            try:
                if _is_abandoned(path, handle):
                    # Still locked: its writer, if it was about to lock it, makes another.
                    discard(path)
            finally:
                os.close(handle)


def _is_abandoned(path: Path, handle: int) -> bool:
    old = time.time() - path.stat().st_mtime > UNLOCKED_AGE_S
    if "-" in path.name.removeprefix(TEMPORARY_PREFIX):
        # Of a version that named its process instead of locking.
        return old
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return old
    return True
