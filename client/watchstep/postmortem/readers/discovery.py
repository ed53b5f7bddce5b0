"""Finding the logs in files and folders, and deciding which of them tell of one run."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from watchstep.core.health import REPORTS_TO_JUDGE
from watchstep.errors import LogUnreadableError
from watchstep.postmortem.readers import archives, database, mlflow_files, tables
from watchstep.postmortem.readers.formats import (
    Format,
    Read,
    kind_of,
    lag_of,
    late_console,
    names_training,
    recognise,
)
from watchstep.postmortem.readers.logs import Log
from watchstep.postmortem.readers.opening import NothingReadableError, check_regular, head_of
from watchstep.postmortem.readers.plans import measured

Unreadable = Callable[[Path, LogUnreadableError], None]

_NO_LOG = re.compile(
    r"\.(?:pt|pth|ckpt|bin|safetensors|zip|tar|npz|npy|pkl|pickle|onnx|h5|so|png|jpe?g|gif|mp4|"
    r"pdf|py|ipynb|ya?ml|toml|lock|html|js|css|model|whl|arrow|sh)(?:\.json)?$",
    re.IGNORECASE,
)
"""Endings under which no training log is looked for in a folder: a checkpoint takes seconds, and
what is written beside one describes it."""

_NO_LOG_NAMES = frozenset(
    (
        *("truth.json", "manifest.json", "config.json", "tokenizer.json", "vocab.json"),
        *("args.json", "readme.md", "changelog.md", "license.md", "contributing.md"),
    )
)
"""Files that describe a run from outside, and never are its log."""

_COMMON_STEM = re.compile(
    r"(?:updates|progress|metrics|logs?|trainer_state|training_logs|history|train(?:ing)?|main|"
    r"stdout|stderr|output|results?|console|monitor)$",
    re.IGNORECASE,
)
"""File names that say nothing about the run, whose folder then names it."""

MERGED = ("tensorboard", "sb3_monitor", "watchstep_spool", "mlflow")
"""Formats of which all files in one folder belong to one run: resumes, workers, segments."""

_PRINTED = re.compile(r"\.(?:log|txt|out|err)(?:[.-]\d+)?$|^std(?:out|err)$|^nohup", re.IGNORECASE)
_SMALL_BYTES = 64 << 20
"""Up to this size a text in a folder is searched for rows beyond its beginning."""

_SHOWN = 200
"""Updates of a page that are read to tell whether it shows a log."""

_PACKED = re.compile(r"\.(?:gz|xz|bz2)$")
_CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")


def open_logs(paths: Iterable[Path], *, unreadable: Unreadable | None = None) -> Iterator[Log]:
    """The runs that files and folders hold, one log each, opened as they are asked for.

    A file is one run. A folder is read with everything below it; the logs directly in one
    folder are one run when they are of different formats (the richest is read, see
    `formats.RANKS`) or all event files, and one run each when several share a format.

    Args:
        paths: Files and folders, in the order wanted.
        unreadable: Called for each path that cannot be read; reading then goes on with the
            next. Without it the error is raised.

    Raises:
        LogUnreadableError: A path is missing, torn beyond use, binary, a pipe, or not ours.
        NothingReadableError: A path can be read, but holds no training log.
    """
    for path in paths:
        any_log = False
        try:
            for opened in _logs_at(Path(path), unreadable):
                any_log = True
                yield opened
        except LogUnreadableError as error:
            if unreadable is None:
                raise
            unreadable(Path(path), error)
        else:
            if not any_log:
                missing = NothingReadableError(
                    f"{path}: no training log in this folder{_left_out(Path(path))}"
                )
                if unreadable is None:
                    raise missing
                unreadable(Path(path), missing)


def _logs_of(path: Path) -> Iterator[Log]:
    """The log in a file, or the logs in a database of ours or of MLflow's."""
    check_regular(path)
    head = head_of(path)
    if archives.is_archive(head):
        yield from _packed(path)
        return
    if not head.strip():
        raise NothingReadableError(f"{path}: empty")
    if head.startswith(database.MAGIC):
        empty = True
        for log in _stored(path):
            empty = False
            yield log
        if empty:
            raise NothingReadableError(f"{path}: a database without any run of ours or MLflow's")
        return
    recognised = recognise(head) or late_console(head)
    if recognised is None:
        raise NothingReadableError(f"{path}: not a training log in any format known here")
    runs = tables.runs_in(head.decode("utf-8", "replace")) if recognised.name == "csv" else []
    for run in runs:
        one_run = dataclasses.replace(recognised, read=functools.partial(tables.csv_rows, run=run))
        yield _opened(path, run, one_run, [path])
    if not runs:
        yield _opened(path, run_name_of(path), recognised, [path])


