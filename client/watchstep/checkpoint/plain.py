"""Trainer state as plain values that torch reads back without executing anything."""

from __future__ import annotations

import collections
import random
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any

import torch

from watchstep.errors import CheckpointError

NDARRAY = "watchstep.ndarray"
_ATOMS = (bool, int, float, complex, str, bytes, type(None))


def plain(value: Any, name: str = "") -> Any:
    """`value` in tensors, mappings, sequences and atoms only.

    Tensors are the live ones, detached, not copies. Module parameters become tensors, numpy
    scalars become Python numbers, numpy arrays are marked and come back as arrays, random
    generators become their state.

    Args:
        value: A module, an optimizer, a scheduler, a scaler, a random generator, or plain
            values.
        name: Dotted name for messages.

    Raises:
        CheckpointError: Naming a value that could only be stored by pickling its class.
    """
    if isinstance(value, torch.Tensor):
        return value.detach()
    if type(value) in _ATOMS or isinstance(value, (torch.dtype, torch.device, torch.Size)):
        return value
    if hasattr(value, "state_dict"):
        return plain(value.state_dict(), name)
    if isinstance(value, Mapping):
        return _plain_mapping(value, name)
    if isinstance(value, (list, tuple)):
        members = [plain(member, f"{name}.{i}") for i, member in enumerate(value)]
        return members if isinstance(value, list) else tuple(members)
    return _plain_other(value, name)


def _plain_mapping(value: Mapping[Any, Any], name: str) -> Mapping[Any, Any]:
    entries = {}
    for key, entry in value.items():
        if type(key) not in _ATOMS and type(key) is not tuple:
            raise CheckpointError(f"{name}: a key of type {type(key).__name__} cannot be kept")
        entries[key] = plain(entry, f"{name}.{key}" if name else str(key))
    # MultiStepLR relies on its Counter being one.
    return collections.Counter(entries) if isinstance(value, collections.Counter) else entries


def _plain_other(value: Any, name: str) -> Any:
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, random.Random):
        return value.getstate()
    return _plain_numpy(value, name)


def _plain_numpy(value: Any, name: str) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.generic):
            return plain(value.item(), name)
        if isinstance(value, numpy.ndarray) and value.dtype.kind in "biufc":
            return {NDARRAY: torch.from_numpy(numpy.ascontiguousarray(value).copy())}
        if isinstance(value, numpy.random.Generator):
            return plain(value.bit_generator.state, name)
    for atom in (int, float, complex, str, bytes):
        # Subclasses such as IntEnum members or numpy.float64 keep their value, not their class.
        if isinstance(value, atom):
            return atom(value)  # type: ignore[arg-type]
    raise CheckpointError(f"{name}: {type(value).__name__} has no state_dict() and is not plain")


def mapped(
    value: Any,
    leaf: Callable[[Any, str], Any],
    name: str = "",
    is_leaf: Callable[[Any], bool] = lambda _: False,
) -> Any:
    """A tree of mappings and sequences, with something else in place of each leaf.

    Args:
        value: As `plain` makes it.
        leaf: From a leaf and its dotted name to what takes its place.
        name: Of `value`.
        is_leaf: Which mappings and sequences are leaves too.
    """
    if is_leaf(value):
        return leaf(value, name)
    if isinstance(value, Mapping):
        entries = {key: mapped(e, leaf, f"{name}.{key}", is_leaf) for key, e in value.items()}
        return collections.Counter(entries) if isinstance(value, collections.Counter) else entries
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        members = [mapped(e, leaf, f"{name}.{at}", is_leaf) for at, e in enumerate(value)]
        return members if isinstance(value, list) else tuple(members)
    return leaf(value, name)


def unplain(value: Any) -> Any:
    """The reverse of `plain` for numpy arrays; everything else stays."""

    def is_array(value: Any) -> bool:
        return isinstance(value, dict) and set(value) == {NDARRAY}

    return mapped(
        value, lambda each, _: each[NDARRAY].numpy() if is_array(each) else each, "", is_array
    )


def rng_state() -> dict[str, Any]:
    """The state of Python's, numpy's and torch's global random generators; none advances."""
    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        state["numpy"] = plain(numpy.random.get_state(legacy=False), "rng.numpy")
    if cuda_is_in_use():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def cuda_is_in_use() -> bool:
    """Whether this process has begun to use CUDA; asking does not begin it."""
    return torch.cuda.is_available() and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Put global random generators where they were when `rng_state` was called."""
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy" in state:
        numpy.random.set_state(unplain(state["numpy"]))
    devices: list[torch.Tensor] = state.get("cuda", [])
    if devices and torch.cuda.is_available() and len(devices) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(devices)


def save_whole(stream: IO[bytes], whole: Mapping[str, Any]) -> None:
    """`torch.save`, with what the disk says where it refuses."""
    try:
        torch.save(dict(whole), stream)
    except RuntimeError as error:
        # torch wraps a failed write of its own making around the reason.
        cause = error.__cause__ or error.__context__
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        raise cause or error from error
