"""Checkpoints that others wrote: torch files, Lightning, Stable-Baselines3, Hugging Face."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from watchstep.checkpoint.durable import hash_stream
from watchstep.checkpoint.record import Checkpoint
from watchstep.checkpoint.untrusted import check_finite, load_safely, most_unpacked, refused
from watchstep.errors import CheckpointError

_SAFETENSORS = ".safetensors"
_SUFFIXES = {".pt", ".pth", ".ckpt", ".bin", ".zip", _SAFETENSORS}


def verify_foreign(path: Path) -> Checkpoint:
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
            return _check_torch(path, name, path.stat().st_size)
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


def _check_zip(archive: zipfile.ZipFile, path: Path) -> int:
    """A Stable-Baselines3 model: its weights are torch files inside, all else is left alone.

    The member `data` holds pickled Python objects, which are not opened. The file of a policy
    without such variables holds an empty mapping.
    """
    torn = archive.testzip()
    if torn is not None:
        raise CheckpointError(f"{path}: {torn} fails its checksum")
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
