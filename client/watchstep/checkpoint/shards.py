"""State that is sharded over the processes of a training (DTensors), as one checkpoint.

A folder that `torch.distributed.checkpoint` writes: each process its shards. Everything that is
no tensor, such as an optimizer's parameter groups, is the process's `rest`: bytes of a
`torch.save` that `weights_only=True` reads, stored as a tensor too. So the only pickle in it is
torch's `.metadata`, which is read by an unpickler that knows torch's own classes and no others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from watchstep.checkpoint.collective import Ranks, TogetherError
from watchstep.checkpoint.durable import hash_stream, sync_directory, temporary
from watchstep.checkpoint.finite import inspect
from watchstep.checkpoint.folder import Folder
from watchstep.checkpoint.plain import DESCEND, mapped, plain, rng_state, set_rng_state
from watchstep.checkpoint.reading import read_kept, vouched
from watchstep.checkpoint.record import Checkpoint, Finiteness, Part, PassedOver
from watchstep.checkpoint.targets import load_all
from watchstep.checkpoint.untrusted import check_finite, refused
from watchstep.errors import CheckpointError

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


def save_together(
    state: Mapping[str, Any], draft: Checkpoint, folder: Folder, ranks: Ranks
) -> Checkpoint:
    """Keep a sharded state if it is finite in every process; the leading one's draft counts.

    Raises:
        CheckpointError: In all of them, if one failed or died.
    """
    content: dict[str, Any] = {}

    def look() -> Finiteness:
        content.update({name: plain(value, name) for name, value in state.items()})
        return inspect(content, draft.unchecked)

    looks = ranks.agreed(look)
    draft = ranks.led(lambda: draft)
    bad = [f"rank {rank}: {f.bad_tensor}" for rank, f in enumerate(looks) if f.bad_tensor]
    draft = draft.judged(
        Finiteness(
            tensors=max(finiteness.tensors for finiteness in looks),
            bad_tensor=bad[0] if bad else None,
            nonfinite=sum(finiteness.nonfinite for finiteness in looks),
            bad_tensors=max(finiteness.bad_tensors for finiteness in looks),
        )
    )
    if bad:
        return draft
    whole = {"step": draft.step, "update": draft.update, "state": content, "rng": rng_state()}
    with contextlib.ExitStack() as unfinished:
        made = temporary(draft.path.parent, folder=True)
        place = ranks.led(lambda: unfinished.enter_context(made))
        written = ranks.agreed(lambda: write_shards(place, whole, ranks))
        parts = tuple(part for of_rank in written for part in of_rank)
        draft = dataclasses.replace(draft, parts=parts)
        size_bytes = sum(part.size_bytes for part in parts)
        return ranks.led(lambda: folder.publish(draft, place, size_bytes, sealed(parts)))


def restore_together(
    targets: Mapping[str, Any],
    candidates: Sequence[Checkpoint],
    ranks: Ranks,
    passed: list[PassedOver],
    *,
    rng: bool,
) -> Checkpoint | None:
    """Load the first of the candidates that is intact and finite, in every process or in none.

    Args:
        candidates: Best first; the leading process's count.
        ranks: Their number need not be that of the save.
        passed: Gets the candidates before it.
        rng: Whether each puts its global random generators back.

    Raises:
        CheckpointError: In all of them, if it does not fit the targets of one, or one died.
    """
    content: dict[str, Any] = {}
    for candidate in ranks.led(lambda: list(candidates)):
        try:
            ranks.agreed(functools.partial(_check, candidate, ranks))
            ranks.agreed(functools.partial(_read, candidate, targets, ranks, content))
        except TogetherError as error:
            passed.append((candidate, str(error), error.damaged))
            continue
        _load_everywhere(targets, content["state"], ranks)
        if rng:
            set_rng_state(content["rng"])
        return candidate
    return None


def _check(candidate: Checkpoint, ranks: Ranks) -> None:
    """Each process checks its share of the files; one that was saved whole is read by all."""
    manifest = vouched(candidate.path)
    check_parts(manifest, manifest.parts[ranks.rank :: ranks.world])


def _read(
    candidate: Checkpoint, targets: Mapping[str, Any], ranks: Ranks, content: dict[str, Any]
) -> None:
    if candidate.parts:
        with refused(candidate.path):
            content.update(read_shards(candidate.path, targets, rank=ranks.rank))
        check_finite(content["state"], str(candidate.path), candidate.unchecked)
        return
    _, whole = read_kept(candidate.path)
    content.update(whole, state=_beside(targets, whole["state"], _shards_of))


def _load_everywhere(targets: Mapping[str, Any], state: Mapping[str, Any], ranks: Ranks) -> None:
    undo: list[Callable[[], None]] = []
    try:
        ranks.agreed(lambda: undo.append(load_all(targets, state)))
    except TogetherError:
        for undo_all in undo:
            undo_all()
        raise


def write_shards(folder: Path, content: Mapping[str, Any], ranks: Ranks) -> list[Part]:
    """Write this process's part of a state into an empty folder; every process calls it at once.

    Tensors that are no DTensors are the same in every process, and one of them writes them; what
    is no tensor is kept for each.

    Returns:
        The files that this process wrote, on the disk.
    """
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
        targets: What it is for: DTensors come back as sharded as they are in these. None for
            everything, whole.
        rank: Whose `rest` it takes; where there was no such process, the first one's.

    Raises:
        CheckpointError: The folder is not as `write_shards` makes it.
    """
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
