"""Checksums of what is stored: a database notices neither a flipped bit nor a stray write."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any

from watchstep_monitor.store.source_numbers import source_and_attempt

log = logging.getLogger(__name__)

PLACES: set[tuple[str, str, int, int, int]] = set()
"""Where damage was met since the start: what, run, attempt, first and last update."""

_MOST_PLACES = 10_000

_place = attrgetter("attempt", "first_seq", "last_seq", "least_step", "greatest_step", "shape")


def checksum(*parts: int | bytes | str | None) -> int:
    """CRC-32 of values one after the other."""
    return zlib.crc32(
        b"".join([part if isinstance(part, bytes) else str(part).encode() for part in parts])
    )


def whole(run: str, rows: Iterable[Any]) -> Iterator[Any]:
    """The rows of updates, or of roll-ups, that are as they were written; others are left out.

    Rows of older code have no checksum, and are believed.
    """
    rolled: bool | None = None
    for row in rows:
        if rolled is None:
            # All are of one table, and it takes long to ask a row for what it has not.
            rolled = hasattr(row, "points")
        content = (row.points,) if rolled else (row.steps, row.times, row.readings, row.events)
        if row.crc is None or row.crc == checksum(*_place(row), *content):
            yield row
        else:
            what = "a roll-up, read from the updates" if rolled else "updates, left out"
            source, attempt = source_and_attempt(row.attempt)
            say(f"{what} ({source})", run, attempt, row.first_seq, row.last_seq)


def say(what: str, run: str, attempt: int, first_seq: int, last_seq: int) -> None:
    """Log damage, once for each place."""
    place = (what, run, attempt, first_seq, last_seq)
    if place in PLACES or len(PLACES) >= _MOST_PLACES:
        return
    PLACES.add(place)
    fields = {"run": run, "attempt": attempt, "first_seq": first_seq, "last_seq": last_seq}
    log.error("the database is damaged", extra={"what": what, **fields})


def places_found() -> int:
    """At how many places damage was met since the start, 10,000 at most."""
    return len(PLACES)
