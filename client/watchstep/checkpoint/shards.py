"""State that is sharded over the processes of a training (DTensors), as one checkpoint.

A folder that `torch.distributed.checkpoint` writes: each process its shards. Everything that is
no tensor, such as an optimizer's parameter groups, is the process's `rest`: bytes of a
`torch.save` that `weights_only=True` reads, stored as a tensor too. So the only pickle in it is
torch's `.metadata`, which is read by an unpickler that knows torch's own classes and no others.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from watchstep.checkpoint.durable import hash_stream, sync_directory
from watchstep.checkpoint.plain import DESCEND, mapped
from watchstep.checkpoint.record import Checkpoint, Part
from watchstep.checkpoint.untrusted import refused
from watchstep.errors import CheckpointError

if TYPE_CHECKING:
    from watchstep.checkpoint.collective import Ranks

_MARK = "watchstep.tensor"
_REST = "watchstep.rest."
_METADATA = ".metadata"
_METADATA_CLASSES = frozenset(
    {
        ("pathlib", "PosixPath"),
        ("torch", "Size"),
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
        ("torch.distributed.checkpoint.metadata", "BytesStorageMetadata"),
        ("torch.distributed.checkpoint.metadata", "ChunkStorageMetadata"),
        ("torch.distributed.checkpoint.metadata", "Metadata"),
        ("torch.distributed.checkpoint.metadata", "MetadataIndex"),
        ("torch.distributed.checkpoint.metadata", "StorageMeta"),
        ("torch.distributed.checkpoint.metadata", "TensorProperties"),
        ("torch.distributed.checkpoint.metadata", "TensorStorageMetadata"),
        ("torch.distributed.checkpoint.metadata", "_MEM_FORMAT_ENCODING"),
        ("torch.serialization", "_get_layout"),
    }
)


def write_shards(folder: Path, content: Mapping[str, Any], ranks: Ranks) -> list[Part]:
    """Write this process's part of a state into an empty folder; every process calls it at once.

    Tensors that are no DTensors are the same in every process, and one of them writes them; what
    is no tensor is kept for each.

    Returns:
        The files that this process wrote, on the disk.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    tensors: dict[str, Any] = {}

    def mark(value: Any, name: str) -> Any:
        if not isinstance(value, torch.Tensor):
            return DESCEND
        storable = value.numel() and value.layout is torch.strided and not value.is_quantized
        if not storable and not hasattr(value, "placements"):
            return value
        while name in tensors:
            name += "'"
        tensors[name] = value
        return {_MARK: name}

    # Random generators are each process's own, and so are among the rest.
    rest = {**content, "state": mapped(content["state"], mark, "state")}
    packed = io.BytesIO()
    torch.save(rest, packed)
    tensors[f"{_REST}{ranks.rank}"] = torch.frombuffer(packed.getbuffer(), dtype=torch.uint8)
    try:
        save(
            tensors,
            storage_writer=FileSystemWriter(folder, sync_files=True),
            planner=DefaultSavePlanner(flatten_state_dict=False),
            process_group=ranks.group,
        )
    except CheckpointException as error:
        # Not an Exception for torch, but nothing that should end a training.
        failed = "; ".join(f"rank {rank}: {failure[0]}" for rank, failure in error.failures.items())
        raise OSError(f"torch.distributed.checkpoint failed: {failed}") from error
    own = sorted(folder.glob(f"__{ranks.rank}_*"))
    if ranks.leads:
        own.append(folder / _METADATA)
    sync_directory(folder)
    return [_part(path) for path in own]


def sealed(parts: Sequence[Part]) -> str:
    """One hash for a folder: SHA-256 over its files' hashes, as `sha256sum` lists them."""
    listing = "".join(f"{part.sha256}  {part.name}\n" for part in sorted(parts))
    return hashlib.sha256(listing.encode()).hexdigest()


def check_parts(checkpoint: Checkpoint, parts: Sequence[Part]) -> None:
    """Raise a `CheckpointError` for the first file that is not what the manifest says of it."""
    for part in parts:
        path = checkpoint.path / part.name
        if not path.exists():
            raise CheckpointError(f"{path}: is missing")
        _, size_bytes, sha256 = _part(path)
        if (size_bytes, sha256) != part[1:]:
            wrong = f"{size_bytes:,} bytes, sha256 {sha256[:12]}…"
            raise CheckpointError(
                f"{path}: {wrong}, saved {part.size_bytes:,}, {part.sha256[:12]}…"
            )


