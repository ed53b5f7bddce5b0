"""State that is sharded over the processes of a training (DTensors), as one checkpoint.

A folder that `torch.distributed.checkpoint` writes: each process its shards. Everything that is
no tensor, such as an optimizer's parameter groups, is the process's `rest`: bytes of a
`torch.save` that `weights_only=True` reads, stored as a tensor too. So the only pickle in it is
torch's `.metadata`, which is read by an unpickler that knows torch's own classes and no others.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from watchstep.checkpoint.durable import sync_directory
from watchstep.checkpoint.plain import mapped
from watchstep.checkpoint.reading import part_of
from watchstep.checkpoint.record import Part
from watchstep.errors import CheckpointError

if TYPE_CHECKING:
    from watchstep.checkpoint.ranks import Ranks

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
    """Write this process's part of a state; every process calls it at once.

    Args:
        folder: There already, and empty.
        content: Holds "state" as `plain` made it, and plain values. Tensors in it that are no
            DTensors are the same in every process, and one of them writes them; what is no
            tensor is kept for each.
        ranks: All processes.

    Returns:
        The files that this process wrote, on the disk.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    tensors: dict[str, Any] = {}
    # Random generators are each process's own, and so are among the rest.
    rest = {**content, "state": _taken_apart(content["state"], "state", tensors)}
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
    return [part_of(path) for path in own]


def read_shards(
    folder: Path, targets: Mapping[str, Any] | None = None, *, rank: int = 0
) -> dict[str, Any]:
    """What `write_shards` was given, or this process's part of it.

    Every process reads for itself, and the number of processes need not be that of the save.

    Args:
        folder: Found intact by `check_parts`.
        targets: What it is for: DTensors come back as sharded as they are in these. None for
            everything, whole.
        rank: Whose `rest` is wanted; where there was no such process, the first one's.

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
    state = rest["state"]
    if targets is not None:
        state = {name: state[name] for name in targets if name in state}
    live = {} if targets is None else _live(targets, state)
    room = {key: _room_for(stored[key], live.get(key)) for key in _marked(state)}
    return {**rest, "state": _put_together(state, _fetched(reader, metadata, room))}


def sharded_like(targets: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """A state that was saved whole, sharded as its targets are; nothing is sent for it.

    Args:
        targets: What it is for; what is not among them is left out.
        state: As `plain` made it, the same in every process.
    """
    sharded: dict[str, Any] = {}
    for name, target in targets.items():
        if name not in state:
            continue
        if isinstance(target, torch.optim.Optimizer):
            sharded[name] = _optimizer_like(target, state[name])
        elif hasattr(target, "state_dict"):
            sharded[name] = _shards_of(state[name], target.state_dict())
        else:
            sharded[name] = state[name]
    return sharded


def _optimizer_like(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    indices = (index for group in state["param_groups"] for index in group["params"])
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    moments = dict(state["state"])
    for index, parameter in zip(indices, parameters, strict=False):
        if index in moments:
            moments[index] = {
                key: _shards_of(entry, parameter) for key, entry in moments[index].items()
            }
    return {**state, "state": moments}


def _shards_of(value: Any, live: Any) -> Any:
    """A whole tensor as a DTensor where one of its shape is live; all else as it is."""
    if isinstance(value, torch.Tensor):
        if not hasattr(live, "placements") or value.shape != live.shape:
            return value
        # Not imported above: it takes a second, and whoever has a DTensor has it.
        from torch.distributed.tensor import distribute_tensor

        here = value.to(live.device)
        return distribute_tensor(here, live.device_mesh, live.placements, src_data_rank=None)
    if isinstance(value, Mapping) and isinstance(live, Mapping):
        return {key: _shards_of(entry, live.get(key)) for key, entry in value.items()}
    return value


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


def _live(targets: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensor in the targets that each stored one is for, or is shaped like."""
    live: dict[str, torch.Tensor] = {}
    for name, target in targets.items():
        if hasattr(target, "state_dict"):
            _pair(state.get(name), target.state_dict(), live)
        if isinstance(target, torch.optim.Optimizer):
            parameters = [p for group in target.param_groups for p in group["params"]]
            moments = (state.get(name) or {}).get("state", {})
            for index, parameter in enumerate(parameters):
                for key in _marked(moments.get(index)):
                    live.setdefault(key, parameter)
    return live


def _pair(rest: Any, value: Any, live: dict[str, torch.Tensor]) -> None:
    if isinstance(value, torch.Tensor):
        for key in _marked(rest):
            live[key] = value
    elif isinstance(value, Mapping) and isinstance(rest, Mapping):
        for key in value.keys() & rest.keys():
            _pair(rest[key], value[key], live)


def _room_for(stored: Any, live: torch.Tensor | None) -> torch.Tensor:
    dtype = stored.properties.dtype
    if live is not None and hasattr(live, "placements") and live.shape == stored.size:
        return torch.empty_like(live, dtype=dtype, requires_grad=False)
    return torch.empty(stored.size, dtype=dtype)


def _taken_apart(value: Any, name: str, tensors: dict[str, Any]) -> Any:
    """`value` with a mark in place of each tensor, which goes into `tensors`."""

    def taken(value: Any, name: str) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if not hasattr(value, "placements") and (
            not value.numel() or value.layout is not torch.strided or value.is_quantized
        ):
            return value
        while name in tensors:
            name += "'"
        tensors[name] = value
        return {_MARK: name}

    return mapped(value, taken, name)


def _put_together(rest: Any, tensors: Mapping[str, Any]) -> Any:
    return mapped(
        rest, lambda each, _: tensors[each[_MARK]] if _is_mark(each) else each, "", _is_mark
    )


def _marked(rest: Any) -> list[str]:
    """The names of the tensors that belong into a rest."""
    names: list[str] = []

    def note(value: Any, _: str) -> None:
        if _is_mark(value):
            names.append(value[_MARK])

    mapped(rest, note, "", _is_mark)
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
    try:
        with path.open("rb") as stream:
            return _MetadataUnpickler(stream).load()
    except OSError:
        raise
    except Exception as error:  # unpickling raises whatever its bytes make it stumble over
        raise CheckpointError(f"{path}: cannot be read safely: {error}") from error
