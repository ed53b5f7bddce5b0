"""A directory of checkpoints: what is complete in it, the pin, retention, quarantine."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from watchstep.checkpoint.durable import (
    HashedFile,
    copy_synced,
    discard,
    in_thread,
    sweep,
    sync_directory,
    temporary,
    write_synced,
)
from watchstep.checkpoint.record import (
    ARRAYS_SUFFIX,
    MANIFEST_SUFFIX,
    SHARDED_SUFFIX,
    SUFFIX,
    Checkpoint,
    manifest_bytes,
    manifest_path,
    read_manifest,
)
from watchstep.errors import CheckpointError

PINNED = "pinned"
QUARANTINE = "quarantine"
SUSPECT_SUFFIX = ".suspect"
ORPHAN_AGE_S = 3600.0
"""A file without a manifest is between two renames for microseconds, or its writer is dead."""

_FORGOTTEN = 2.5
"""Times the loss before a resume, as of the rule LossForgotten: the weights were not restored."""
_LOST_AT_RESUME = 1.25
"""The same of the rule LossLostAtResume: something was not restored."""

ENDINGS = (SUFFIX, SHARDED_SUFFIX, ARRAYS_SUFFIX)
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}


class Folder:
    """The files of one checkpoint directory.

    Each checkpoint is a file, or a folder where it is sharded, and beside it a manifest that
    is renamed into place last: what has no manifest does not count. The pin is made of hard
    links in a sub-folder that retention never opens. Nothing is kept in memory, so several
    processes may use one folder; names are unique, and each rename is atomic.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory
        self.path.mkdir(parents=True, exist_ok=True)

    def sweep(self) -> None:
        """Remove what dead writers left behind."""
        sweep(self.path)
        sweep(self.path / PINNED)
        for path in (path for ending in ENDINGS for path in self.path.glob(f"*{ending}")):
            with contextlib.suppress(OSError):
                old = time.time() - path.stat().st_mtime > ORPHAN_AGE_S
                if old and not manifest_path(path).exists():
                    discard(path)

    def checkpoints(self) -> list[Checkpoint]:
        """Every complete checkpoint whose manifest is intact, newest first, each once."""
        by_name = {c.path.name: c for c in _complete(self.path)}
        for pin in self.pins():
            here = by_name.get(pin.path.name, pin)
            by_name[pin.path.name] = dataclasses.replace(here, pinned=True)
        return sorted(by_name.values(), key=_age, reverse=True)

    def pins(self) -> list[Checkpoint]:
        """The pin of each attempt that has one, oldest first.

        All but the first are those of younger attempts, which have not come as far yet.
        """
        newest = {c.attempt: c for c in _complete(self.path / PINNED)}
        pins = [dataclasses.replace(pin, pinned=True) for pin in newest.values()]
        return sorted(pins, key=_age)

    def pinned(self, attempt: str | None = None) -> Checkpoint | None:
        """The pin, or the one of an attempt; None if there is none."""
        return next((pin for pin in self.pins() if attempt in (None, pin.attempt)), None)

    def good(self, attempt: str | None = None, *, unproven: bool = False) -> list[Checkpoint]:
        """Checkpoints that may be restored, or those of an attempt, best first.

        The pin, then what is older than it and never was under an alert; without a pin,
        what never was, newest first. With `unproven` also what is newer than the pin.
        """
        good = [c for c in self.checkpoints() if attempt in (None, c.attempt) and not c.suspect]
        pinned = self.pinned(attempt)
        if pinned is None:
            return good
        others = [c for c in good if c.path.name != pinned.path.name]
        newer = [c for c in others if c.serial > pinned.serial]
        older = [c for c in others if c.serial <= pinned.serial]
        return [*(newer if unproven else ()), pinned, *older]

    def broken(self) -> list[Path]:
        """Complete checkpoints whose manifest was altered."""
        return [path for path in manifested(self.path) if _manifest_or_none(path) is None]

    def next_serial(self) -> int:
        """One more than any checkpoint here has."""
        return max((c.serial for c in self.checkpoints()), default=0) + 1

    def write(
        self, fill: Callable[[HashedFile], object], look: Callable[[], Checkpoint]
    ) -> Checkpoint:
        """Write a checkpoint that is one file, if `look` says meanwhile that it is finite.

        Returns:
            The checkpoint, durable; with `finite=False` and nothing written if it is not finite.
        """
        with temporary(self.path) as body:
            # Hashing is what takes longest, so there is time for a look at the numbers before a
            # name, and a manifest that vouches for them, is given to what was written.
            with in_thread("watchstep-finite", look) as looked:
                hashed = write_synced(body, fill)
            checkpoint = looked()
            if not checkpoint.finite:
                return checkpoint
            return self.publish(checkpoint, body, hashed.size_bytes, hashed.sha256())

    def publish(
        self, checkpoint: Checkpoint, body: Path, size_bytes: int, sha256: str
    ) -> Checkpoint:
        """Give what is on the disk its name, and a manifest that vouches for it."""
        durable = dataclasses.replace(
            checkpoint, size_bytes=size_bytes, sha256=sha256, serial=self.next_serial()
        )
        vouching = manifest_bytes(durable)
        with temporary(self.path) as manifest:
            write_synced(manifest, lambda stream: stream.write(vouching))
            body.replace(durable.path)
            manifest.replace(manifest_path(durable.path))
            sync_directory(self.path)
        return durable

    def pin(self, checkpoint: Checkpoint, besides: str = "") -> Checkpoint:
        """Make a checkpoint the pin, then release all others but the one named `besides`.

        Raises:
            OSError: If the file is gone or cannot be linked or copied; the old pin stays.
        """
        place = self.path / PINNED
        place.mkdir(exist_ok=True)
        name = checkpoint.path.name
        # The manifest comes last here as well, since it is what makes a checkpoint complete.
        for source in (checkpoint.path, manifest_path(checkpoint.path)):
            _link(source, place / source.name)
        sync_directory(place)
        for path in manifested(place):
            if path.name not in (name, besides):
                _remove(path)
        return dataclasses.replace(checkpoint, path=place / name, pinned=True, suspect=False)

    def suspect(self, checkpoint: Checkpoint) -> None:
        """Remember, for other processes too, that a checkpoint may already be spoilt."""
        with contextlib.suppress(OSError):
            _suspect_path(checkpoint.path).touch()

    def prune(self, keep: int, protected: set[str], apart: set[str], doubtful: set[str]) -> None:
        """Remove all but the newest `keep` and those named in `protected`; never the pin.

        Those named in `apart` stay and do not count. Those under an alert and those named in
        `doubtful` are counted for themselves: they must not drive out what was saved before.
        """
        counted = [c for c in _complete(self.path) if c.path.name not in apart]
        in_doubt = [c for c in counted if c.suspect or c.path.name in doubtful]
        sound = [c for c in counted if c not in in_doubt]
        for checkpoint in [*in_doubt[:-keep], *sound[:-keep]]:
            if checkpoint.path.name not in protected:
                _remove(checkpoint.path)

    def quarantine(self, path: Path) -> Path:
        """Rename a bad file and its manifest out of the way; returns its new place."""
        place = self.path / QUARANTINE
        place.mkdir(exist_ok=True)
        stamp = f"{time.time_ns():x}"
        for part in (manifest_path(path), path):
            with contextlib.suppress(FileNotFoundError):
                part.replace(place / f"{stamp}-{part.name}")
        return place / f"{stamp}-{path.name}"

    def why_none(self, step: int | None, reasons: Sequence[str]) -> str:
        """Why no good checkpoint, or none of a step, was restored, and what else there is."""
        kind = "good checkpoint" if step is None else f"checkpoint of step {step}"
        steps = sorted({checkpoint.step for checkpoint in self.checkpoints()})
        left = ""
        if steps:
            left = f"; not proven good are those of steps {steps}: restore(..., step={steps[-1]})"
            left += " takes one all the same"
        bad = "".join(f"; {reason}" for reason in reasons)
        return f"{self.path}: no {kind}{bad}{left}"


