"""Updates as bytes in the spool: framed, checksummed, with a table of metric names.

A file is a row of frames. Each frame is 12 bytes of prefix (two sync bytes, version, kind,
length of the payload, CRC-32 of the payload seeded with the kind) and its payload, all
little-endian. A reader that meets a damaged frame looks for the next sync bytes whose
checksum holds, so damage costs the frames that it touches and no other.

Names are written once in a NAMES frame and referred to by number, which makes an update of
20 readings 200 bytes. Update payload: names number u32, seq u64, step i64, time f64, then one
f64 a reading, then the event as JSON where there is one.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from watchstep.core.updates import Update
from watchstep.errors import WireError
from watchstep.wire.rows import Parcel
from watchstep.wire.text import encode_update, event_to_json, fill, template, with_event

HEADER = 1
"""Kind of a frame with JSON about the whole file."""
NAMES = 2
"""Kind of a frame that binds a number to a tuple of metric names."""
UPDATE = 3
"""Kind of a frame with readings, and an event or none."""
PLAIN = 4
"""Kind of a frame with one update as JSON, for a trainer that never repeats its names."""

MAX_PAYLOAD = 4 * 1024 * 1024
"""Bytes. Beyond it a length is damage, not an update."""

_SYNC = b"\xd7\x53"
_VERSION = 1
_PREFIX = struct.Struct("<2sBBII")
_SEQ = struct.Struct("<Q")
_STEP_AND_TIME = struct.Struct("<qd")
_NAMES_ID = struct.Struct("<I")
_ROW_AT = _PREFIX.size + _NAMES_ID.size

# Names tables held and repeated in each file: 512 tables of 20 names are 256 KiB.
_TABLES_MAX = 512


class Frame(NamedTuple):
    """One frame found in a file.

    Attributes:
        framed: All of its bytes; the checksum held.
        end: Offset in the scanned bytes of the first byte behind it.
        damaged: Whether bytes that are no frame were passed over right before it.
    """

    framed: bytes
    end: int
    damaged: bool

    @property
    def kind(self) -> int:
        """`HEADER`, `NAMES`, `UPDATE` or `PLAIN`; others are from a newer version."""
        return self.framed[3]

    @property
    def payload(self) -> bytes:
        return self.framed[_PREFIX.size :]


class Record(NamedTuple):
    """One update on its way: a tuple, because a frozen dataclass costs 1 us to make.

    Attributes:
        framed: The whole frame as `Packer` made it; from the spool to the wire nothing else is.
        keep_when_full: The first one, one with an event, or one with a non-finite reading: dropped
            only when there is nothing else to drop.
    """

    seq: int
    framed: bytes
    keep_when_full: bool = False


class Packer:
    """Turns updates into frames; owns the table of names of one session. Not thread-safe."""

    def __init__(self) -> None:
        self._tables: dict[tuple[str, ...], tuple[int, struct.Struct]] = {}
        self._last_names: tuple[str, ...] | None = None
        self._last_table: tuple[int, struct.Struct] | None = None

    def pack(self, update: Update) -> tuple[bytes, bytes]:
        """One update as a frame, and the frame of its names where they are new, else b"".

        Raises:
            WireError: A name, number or event in it cannot be written.
        """
        readings = update.readings
        names = tuple(readings)
        # Mostly those of the last update, and comparing is three times as fast as hashing.
        remembered = self._last_table if names == self._last_names else self._tables.get(names)
        if remembered is None and len(self._tables) >= _TABLES_MAX:
            return plain_frame(update), b""
        number, shape = table = remembered or self._table_for(names)
        try:
            payload = shape.pack(number, update.seq, update.step, update.time, *readings.values())
        except (struct.error, TypeError, OverflowError) as error:
            raise WireError(f"update: {error}") from error
        if update.event is not None:
            payload += event_to_json(update.event)
        framed = frame(UPDATE, payload)
        # Only now: a table counts as introduced once its introduction is handed out.
        introduction = b""
        if remembered is None:
            introduction = _names_frame(number, names)
            self._tables[names] = table
        self._last_names, self._last_table = names, table
        return framed, introduction

    def _table_for(self, names: tuple[str, ...]) -> tuple[int, struct.Struct]:
        template(names)  # Refuses an illegal name before it reaches the disk.
        return len(self._tables), struct.Struct(f"<IQqd{len(names)}d")


class _Table(NamedTuple):
    joined: bytes
    form: str
    shape: struct.Struct


class Unpacker:
    """Knows the names that frames refer to; learns them as it meets them. Not thread-safe."""

    def __init__(self) -> None:
        self._tables: dict[int, _Table] = {}

    def learn(self, frame: Frame) -> None:
        """Take in a `NAMES` frame; other kinds, and names known already, change nothing."""
        if frame.kind != NAMES:
            return
        number = _NAMES_ID.unpack_from(frame.payload)[0]
        if number not in self._tables:
            joined = frame.payload[_NAMES_ID.size :]
            names = tuple(joined.decode("ascii").split("\n")) if joined else ()
            shape = struct.Struct(f"<{_ROW_AT}xQqd{len(names)}d")
            self._tables[number] = _Table(joined, template(names), shape)

    def can_read(self, framed: bytes) -> bool:
        """Whether the names of an update are known, and it is as long as they say."""
        if framed[3] == PLAIN:
            return True
        table = self._table_of(framed)
        return table is not None and len(framed) >= table.shape.size

    def parcels(self, records: Iterable[Record]) -> list[Parcel]:
        """Updates ready to be sent: as rows, which are slices of their frames, where they can be.

        What carries an event is JSON, and so is what has no table of names.
        """
        parcels: list[Parcel] = []
        number, joined, size = b"", b"", -1
        for seq, framed, _ in records:
            if framed[_PREFIX.size : _ROW_AT] != number or len(framed) != size:
                table = self._table_of(framed)
                if table is None or len(framed) != table.shape.size:
                    parcels.append(Parcel(seq, self.to_json(framed)))
                    continue
                number, joined, size = framed[_PREFIX.size : _ROW_AT], table.joined, len(framed)
            if framed[3] == UPDATE:
                parcels.append(Parcel(seq, framed[_ROW_AT:], joined))
            else:
                parcels.append(Parcel(seq, self.to_json(framed)))
        return parcels

    def to_json(self, framed: bytes) -> bytes:
        """The update in an `UPDATE` or `PLAIN` frame as `encode_update` would write it.

        Raises:
            WireError: Its names were never learnt, or it is too short for them.
        """
        if framed[3] == PLAIN:
            return framed[_PREFIX.size + _SEQ.size :]
        table = self._table_of(framed)
        if table is None:
            raise WireError("update: its table of names is lost")
        try:
            seq, step, time, *values = table.shape.unpack_from(framed)
        except struct.error as error:
            raise WireError("update: is shorter than its names say") from error
        body = fill(table.form, seq, step, time, values)
        if len(framed) == table.shape.size:
            return body
        return with_event(body, framed[table.shape.size :])

    def _table_of(self, framed: bytes) -> _Table | None:
        if framed[3] != UPDATE:
            return None
        return self._tables.get(_NAMES_ID.unpack_from(framed, _PREFIX.size)[0])


def frame(kind: int, payload: bytes) -> bytes:
    """One frame around a payload of at most `MAX_PAYLOAD` bytes.

    Raises:
        WireError: The payload is longer.
    """
    if len(payload) > MAX_PAYLOAD:
        raise WireError(f"update: is {len(payload)} bytes, must be at most {MAX_PAYLOAD}")
    return _PREFIX.pack(_SYNC, _VERSION, kind, len(payload), zlib.crc32(payload, kind)) + payload


def scan(data: bytes) -> Iterator[Frame]:
    """Every intact frame in some bytes, in order, stepping over what is damaged.

    A torn last frame ends the scan without a word: its writer never finished it.
    """
    position, damaged = 0, False
    while True:
        at = data.find(_SYNC, position)
        if at < 0 or at + _PREFIX.size > len(data):
            return
        end = _end_of(data, at)
        if end is None:
            damaged = True
            position = at + 1
            continue
        yield Frame(data[at:end], end, damaged or at != position)
        damaged = False
        position = end


def plain_frame(update: Update) -> bytes:
    """One update in a frame that needs no table of names to be read.

    Raises:
        WireError: As `encode_update`.
    """
    return frame(PLAIN, _SEQ.pack(update.seq) + encode_update(update))


def seq_of(framed: bytes) -> int:
    """The sequence number in an `UPDATE` or `PLAIN` frame."""
    at = _PREFIX.size if framed[3] == PLAIN else _ROW_AT
    return int(_SEQ.unpack_from(framed, at)[0])


def step_and_time(framed: bytes) -> tuple[int, float]:
    """The step and the time in an `UPDATE` or `PLAIN` frame."""
    if framed[3] == PLAIN:
        update = json.loads(framed[_PREFIX.size + _SEQ.size :])
        return update["step"], update["time"]
    return _STEP_AND_TIME.unpack_from(framed, _ROW_AT + _SEQ.size)


def _end_of(data: bytes, at: int) -> int | None:
    """Where the frame at an offset ends; None where there is no whole one."""
    _, version, kind, length, checksum = _PREFIX.unpack_from(data, at)
    begin = at + _PREFIX.size
    if version != _VERSION or length > MAX_PAYLOAD or begin + length > len(data):
        return None
    intact = zlib.crc32(data[begin : begin + length], kind) == checksum
    return begin + length if intact else None


def _names_frame(number: int, names: tuple[str, ...]) -> bytes:
    return frame(NAMES, _NAMES_ID.pack(number) + "\n".join(names).encode("ascii"))
