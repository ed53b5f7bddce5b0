"""Stretches of updates as rows, and rows as updates.

A block is a run of updates of one source and attempt with consecutive numbers and the same
metrics in the same order. Its arrays are little-endian on every machine.
"""

from __future__ import annotations

import json
import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, compress
from typing import Any

from watchstep.core.updates import Update
from watchstep_monitor.service.json_values import plain
from watchstep_monitor.service.series import Readings
from watchstep_monitor.store.damage import checksum
from watchstep_monitor.store.rollups import Stretch
from watchstep_monitor.store.source_numbers import source_and_attempt, stored_attempt

MOST_UPDATES = 256
"""Updates in one block: reading one of them means reading all."""

Row = tuple[int, int, int, int, int, int, int, bytes, bytes, bytes, str | None, int]


def block_rows(
    key: int, updates: Sequence[Update], shape_of: Callable[[tuple[str, ...]], int]
) -> Iterator[Row]:
    """The rows that hold these updates, in the order of the table's columns.

    Args:
        updates: Of one source, in order of their numbers.
        shape_of: The number of a set of names, stored if it is new.
    """
    start = 0
    while start < len(updates):
        first = updates[start]
        names = tuple(first.readings)
        end = start + 1
        while (
            end < len(updates)
            and end - start < MOST_UPDATES
            and updates[end].seq == first.seq + end - start
            and updates[end].attempt == first.attempt
            and tuple(updates[end].readings) == names
        ):
            end += 1
        yield _row(key, shape_of(names), updates[start:end], len(names))
        start = end


def _row(key: int, shape: int, block: Sequence[Update], width: int) -> Row:
    count = len(block)
    steps = [update.step for update in block]
    values = chain.from_iterable([update.readings.values() for update in block])
    events = {
        str(at): plain(update.event) for at, update in enumerate(block) if update.event is not None
    }
    stored = stored_attempt(block[0].source, block[0].attempt)
    place = (stored, block[0].seq, block[-1].seq, min(steps), max(steps), shape)
    content = (
        struct.pack(f"<{count}q", *steps),
        struct.pack(f"<{count}d", *[update.time for update in block]),
        struct.pack(f"<{count * width}d", *values),
        json.dumps(events, separators=(",", ":")) if events else None,
    )
    return (key, *place, *content, checksum(*place, *content))


def block_updates(row: Any, names: Sequence[str]) -> Iterator[Update]:
    (_, first, steps, times, values), width = block_stretch(row, tuple(names)), len(names)
    events = {} if row.events is None else json.loads(row.events)
    source, attempt = source_and_attempt(row.attempt)
    for at, (step, time) in enumerate(zip(steps, times, strict=True)):
        readings = dict(zip(names, values[at * width : (at + 1) * width], strict=True))
        event = events.get(str(at)) if events else None
        yield Update(first + at, step, time, readings, event, attempt, source)


def block_stretch(row: Any, names: tuple[str, ...]) -> Stretch:
    count = row.last_seq - row.first_seq + 1
    return Stretch(
        names,
        row.first_seq,
        struct.unpack(f"<{count}q", row.steps),
        struct.unpack(f"<{count}d", row.times),
        struct.unpack(f"<{count * len(names)}d", row.readings),
    )


def block_readings(row: Any, place: int, width: int, steps_between: tuple[int, int]) -> Readings:
    """The readings of one metric in a row."""
    seqs: Sequence[int] = range(row.first_seq, row.last_seq + 1)
    _, attempt = source_and_attempt(row.attempt)
    steps, times = _column("q", row.steps), _column("d", row.times)
    values = _column("d", row.readings)[place::width]
    if steps_between[0] <= row.least_step and row.greatest_step <= steps_between[1]:
        return Readings(attempt, seqs, steps, times, values)
    inside = [steps_between[0] <= step <= steps_between[1] for step in steps]
    columns = [list(compress(column, inside)) for column in (seqs, steps, times, values)]
    return Readings(attempt, *columns)


def _column(kind: str, content: bytes) -> array[Any]:
    column = array(kind, content)
    if sys.byteorder == "big":
        column.byteswap()
    return column
