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
_FIXED = struct.Struct("<IQqd")
_PLAIN_SEQ = struct.Struct("<Q")
_NAMES_ID = struct.Struct("<I")
_ROW_AT = _PREFIX.size + _NAMES_ID.size

# Names tables held and repeated in each file: 512 tables of 20 names are 256 KiB.
_TABLES_MAX = 512


class Frame(NamedTuple):
    """One frame found in a file.

    Attributes:
        kind: `HEADER`, `NAMES`, `UPDATE` or `PLAIN`; others are from a newer version.
        payload: Its bytes; the checksum held.
        end: Offset in the scanned bytes of the first byte behind it.
        damaged: Whether bytes that are no frame were passed over right before it.
    """

    kind: int
    payload: bytes
    end: int
    damaged: bool


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
        known = self._last_table if names == self._last_names else self._tables.get(names)
        if known is None and len(self._tables) >= _TABLES_MAX:
            return plain_frame(update), b""
        number, shape = table = known or self._table_for(names)
        try:
            payload = shape.pack(number, update.seq, update.step, update.time, *readings.values())
        except (struct.error, TypeError, OverflowError) as error:
            raise WireError(f"update: {error}") from error
        if update.event is not None:
            payload += event_to_json(update.event)
        framed = frame(UPDATE, payload)
        # Only now: a table counts as introduced once its introduction is handed out.
        introduction = b""
        if known is None:
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
    """Turns frames back into JSON; learns the names as it meets them. Not thread-safe."""

    def __init__(self) -> None:
        self._tables: dict[int, _Table] = {}

    def learn(self, one: Frame) -> None:
        """Take in a `NAMES` frame; other kinds, and names known already, change nothing."""
        if one.kind != NAMES:
            return
        number = _NAMES_ID.unpack_from(one.payload)[0]
        if number not in self._tables:
            joined = one.payload[_NAMES_ID.size :]
            names = tuple(joined.decode("ascii").split("\n")) if joined else ()
            shape = struct.Struct(f"<IQqd{len(names)}d")
            self._tables[number] = _Table(joined, template(names), shape)

    def unframe(self, framed: bytes, *, rows: bool = False) -> Parcel:
        """The update in one whole frame that never left this process, see `parcel`."""
        return self.parcel(framed[3], framed[_PREFIX.size :], rows=rows)

    def unframe_rows(self, frames: Iterable[tuple[int, bytes]]) -> list[Parcel]:
        """Many updates as rows where they can be, from whole frames that never left this process.

        A fifth of the time of `unframe` for each: a row is a slice of its frame, and updates of
        one trainer mostly have one table of names.

        Args:
            frames: Sequence number and frame of each.
        """
        found: list[Parcel] = []
        number, joined, size = b"", b"", -1
        for seq, framed in frames:
            if framed[_PREFIX.size : _ROW_AT] != number or len(framed) != size:
                table = self._table_of(framed)
                if table is None or len(framed) != _PREFIX.size + table.shape.size:
                    found.append(self.unframe(framed))
                    continue
                number, joined, size = framed[_PREFIX.size : _ROW_AT], table.joined, len(framed)
            if framed[3] == UPDATE:
                found.append(Parcel(seq, framed[_ROW_AT:], joined))
            else:
                found.append(self.unframe(framed))
        return found

    def _table_of(self, framed: bytes) -> _Table | None:
        if framed[3] != UPDATE:
            return None
        return self._tables.get(_NAMES_ID.unpack_from(framed, _PREFIX.size)[0])

    def parcel(self, kind: int, payload: bytes, *, rows: bool = False) -> Parcel:
        """The update in an `UPDATE` or `PLAIN` frame, ready to be sent.

        Args:
            kind: The frame's.
            payload: The frame's.
            rows: As a row where it can be one, else always as JSON.

        Raises:
            WireError: Its names were never learnt, or the payload is too short for them.
        """
        seq = seq_of(kind, payload)
        row = self.to_row(kind, payload) if rows else None
        if row is None:
            return Parcel(seq, self.to_json(kind, payload))
        return Parcel(seq, *row)

    def to_row(self, kind: int, payload: bytes) -> tuple[bytes, bytes] | None:
        """An update as a row and its metric names, joined by newlines, see `wire.rows`.

        None when it carries an event or its names are lost: then it travels as JSON, if at
        all.
        """
        table = self._tables.get(_NAMES_ID.unpack_from(payload)[0]) if kind == UPDATE else None
        if table is None or len(payload) != table.shape.size:
            return None
        return payload[_NAMES_ID.size :], table.joined

    def to_json(self, kind: int, payload: bytes) -> bytes:
        """The update in an `UPDATE` or `PLAIN` frame as `encode_update` would write it.

        Raises:
            WireError: Its names were never learnt, or the payload is too short for them.
        """
        if kind == PLAIN:
            return payload[_PLAIN_SEQ.size :]
        table = self._tables.get(_NAMES_ID.unpack_from(payload)[0])
        if table is None:
            raise WireError("update: its table of names is lost")
        try:
            _, seq, step, time, *values = table.shape.unpack_from(payload)
        except struct.error as error:
            raise WireError("update: is shorter than its names say") from error
        body = fill(table.form, seq, step, time, values)
        if len(payload) == table.shape.size:
            return body
        return with_event(body, payload[table.shape.size :])


def frame(kind: int, payload: bytes) -> bytes:
    """One frame around a payload of at most `MAX_PAYLOAD` bytes.

    Raises:
        WireError: The payload is longer.
    """
    if len(payload) > MAX_PAYLOAD:
        raise WireError(f"update: is {len(payload)} bytes, must be at most {MAX_PAYLOAD}")
    return _PREFIX.pack(_SYNC, _VERSION, kind, len(payload), zlib.crc32(payload, kind)) + payload


def scan(data: bytes, start: int = 0) -> Iterator[Frame]:
    """Every intact frame in some bytes, in order, stepping over what is damaged.

    A torn last frame ends the scan without a word: its writer never finished it.
    """
    position = start
    damaged = False
    while True:
        at = data.find(_SYNC, position)
        if at < 0 or at + _PREFIX.size > len(data):
            return
        payload = _payload_at(data, at)
        if payload is None:
            damaged = True
            position = at + 1
            continue
        end = at + _PREFIX.size + len(payload)
        yield Frame(data[at + 3], payload, end, damaged or at != position)
        damaged = False
        position = end


def plain_frame(update: Update) -> bytes:
    """One update in a frame that needs no table of names to be read.

    Raises:
        WireError: As `encode_update`.
    """
    return frame(PLAIN, _PLAIN_SEQ.pack(update.seq) + encode_update(update))


def seq_of(kind: int, payload: bytes) -> int:
    """The sequence number in an `UPDATE` or `PLAIN` frame."""
    if kind == PLAIN:
        return int(_PLAIN_SEQ.unpack_from(payload)[0])
    return int(_FIXED.unpack_from(payload)[1])


def _payload_at(data: bytes, at: int) -> bytes | None:
    _, version, kind, length, checksum = _PREFIX.unpack_from(data, at)
    begin = at + _PREFIX.size
    if version != _VERSION or length > MAX_PAYLOAD or begin + length > len(data):
        return None
    payload = data[begin : begin + length]
    return payload if zlib.crc32(payload, kind) == checksum else None


def _names_frame(number: int, names: tuple[str, ...]) -> bytes:
    return frame(NAMES, _NAMES_ID.pack(number) + "\n".join(names).encode("ascii"))
