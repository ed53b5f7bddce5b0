"""State without torch: pytrees of JAX's and numpy's arrays, kept as a `.npz` file.

A zip with one `.npy` member for each array and `index.json`, which says where in the tree each one
belongs. Nothing in it is executed when it is read. Where JAX is loaded it says what a tree is, so
also trees of classes that were registered with it are kept.
"""

from __future__ import annotations

import fnmatch
import json
import math
import sys
import zipfile
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from watchstep.checkpoint.record import Finiteness
from watchstep.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np

FORMAT = "watchstep.arrays/1"
_INDEX = "index.json"
_INDEX_MAX_BYTES = 64 << 20
_HEADER_MAX_BYTES = 10_000
_CHUNK_ELEMENTS = 1 << 20


@dataclass(frozen=True, slots=True)
class KeptArray:
    """One leaf of a tree.

    Attributes:
        values: In host memory.
        key_kind: Of a typed JAX random key, whose bits `values` are; "" for all else.
    """

    values: np.ndarray[Any, Any]
    key_kind: str = ""


Arrays = dict[str, KeptArray]
"""By the place in the tree, as `jax.tree_util.keystr` writes it."""


def is_of_arrays(state: Any) -> bool:
    """Whether a state is kept without torch: torch is not loaded, or JAX's arrays are in it."""
    if "torch" not in sys.modules:
        return True
    jax = sys.modules.get("jax")
    return jax is not None and any(isinstance(leaf, jax.Array) for leaf in _flat(state).values())


def copied_arrays(state: Mapping[str, Any]) -> Arrays:
    """Copies of all arrays and numbers of a state, in host memory; waits for their devices.

    Raises:
        CheckpointError: Naming a leaf that is none, or that other processes hold a part of.
    """
    return {name: _copied(leaf, name) for name, leaf in _flat(state).items()}


