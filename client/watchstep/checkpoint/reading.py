"""Reading and verifying checkpoints, the keeper's or others', so that nothing wrong passes."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from watchstep.checkpoint.arrays import inspect_arrays, read_arrays
from watchstep.checkpoint.durable import hash_stream
from watchstep.checkpoint.folder import ENDINGS, Folder, is_kept
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

_SAFETENSORS = ".safetensors"
_SUFFIXES = {".pt", ".pth", ".ckpt", ".bin", ".zip", _SAFETENSORS}


def verify(path: str | os.PathLike[str]) -> Checkpoint:
    """A checkpoint that is intact, complete and finite.

    Reads every byte and executes none. Understands the keeper's files and directories, plain
    `torch.save` files, Lightning's `.ckpt`, Stable-Baselines3's `.zip`, `.safetensors`, and
    folders of Hugging Face models and trainers. Of a file that others wrote "intact" means what
    the format itself can tell, since there is no manifest to compare with: the checksums of a
    zip, which is what torch writes; safetensors has none.

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
            return _verify_foreign(place)
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


def _verify_foreign(path: Path) -> Checkpoint:
    """A file or folder without the keeper's manifest, found readable, complete and finite."""
    shards = _indexed(path) if path.is_dir() else {path.name}
    files = sorted(filter(_holds_tensors, path.iterdir())) if path.is_dir() else [path]
    if not files:
        raise CheckpointError(f"{path}: no checkpoint in it")
    counts = {file: _check_file(file) for file in files}
    empty = [file for file, tensors in counts.items() if not tensors and file.name in shards]
    if empty or not any(counts.values()):
        # Scheduler and random states need not hold a tensor, weights do.
        raise CheckpointError(f"{[*empty, path][0]}: holds no tensor")
    size_bytes, sha256 = sum(file.stat().st_size for file in files), ""
    if not path.is_dir():
        with path.open("rb") as stream:
            size_bytes, sha256 = hash_stream(stream)
    created = max(file.stat().st_mtime for file in files)
    tensors = sum(counts.values())
    return Checkpoint(path, size_bytes=size_bytes, sha256=sha256, created=created, tensors=tensors)


def _check_file(path: Path) -> int:
    """The number of tensors in a file, all of them finite."""
    name = str(path)
    if path.suffix == _SAFETENSORS:
        with refused(name):
            return check_finite(dict(_safetensors(path)), name)
    if not zipfile.is_zipfile(path):
        return _check_torch(path, name, path.stat().st_size)
    with refused(name), zipfile.ZipFile(path) as archive:
        _refuse_bomb(archive, path)
        # What `torch.save` writes is one folder with a `data.pkl`.
        names = archive.namelist()
        if any(name.count("/") == 1 and name.endswith("/data.pkl") for name in names):
            _check_sums(archive, path)
            return _check_torch(path, name, path.stat().st_size)
        _check_sums(archive, path)
        return _check_zip(archive, path)


def _safetensors(path: Path) -> Iterator[tuple[str, Any]]:
    """Tensors that are views of the file; the library refuses a header that does not fit it."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - it is no mapping
            yield name, tensors.get_tensor(name)


def _check_torch(source: Path | io.BytesIO, name: str, size_bytes: int) -> int:
    content = load_safely(source, name)
    return check_finite(content, name, most_bytes=most_unpacked(size_bytes))


def _check_sums(archive: zipfile.ZipFile, path: Path) -> None:
    """Compare every member with the CRC that the zip holds of it; torch itself never does.

    One more pass over the file: about 1 s per GB.
    """
    torn = archive.testzip()
    if torn is not None:
        raise CheckpointError(
            f"{path}: {torn} fails its checksum; its bytes are not those that were written, or"
            " torch was told to write no checksums (set_crc32_options)"
        )


def _check_zip(archive: zipfile.ZipFile, path: Path) -> int:
    """A Stable-Baselines3 model: its weights are torch files inside, all else is left alone.

    The member `data` holds pickled Python objects, which are not opened. The file of a policy
    without such variables holds an empty mapping.
    """
    weights = [name for name in archive.namelist() if name.endswith((".pth", ".pt"))]
    if not weights:
        raise CheckpointError(f"{path}: a zip without weights (*.pth)")
    tensors = 0
    for name in weights:
        member = archive.read(name)
        tensors += _check_torch(io.BytesIO(member), f"{path}:{name}", len(member))
    return tensors


def _refuse_bomb(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse a zip whose members claim more bytes than a file of its size is opened for."""
    claimed = sum(member.file_size for member in archive.infolist())
    most = most_unpacked(path.stat().st_size)
    if claimed > most:
        raise CheckpointError(
            f"{path}: claims {claimed:,} bytes unpacked, which are more than the {most:,} that a"
            " file of its size is opened for"
        )


def _holds_tensors(path: Path) -> bool:
    if path.name == "training_args.bin" or path.name.startswith("rng_state"):
        # Pickled settings and generators of the Trainer: no numbers of the model.
        return False
    return path.is_file() and path.suffix in _SUFFIXES


def _indexed(folder: Path) -> set[str]:
    """The files that a sharded model is made of, all of them there."""
    shards: set[str] = set()
    for index in folder.glob("*.index.json"):
        with refused(index):
            shards.update(map(str, json.loads(index.read_bytes())["weight_map"].values()))
        if any("/" in name or "\\" in name for name in shards):
            raise CheckpointError(f"{index}: names a file outside its folder")
    for name in sorted(shards):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: {name} is missing, which the index names")
    return shards
