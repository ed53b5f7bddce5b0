"""TFRecord framing: length, its checksum, payload, its checksum; read in batches.

A record whose own checksum fails is left out and reading goes on, since the checked length
still says where the next one begins. After a broken length there is no such place: nothing in
the format marks the start of a record, so reading ends there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from watchstep.postmortem.readers.crc32c import crc32c, crc32c_of_each, masked
from watchstep.postmortem.readers.logs import Log
from watchstep.postmortem.readers.opening import read_some

HEADER_BYTES = 12
_CHUNK_BYTES = 1 << 20
_LARGEST_BYTES = 16 << 20
"""Records over this size hold images, audio or graphs: skipped without a look."""

_LONGEST_CHECKED_BYTES = 1 << 16
"""No scalar is longer, and checking an image byte by byte would take a second."""

_CRC = struct.Struct("<I")


def record_length(header: bytes) -> int | None:
    """The payload's length in bytes, or None when the header's checksum is wrong."""
    if len(header) < HEADER_BYTES:
        return None
    if masked(crc32c(header[:8])) != _CRC.unpack_from(header, 8)[0]:
        return None
    return int.from_bytes(header[:8], "little")


def batches(stream: BinaryIO, log: Log, name: str) -> Iterator[list[bytes]]:
    """The payloads of a file in order, about a megabyte at a time, checksums verified.

    What is torn or corrupted is noted in `log` under `name`, never raised.
    """
    lengths: dict[bytes, int] = {}
    rest = b""
    while True:
        chunk = read_some(stream, _CHUNK_BYTES, log, name)
        if not chunk:
            if rest:
                log.tear(f"{name}: the last record is torn ({len(rest)} bytes left out)")
            return
        payloads, checksums, rest, skip = split(rest + chunk, lengths)
        yield verified(payloads, checksums, log, name)
        if skip < 0:
            log.tear(f"{name}: corrupted record length: what follows cannot be read")
            return
        if skip and not _skipped(stream, skip, log, name):
            log.tear(f"{name}: the last record is torn")
            return


def split(buffer: bytes, lengths: dict[bytes, int]) -> tuple[list[bytes], list[bytes], bytes, int]:
    """Whole records of a buffer, the unread rest, and how many bytes to skip (-1: broken)."""
    payloads: list[bytes] = []
    checksums: list[bytes] = []
    at, end = 0, len(buffer)
    while end - at >= HEADER_BYTES:
        header = buffer[at : at + HEADER_BYTES]
        length = lengths.get(header)
        if length is None:
            length = record_length(header)
            if length is None:
                return payloads, checksums, b"", -1
            if len(lengths) < 100_000:
                lengths[header] = length
        begin = at + HEADER_BYTES
        stop = begin + length
        if stop + 4 > end:
            if length > _LARGEST_BYTES:
                return payloads, checksums, b"", stop + 4 - end
            break
        payloads.append(buffer[begin:stop])
        checksums.append(buffer[stop : stop + 4])
        at = stop + 4
    return payloads, checksums, buffer[at:], 0


def verified(payloads: list[bytes], checksums: list[bytes], log: Log, name: str) -> list[bytes]:
    """The payloads whose checksums are right; the others are noted in `log` under `name`."""
    by_length: dict[int, list[int]] = {}
    for index, payload in enumerate(payloads):
        by_length.setdefault(len(payload), []).append(index)
    stored = struct.unpack(f"<{len(checksums)}I", b"".join(checksums))
    bad: set[int] = set()
    for length, indices in by_length.items():
        if length > _LONGEST_CHECKED_BYTES:
            continue
        computed = crc32c_of_each([payloads[index] for index in indices], length)
        for index, crc in zip(indices, computed, strict=True):
            # `masked`, written out: a call for each of a million records costs 0.1 s.
            rotated = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
            if rotated != stored[index]:
                bad.add(index)
    if not bad:
        return payloads
    log.tear(f"{name}: a corrupted record is left out", count=len(bad))
    return [payload for index, payload in enumerate(payloads) if index not in bad]


def _skipped(stream: BinaryIO, size_bytes: int, log: Log, name: str) -> bool:
    while size_bytes > 0:
        passed = len(read_some(stream, min(size_bytes, _CHUNK_BYTES), log, name))
        if not passed:
            return False
        size_bytes -= passed
    return True
