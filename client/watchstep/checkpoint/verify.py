"""Verifying a checkpoint, the keeper's or another's, without executing anything in it."""

from __future__ import annotations

import os
from pathlib import Path

from watchstep.checkpoint.folder import PINNED, Folder, manifests
from watchstep.checkpoint.foreign import verify_foreign
from watchstep.checkpoint.reading import read_kept, refused_by_name
from watchstep.checkpoint.record import (
    ARRAYS_SUFFIX,
    MANIFEST_SUFFIX,
    SHARDED_SUFFIX,
    SUFFIX,
    Checkpoint,
    manifest_path,
)
from watchstep.errors import CheckpointError

_MANIFESTS = tuple(suffix + MANIFEST_SUFFIX for suffix in (SUFFIX, SHARDED_SUFFIX, ARRAYS_SUFFIX))


def verify(path: str | os.PathLike[str]) -> Checkpoint:
    """A checkpoint that is intact, complete and finite.

    Reads every byte. Understands the keeper's files and directories, plain `torch.save`
    files, Lightning's `.ckpt`, Stable-Baselines3's `.zip`, `.safetensors`, and folders of
    Hugging Face models and trainers. Of a file that others wrote "intact" means what the
    format itself can tell, since there is no manifest to compare with.

    Args:
        path: A file, or a directory, of which every checkpoint is verified.

    Returns:
        The checkpoint; of a keeper's directory the pin, or without one the newest.

    Raises:
        CheckpointError: Naming the first thing that is wrong.
    """
    place = Path(path)
    if not place.exists():
        raise CheckpointError(f"{place}: there is nothing")
    try:
        with refused_by_name(place):
            return _verified(place)
    except OSError as error:
        raise CheckpointError(f"{place}: cannot be read: {error.strerror or error}") from error


def _verified(place: Path) -> Checkpoint:
    if place.name.endswith(_MANIFESTS):
        place = place.with_name(place.name.removesuffix(MANIFEST_SUFFIX))
    if manifest_path(place).exists():
        manifest, _ = read_kept(place)
        return manifest
    if place.is_dir():
        return _verify_folder(place)
    return verify_foreign(place)


def is_kept(directory: Path) -> bool:
    """Whether a directory is one of the keeper's."""
    return bool(manifests(directory) or manifests(directory / PINNED))


def _verify_folder(directory: Path) -> Checkpoint:
    if not is_kept(directory):
        return verify_foreign(directory)
    folder = Folder(directory)
    for broken in folder.broken():
        read_kept(broken)
    everything = folder.checkpoints()
    if not everything:
        raise CheckpointError(f"{directory}: no checkpoint in it has an intact manifest")
    for checkpoint in everything:
        read_kept(checkpoint.path)
    return next((c for c in everything if c.pinned), everything[0])