def manifested(directory: Path) -> list[Path]:
    """Files and folders in a directory that have a manifest, intact or not."""
    return [
        manifest.with_name(manifest.name.removesuffix(MANIFEST_SUFFIX))
        for ending in ENDINGS
        for manifest in directory.glob(f"*{ending}{MANIFEST_SUFFIX}")
    ]


def is_kept(directory: Path) -> bool:
    """Whether a directory is one of the keeper's."""
    return bool(manifested(directory) or manifested(directory / PINNED))


def _complete(directory: Path) -> list[Checkpoint]:
    """Oldest first."""
    complete = [c for path in manifested(directory) if (c := _manifest_or_none(path)) is not None]
    return sorted(complete, key=_age)


def _manifest_or_none(path: Path) -> Checkpoint | None:
    try:
        checkpoint = read_manifest(path)
    except (OSError, CheckpointError):
        return None
    return dataclasses.replace(checkpoint, suspect=_suspect_path(path).exists())


def _suspect_path(path: Path) -> Path:
    return path.with_name(path.name + SUSPECT_SUFFIX)


def _age(checkpoint: Checkpoint) -> tuple[int, float, str]:
    return checkpoint.serial, checkpoint.created, checkpoint.path.name


def _remove(path: Path) -> None:
    # The manifest goes first: what remains after a kill in between does not count.
    for part in (manifest_path(path), path, _suspect_path(path)):
        with contextlib.suppress(FileNotFoundError):
            discard(part)


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    if source.is_dir():
        with temporary(target.parent, folder=True) as unfinished:
            for part in source.iterdir():
                _link(part, unfinished / part.name)
            sync_directory(unfinished)
            unfinished.replace(target)
        return
    try:
        target.hardlink_to(source)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # As durable, at the cost of the bytes.
        copy_synced(source, target)


