"""MLflow's stores: a file for each metric, with `milliseconds value step` lines, or a database."""

from __future__ import annotations

import contextlib
import heapq
import math
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from watchstep.errors import LogUnreadableError
from watchstep.postmortem.readers.database import connect
from watchstep.postmortem.readers.logs import Log, Row
from watchstep.postmortem.readers.naming import metric_name, number
from watchstep.postmortem.readers.opening import lines

FIRST_LINE = re.compile(r"\d{12,14} [-+\w.]{1,40} -?\d{1,18}\s{0,4}(?:\n|$)")
FOLDER = "metrics"
_MOST_FILES = 256
"""Files of one run that are open at a time."""

_FINISHED: dict[str, object] = {"kind": "finished"}
_FAILED: dict[str, object] = {"kind": "failed", "error": "MLflow has this run as failed"}
_KILLED: dict[str, object] = {"kind": "halted", "reason": "MLflow has this run as killed"}
_ENDS = {
    "3": _FINISHED,
    "4": _FAILED,
    "5": _KILLED,
    "FINISHED": _FINISHED,
    "FAILED": _FAILED,
    "KILLED": _KILLED,
}
"""What the status of a run means: the numbers of MLflow's `RunStatus` in files, its words in a
database."""

_INFINITE = 1.7976931348623157e308
"""What MLflow's database holds for an infinity, which not every SQL has."""


def rows(log: Log) -> Iterator[Row]:
    """The metrics of one run by step; those with the same step become one update."""
    if len(log.files) > _MOST_FILES:
        log.note(f"{len(log.files) - _MOST_FILES} more metrics of this run are not read")
    log.unit = "step"
    files = log.files[:_MOST_FILES]
    yield from heapq.merge(*(_points(path, log) for path in files), key=lambda row: row.step or 0)
    status = re.search(r"^status:\s{0,4}(\w{1,12})", _meta(files[0].parent), re.MULTILINE)
    if status and status.group(1) in _ENDS:
        yield Row({}, event=dict(_ENDS[status.group(1)]))


def run_of(folder: Path) -> str:
    """The run whose metrics lie in a folder: its name in `meta.yaml`, else its folder's."""
    named = re.search(r"^run_name:\s*['\"]?([^'\"\n]+)", _meta(folder), re.MULTILINE)
    return named.group(1).strip() if named else folder.resolve().parent.name


def _meta(folder: Path) -> str:
    """What MLflow notes of the run whose metrics lie in a folder, or below it; "" without."""
    parts = folder.resolve().parts
    run = Path(*parts[: len(parts) - 1 - parts[::-1].index(FOLDER)]) if FOLDER in parts else folder
    try:
        return (run / "meta.yaml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _points(path: Path, log: Log) -> Iterator[Row]:
    parts = path.parts
    # A metric called train/loss is a file `loss` in a folder `train`.
    inner = parts[len(parts) - parts[::-1].index(FOLDER) :] if FOLDER in parts[:-1] else parts[-1:]
    name = metric_name("/".join(inner))
    for text in lines(path, log):
        cells = text.split()
        values = [number(cell) for cell in cells]
        if len(values) != 3 or values[1] is None or values[2] is None or values[0] is None:
            log.tear(f"{path.name}: a line that is no metric is left out")
            continue
        yield Row({name: values[1]}, step=int(values[2]), time=values[0] / 1000)


def stored_runs(path: Path) -> list[tuple[str, str]]:
    """Key and name of every run in MLflow's own database, oldest first; none in another's.

    Raises:
        LogUnreadableError: The file is damaged or locked.
    """
    query = "SELECT run_uuid, name FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time"
    try:
        with contextlib.closing(connect(path)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if not {"runs", "metrics", "experiments"} <= tables:
                return []
            return [(key, name or key) for key, name in connection.execute(query)]
    except sqlite3.Error as error:
        raise LogUnreadableError(f"{path}: {error}") from error


def stored_rows(log: Log, key: str) -> Iterator[Row]:
    """The metrics of one run in MLflow's own database, by step."""
    log.unit = "step"
    query = (
        "SELECT key, value, is_nan, step, timestamp FROM metrics WHERE run_uuid = ? ORDER BY step"
    )
    try:
        with contextlib.closing(connect(log.files[0])) as connection:
            for name, value, is_nan, step, moment in connection.execute(query, (key,)):
                reading = (
                    math.nan if is_nan else value * math.inf if abs(value) >= _INFINITE else value
                )
                yield Row({metric_name(name): reading}, step=int(step), time=moment / 1000)
            ends = connection.execute("SELECT status FROM runs WHERE run_uuid = ?", (key,))
            for (status,) in ends:
                if status in _ENDS:
                    yield Row({}, event=dict(_ENDS[status]))
    except (sqlite3.Error, TypeError, ValueError) as error:
        log.tear(f"reading the database stopped: {error}")
