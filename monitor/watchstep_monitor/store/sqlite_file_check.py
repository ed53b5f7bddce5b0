"""What SQLite does not notice by itself: its files gone, swapped, or made read-only under it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from urllib.parse import quote

LEAST_FREE_BYTES = 4_194_304
"""Free space for one of the largest bodies; with less, the next commit may fail."""


MOST_CHECKED_BYTES = 1_000_000_000
"""Size above which the file's structure is not checked: it takes about a second each 500 MB."""


def structure_trouble(path: Path) -> str | None:
    """What SQLite's own check says of a database, in use or not; None where all is well."""
    try:
        if path.stat().st_size > MOST_CHECKED_BYTES:
            return None
        raw = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
        try:
            verdict = raw.execute("PRAGMA quick_check(1)").fetchone()[0]
        finally:
            raw.close()
    except (sqlite3.Error, OSError) as error:
        return f"damaged: {error}"
    return None if verdict == "ok" else f"damaged: {str(verdict).strip().splitlines()[-1][:160]}"


class Footing:
    """The files of an open database, looked at before each use. Thread-safe.

    In write-ahead mode SQLite goes on writing to a deleted file, and so to nowhere, without an
    error; and where the file system has become read-only, its shared memory, which is mapped,
    ends the process with SIGBUS instead of an error. Four system calls tell both apart.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = [f"{path}{end}" for end in ("", "-wal", "-shm")]
        status = path.stat()
        self._identity = status.st_dev, status.st_ino
        self._size = status.st_size

    def trouble(self, *, is_open: bool = True) -> str | None:
        """None while the files are there and may be written; else one short sentence.

        Args:
            is_open: Whether a connection is; without one SQLite makes its other files anew.
        """
        try:
            status = self.path.stat()
        except OSError:
            return "the database file is gone from its folder"
        if (status.st_dev, status.st_ino) != self._identity:
            return "another file has taken the database's place"
        # We never give room back, so a file that shrank was cut by someone else.
        if status.st_size < self._size:
            return f"the database file was cut from {self._size} to {status.st_size} bytes"
        self._size = status.st_size
        for file in self._files if is_open else self._files[:1]:
            if not os.access(file, os.W_OK):
                return (
                    "the database has become read-only"
                    if os.access(file, os.F_OK)
                    else "a file of the database is gone from its folder"
                )
        return None

    def shortage(self) -> str | None:
        """None while the disk has room for the next commits; else one short sentence."""
        free = self.free_bytes()
        if free is not None and free < LEAST_FREE_BYTES:
            return f"the disk is full but for {free // 1_024} KiB"
        return None

    def free_bytes(self) -> int | None:
        """Free space beside the files; None if no one can say."""
        try:
            return shutil.disk_usage(self.path.parent).free
        except OSError:
            return None
