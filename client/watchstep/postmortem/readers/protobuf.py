"""Just enough of the protocol buffer wire format to walk a message without its schema."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def varint(message: bytes, at: int) -> tuple[int, int]:
    """The unsigned number at `at`, and where the next field begins.

    Raises:
        ValueError: The number is cut off, or longer than 64 bits can need.
    """
    number = shift = 0
    while shift < 70:
        if at >= len(message):
            raise ValueError("a number is cut off")
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise ValueError("a number has more than 10 bytes")


def signed(number: int) -> int:
    """A varint's value as the int64 that was written."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >= 1 << 63 else number


def fields(message: bytes) -> Iterator[tuple[int, int, int | bytes, int]]:
    """Each field as `(number, wire type, value, offset of the value)`, in order.

    Varints come as unsigned integers, everything else as its raw bytes.

    Raises:
        ValueError: The message is cut off or no protocol buffer at all.
    """
    at, end = 0, len(message)
    while at < end:
        key, at = varint(message, at)
        number, wire = key >> 3, key & 7
        value: int | bytes
        start = at
        if wire == VARINT:
            value, at = varint(message, at)
        else:
            if wire == BYTES:
                size, at = varint(message, at)
            elif wire in (FIXED64, FIXED32):
                size = 8 if wire == FIXED64 else 4
            else:
                raise ValueError(f"wire type {wire} is not in use")
            start, at = at, at + size
            if at > end:
                raise ValueError("a field is cut off")
            value = message[start:at]
        yield number, wire, value, start
