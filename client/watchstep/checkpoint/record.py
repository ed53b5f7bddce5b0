"""A checkpoint as a value, and the manifest that vouches for it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from watchstep.checkpoint.untrusted import refused
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


@dataclasses.dataclass(frozen=True, slots=True)
class Finiteness:
    """Tensors of any dtype, the first that is not finite, such elements, and such tensors."""

    tensors: int
    bad_tensor: str | None = None
    nonfinite: int = 0
    bad_tensors: int = 0


class LossLevel(NamedTuple):
    """The loss before a save: its name, its level, and up to where its last reports usually go."""

    name: str
    level: float
    usual: float

    def is_risen_from(self, before: LossLevel | None) -> bool:
        """Whether it is out of what was usual before; two losses of other names do not compare."""
        return before is not None and before.name == self.name and self.level > before.usual


@dataclasses.dataclass(frozen=True, slots=True)
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
        unchecked: Glob patterns of tensors that were allowed to hold infinities.
        parts: The files of a sharded checkpoint, whose path is a folder; empty for a file. Its
            `sha256` is that of the listing of theirs.
        attempt: Alike for all that one keeper saved; "" where a version before this one did.
        loss: At the save; None where it was not known.
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
    bad_tensors: int = 0
    serial: int = 0
    suspect: bool = False
    tensors: int = 0
    unchecked: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    attempt: str = ""
    loss: LossLevel | None = None

    def judged(self, finiteness: Finiteness) -> Checkpoint:
        """The same, after a look at its numbers."""
        finite = finiteness.bad_tensor is None
        return dataclasses.replace(self, finite=finite, **dataclasses.asdict(finiteness))

    def as_json(self) -> dict[str, Any]:
        return {
            **dataclasses.asdict(self),
            "path": str(self.path),
            "unchecked": list(self.unchecked),
            "parts": [part.name for part in self.parts],
        }


PassedOver = tuple[Checkpoint, str, bool]
"""A checkpoint that could not be restored, why, and whether it is damaged."""

_VOUCHED = (
    "serial", "step", "update", "size_bytes", "sha256", "finite", "created", "tensors",
    "unchecked", "attempt",
)  # fmt: skip
"""Attributes that stand in a manifest."""


def manifest_path(path: Path) -> Path:
    """Where the manifest of a checkpoint file stands."""
    return path.with_name(path.name + MANIFEST_SUFFIX)


def manifest_bytes(checkpoint: Checkpoint) -> bytes:
    """The manifest of a finite checkpoint; holds a hash of itself."""
    torch = sys.modules.get("torch")
    fields: dict[str, Any] = {
        **{name: getattr(checkpoint, name) for name in _VOUCHED},
        "format": FORMAT,
        "file": checkpoint.path.name,
        "torch": "" if torch is None else str(torch.__version__),
    }
    if checkpoint.parts:
        fields["parts"] = [list(part) for part in checkpoint.parts]
    if checkpoint.loss:
        fields["loss"] = list(checkpoint.loss)
    return _sealed(fields)


def read_manifest(path: Path) -> Checkpoint:
    """The checkpoint that the manifest beside `path` describes; the file itself is not read.

    Raises:
        FileNotFoundError: Without a manifest, which means that the save never ended.
        CheckpointError: If the manifest was altered, or belongs to another file.
    """
    beside = manifest_path(path)
    with beside.open("rb") as stream, refused(beside):
        fields = _unsealed(stream.read(MANIFEST_MAX_BYTES), beside)
        if fields["file"] != path.name:
            raise CheckpointError(f"{beside}: describes {fields['file']!r}, not {path.name!r}")
        # A version before this one knew no attempts.
        vouched = {"attempt": "", **fields, "unchecked": tuple(fields["unchecked"])}
        return Checkpoint(
            path=path,
            parts=tuple(Part(*part) for part in fields.get("parts", ())),
            loss=LossLevel(*fields["loss"]) if "loss" in fields else None,
            **{name: vouched[name] for name in _VOUCHED},
        )


def _sealed(fields: dict[str, Any]) -> bytes:
    seal = hashlib.sha256(_encoded(fields)).hexdigest()
    return _encoded({**fields, "seal": seal})


def _unsealed(body: bytes, beside: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(body)
    seal = fields.pop("seal")
    # Any byte that differs counts, also one that JSON would read over.
    if _sealed(fields) != body or not isinstance(seal, str):
        raise CheckpointError(f"{beside}: altered since it was written")
    if fields.get("format") != FORMAT:
        raise CheckpointError(f"{beside}: format {fields.get('format')!r}, not {FORMAT!r}")
    return fields


def _encoded(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, indent=1).encode() + b"\n"
