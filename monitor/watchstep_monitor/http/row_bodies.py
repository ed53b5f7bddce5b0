"""Bodies of rows of doubles, taken apart so that limits come first and each update is judged alone.

`watchstep.wire.decode_rows` decodes; here is only what it takes to know where a block and a row
begin, so that a body of a million empty rows is refused before one of them is an object.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from watchstep.core.updates import Update
from watchstep.errors import WireError
from watchstep.wire import decode_rows

_HEAD = struct.Struct("<4sQ")
_BLOCK = struct.Struct("<BI")
_LENGTH = struct.Struct("<I")
_ROWS, _JSON = 1, 2
_PLACE_BYTES = 24
"""Of a row: its number, its step and its time."""


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a body: rows of the same metrics, or one update as JSON.

    Attributes:
        updates: How many it holds.
        metrics: How many names its rows have; 0 for JSON, which has yet to be parsed.
        json: The update's JSON text, or None.
        rows: The block as a body of its own, b"" for JSON.
        preface: Bytes of `rows` before the first row.
    """

    updates: int
    metrics: int
    json: bytes | None
    rows: bytes
    preface: int


def split(body: bytes) -> tuple[int, list[Block]]:
    """The attempt and the blocks of a body of rows; updates are not looked at.

    Raises:
        WireError: It is cut short, or no body of rows.
    """
    try:
        attempt, _ = decode_rows(body[: _HEAD.size])
        return attempt, list(_blocks(body))
    except struct.error:
        raise WireError("body: is cut short or not rows of updates") from None


def _blocks(body: bytes) -> Iterator[Block]:
    head, at = body[: _HEAD.size], _HEAD.size
    while at < len(body):
        kind, count = _BLOCK.unpack_from(body, at)
        if kind == _JSON:
            begin = at + _BLOCK.size
            end = begin + count
            yield Block(1, 0, body[begin:end], b"", 0)
        elif kind == _ROWS:
            (size,) = _LENGTH.unpack_from(body, at + _BLOCK.size)
            begin = at + _BLOCK.size + _LENGTH.size
            metrics = body.count(b"\n", begin, begin + size) + 1 if size else 0
            end = begin + size + count * (_PLACE_BYTES + 8 * metrics)
            whole = at == _HEAD.size and end == len(body)
            rows = body if whole else head + body[at:end]
            yield Block(count, metrics, None, rows, _HEAD.size + begin + size - at)
        else:
            raise WireError("body: has a block of an unknown kind")
        if end > len(body):
            raise WireError("body: is cut short or not rows of updates")
        at = end


def updates_of(block: Block) -> list[Update | WireError]:
    """The updates of a block of rows; in the place of one that is none, what is wrong."""
    try:
        return list(decode_rows(block.rows)[1])
    except WireError:
        return [_alone(block, row) for row in range(block.updates)]


def _alone(block: Block, row: int) -> Update | WireError:
    """One row, decoded as the only one of its block."""
    width = _PLACE_BYTES + 8 * block.metrics
    begin = block.preface + row * width
    preface = bytearray(block.rows[: block.preface])
    _BLOCK.pack_into(preface, _HEAD.size, _ROWS, 1)
    try:
        return decode_rows(bytes(preface) + block.rows[begin : begin + width])[1][0]
    except WireError as error:
        return error
