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

_BLOCKS = """
SELECT u.attempt, u.first_seq, u.steps, u.times, u.readings, u.events, s.names
FROM updates AS u LEFT JOIN shapes AS s ON s.run_key = u.run_key AND s.shape = u.shape
WHERE u.run_key = ? ORDER BY u.attempt, u.first_seq
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
            for block in connection.execute(_BLOCKS, (key,)):
                yield from _unpacked(*block)
    except (sqlite3.Error, ValueError, struct.error) as error:
        log.tear(f"reading the database stopped: {error}")


def _connect(path: Path) -> sqlite3.Connection:
    name = urllib.parse.quote(str(path.resolve()))
    return sqlite3.connect(f"file:{name}?mode=ro", uri=True, timeout=5.0)


def _unpacked(
    attempt: int,
    first_seq: int,
    steps: bytes,
    times: bytes,
    readings: bytes,
    events: str | None,
    names: str | None,
) -> Iterator[Row]:
    """The updates of a block: consecutive ones with the same metrics, each array little-endian."""
    known: list[str] = json.loads(names) if names else []
    count, width = len(steps) // 8, len(known)
    numbers = struct.unpack(f"<{count}q", steps)
    moments = struct.unpack(f"<{count}d", times)
    values = struct.unpack(f"<{count * width}d", readings)
    said = parsed(events) if events else {}
    for at in range(count):
        event = said.get(str(at)) if isinstance(said, dict) else None
        yield Row(
            dict(zip(known, values[at * width : (at + 1) * width], strict=True)),
            step=numbers[at],
            time=moments[at],
            event=event_of(event) if event else None,
            attempt=attempt,
            seq=first_seq + at,
        )


def _tags(text: str) -> dict[str, str]:
    tags = parsed(text)
    return {str(key): str(value) for key, value in tags.items()} if isinstance(tags, dict) else {}
