"""A checkpoint as a value, and the manifest that vouches for it."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from watchstep.errors import CheckpointError

FORMAT = "watchstep.checkpoint/1"
SUFFIX = ".pt"
ARRAYS_SUFFIX = ".npz"
"""Of arrays alone, kept without torch."""
SHARDED_SUFFIX = ".dcp"
"""Of a folder with the shards of several processes."""
MANIFEST_SUFFIX = ".json"
MANIFEST_MAX_BYTES = 1 << 20


class Part(NamedTuple):
    """One file of a checkpoint that is a folder."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One saved state, or one that was refused.

    Attributes:
        path: The file; of a refused state, where it would have been.
        step: The trainer's own step counter at the save.
        update: The update after which it was saved; 0 where none was named.
        size_bytes: Length of the file; 0 if refused or not known.
        sha256: Of the file, 64 hexadecimal digits; "" if refused or not known.
        finite: Whether every checked tensor is finite. False means refused.
        pinned: Whether it is the pin, which retention cannot remove.
        created: Seconds since the epoch, for people; order is `serial`.
        bad_tensor: Dotted name of the first non-finite tensor, None if all are finite.
        nonfinite: Elements that are NaN or infinite, over all tensors.
        serial: Position among all saves in the directory, from 1; 0 if refused or foreign.
        suspect: Whether an alert was open at the save, or opened before it was proven good.
        tensors: Tensors in it.
        unchecked: Glob patterns of tensors that were allowed to hold infinities.
        parts: The files of a sharded checkpoint, whose path is a folder; empty for a file. Its
            `sha256` is that of the listing of theirs.
        attempt: Alike for all that one keeper saved; "" where a version before this one did.
    """

    path: Path
    step: int = 0
    update: int = 0
    size_bytes: int = 0
    sha256: str = ""
    finite: bool = True
    pinned: bool = False
    created: float = 0.0
    bad_tensor: str | None = None
    nonfinite: int = 0
    serial: int = 0
    suspect: bool = False
    tensors: int = 0
    unchecked: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    attempt: str = ""

    def as_json(self) -> dict[str, Any]:
        """All attributes as JSON values."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        parts = [part.name for part in self.parts]
        return {**fields, "path": str(self.path), "unchecked": [*self.unchecked], "parts": parts}


@dataclass(frozen=True, slots=True)
class Finiteness:
    """What a look at every tensor of a state found.

    Attributes:
        tensors: Tensors found, of any dtype.
        bad_tensor: Dotted name of the first that holds NaN or an infinity; None if none does.
        nonfinite: Elements that are NaN or infinite, over all tensors.
    """

    tensors: int
    bad_tensor: str | None = None
    nonfinite: int = 0

    def noted(self, draft: Checkpoint) -> Checkpoint:
        """A checkpoint with what was seen of its numbers."""
        return replace(
            draft,
            finite=self.bad_tensor is None,
            bad_tensor=self.bad_tensor,
            nonfinite=self.nonfinite,
            tensors=self.tensors,
        )


_VOUCHED = (
    "serial", "step", "update", "size_bytes", "sha256", "finite", "created", "tensors",
    "unchecked", "attempt",
)  # fmt: skip
"""What a manifest holds of a checkpoint."""


def manifest_path(path: Path) -> Path:
    """Where the manifest of a checkpoint file stands."""
    return path.with_name(path.name + MANIFEST_SUFFIX)


def manifest_bytes(checkpoint: Checkpoint) -> bytes:
    """The manifest of a finite checkpoint; holds a hash of itself."""
    torch = sys.modules.get("torch")
    fields = {name: getattr(checkpoint, name) for name in _VOUCHED}
    fields |= {"format": FORMAT, "file": checkpoint.path.name}
    fields["torch"] = "" if torch is None else str(torch.__version__)
    if checkpoint.parts:
        fields["parts"] = checkpoint.parts
    return _sealed(fields)


def read_manifest(path: Path, *, pinned: bool = False) -> Checkpoint:
    """The checkpoint that the manifest beside `path` describes; the file itself is not read.

    Raises:
        FileNotFoundError: Without a manifest, which means that the save never ended.
        CheckpointError: If the manifest was altered, or belongs to another file.
    """
    beside = manifest_path(path)
    with beside.open("rb") as stream:
        body = stream.read(MANIFEST_MAX_BYTES)
    fields = _unsealed(body, beside)
    if fields["file"] != path.name:
        raise CheckpointError(f"{beside}: describes {fields['file']!r}, not {path.name!r}")
    return Checkpoint(
        path=path,
        pinned=pinned,
        **{name: fields[name] for name in _VOUCHED if name not in ("unchecked", "attempt")},
        unchecked=tuple(fields["unchecked"]),
        parts=tuple(Part(*part) for part in fields.get("parts", ())),
        attempt=fields.get("attempt", ""),
    )


def _sealed(fields: dict[str, Any]) -> bytes:
    seal = hashlib.sha256(_encoded(fields)).hexdigest()
    return _encoded({**fields, "seal": seal})


def _unsealed(body: bytes, beside: Path) -> dict[str, Any]:
    try:
        fields = json.loads(body)
        seal = fields.pop("seal")
        # Any byte that differs counts, also one that JSON would read over.
        if _sealed(fields) != body or not isinstance(seal, str):
            raise CheckpointError(f"{beside}: altered since it was written")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{beside}: no manifest of a checkpoint") from error
    if fields.get("format") != FORMAT:
        raise CheckpointError(f"{beside}: format {fields.get('format')!r}, not {FORMAT!r}")
    return dict(fields)


def _encoded(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, indent=1).encode() + b"\n"