@dataclasses.dataclass(slots=True)
class EarlierAttempt:
    """The best checkpoint that was there when a keeper began, and those next to it.

    Attributes:
        reference: The pin, or without one the newest that was not under an alert.
        names: Of it and those next to it, `keep` of them at most: retention leaves these alone.
        is_resumed: Whether the new attempt was restored from the reference, or from a later one.
        is_lower: Whether its loss is, or may be, far below that of a new pin that has come as far.
    """

    reference: Checkpoint
    names: set[str]
    is_resumed: bool = False
    is_lower: bool = False

    @classmethod
    def in_folder(cls, folder: Folder, keep: int, attempt: str) -> EarlierAttempt | None:
        """What others than this attempt have left in a folder; None where nothing good is."""
        good = [checkpoint for checkpoint in folder.good() if checkpoint.attempt != attempt]
        if not good:
            return None
        reference = good[0]
        # A run that fails and begins anew for ever must not fill the disk.
        nearest = sorted(
            folder.checkpoints(), key=lambda c: (abs(c.serial - reference.serial), -c.serial)
        )
        return cls(reference, {c.path.name for c in nearest[:keep]})

    def is_surpassed(self, pin: Checkpoint) -> bool:
        """Whether a new pin is better: it goes on from the reference, or has come as far.

        By its loss as well: one that was restored from the reference may have met harder data,
        any other has to come down to a quarter above it.
        """
        if not (self.is_resumed or pin.step >= self.reference.step):
            return False
        loss, before = pin.loss, self.reference.loss
        if before is None:
            return True
        factor = _FORGOTTEN if self.is_resumed else _LOST_AT_RESUME
        lost = before.level + (factor - 1) * abs(before.level)
        # Without a level it is too early to know what was learnt.
        self.is_lower = loss is None or (loss.is_risen_from(before) and loss.level > lost)
        return not self.is_lower

    def complaint(self, pin: Checkpoint) -> str:
        """One sentence for whoever has restored another part of the state than was thought."""
        loss, before = pin.loss, self.reference.loss
        assert loss is not None
        assert before is not None
        return (
            f"{loss.name} is {loss.level:.4g} at step {pin.step}; it was {before.level:.4g} in the"
            f" checkpoint of step {self.reference.step} of an earlier start, which stays pinned:"
            " were the weights restored?"
        )

    def hint(self, directory: Path) -> str:
        """One sentence for whoever starts the new attempt."""
        proven = "the pin" if self.reference.pinned else "not yet proven good"
        others = len(self.names - {self.reference.path.name})
        more = f" and {others} more" if others else ""
        return (
            f"{directory} holds a checkpoint of step {self.reference.step} ({proven}){more} of an"
            " earlier start: watch.restore({...}) goes on from it; without that they stay until"
            " this run has come as far"
        )