def _packed(path: Path) -> Iterator[Log]:
    """The logs in a zip or tar file; each must be read before the next is asked for."""
    empty = True
    with archives.unpacked(path) as folder:
        for log in _logs_at(folder, None):
            empty = False
            log.path = path / log.path.relative_to(folder)
            yield log
    if empty:
        raise NothingReadableError(f"{path}: no training log in this archive")


def _stored(path: Path) -> Iterator[Log]:
    for key, run, tags in database.runs(path):
        log = Log(path=path, format="watchstep_database", run=run, files=[path], tags=tags)
        if _begun(log, functools.partial(database.rows, key=key)):
            yield log
    for name, run in mlflow_files.stored_runs(path):
        log = Log(path=path, format="mlflow", run=run, files=[path])
        if _begun(log, functools.partial(mlflow_files.stored_rows, key=name)):
            yield log


def _logs_at(path: Path, unreadable: Unreadable | None) -> Iterator[Log]:
    if not path.is_dir():
        yield from _logs_of(path)
        return
    for folder, names in folders_below(path):
        yield from _logs_in(folder, names, unreadable)


def folders_below(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder below `top` that has files, itself included, in the order of names.

    Of the `checkpoint-N` folders beside each other only the last is looked into: each holds
    the whole history up to its step.
    """
    for folder, below, names in os.walk(top, onerror=_refuse_top(top)):
        checkpoints = {
            int(match.group(1)): name for name in below if (match := _CHECKPOINT.match(name))
        }
        last = checkpoints.get(max(checkpoints, default=0))
        if "trainer_state.json" in names:
            last = None
        below[:] = sorted(
            name
            for name in below
            if not name.startswith(".") and (not _CHECKPOINT.match(name) or name == last)
        )
        if any(name.endswith(".wandb") for name in names):
            # Beside its own file W&B keeps the console output of the same run.
            below[:] = [name for name in below if name not in ("files", "logs")]
        if Path(folder).name == mlflow_files.FOLDER:
            # A metric's name may hold slashes, and then is a file in a folder of its own.
            below.clear()
            yield Path(folder), sorted(_below(Path(folder)))
        elif names:
            yield Path(folder), sorted(names)


def _below(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def _refuse_top(top: Path) -> Callable[[OSError], None]:
    def refuse(error: OSError) -> None:
        if error.filename == str(top):
            raise LogUnreadableError(f"{top}: {error.strerror}") from error

    return refuse


def _logs_in(folder: Path, names: list[str], unreadable: Unreadable | None) -> Iterator[Log]:
    """The runs whose logs lie directly in one folder."""
    yield from _databases_in(folder, names, unreadable)
    yield from _zipped_in(folder, names, unreadable)
    groups = _groups(folder, names, unreadable)
    formats = [recognised.name for recognised, _ in groups]
    one_run = len(set(formats)) == len(formats)
    for number, (recognised, files) in enumerate(groups):
        run = folder_name_of(folder)
        if not one_run:
            run = f"{run}/{files[0].name}"
        try:
            log = _opened(folder if len(files) > 1 else files[0], run, recognised, files)
        except LogUnreadableError as error:
            if unreadable is not None:
                unreadable(files[0], error)
            continue
        if one_run:
            others = [file for _, files in groups[number + 1 :] for file in files]
            if others:
                log.note(f"not read, since this log tells more: {_listed(others)}")
        yield log
        if one_run:
            return


def _zipped_in(folder: Path, names: list[str], unreadable: Unreadable | None) -> Iterator[Log]:
    for path in (folder / name for name in names if name.endswith(".zip")):
        if path.is_file() and archives.may_hold_logs(path):
            try:
                yield from _packed(path)
            except NothingReadableError:
                continue  # Whatever it is: nobody asked for it by name.
            except LogUnreadableError as error:
                if unreadable is not None:
                    unreadable(path, error)


def _databases_in(folder: Path, names: list[str], unreadable: Unreadable | None) -> Iterator[Log]:
    for path in (folder / name for name in names if name.endswith(".db")):
        try:
            if path.is_file() and head_of(path).startswith(database.MAGIC):
                yield from _stored(path)
        except LogUnreadableError as error:
            if unreadable is not None:
                unreadable(path, error)


def _groups(
    folder: Path, names: list[str], unreadable: Unreadable | None
) -> list[tuple[Format, list[Path]]]:
    """The logs of one folder, richest format first; files that are one log together."""
    groups: list[tuple[Format, list[Path]]] = []
    merged: dict[str, list[Path]] = {}
    for name in names:
        path = folder / name
        if not may_be_log(name) or not path.is_file():
            continue
        try:
            head = head_of(path)
            recognised = recognise(head)
            if recognised is None and _PRINTED.search(name):
                recognised = late_console(head) if _is_small(path) else None
        except LogUnreadableError as error:
            if unreadable is not None:
                unreadable(path, error)
            continue
        if recognised is None or not (recognised.certain or _speaks_of_training(path, recognised)):
            continue
        if recognised.name in merged:
            merged[recognised.name].append(path)
            continue
        groups.append((recognised, [path]))
        if recognised.name in MERGED:
            merged[recognised.name] = groups[-1][1]
    return sorted(groups, key=lambda group: group[0].rank)


def _left_out(folder: Path) -> str:
    """The files of a folder without logs that were not looked into, for their names."""
    names = [
        path for path in sorted(folder.iterdir()) if path.is_file() and not may_be_log(path.name)
    ]
    return f"; not looked into, for their names: {_listed(names)}" if names else ""


def may_be_log(name: str) -> bool:
    """Whether a file of that name, found in a folder, is worth a look."""
    return name.lower() not in _NO_LOG_NAMES and _NO_LOG.search(name) is None


def _speaks_of_training(path: Path, recognised: Format) -> bool:
    """Whether a table or prose that lies about in a folder is a training log at all."""
    try:
        log = _opened(path, "", recognised, [path])
    except LogUnreadableError:
        return False
    if path.suffix.lower() == ".md":
        # A page of documentation shows a row or two, who asks for help pastes a log.
        rows = sum(bool(update.readings) for update in itertools.islice(log.updates, _SHOWN))
        return rows >= REPORTS_TO_JUDGE and names_training(log.names)
    return names_training(log.names)


def _opened(path: Path, run: str, recognised: Format, files: list[Path]) -> Log:
    """A log with its first updates read.

    Raises:
        NothingReadableError: It has the shape of a log, but no reading in it.
    """
    log = Log(path=path, format=recognised.name, run=run, files=files)
    count = _begun(log, recognised.read)
    if log.events:
        return log
    if not log.names:
        reason = f": {log.notes[0]}" if log.notes else ""
        raise NothingReadableError(f"{path}: no reading in it{reason}")
    # What a console numbers it measures, by whatever name.
    numbered = recognised.name == "console" and log.unit != "row"
    if not (recognised.certain or numbered or names_training(log.names)):
        raise NothingReadableError(f"{path}: numbers, but none that training logs")
    # One object with numbers in it is a settings file, unless it was measured.
    lone = count == 1 and not recognised.certain and log.unit == "row"
    if lone and not any(map(measured, log.names)):
        raise NothingReadableError(f"{path}: settings, and no reading")
    return log


def _is_small(path: Path) -> bool:
    return path.stat().st_size <= _SMALL_BYTES


def _begun(log: Log, read: Read) -> int:
    """Read a log's first updates, and say what they show of the trainer; how many they are."""
    count = log.begin(read(log))
    log.kind = kind_of(log.names, log.format, log.steady)
    log.lag_updates = lag_of(log.names, log.format)
    if log.lag_updates:
        log.note("train/* values are printed one update late by this logger")
    return count


def run_name_of(path: Path) -> str:
    """What the run in one file is called: as the file, or as its folder where that says more."""
    stem = _PACKED.sub("", path.name).rsplit(".", 1)[0]
    if _COMMON_STEM.match(stem) or "tfevents" in path.name:
        return folder_name_of(path.resolve().parent)
    return stem or path.name


def folder_name_of(folder: Path) -> str:
    """What the run in one folder is called."""
    name = folder.name or folder.resolve().name
    if name == mlflow_files.FOLDER and (folder.parent / "meta.yaml").exists():
        return mlflow_files.run_of(folder)
    return folder.resolve().parent.name if _CHECKPOINT.match(name) else name


def _listed(files: list[Path]) -> str:
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return ", ".join(file.name for file in files[:3]) + more
