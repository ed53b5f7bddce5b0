"""Trainer state as plain values that torch reads back without executing anything."""

from __future__ import annotations

import collections
import contextlib
import random
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from watchstep.checkpoint.durable import HashedFile
from watchstep.errors import CheckpointError

NDARRAY = "watchstep.ndarray"
DESCEND: Any = object()
"""What a visitor of `mapped` returns for a container whose entries it wants to see."""
_checksums = threading.Lock()
_ATOMS = (bool, int, float, complex, str, bytes, type(None))


def mapped(value: Any, visit: Callable[[Any, str], Any], name: str = "") -> Any:
    """Nested state with `visit(entry, dotted name)` in place of each entry, from the outside in.

    Mappings become dicts or Counters, sequences lists or tuples. Where `visit` returns `DESCEND`,
    a container is rebuilt of its visited entries, and anything else stays.

    Raises:
        CheckpointError: Naming a key that could only be stored by pickling its class.
    """
    replacement = visit(value, name)
    if replacement is not DESCEND:
        return replacement
    prefix = f"{name}." if name else ""
    if isinstance(value, Mapping):
        entries = {}
        for key, entry in value.items():
            if type(key) not in _ATOMS and type(key) is not tuple:
                raise CheckpointError(f"{name}: a key of type {type(key).__name__} cannot be kept")
            entries[key] = mapped(entry, visit, f"{prefix}{key}")
        # MultiStepLR relies on its Counter being one.
        return collections.Counter(entries) if isinstance(value, collections.Counter) else entries
    if not isinstance(value, (list, tuple)) or isinstance(value, torch.Size):
        return value
    members = [mapped(member, visit, f"{prefix}{index}") for index, member in enumerate(value)]
    return members if isinstance(value, list) else tuple(members)


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
    return mapped(value, _plain_entry, name)


def _plain_entry(value: Any, name: str) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach()
    if type(value) in _ATOMS or isinstance(value, (torch.dtype, torch.device, torch.Size)):
        return value
    if hasattr(value, "state_dict"):
        return plain(value.state_dict(), name)
    if isinstance(value, (Mapping, list, tuple)):
        return DESCEND
    return _plain_other(value, name)


def _plain_other(value: Any, name: str) -> Any:
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, random.Random):
        return value.getstate()
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


def unplain(value: Any) -> Any:
    """The reverse of `plain` for numpy arrays; everything else stays."""

    def array(entry: Any, _: str) -> Any:
        is_array = isinstance(entry, dict) and set(entry) == {NDARRAY}
        return entry[NDARRAY].numpy() if is_array else DESCEND

    return mapped(value, array)


def rng_state() -> dict[str, Any]:
    """The state of Python's, numpy's and torch's global random generators; none advances."""
    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        state["numpy"] = plain(numpy.random.get_state(legacy=False), "rng.numpy")
    # Asking about devices would begin to use CUDA in a process that does not.
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


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


def save_into(file: HashedFile, whole: Mapping[str, Any]) -> None:
    """`torch.save` without its own CRC-32s, a third of its time: SHA-256 covers all of it.

    Whether they are computed is a global option, which torch reads before the first byte: it
    is back to what it was by then.
    """
    with contextlib.ExitStack() as without_checksums:
        without_checksums.enter_context(_checksums)
        before = torch.serialization.get_crc32_options()
        without_checksums.callback(torch.serialization.set_crc32_options, before)
        torch.serialization.set_crc32_options(False)
        file.before_write = without_checksums.close
        try:
            torch.save(dict(whole), file)  # type: ignore[arg-type]  # a file needs no more methods
        except RuntimeError as error:
            # torch wraps a failed write of its own making around the reason.
            causes = (cause for cause in _causes(error) if isinstance(cause, OSError))
            raise next(causes, error) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
