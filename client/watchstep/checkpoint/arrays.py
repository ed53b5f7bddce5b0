"""State without torch: pytrees of JAX's and numpy's arrays, kept as a `.npz` file.

A zip with one `.npy` member for each array and `index.json`, which says where in the tree each one
belongs. Nothing in it is executed when it is read. Where JAX is loaded it says what a tree is, so
also trees of classes that were registered with it are kept.
"""

from __future__ import annotations

import fnmatch
import json
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from watchstep.checkpoint.record import Finiteness
from watchstep.checkpoint.untrusted import refused
from watchstep.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np

    from watchstep.checkpoint.durable import HashedFile

FORMAT = "watchstep.arrays/1"
_INDEX = "index.json"
_INDEX_MAX_BYTES = 64 << 20
_HEADER_MAX_BYTES = 10_000
_CHUNK_ELEMENTS = 1 << 20


@dataclass(frozen=True, slots=True)
class KeptArray:
    """One leaf of a tree.

    Attributes:
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


def write_arrays(stream: HashedFile, arrays: Arrays, *, step: int, update: int) -> None:
    import numpy as np

    index = [
        {"name": name, "dtype": str(array.values.dtype), "key": array.key_kind}
        for name, array in arrays.items()
    ]
    described = {"format": FORMAT, "step": step, "update": update, "arrays": index}
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        archive.writestr(_INDEX, json.dumps(described))
        for at, array in enumerate(arrays.values()):
            with archive.open(f"{at}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _as_known(array.values), allow_pickle=False)


def read_arrays(stream: IO[bytes], name: str) -> dict[str, Any]:
    """What `write_arrays` wrote, as `{"step", "update", "state"}`, the last as `Arrays`."""
    with refused(name), zipfile.ZipFile(stream) as archive:
        if archive.getinfo(_INDEX).file_size > _INDEX_MAX_BYTES:
            raise ValueError(f"an index over {_INDEX_MAX_BYTES:,} bytes")
        described = json.loads(archive.read(_INDEX))
        if described["format"] != FORMAT:
            raise CheckpointError(f"{name}: format {described['format']!r}, not {FORMAT!r}")
        arrays = {
            entry["name"]: KeptArray(_member(archive, at, entry["dtype"]), entry["key"])
            for at, entry in enumerate(described["arrays"])
        }
        return {"step": described["step"], "update": described["update"], "state": arrays}


def inspect_arrays(arrays: Arrays, exempt: Sequence[str] = ()) -> Finiteness:
    """Look at every number; see `watchstep.checkpoint.finite.inspect`."""
    counts = {
        name: _nonfinite(array.values)
        for name, array in arrays.items()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in exempt)
    }
    bad = next((name for name, count in counts.items() if count), None)
    bad_tensors = sum(count > 0 for count in counts.values())
    return Finiteness(len(arrays), bad, sum(counts.values()), bad_tensors)


def refilled(targets: Mapping[str, Any], saved: Arrays) -> None:
    """Put saved arrays into the targets: all of them, or none.

    Arrays of JAX cannot be changed, so each target is replaced in the mapping by a new tree, on
    the devices and with the sharding of the old one.

    Raises:
        CheckpointError: A leaf is missing, or is of another shape or dtype; nothing was changed.
    """
    if not isinstance(targets, MutableMapping):
        raise CheckpointError("arrays are restored into a dict: restore(targets), then targets[…]")
    rebuilt = {}
    for name, target in targets.items():
        place = f"[{name!r}]"
        _check_names(_flat(target, place), place, saved)
        rebuilt[name] = _mapped(target, lambda leaf, at: _fitted(leaf, at, saved), place)
    targets.update(rebuilt)


def _flat(tree: Any, place: str = "") -> dict[str, Any]:
    """The leaves of a tree by their places in it."""
    flat: dict[str, Any] = {}
    _mapped(tree, lambda leaf, at: flat.setdefault(at, leaf), place)
    return flat


def _mapped(tree: Any, visit: Callable[[Any, str], Any], place: str) -> Any:
    """A tree with `visit(leaf, place)` in place of each leaf; JAX's trees where it is loaded."""
    jax = sys.modules.get("jax")
    if jax is not None:
        leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
        visited = [visit(leaf, place + jax.tree_util.keystr(path)) for path, leaf in leaves]
        return jax.tree_util.tree_unflatten(structure, visited)
    if isinstance(tree, Mapping):
        return {key: _mapped(entry, visit, f"{place}[{key!r}]") for key, entry in tree.items()}
    if isinstance(tree, (list, tuple)):
        fields = getattr(tree, "_fields", None)
        places = [f"{place}.{name}" for name in fields or ()]
        places = places or [f"{place}[{at}]" for at in range(len(tree))]
        members = [_mapped(entry, visit, at) for at, entry in zip(places, tree, strict=True)]
        return type(tree)(*members) if fields else type(tree)(members)
    return None if tree is None else visit(tree, place)


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


def _member(archive: zipfile.ZipFile, at: int, dtype: str) -> np.ndarray[Any, Any]:
    import numpy as np

    info = archive.getinfo(f"{at}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename} is compressed")
    with archive.open(info) as member:
        values = np.lib.format.read_array(
            member, allow_pickle=False, max_header_size=_HEADER_MAX_BYTES
        )
    if str(values.dtype) == dtype:
        return values
    import ml_dtypes

    # A dtype that numpy does not have of its own.
    return values.view(getattr(ml_dtypes, dtype))


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


def _check_names(names: Iterable[str], place: str, saved: Arrays) -> None:
    held = {name for name in saved if name == place or name.startswith((f"{place}[", f"{place}."))}
    missing, surplus = sorted(set(names) - held), sorted(held - set(names))
    if missing or surplus:
        wrong = f"lacks {missing[0]}" if missing else f"has {surplus[0]} too many"
        raise CheckpointError(f"the checkpoint {wrong} ({len(missing)}, {len(surplus)} in all)")


def _fitted(leaf: Any, name: str, saved: Arrays) -> Any:
    """A saved array in the place of a leaf: on its device, or of its Python type."""
    values, key_kind = saved[name].values, saved[name].key_kind
    if isinstance(leaf, (bool, int, float, complex)):
        return type(leaf)(values.item())
    jax = sys.modules.get("jax")
    of_jax = jax if jax is not None and isinstance(leaf, jax.Array) else None
    if of_jax and key_kind:
        key = of_jax.random.wrap_key_data(values, impl=key_kind)
        return of_jax.device_put(key, leaf.sharding)
    if values.shape != leaf.shape or values.dtype != leaf.dtype:
        raise CheckpointError(
            f"{name}: is {values.dtype}{list(values.shape)}, expected"
            f" {leaf.dtype}{list(leaf.shape)}"
        )
    if of_jax:
        return of_jax.device_put(values, leaf.sharding)
    return values if values.ndim else values[()]
