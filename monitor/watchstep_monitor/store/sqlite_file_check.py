"""What SQLite does not notice by itself: its files gone, swapped, or made read-only under it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

LEAST_FREE_BYTES = 4_194_304
"""Free space for one of the largest bodies; with less, the next commit may fail."""


class Footing:
    """The files of an open database, looked at before each use. Thread-safe.

    In write-ahead mode SQLite goes on writing to a deleted file, and so to nowhere, without an
    error; and where the file system has become read-only, its shared memory, which is mapped,
    ends the process with SIGBUS instead of an error. Four system calls tell both apart.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = [f"{path}{end}" for end in ("", "-wal", "-shm")]
        status = path.stat()
        self._identity = status.st_dev, status.st_ino

    def trouble(self, *, is_open: bool = True) -> str | None:
        """None while the files are there and may be written; else one short sentence.

        Args:
            is_open: Whether a connection is; without one SQLite makes its other files anew.
        """
        try:
            status = self._path.stat()
        except OSError:
            return "the database file is gone from its folder"
        if (status.st_dev, status.st_ino) != self._identity:
            return "another file has taken the database's place"
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
            return shutil.disk_usage(self._path.parent).free
        except OSError:
            return None
