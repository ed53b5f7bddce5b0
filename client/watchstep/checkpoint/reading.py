"""Reading and verifying checkpoints, the keeper's or others', so that nothing wrong passes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from watchstep.checkpoint.arrays import inspect_arrays, read_arrays
from watchstep.checkpoint.durable import hash_stream
from watchstep.checkpoint.folder import ENDINGS, Folder, is_kept
from watchstep.checkpoint.foreign import verify_foreign
from watchstep.checkpoint.record import (
    ARRAYS_SUFFIX,
    MANIFEST_SUFFIX,
    Checkpoint,
    manifest_path,
    read_manifest,
)
from watchstep.checkpoint.untrusted import (
    check_finite,
    load_safely,
    most_unpacked,
    refuse_nonfinite,
    refused,
)
from watchstep.errors import CheckpointError


def verify(path: str | os.PathLike[str]) -> Checkpoint:
    """A checkpoint that is intact, complete and finite.

    Reads every byte and executes none. Understands the keeper's files and directories, plain
    `torch.save` files, Lightning's `.ckpt`, Stable-Baselines3's `.zip`, `.safetensors`, and
    folders of Hugging Face models and trainers. Of a file that others wrote "intact" means what
    the format itself can tell, since there is no manifest to compare with.

    Args:
        path: A file, or a directory, of which every checkpoint is verified.

    Returns:
        The checkpoint; of a keeper's directory the pin, or without one the newest.

    Raises:
        CheckpointError: Naming the first thing that is wrong.
        ImportError: The library that reads such a file is not installed.
    """
    place = Path(path)
    if not place.exists():
        raise CheckpointError(f"{place}: there is nothing")
    if place.name.endswith(tuple(ending + MANIFEST_SUFFIX for ending in ENDINGS)):
        place = place.with_name(place.name.removesuffix(MANIFEST_SUFFIX))
    try:
        with refused(place):
            if place.name and manifest_path(place).exists():
                return read_kept(place)[0]
            if place.is_dir() and is_kept(place):
                return _verify_folder(place)
            return verify_foreign(place)
    except OSError as error:
        raise CheckpointError(f"{place}: cannot be read: {error.strerror or error}") from error


def read_kept(path: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """A checkpoint of the keeper and all that is in it, found right: length, hash and numbers.

    Raises:
        CheckpointError: Naming what is wrong.
        OSError: If the file cannot be read, which says nothing about its bytes.
    """
    manifest = vouched(path)
    name = str(path)
    if path.name.endswith(ARRAYS_SUFFIX):
        content = _read_file(path, manifest, read_arrays)
        refuse_nonfinite(inspect_arrays(content["state"], manifest.unchecked), name)
        return manifest, content
    if manifest.parts:
        from watchstep.checkpoint.shards import check_parts, read_shards

        check_parts(manifest, manifest.parts)
        content = read_shards(path)
    else:
        content = _read_file(path, manifest, load_safely)
    most = most_unpacked(manifest.size_bytes)
    check_finite(content.get("state"), name, manifest.unchecked, most_bytes=most)
    return manifest, content


def vouched(path: Path) -> Checkpoint:
    """The manifest of a checkpoint of the keeper, which must have one; the file is not read."""
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


def _verify_folder(directory: Path) -> Checkpoint:
    folder = Folder(directory)
    for broken in folder.broken():
        read_kept(broken)
    everything = folder.checkpoints()
    if not everything:
        raise CheckpointError(f"{directory}: no checkpoint in it has an intact manifest")
    for checkpoint in everything:
        read_kept(checkpoint.path)
    return next((c for c in everything if c.pinned), everything[0])