def read_shards(
    folder: Path, targets: Mapping[str, Any] | None = None, *, rank: int = 0
) -> dict[str, Any]:
    """What `write_shards` was given, or this process's part of it.

    Every process reads for itself, and the number of processes need not be that of the save.

    Args:
        folder: Found intact by `check_parts`.
        targets: What it is for: DTensors come back as sharded as they are in these. None for
            everything, whole.
        rank: Whose `rest` it takes; where there was no such process, the first one's.

    Raises:
        CheckpointError: The folder is not as `write_shards` makes it.
    """
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    reader = FileSystemReader(folder)
    metadata = _metadata(folder)
    stored = metadata.state_dict_metadata
    name = f"{_REST}{rank}" if f"{_REST}{rank}" in stored else f"{_REST}0"
    packed = _fetched(reader, metadata, {name: torch.empty(stored[name].size, dtype=torch.uint8)})
    rest = torch.load(io.BytesIO(packed[name].numpy().tobytes()), weights_only=True)
    state, live = rest["state"], {}
    if targets is not None:
        state = {name: state[name] for name in targets if name in state}
        _beside(
            targets, state, lambda entry, tensor: live.update(dict.fromkeys(_marked(entry), tensor))
        )
    room = {key: _room_for(stored[key], live.get(key)) for key in _marked(state)}
    tensors = _fetched(reader, metadata, room)
    state = mapped(state, lambda entry, _: tensors[entry[_MARK]] if _is_mark(entry) else DESCEND)
    return {**rest, "state": state}


def sharded_like(targets: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """Of a state that every process has whole, what is for its targets, sharded as they are."""
    return _beside(targets, state, _shards_of)


def _shards_of(value: Any, live: Any) -> Any:
    """A whole tensor as a DTensor where one of its shape is live; all else as it is."""
    if not isinstance(value, torch.Tensor) or not hasattr(live, "placements"):
        return value
    if value.shape != live.shape:
        return value
    # Not imported above: it takes a second, and whoever has a DTensor has it.
    from torch.distributed.tensor import distribute_tensor

    here = value.to(live.device)
    return distribute_tensor(here, live.device_mesh, live.placements, src_data_rank=None)


def _beside(
    targets: Mapping[str, Any], state: Mapping[str, Any], visit: Callable[[Any, torch.Tensor], Any]
) -> dict[str, Any]:
    """A state for targets, with `visit(entry, live tensor)` for each entry that a tensor is for.

    An optimizer's moments are for its parameters: it may not have any of its own yet.
    """
    visited = {name: state[name] for name in targets if name in state}
    for name, saved in visited.items():
        target = targets[name]
        if isinstance(target, torch.optim.Optimizer):
            if not isinstance(saved, Mapping) or not isinstance(saved.get("state"), Mapping):
                continue
            parameters = [p for group in target.param_groups for p in group["params"]]
            moments = {
                index: {
                    key: visit(entry, parameter) for key, entry in saved["state"][index].items()
                }
                for index, parameter in enumerate(parameters)
                if index in saved["state"]
            }
            visited[name] = {**saved, "state": {**saved["state"], **moments}}
        elif hasattr(target, "state_dict"):
            visited[name] = _visited(saved, target.state_dict(), visit)
    return visited


def _visited(saved: Any, live: Any, visit: Callable[[Any, torch.Tensor], Any]) -> Any:
    if isinstance(live, torch.Tensor):
        return visit(saved, live)
    if isinstance(saved, Mapping) and isinstance(live, Mapping):
        return {key: _visited(entry, live.get(key), visit) for key, entry in saved.items()}
    return saved


def _part(path: Path) -> Part:
    with path.open("rb") as stream:
        size_bytes, sha256 = hash_stream(stream)
    return Part(path.name, size_bytes, sha256)


def _fetched(reader: Any, metadata: Any, room: dict[str, Any]) -> dict[str, Any]:
    """Fill tensors from the files: `dcp.load` without its collectives and its warning."""
    from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner

    planner = DefaultLoadPlanner(flatten_state_dict=False)
    planner.set_up_planner(room, metadata, is_coordinator=True)
    reader.set_up_storage_reader(metadata, is_coordinator=True)
    plan = reader.prepare_local_plan(planner.create_local_plan())
    plan = reader.prepare_global_plan(planner.create_global_plan([plan]))[0]
    reader.read_data(planner.finish_plan(plan), planner).wait()
    return room


def _room_for(stored: Any, live: torch.Tensor | None) -> torch.Tensor:
    dtype = stored.properties.dtype
    if live is not None and hasattr(live, "placements") and live.shape == stored.size:
        return torch.empty_like(live, dtype=dtype, requires_grad=False)
    return torch.empty(stored.size, dtype=dtype)


def _marked(rest: Any) -> list[str]:
    """The names of the tensors that belong into a rest."""
    names: list[str] = []
    mapped(rest, lambda entry, _: names.append(entry[_MARK]) if _is_mark(entry) else DESCEND)
    return names


def _is_mark(rest: Any) -> bool:
    return isinstance(rest, dict) and set(rest) == {_MARK}


class _MetadataUnpickler(pickle.Unpickler):
    """Knows the classes that torch writes into `.metadata`, and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if is_dtype or (module, name) in _METADATA_CLASSES:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in metadata")


def _metadata(folder: Path) -> Any:
    path = folder / _METADATA
    with path.open("rb") as stream, refused(path):
        return _MetadataUnpickler(stream).load()