def write_arrays(stream: IO[bytes], arrays: Arrays, *, step: int, update: int) -> None:
    """Write a `.npz` file."""
    import numpy as np

    index = [
        {"name": name, "dtype": str(array.values.dtype), "key": array.key_kind}
        for name, array in arrays.items()
    ]
    described = {"format": FORMAT, "step": step, "update": update, "arrays": index}
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_INDEX, json.dumps(described))
        for at, array in enumerate(arrays.values()):
            with archive.open(f"{at}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _as_known(array.values), allow_pickle=False)


def read_arrays(stream: IO[bytes], name: str) -> dict[str, Any]:
    """What `write_arrays` wrote, as `{"step", "update", "state"}`, the last as `Arrays`.

    Raises:
        CheckpointError: It is no such file, or is torn, or claims more than it holds.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            described = _index(archive)
            if described["format"] != FORMAT:
                raise CheckpointError(f"{name}: format {described['format']!r}, not {FORMAT!r}")
            arrays = {
                entry["name"]: KeptArray(_member(archive, at, entry["dtype"]), entry["key"])
                for at, entry in enumerate(described["arrays"])
            }
            return {"step": described["step"], "update": described["update"], "state": arrays}
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{name}: cannot be read safely: {error}") from error


def inspect_arrays(arrays: Arrays, exempt: Sequence[str] = ()) -> Finiteness:
    """Look at every number; see `watchstep.checkpoint.finite.inspect`."""
    bad: dict[str, int] = {}
    for name, array in arrays.items():
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in exempt):
            continue
        count = _nonfinite(array.values)
        if count:
            bad[name] = count
    return Finiteness(len(arrays), next(iter(bad), None), sum(bad.values()))


def refilled(targets: Mapping[str, Any], saved: Arrays) -> None:
    """Put saved arrays into the targets: all of them, or none.

    Arrays of JAX cannot be changed, so each target is replaced in the mapping by a new tree, on
    the devices and with the sharding of the old one.

    Raises:
        CheckpointError: A leaf is missing, or is of another shape or dtype; nothing was changed.
    """
    if not isinstance(targets, MutableMapping):
        raise CheckpointError("arrays are restored into a dict: restore(targets), then targets[…]")
    rebuilt = {name: _rebuilt(target, f"[{name!r}]", saved) for name, target in targets.items()}
    targets.update(rebuilt)


def _flat(tree: Any) -> dict[str, Any]:
    jax = sys.modules.get("jax")
    if jax is not None:
        leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
        return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    flat: dict[str, Any] = {}
    _flatten(tree, "", flat)
    return flat


def _flatten(tree: Any, place: str, flat: dict[str, Any]) -> None:
    if isinstance(tree, Mapping):
        for key, entry in tree.items():
            _flatten(entry, f"{place}[{key!r}]", flat)
    elif isinstance(tree, (list, tuple)):
        fields = getattr(tree, "_fields", None)
        for at, entry in enumerate(tree):
            _flatten(entry, f"{place}.{fields[at]}" if fields else f"{place}[{at}]", flat)
    elif tree is not None:
        flat[place] = tree


def _copied(leaf: Any, name: str) -> KeptArray:
    import numpy as np

    jax = sys.modules.get("jax")
    key_kind = ""
    if jax is not None and isinstance(leaf, jax.Array):
        if not leaf.is_fully_addressable:
            if not leaf.is_fully_replicated:
                raise CheckpointError(f"{name}: other processes hold a part of it")
            leaf = leaf.addressable_data(0)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            key_kind = str(jax.random.key_impl(leaf))
            leaf = jax.random.key_data(leaf)
    elif not isinstance(leaf, (np.ndarray, np.generic, bool, int, float, complex)):
        raise CheckpointError(f"{name}: a {type(leaf).__name__} is no array and no number")
    # A copy: the step that comes next may be given the buffer.
    values = np.array(leaf)
    if values.dtype.kind not in "biufcV" or values.dtype.names:
        raise CheckpointError(f"{name}: dtype {values.dtype} cannot be kept")
    return KeptArray(values, key_kind)


def _as_known(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same bytes in a dtype that the file format knows: bfloat16 and kin are not numpy's."""
    import numpy as np

    if values.dtype.kind != "V":
        return values
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


def _index(archive: zipfile.ZipFile) -> dict[str, Any]:
    if archive.getinfo(_INDEX).file_size > _INDEX_MAX_BYTES:
        raise ValueError(f"an index over {_INDEX_MAX_BYTES:,} bytes")
    described: dict[str, Any] = json.loads(archive.read(_INDEX))
    return described


def _member(archive: zipfile.ZipFile, at: int, dtype: str) -> np.ndarray[Any, Any]:
    import numpy as np

    info = archive.getinfo(f"{at}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename} is compressed")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version != (1, 0):
            raise ValueError(f"{info.filename} is of npy version {version}")
        shape, order, kind = np.lib.format.read_array_header_1_0(
            member, max_header_size=_HEADER_MAX_BYTES
        )
        if math.prod(shape) * kind.itemsize > info.file_size or kind.hasobject:
            raise ValueError(f"{info.filename} claims more than it holds")
        raw = np.frombuffer(member.read(), dtype=kind).copy()
    values = raw.reshape(shape, order="F" if order else "C")
    return values if str(values.dtype) == dtype else values.view(_extended(dtype))


def _extended(name: str) -> Any:
    """A dtype that numpy does not have of its own."""
    import ml_dtypes

    return getattr(ml_dtypes, name)


def _nonfinite(values: np.ndarray[Any, Any]) -> int:
    import numpy as np

    if values.dtype.kind in "biu":
        return 0
    flat = values.reshape(-1)
    count = 0
    for begin in range(0, flat.size, _CHUNK_ELEMENTS):
        chunk = flat[begin : begin + _CHUNK_ELEMENTS]
        wide = chunk.astype(np.float32) if chunk.dtype.kind == "V" else chunk
        count += int(wide.size - np.isfinite(wide).sum())
    return count


def _rebuilt(target: Any, place: str, saved: Arrays) -> Any:
    jax = sys.modules.get("jax")
    if jax is not None:
        leaves, tree = jax.tree_util.tree_flatten_with_path(target)
        names = [place + jax.tree_util.keystr(path) for path, _ in leaves]
        _check_names(names, place, saved)
        fitted = [_fitted(leaf, name, saved) for name, (_, leaf) in zip(names, leaves, strict=True)]
        return jax.tree_util.tree_unflatten(tree, fitted)
    flat: dict[str, Any] = {}
    _flatten(target, place, flat)
    _check_names(list(flat), place, saved)
    return _rebuilt_plainly(target, place, saved)


def _rebuilt_plainly(target: Any, place: str, saved: Arrays) -> Any:
    if isinstance(target, Mapping):
        return {k: _rebuilt_plainly(v, f"{place}[{k!r}]", saved) for k, v in target.items()}
    if isinstance(target, (list, tuple)):
        fields = getattr(target, "_fields", None)
        places = [f".{fields[at]}" if fields else f"[{at}]" for at in range(len(target))]
        members = [
            _rebuilt_plainly(v, place + at, saved) for at, v in zip(places, target, strict=True)
        ]
        return type(target)(*members) if fields else type(target)(members)
    return None if target is None else _fitted(target, place, saved)


def _check_names(names: Sequence[str], place: str, saved: Arrays) -> None:
    held = {name for name in saved if name == place or name.startswith((f"{place}[", f"{place}."))}
    missing, surplus = sorted(set(names) - held), sorted(held - set(names))
    if missing or surplus:
        wrong = f"lacks {missing[0]}" if missing else f"has {surplus[0]} too many"
        raise CheckpointError(f"the checkpoint {wrong} ({len(missing)}, {len(surplus)} in all)")


def _fitted(leaf: Any, name: str, saved: Arrays) -> Any:
    """A saved array in the place of a leaf: on its device, or of its Python type."""
    array = saved[name]
    if isinstance(leaf, (bool, int, float, complex)):
        return type(leaf)(array.values.item())
    jax = sys.modules.get("jax")
    if jax is None or not isinstance(leaf, jax.Array):
        _check_like(array.values, leaf, name)
        return array.values if array.values.ndim else array.values[()]
    if array.key_kind:
        key = jax.random.wrap_key_data(array.values, impl=array.key_kind)
        return jax.device_put(key, leaf.sharding)
    _check_like(array.values, leaf, name)
    return jax.device_put(array.values, leaf.sharding)


def _check_like(values: np.ndarray[Any, Any], leaf: Any, name: str) -> None:
    if values.shape != leaf.shape or values.dtype != leaf.dtype:
        raise CheckpointError(
            f"{name}: is {values.dtype}{list(values.shape)}, expected"
            f" {leaf.dtype}{list(leaf.shape)}"
        )
