"""The checkpoint to go back to: looked for beside the logs, and verified."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from watchstep.checkpoint.folder import Folder, is_kept
from watchstep.checkpoint.reading import verify
from watchstep.errors import CheckpointError

_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors", ".zip")
_FOLDERS = re.compile(
    r"^(?:ckpts?|checkpoints?|models?|saves?|saved_models?|weights|snapshots?)$", re.I
)
_HF_FOLDER = re.compile(r"^(?:checkpoint|global_step|step|iter)[-_]?(\d+)$", re.I)
_NUMBER = re.compile(
    r"(?:step|steps|iter|iteration|update|ckpt|checkpoint|model)\D{0,3}(\d{1,12})|"
    r"(\d{1,12})\D{0,3}(?:steps?|updates?|iters?|iterations?)",
    re.I,
)
_PRINTED = frozenset({".log", ".out", ".txt", ".err"})
"""Of files that hold one run's output each; of tables one run often has several."""
_DEEPEST = 2
_MOST_ENTRIES = 2_000
"""Entries looked at; a folder of runs on a network disk must not stall the report."""
_MOST_VERIFIED = 4
"""Checkpoints that are read through before the search is given up; each may be gigabytes."""


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint beside a log.

    Attributes:
        step: The number that its manifest or name tells; None when neither does.
        state: "good" (verified), "suspect" (verified, but saved while an alert was open),
            "bad" (verified to be torn, altered or not finite), "unverified".
        reason: Why it is not good; "" when it is.
    """

    path: Path
    step: int | None
    state: str
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


@dataclass(frozen=True, slots=True)
class Good:
    """Up to where a run was good, in both ways of counting that a log may know.

    Attributes:
        update: The last good update as the log prints it; None when no update was good.
        last_update: The log's last one, in the same way of counting.
        steps: The trainer's own step counter at the last good update, where it is logged
            beside another number; None otherwise.
    """

    update: int | None
    last_update: int | None
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """What was found beside a log.

    Attributes:
        best: The newest verified one from before the damage; None where there is none.
        refused: Newer ones, and why each cannot be used.
        seen: Checkpoints found in all.
        note: A sentence about what could not be told; "" when all could.
    """

    best: Found | None = None
    refused: tuple[Found, ...] = ()
    seen: int = 0
    note: str = ""


def search(log: Path, good: Good, saved: Mapping[str, int] | None = None) -> Search:
    """Look beside a log for the newest checkpoint that is good and intact.

    Nothing in a checkpoint is executed: see `watchstep.checkpoint.reading`.

    Args:
        good: Up to where; a checkpoint with a higher number is too new.
        saved: Path and number of checkpoints that the log itself tells of.
    """
    try:
        found_there = dict(_candidates(log))
        found_there |= {Path(path): step for path, step in (saved or {}).items() if _is_there(path)}
        candidates = sorted(found_there.items(), key=_newest_first)
    except OSError as error:
        return Search(note=f"checkpoints were not looked for: {error.strerror or error}")
    if not candidates:
        return Search(note="no checkpoint beside the log")
    limit = _limit(good, [number for _, number in candidates if number is not None])
    too_new = [
        candidate for candidate in candidates if candidate[1] is not None and candidate[1] > limit
    ]
    refused = [
        Found(path, number, "unverified", "saved after the last good update")
        for path, number in too_new[-1:]
    ]
    usable = [candidate for candidate in candidates if candidate not in too_new]
    for path, number in usable[:_MOST_VERIFIED]:
        checkpoint = _verified(path, number)
        if checkpoint.state == "good":
            return Search(checkpoint, tuple(refused), len(candidates))
        refused.append(checkpoint)
        if checkpoint.state == "unverified":
            break
    unread = len(usable) - _MOST_VERIFIED
    note = f"{unread} older ones were not read" if unread > 0 else ""
    return Search(None, tuple(refused), len(candidates), note)


def _is_there(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def _newest_first(candidate: tuple[Path, int | None]) -> tuple[int, float, str]:
    path, number = candidate
    # One whose age nobody knows comes last.
    return (1 if number is None else -number, -path.stat().st_mtime, str(path))


def _limit(good: Good, numbers: Sequence[int]) -> int:
    """The highest number of a good checkpoint, in the way in which checkpoints are counted.

    Checkpoints numbered beyond the end of a log of iterations count the trainer's steps.
    """
    if good.update is None:
        return -1
    beyond = good.last_update is not None and max(numbers, default=0) > good.last_update
    return good.steps if beyond and good.steps is not None else good.update


def _verified(path: Path, number: int | None) -> Found:
    if number is None:
        # Whatever is in it: it may have been saved after all was lost.
        return Found(path, None, "unverified", "neither name nor manifest tells when it was saved")
    try:
        checkpoint = verify(path)
    except CheckpointError as error:
        return Found(path, number, "bad", str(error))
    except ModuleNotFoundError as error:
        return Found(path, number, "unverified", f"verifying needs {error.name}")
    if checkpoint.suspect:
        return Found(path, number, "suspect", "an alert was open when it was saved")
    return Found(path, number, "good")


def _candidates(log: Path) -> Iterator[tuple[Path, int | None]]:
    """Checkpoints in the log's folder, in folders below it, and in siblings so named.

    Where several runs have their logs in one folder, what is below it is another run's unless it
    is named so, or as this log.
    """
    home = log if log.is_dir() else log.parent
    seen: set[Path] = set()
    left = _MOST_ENTRIES
    tops = [home, *_folders(home.resolve().parent)]
    others = home.glob(f"*{log.suffix}") if log.suffix in _PRINTED and log.is_file() else ()
    if any(path != log for path in others):
        tops[0:1] = _folders(home, log.stem)
    for top in tops:
        for folder, below, names in os.walk(top):
            depth = len(Path(folder).relative_to(top).parts)
            left -= len(names) + len(below)
            if left < 0 or depth > _DEEPEST:
                below.clear()
                continue
            for path, number in _in_folder(Path(folder), below, names):
                if path not in seen:
                    seen.add(path)
                    yield path, number


def _folders(parent: Path, name: str = "") -> list[Path]:
    """The folders in another one that are named as those of checkpoints are, or so."""
    try:
        return [
            path
            for path in parent.iterdir()
            if path.is_dir() and (_FOLDERS.match(path.name) or path.name == name)
        ]
    except OSError:
        return []


def _in_folder(
    folder: Path, below: list[str], names: list[str]
) -> Iterator[tuple[Path, int | None]]:
    if is_kept(folder):
        below.clear()
        for checkpoint in Folder(folder).checkpoints():
            yield checkpoint.path, checkpoint.step or checkpoint.update
        return
    for name in list(below):
        if match := _HF_FOLDER.match(name):
            below.remove(name)
            if any(path.suffix in _SUFFIXES for path in (folder / name).iterdir()):
                yield folder / name, int(match.group(1))
    for name in names:
        path = folder / name
        if path.suffix in _SUFFIXES and path.is_file():
            yield path, _number_in(path.stem)


def _number_in(stem: str) -> int | None:
    match = _NUMBER.search(stem)
    return int(match.group(1) or match.group(2)) if match else None
