"""Verifying checkpoints without executing anything in them.

The keeper's, and those of others: torch files, Lightning, Stable-Baselines3, Hugging Face.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

from watchstep.checkpoint.folder import PINNED, Folder, manifests
from watchstep.checkpoint.reading import (
    check_finite,
    load_safely,
    most_unpacked,
    part_of,
    read_kept,
    refused_by_name,
)
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

_TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")


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
    return _verify_foreign(place)


def is_kept(directory: Path) -> bool:
    """Whether a directory is one of the keeper's."""
    return bool(manifests(directory) or manifests(directory / PINNED))


def _verify_folder(directory: Path) -> Checkpoint:
    if not is_kept(directory):
        return _verify_foreign(directory)
    folder = Folder(directory)
    for broken in folder.broken():
        read_kept(broken)
    everything = folder.checkpoints()
    if not everything:
        raise CheckpointError(f"{directory}: no checkpoint in it has an intact manifest")
    for checkpoint in everything:
        read_kept(checkpoint.path)
    return next((c for c in everything if c.pinned), everything[0])


def _verify_foreign(path: Path) -> Checkpoint:
    """A file or folder without the keeper's manifest, found readable, complete and finite.

    Raises:
        CheckpointError: Naming what is wrong.
    """
    if path.is_dir():
        return _verify_files(path)
    tensors = _check_file(path)
    part = part_of(path)
    return dataclasses.replace(
        Checkpoint(path),
        size_bytes=part.size_bytes,
        sha256=part.sha256,
        created=path.stat().st_mtime,
        tensors=tensors,
    )


def _check_file(path: Path) -> int:
    """The number of tensors in a file, all of them finite."""
    if path.suffix == ".safetensors":
        from watchstep.checkpoint.safetensors import check_safetensors

        return check_safetensors(path)
    _refuse_bombs(path)
    if zipfile.is_zipfile(path) and not _is_torch_archive(path):
        return _check_zip(path)
    return _check_torch(path, str(path))


def _is_torch_archive(path: Path) -> bool:
    """Whether a zip is what `torch.save` writes: one folder with a `data.pkl`."""
    with zipfile.ZipFile(path) as archive:
        return any(
            name.count("/") == 1 and name.endswith("/data.pkl") for name in archive.namelist()
        )


def _check_torch(source: Path | io.BytesIO, name: str) -> int:
    content = load_safely(source, name)
    tensors = check_finite(content, name, most_bytes=most_unpacked(_size(source)))
    if not tensors:
        raise CheckpointError(f"{name}: holds no tensor")
    return tensors


def _check_zip(path: Path) -> int:
    """A Stable-Baselines3 model: its weights are torch files inside, all else is left alone.

    The member `data` holds pickled Python objects, which are not opened.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            torn = archive.testzip()
            if torn is not None:
                raise CheckpointError(f"{path}: {torn} fails its checksum")
            weights = [name for name in archive.namelist() if name.endswith((".pth", ".pt"))]
            if not weights:
                raise CheckpointError(f"{path}: a zip without weights (*.pth)")
            return sum(_check_member(archive, name, f"{path}:{name}") for name in weights)
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{path}: {error}") from error


def _check_member(archive: zipfile.ZipFile, name: str, full_name: str) -> int:
    member = io.BytesIO(archive.read(name))
    content = load_safely(member, full_name)
    # Stable-Baselines3 writes an empty mapping where a policy has no such variables.
    return check_finite(content, full_name, most_bytes=most_unpacked(_size(member)))


def _refuse_bombs(path: Path) -> None:
    """Refuse a zip whose members claim more bytes than a file of its size is opened for."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{path}: {error}") from error
    most = most_unpacked(path.stat().st_size)
    if claimed > most:
        raise CheckpointError(
            f"{path}: claims {claimed:,} bytes unpacked, which are more than the {most:,} that a"
            " file of its size is opened for"
        )


def _size(source: Path | io.BytesIO) -> int:
    return source.stat().st_size if isinstance(source, Path) else len(source.getbuffer())


def _verify_files(folder: Path) -> Checkpoint:
    """A folder of Hugging Face files, or of single checkpoints: every one is checked."""
    shards = {name for index in folder.glob("*.index.json") for name in _shards(index)}
    for name in sorted(shards):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: {name} is missing, which the index names")
    files = [path for path in sorted(folder.iterdir()) if _holds_tensors(path)]
    if not files:
        raise CheckpointError(f"{folder}: no checkpoint in it")
    tensors = 0
    for path in files:
        # Scheduler and random states need not hold a tensor.
        tensors += _check_file(path) if path.name in shards else _check_any(path)
    if not tensors:
        raise CheckpointError(f"{folder}: holds no tensor")
    size_bytes = sum(path.stat().st_size for path in files)
    created = max(path.stat().st_mtime for path in files)
    return dataclasses.replace(
        Checkpoint(folder), size_bytes=size_bytes, created=created, tensors=tensors
    )


def _check_any(path: Path) -> int:
    if path.suffix == ".safetensors" or (zipfile.is_zipfile(path) and not _is_torch_archive(path)):
        return _check_file(path)
    _refuse_bombs(path)
    content = load_safely(path, str(path))
    return check_finite(content, str(path), most_bytes=most_unpacked(_size(path)))


def _holds_tensors(path: Path) -> bool:
    if path.name == "training_args.bin" or path.name.startswith("rng_state"):
        # Pickled settings and generators of the Trainer: no numbers of the model.
        return False
    return path.is_file() and path.suffix in {*_TORCH_SUFFIXES, ".safetensors", ".zip"}


def _shards(index: Path) -> set[str]:
    try:
        mapping: Any = json.loads(index.read_bytes())["weight_map"]
        names = {str(name) for name in mapping.values()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{index}: no index of shards") from error
    if any("/" in name or "\\" in name for name in names):
        raise CheckpointError(f"{index}: names a file outside its folder")
    return names
