"""The runs in watchstep's own database file, read beside a service that may be running."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import struct
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from watchstep.errors import LogUnreadableError
from watchstep.postmortem.readers.jsonlogs import event_of, parsed
from watchstep.postmortem.readers.logs import Log, Row

MAGIC = b"SQLite format 3\0"

_APPLICATION_ID = 0x57535450
"""SQLite's mark of whose file it is: "WSTP", as the service's store writes it."""

_UPDATES = """
SELECT u.attempt, u.seq, u.step, u.time, u.readings, u.event, s.names
FROM updates AS u LEFT JOIN shapes AS s ON s.run_key = u.run_key AND s.shape = u.shape
WHERE u.run_key = ? ORDER BY u.attempt, u.seq
"""


def runs(path: Path) -> list[tuple[int, str, dict[str, str]]]:
    """Key, name and tags of every run, oldest first; none in another program's database.

    Raises:
        LogUnreadableError: The file is damaged, locked, or of a version not known here.
    """
    try:
        with contextlib.closing(_connect(path)) as connection:
            if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                return []
            rows = connection.execute("SELECT run_key, run, tags FROM runs ORDER BY created_us")
            return [(key, run, _tags(tags)) for key, run, tags in rows]
    except sqlite3.Error as error:
        raise LogUnreadableError(f"{path}: {error}") from error


def rows(log: Log, key: int) -> Iterator[Row]:
    """The updates of one run in the order of their attempts."""
    log.unit = "step"
    try:
        with contextlib.closing(_connect(log.files[0])) as connection:
            for attempt, seq, step, time, readings, event, names in connection.execute(
                _UPDATES, (key,)
            ):
                yield Row(
                    _readings(readings, names),
                    number=step,
                    time=time,
                    event=event_of(parsed(event)) if event else None,
                    attempt=attempt,
                    seq=seq,
                )
    except (sqlite3.Error, ValueError, struct.error) as error:
        log.tear(f"reading the database stopped: {error}")


def _connect(path: Path) -> sqlite3.Connection:
    name = urllib.parse.quote(str(path.resolve()))
    return sqlite3.connect(f"file:{name}?mode=ro", uri=True, timeout=5.0)


def _readings(packed: bytes, names: str | None) -> dict[str, float]:
    known = json.loads(names) if names else []
    return dict(zip(known, struct.unpack(f"<{len(known)}d", packed), strict=True))


def _tags(text: str) -> dict[str, str]:
    tags = parsed(text)
    return {str(key): str(value) for key, value in tags.items()} if isinstance(tags, dict) else {}
