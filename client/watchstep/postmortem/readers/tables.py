"""Comma separated logs: SB3, Lightning, exports, and SB3's per-episode monitor files."""

from __future__ import annotations

import csv
import heapq
import itertools
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from watchstep.postmortem.readers.counters import Counter
from watchstep.postmortem.readers.jsonlogs import parsed
from watchstep.postmortem.readers.logs import Log, Row
from watchstep.postmortem.readers.naming import metric_name, number
from watchstep.postmortem.readers.opening import lines

_MONITOR_NAMES = {"r": "rollout/ep_rew", "l": "rollout/ep_len"}
_EXPORTED = re.compile(r"-tag-(.+)\.csv", re.IGNORECASE)
_SECTION = re.compile(r"^(train|rollout|time|eval|val|losses|charts|loss|rewards)_", re.IGNORECASE)
_DELIMITERS = ",\t;"
_BY_COMMA = re.compile(r"[-+]?\d{1,40},\d{1,40}(?:[eE][-+]?\d{1,4})?")
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
_BY_POINT = re.compile(r"[-+]?\d{0,40}\.\d{1,40}(?:[eE][-+]?\d{1,4})?")
_HEAD_ROWS = 200
_EXTREMES = ("__MIN", "__MAX")
_MOST_JOINED = 1_000
"""Lines of one quoted cell; RLlib prints arrays over dozens."""


def csv_rows(log: Log, run: str = "") -> Iterator[Row]:
    """A row for each line under the header; an empty cell is a reading that was not made.

    Args:
        log: Names the file, and takes the notes.
        run: The one to read of a table that has a column for each of several runs.
    """
    source = headed(text for text in records(lines(log.files[0], log)) if text.strip())
    header_line = next(source, "")
    delimiter = delimiter_of(header_line)
    header = cells(header_line, delimiter) or []
    columns = columns_of(header, log.files[0].name, run)
    counter = Counter(log, columns)
    head = list(itertools.islice(source, _HEAD_ROWS))
    commas = delimiter != "," and _by_comma(cells(text, delimiter) or [] for text in head)
    for text in itertools.chain(head, source):
        row = cells(text, delimiter)
        if row is None:
            log.tear("a line that is no CSV is left out")
            continue
        if row == header:
            log.note("the header is repeated: the file was appended to")
            continue
        whole_line = text.endswith("\n") or len(row) == len(columns)
        if not whole_line:
            log.tear("the last line is torn: its last cell is left out")
            row.pop()
        elif len(row) > len(columns):
            log.note("cells beyond the header are left out")
        if commas:
            row = [cell.replace(",", ".") if _BY_COMMA.fullmatch(cell) else cell for cell in row]
        made = table_row(columns, row, counter)
        if made.readings or not run:
            yield made


def headed(source: Iterable[str]) -> Iterator[str]:
    """Lines from a table's header on; it may be the last of the comments above, as NumPy's is."""
    waiting, comment = iter(source), ""
    for text in waiting:
        if not text.startswith("#"):
            names = comment.lstrip("# ")
            delimiter = delimiter_of(names)
            row = cells(text, delimiter) or []
            numbers = all(number(cell) is not None for cell in row)
            if numbers and 1 < len(row) == len(cells(names, delimiter) or []):
                yield names
            yield text
            break
        comment = text
    yield from waiting


def _by_comma(rows: Iterable[list[str]]) -> bool:
    """Whether a table sets commas before decimals.

    No number then has a point, and not each comma can be one of thousands.
    """
    numbers = [cell.strip() for row in rows for cell in row]
    commas = [cell for cell in numbers if _BY_COMMA.fullmatch(cell)]
    points = any(map(_BY_POINT.fullmatch, numbers))
    return not points and not all(map(_THOUSANDS.fullmatch, commas))


def records(source: Iterable[str]) -> Iterator[str]:
    """Lines, those of a quoted cell that goes on over several joined into one record.

    A quote that is not closed within 1,000 lines is no such cell: its line stands alone.
    """
    waiting = iter(source)
    again: list[str] = []
    while text := (again.pop() if again else next(waiting, "")):
        if text.count('"') % 2 == 0:
            yield text
            continue
        parts = [text]
        while len(parts) < _MOST_JOINED and (more := again.pop() if again else next(waiting, "")):
            parts.append(more)
            if more.count('"') % 2:
                break
        else:
            yield parts[0]
            again.extend(reversed(parts[1:]))
            continue
        yield "".join(parts)


