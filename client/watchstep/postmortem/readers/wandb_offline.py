"""Weights & Biases' offline `.wandb` files, without W&B.

The file is LevelDB's log format (blocks of 32 KiB; records split into first, middle and last
pieces, each with a checksum) around protocol buffers. Field numbers are those of W&B's
`wandb_internal.proto` as of wandb 0.31.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from watchstep.postmortem.readers.jsonlogs import parsed
from watchstep.postmortem.readers.logs import Log, Row
from watchstep.postmortem.readers.naming import flat_readings, number, whole
from watchstep.postmortem.readers.opening import open_stream, read_some
from watchstep.postmortem.readers.protobuf import fields

MAGIC = b":W&B"

_FILE_HEADER_BYTES = 7
_BLOCK_BYTES = 32_768
_PIECE_HEADER_BYTES = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4

_HISTORY, _RUN, _EXIT = 2, 17, 18
"""Record's fields for one logged step, the run's description, and its exit code."""

_LARGEST_RECORD_BYTES = 64 << 20


def rows(log: Log) -> Iterator[Row]:
    """One row for each logged history step; a bad exit code becomes a `failed` event."""
    path = log.files[0]
    with open_stream(path) as stream:
        for record in _records(stream, log, path.name):
            try:
                row = _row(record, log)
            except ValueError:
                log.tear("a record that cannot be parsed is left out")
                continue
            if row is not None:
                yield row


def _row(record: bytes, log: Log) -> Row | None:
    for field, _, value, _ in fields(record):
        if not isinstance(value, bytes):
            continue
        if field == _HISTORY:
            return _history(value, log)
        if field == _RUN:
            _describe(value, log)
        elif field == _EXIT:
            return _exit(value)
    return None


def _history(message: bytes, log: Log) -> Row:
    step: int | None = None
    readings: dict[str, float] = {}
    for field, _, value, _ in fields(message):
        if not isinstance(value, bytes):
            continue
        if field == 2:
            step = _first_varint(value)
        elif field == 1:
            readings.update(_item(value))
    moment = readings.pop("_timestamp", None)
    inner = whole(readings.pop("_step", None))
    readings.pop("_runtime", None)
    log.unit = "step"
    return Row(readings, step=inner if inner is not None else step or 0, time=moment)


def _item(message: bytes) -> dict[str, float]:
    """The readings of one history item: a key, or the parts of a nested one, and its JSON."""
    key = ""
    nested: list[str] = []
    text = ""
    for field, _, value, _ in fields(message):
        if not isinstance(value, bytes):
            continue
        if field == 1:
            key = value.decode("utf-8", "replace")
        elif field == 2:
            nested.append(value.decode("utf-8", "replace"))
        elif field == 16:
            text = value.decode("utf-8", "replace")
    # W&B writes NaN and infinities as bare words or as strings, by version.
    reading = parsed(text)
    if reading is None:
        reading = number(text)
    return flat_readings({key or "/".join(nested): reading})


def _describe(message: bytes, log: Log) -> None:
    for field, _, value, _ in fields(message):
        if field == 3 and isinstance(value, bytes) and value:
            log.tags["project"] = value.decode("utf-8", "replace")


def _exit(message: bytes) -> Row | None:
    code = _first_varint(message)
    if not code:
        return None
    return Row({}, event={"kind": "failed", "error": f"exit code {code}"})


def _first_varint(message: bytes) -> int:
    for field, _, value, _ in fields(message):
        if field == 1 and isinstance(value, int):
            return value
    return 0


def _records(stream: BinaryIO, log: Log, name: str) -> Iterator[bytes]:
    pieces: list[bytes] = []
    for kind, piece in _pieces(stream, log, name):
        if kind in (_FULL, _FIRST):
            pieces = []
        elif not pieces:
            continue  # The beginning of this record was lost.
        pieces.append(piece)
        if kind in (_FULL, _LAST):
            yield b"".join(pieces)
            pieces = []
        elif sum(map(len, pieces)) > _LARGEST_RECORD_BYTES:
            log.tear(f"{name}: an oversized record is left out")
            pieces = []
    if pieces:
        log.tear(f"{name}: the last record is torn")


def _pieces(stream: BinaryIO, log: Log, name: str) -> Iterator[tuple[int, bytes]]:
    """The pieces of each block; after damage, reading goes on with the next block."""
    at = _FILE_HEADER_BYTES
    while block := read_some(stream, _BLOCK_BYTES, log, name):
        while len(block) - at >= _PIECE_HEADER_BYTES:
            stored = int.from_bytes(block[at : at + 4], "little")
            size = int.from_bytes(block[at + 4 : at + 6], "little")
            kind = block[at + 6]
            if kind == 0 and size == 0:
                break  # Padding.
            start = at + _PIECE_HEADER_BYTES
            piece = block[start : start + size]
            if len(piece) < size and len(block) < _BLOCK_BYTES:
                log.tear(f"{name}: the last record is torn")
                return
            if len(piece) < size or zlib.crc32(piece, zlib.crc32(bytes((kind,)))) != stored:
                log.tear(f"{name}: a corrupted block is left out")
                yield _FULL, b""
                break
            yield kind, piece
            at = start + size
        at = 0
