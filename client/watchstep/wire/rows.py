"""Updates as rows of doubles: a second body for the POST, for services that name it.

JSON spends most of its time on printing and reading decimals: measured with 20 readings an
update, 13 us and 800 bytes before compression against 1 us and 184 bytes here. A service
lists `ROWS_TYPE` under "accepts" in its answer to the PUT; without that JSON is sent.

Little-endian: the magic, the attempt as u64, then blocks in the order of `seq`. A block is a
kind u8 and a count u32, then either (`_ROWS`) the length u32 of the metric names joined by
newlines, the names, and `count` rows of seq u64, step i64, time f64 and one f64 a name; or
(`_JSON`) `count` bytes with one update as a JSON object, which may carry an event.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from watchstep.core.updates import Update
from watchstep.errors import WireError
from watchstep.wire.text import check_counters, check_date, template

ROWS_TYPE = "application/vnd.watchstep.rows"
"""Content type of a body that `encode_rows` made."""

_MAGIC = b"WSR1"
_HEAD = struct.Struct("<4sQ")
_BLOCK = struct.Struct("<BI")
_NAMES = struct.Struct("<I")
_ROWS = 1
_JSON = 2
_FIXED_BYTES = 24
_CUT_SHORT = "body: is cut short or not rows of updates"


class Parcel(NamedTuple):
    """One update, ready to be put into a body.

    Attributes:
        body: A row where `names` are given, else a JSON object.
        names: The metric names of a row, joined by newlines; None for JSON.
    """

    seq: int
    body: bytes
    names: bytes | None = None


def encode_rows(attempt: int, parcels: Sequence[Parcel]) -> bytes:
    """The body of one POST, from parcels in the order of `seq`."""
    parts = [_HEAD.pack(_MAGIC, attempt)]
    for names, group in groupby(parcels, key=itemgetter(Parcel._fields.index("names"))):
        bodies = [parcel.body for parcel in group]
        if names is None:
            for body in bodies:
                parts += (_BLOCK.pack(_JSON, len(body)), body)
        else:
            parts += (_BLOCK.pack(_ROWS, len(bodies)), _NAMES.pack(len(names)), names, *bodies)
    return b"".join(parts)


class Block(NamedTuple):
    """A stretch of a body: rows of the same metrics, or one update as JSON.

    Attributes:
        updates: How many it holds.
        json: The update's JSON text; None for rows.
        names: Of the metrics of its rows, joined by newlines.
    """

    updates: int
    json: bytes | None
    names: bytes = b""
    rows: bytes = b""

    @property
    def width(self) -> int:
        """Bytes of one row."""
        return _FIXED_BYTES + 8 * (self.names.count(b"\n") + 1 if self.names else 0)


def split_rows(body: bytes) -> tuple[int, list[Block]]:
    """The attempt and the blocks of a body of type `ROWS_TYPE`; updates are not looked at.

    So limits can come first: a body of a million empty rows makes no object of any of them.

    Raises:
        WireError: The body is cut short, or is none.
    """
    try:
        magic, attempt = _HEAD.unpack_from(body)
        if magic != _MAGIC:
            raise WireError("body: is not rows of updates")
        return attempt, list(_blocks(body))
    except struct.error:
        raise WireError(_CUT_SHORT) from None


def _blocks(body: bytes) -> Iterator[Block]:
    at = _HEAD.size
    while at < len(body):
        kind, count = _BLOCK.unpack_from(body, at)
        at += _BLOCK.size
        if kind == _JSON:
            yield Block(1, _slice(body, at, count))
            at += count
        elif kind == _ROWS:
            (size,) = _NAMES.unpack_from(body, at)
            at += _NAMES.size
            empty = Block(count, None, _slice(body, at, size))
            at += size
            rows = _slice(body, at, count * empty.width)
            yield empty._replace(rows=rows)
            at += len(rows)
        else:
            raise WireError("body: has a block of an unknown kind")


def _slice(body: bytes, begin: int, size: int) -> bytes:
    if begin + size > len(body):
        raise WireError(_CUT_SHORT)
    return body[begin : begin + size]


def row_updates(block: Block, attempt: int) -> list[Update | WireError]:
    """The updates of a block of rows; in the place of one that is none, what is wrong."""
    try:
        return list(_updates(block, block.rows, attempt))
    except WireError:
        return [
            _alone(block, block.rows[begin : begin + block.width], attempt)
            for begin in range(0, len(block.rows), block.width)
        ]


def _alone(block: Block, row: bytes, attempt: int) -> Update | WireError:
    try:
        return next(_updates(block, row, attempt))
    except WireError as error:
        return error


def _updates(block: Block, rows: bytes, attempt: int) -> Iterator[Update]:
    if not block.names.isascii():
        raise WireError(_CUT_SHORT)
    names = tuple(block.names.decode("ascii").split("\n")) if block.names else ()
    template(names)  # Refuses an illegal name, and remembers that these are legal.
    if len(set(names)) != len(names):
        raise WireError("metrics: has the same name twice")
    for seq, step, time, *values in struct.iter_unpack(f"<Qqd{len(names)}d", rows):
        check_counters(seq, step, time)
        check_date(time)
        yield Update(seq, step, time, dict(zip(names, values, strict=True)), None, attempt)