def runs_in(head: str) -> list[str]:
    """The runs that a table has a column for, each; none where it tells of one run only.

    W&B exports a chart of several runs so: `"Step","run a - loss","run b - loss"`.
    """
    header_line = head.partition("\n")[0]
    header = cells(header_line, delimiter_of(header_line)) or []
    named: dict[str, list[str]] = {}
    for cell in header:
        run, dash, metric = cell.rpartition(" - ")
        if dash and not metric.endswith(_EXTREMES):
            named.setdefault(metric, []).append(run)
    runs = list(dict.fromkeys(run for group in named.values() for run in group))
    return runs if any(len(group) > 1 for group in named.values()) else []


def monitor_rows(log: Log) -> Iterator[Row]:
    """One row for each episode of a run's SB3 `monitor.csv` files, by time over all workers."""
    log.note("one row for each episode, not for each training update")
    workers = [_episodes(path, log) for path in log.files]
    return heapq.merge(*workers, key=lambda row: row.time or 0.0)


def _episodes(path: Path, log: Log) -> Iterator[Row]:
    source = lines(path, log)
    header = parsed(next(source, "").lstrip("# "))
    start = number(header.get("t_start")) if isinstance(header, dict) else None
    if isinstance(header, dict) and isinstance(header.get("env_id"), str):
        log.tags["env"] = header["env_id"]
    columns = [cell.strip() for cell in next(source, "").split(",")]
    for text in source:
        row = cells(text, ",") or []
        if len(row) < len(columns):
            if text.strip():
                log.tear("a line with missing cells is left out")
            continue
        readings: dict[str, float] = {}
        moment: float | None = None
        for column, cell in zip(columns, row, strict=False):
            reading = number(cell)
            if reading is None:
                continue
            if column == "t":
                moment = reading if start is None else start + reading
            else:
                readings[_MONITOR_NAMES.get(column, metric_name(f"monitor/{column}"))] = reading
        if readings:
            clock = moment if moment is not None and math.isfinite(moment) else None
            yield Row(readings, time=clock)


def delimiter_of(header: str) -> str:
    """The character that most likely separates a header's cells."""
    return max(_DELIMITERS, key=header.count)


def cells(text: str, delimiter: str) -> list[str] | None:
    """A line's cells; None when it cannot be read as CSV."""
    try:
        return next(csv.reader([text.rstrip("\r\n")], delimiter=delimiter), None)
    except csv.Error:
        return None


def columns_of(header: list[str], file: str, run: str = "") -> tuple[str, ...]:
    """Metric names of a header; "" for a column that holds none.

    W&B's export names a column "run - metric" and adds its least and largest value.
    TensorBoard's holds one metric, which only the file's name tells, without its slash.
    """
    exported = _EXPORTED.search(file)
    if exported and "Value" in header:
        tag = _SECTION.sub(r"\1/", exported.group(1), count=1)
        return tuple(metric_name(tag if cell == "Value" else cell) for cell in header)
    if run:
        header = [
            cell if " - " not in cell or cell.startswith(f"{run} - ") else "" for cell in header
        ]
    short = [cell.rsplit(" - ", 1)[-1] for cell in header]
    if len(set(filter(None, short))) < len([cell for cell in short if cell]):
        short = header  # Two quantities with one name: only the whole name tells them apart.
    return tuple("" if cell.endswith(_EXTREMES) else metric_name(cell) for cell in short)


def table_row(columns: tuple[str, ...], row: list[str], counter: Counter) -> Row:
    """The row that a line's cells make under their columns, see `columns_of`."""
    readings: dict[str, float] = {}
    raw: dict[str, object] = {}
    for name, cell in zip(columns, row, strict=False):
        if not cell or not name:
            continue
        reading = number(cell)
        if reading is None:
            raw[name] = cell
        else:
            readings[name] = reading
            raw[name] = reading
    return counter.row(readings, raw)
