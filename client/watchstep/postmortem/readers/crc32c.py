"""CRC-32C without a C extension, fast over many records of one length.

A CRC is linear over GF(2): the checksum of a message is a constant of its length, XORed with
one table entry for each byte, the table depending only on the byte's distance from the end.
Records of one length therefore can be checked column by column, with `bytes.translate` as the
table lookup and big integers as the XOR: about 1 us for a record of 60 bytes, where a byte by
byte loop takes 5.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence

_POLYNOMIAL = 0x82F63B78
"""Castagnoli's polynomial, bit-reversed (RFC 3720, appendix B.4)."""

_MASK_DELTA = 0xA282EAD8
"""What TFRecord adds to a rotated checksum, so that a CRC of CRCs stays useful."""


def crc32c(data: bytes) -> int:
    """The CRC-32C of `data`, for short inputs: about 0.1 us a byte."""
    crc = 0xFFFFFFFF
    table = _byte_table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """The form of a checksum that TFRecord files store."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def crc32c_of_each(records: Sequence[bytes], length: int) -> list[int]:
    """The CRC-32C of every record; all must be `length` bytes long."""
    count = len(records)
    if count < 8 or length == 0 or length > _LONGEST_COLUMNAR:
        return [crc32c(record) for record in records]
    joined = b"".join(records)
    tables = _planes(1 << (length - 1).bit_length())
    planes = [0, 0, 0, 0]
    for position in range(length):
        column = joined[position::length]
        at_distance = tables[length - 1 - position]
        for plane in range(4):
            planes[plane] ^= int.from_bytes(column.translate(at_distance[plane]), "little")
    constant = crc32c(bytes(length))
    interleaved = bytearray(4 * count)
    for plane in range(4):
        interleaved[plane::4] = planes[plane].to_bytes(count, "little")
    return [constant ^ linear for linear in struct.unpack(f"<{count}I", interleaved)]


_LONGEST_COLUMNAR = 512
"""Longer records are no scalars, and their tables would cost more than they save."""


@functools.cache
def _byte_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


@functools.cache
def _planes(size: int) -> tuple[tuple[bytes, bytes, bytes, bytes], ...]:
    """For each distance below `size`: what a byte contributes, split into four byte tables.

    That is the effect of the byte itself, shifted through as many zero bytes as follow it.
    """
    table = _byte_table()
    effect: tuple[int, ...] = table
    planes = []
    for _ in range(size):
        packed = struct.pack("<256I", *effect)
        planes.append((packed[0::4], packed[1::4], packed[2::4], packed[3::4]))
        effect = tuple(table[crc & 0xFF] ^ (crc >> 8) for crc in effect)
    return tuple(planes)
