"""Reading a checkpoint so that nothing in it is executed and nothing wrong is overlooked."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from watchstep.checkpoint.arrays import inspect_arrays, read_arrays
from watchstep.checkpoint.durable import hash_stream
from watchstep.checkpoint.record import (
    ARRAYS_SUFFIX,
    Checkpoint,
    Finiteness,
    Part,
    read_manifest,
)
from watchstep.errors import CheckpointError


def read_kept(path: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """A checkpoint of the keeper and all that is in it, found right: length, hash and numbers.

    Raises:
        CheckpointError: Naming what is wrong.
        OSError: If the file cannot be read, which says nothing about its bytes.
    """
    manifest = vouched(path)
    if path.name.endswith(ARRAYS_SUFFIX):
        content = _read_file(path, manifest, read_arrays)
        finiteness = inspect_arrays(content["state"], manifest.unchecked)
        refuse_nonfinite(finiteness, str(path))
        return manifest, content
    if manifest.parts:
        from watchstep.checkpoint.shards import read_shards

        check_parts(manifest, manifest.parts)
        content = read_shards(path)
    else:
        content = _read_file(path, manifest, load_safely)
    most = most_unpacked(manifest.size_bytes)
    check_finite(content.get("state"), str(path), manifest.unchecked, most_bytes=most)
    return manifest, content


def vouched(path: Path) -> Checkpoint:
    """The manifest of a checkpoint of the keeper; the file itself is not read.

    Raises:
        CheckpointError: There is none, or it was altered.
    """
    try:
        return read_manifest(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: has no manifest, so its save never ended") from error


def _read_file(
    path: Path, manifest: Checkpoint, load: Callable[[IO[bytes], str], Any]
) -> dict[str, Any]:
    with path.open("rb") as stream:
        size_bytes, digest = hash_stream(stream)
        if size_bytes != manifest.size_bytes:
            raise CheckpointError(
                f"{path}: {size_bytes:,} bytes, but {manifest.size_bytes:,} were saved"
            )
        if digest != manifest.sha256:
            raise CheckpointError(f"{path}: sha256 {digest[:12]}…, saved {manifest.sha256[:12]}…")
        stream.seek(0)
        content: dict[str, Any] = load(stream, str(path))
    return content


def load_safely(source: IO[bytes] | Path, name: str) -> Any:
    """What `torch.save` wrote, on the CPU; refuses whatever would have to be executed.

    Raises:
        CheckpointError: If it is torn, no such file, or holds other objects than tensors
            and plain values.
    """
    import torch

    try:
        return torch.load(source, weights_only=True, map_location="cpu")
    except OSError:
        raise
    except Exception as error:  # torch.load raises whatever its parsers stumble over
        first_line = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise CheckpointError(f"{name}: cannot be read safely: {first_line[0][:200]}") from error


UNPACKED_TIMES = 16
UNPACKED_BYTES = 64 << 20
"""What a file is opened for: 16 times its size, and 64 MiB that a small one may have besides.
Weights compress by a few percent, zeros a thousandfold."""


def most_unpacked(size_bytes: int) -> int:
    """How many bytes a file of this size may unpack to."""
    return UNPACKED_TIMES * size_bytes + UNPACKED_BYTES


@contextlib.contextmanager
def refused_by_name(path: Path) -> Iterator[None]:
    """Whatever a stranger's bytes make a parser stumble over is a `CheckpointError`."""
    try:
        yield
    except (CheckpointError, OSError):
        raise
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [""])[0][:200]
        kind = type(error).__name__
        raise CheckpointError(f"{path}: cannot be checked: {kind}: {first_line}") from error


def check_finite(
    state: Any, name: str, unchecked: Sequence[str] = (), *, most_bytes: int | None = None
) -> int:
    """The number of tensors in a state, all of them finite.

    Raises:
        CheckpointError: Naming the first that is not, or the state claims more than `most_bytes`.
    """
    from watchstep.checkpoint.finite import inspect

    try:
        finiteness = inspect(state, unchecked, most_bytes=most_bytes)
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error
    refuse_nonfinite(finiteness, name)
    return finiteness.tensors


def refuse_nonfinite(finiteness: Finiteness, name: str) -> None:
    """Return where all is finite.

    Raises:
        CheckpointError: Naming the first tensor that is not.
    """
    if finiteness.bad_tensor is not None:
        raise CheckpointError(
            f"{name}: {finiteness.bad_tensor} is not finite"
            f" ({finiteness.nonfinite:,} elements in all)"
        )


def part_of(path: Path) -> Part:
    """What a manifest says of one file of a folder."""
    with path.open("rb") as stream:
        size_bytes, sha256 = hash_stream(stream)
    return Part(path.name, size_bytes, sha256)


def sealed(parts: Sequence[Part]) -> str:
    """One hash for a folder: SHA-256 over its files' hashes, as `sha256sum` lists them."""
    listing = "".join(f"{part.sha256}  {part.name}\n" for part in sorted(parts))
    return hashlib.sha256(listing.encode()).hexdigest()


def check_parts(checkpoint: Checkpoint, parts: Sequence[Part]) -> None:
    """Compare files of a folder with what its manifest says of them.

    Raises:
        CheckpointError: Naming the first that differs or is not there.
        OSError: One cannot be read, which says nothing about its bytes.
    """
    for part in parts:
        path = checkpoint.path / part.name
        try:
            part_now = part_of(path)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: is missing") from error
        if part_now != part:
            wrong = f"{part_now.size_bytes:,} bytes, sha256 {part_now.sha256[:12]}…"
            raise CheckpointError(
                f"{path}: {wrong}, saved {part.size_bytes:,}, {part.sha256[:12]}…"
            )
