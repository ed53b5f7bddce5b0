"""Reading safetensors files: a length, a JSON header, and raw numbers."""

from __future__ import annotations

import json
import math
import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watchstep.checkpoint.finite import inspect
from watchstep.checkpoint.reading import refuse_nonfinite
from watchstep.errors import CheckpointError

if TYPE_CHECKING:
    import torch

_HEADER_MAX_BYTES = 100_000_000
"""The format's own limit on its header."""

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def check_safetensors(path: Path) -> int:
    """The number of tensors in a file, each complete and finite.

    Raises:
        CheckpointError: If the header is wrong, tensors overlap, leave gaps or are cut off,
            or one is not finite.
    """
    with path.open("rb") as stream:
        size_bytes = path.stat().st_size
        if size_bytes < 8:
            raise CheckpointError(f"{path}: {size_bytes} bytes are no safetensors file")
        length = int.from_bytes(stream.read(8), "little")
        if length > min(_HEADER_MAX_BYTES, size_bytes - 8):
            raise CheckpointError(f"{path}: a header of {length:,} bytes does not fit in it")
        entries = _entries(stream.read(length), path)
        _check_layout(entries, size_bytes - 8 - length, path)
        if not any(end > begin for _, _, begin, end in entries):
            return len(entries)
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY) as pages:
            _check_numbers(entries, pages, 8 + length, path)
    return len(entries)


_Entry = tuple[str, str, int, int]
"""Name, torch dtype, and the bytes from begin up to end, counted after the header."""


def _entries(header: bytes, path: Path) -> list[_Entry]:
    try:
        described: dict[str, Any] = json.loads(header, object_pairs_hook=_without_duplicates)
        described.pop("__metadata__", None)
        return [_entry(name, fields, path) for name, fields in described.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: the header is no safetensors header") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands there twice")
    return fields


def _entry(name: str, fields: dict[str, Any], path: Path) -> _Entry:
    import torch

    if fields["dtype"] not in _DTYPES:
        raise CheckpointError(f"{path}: {name} has the unknown dtype {fields['dtype']!r}")
    dtype = _DTYPES[fields["dtype"]]
    begin, end = fields["data_offsets"]
    size_bytes = math.prod(fields["shape"]) * getattr(torch, dtype).itemsize
    if not all(type(number) is int and number >= 0 for number in (begin, end, *fields["shape"])):
        raise ValueError("offsets and shapes are counts")
    if end - begin != size_bytes:
        raise CheckpointError(f"{path}: {name} has {end - begin:,} bytes, needs {size_bytes:,}")
    return name, dtype, begin, end


def _check_layout(entries: list[_Entry], size_bytes: int, path: Path) -> None:
    position = 0
    for name, _, begin, end in sorted(entries, key=lambda entry: entry[2:]):
        if begin != position:
            raise CheckpointError(f"{path}: {name} begins at {begin:,}, expected {position:,}")
        position = end
    if position != size_bytes:
        raise CheckpointError(f"{path}: {size_bytes:,} bytes of numbers, expected {position:,}")


def _check_numbers(entries: list[_Entry], pages: mmap.mmap, offset: int, path: Path) -> None:
    # The tensors are views of the mapping, which cannot be closed while one exists.
    tensors = {
        name: _view(pages, offset + begin, end - begin, dtype)
        for name, dtype, begin, end in entries
        if end > begin
    }
    finiteness = inspect(tensors)
    tensors.clear()
    refuse_nonfinite(finiteness, str(path))


def _view(pages: mmap.mmap, offset: int, size_bytes: int, dtype: str) -> torch.Tensor:
    import torch

    raw = torch.frombuffer(pages, dtype=torch.uint8, offset=offset, count=size_bytes)
    kind = getattr(torch, dtype)
    # A header of odd length leaves numbers unaligned, which a view cannot be.
    return (raw if offset % kind.itemsize == 0 else raw.clone()).view(kind)
