"""Reading what is added to a log, by the readers that read whole logs.

Lines, tables and event files are read on from where they ended; what is written anew each time
(`trainer_state.json`, W&B's blocks, databases) is read as a whole, and only its new rows count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from watchstep.errors import LogUnreadableError
from watchstep.postmortem.readers import jsonlogs, tables, tensorboard, tfrecord
from watchstep.postmortem.readers.counters import Counter
from watchstep.postmortem.readers.formats import (
    RANKS,
    Format,
    late_console,
    names_training,
    recognise,
)
from watchstep.postmortem.readers.logs import Log, Row
from watchstep.postmortem.readers.opening import HEAD_BYTES, head_of
from watchstep.postmortem.readers.stream import ConsoleReader

CONSOLE_RANK = RANKS.index("console")
_CHUNK_BYTES = 1 << 20
_MAGIC_BYTES = 6
"""From which one sees whether a file is packed."""

_LONGEST_LINE = 1 << 20
_DOUBTFUL_ROWS = 20
"""Rows after which a table that names nothing that training logs is given up."""

_REREAD_SHARE = 0.02
"""Of the time that may go into reading a file again and again as a whole."""

_SETTLED_S = 1.0
"""How long a file without any line feed is left alone before it counts as written."""


class Reader(Protocol):
    """Takes a file's bytes as they come."""

    def feed(self, data: bytes) -> list[Row]:
        """The rows that these bytes complete."""

    def settle(self) -> list[Row]:
        """The rows that were still being gathered, after a while in which nothing came."""

    def close(self) -> list[Row]:
        """The same, and what the last line without its end holds; nothing comes any more."""


class GrowingFile:
    """One file that is being written, whatever it is, and whatever is done to it.

    A file that was truncated, or replaced by another of its name, is read again from its
    beginning; rows that it repeats do not count twice.

    Args:
        path: Need not exist yet.
        printed: Whether it is known to be a console's output, whose beginning may say nothing.

    Attributes:
        format: As in `Log.format`; "" until it is recognised.
        rank: As in `formats.RANKS`: the lower, the more it tells.
        hopeless: Whether it is no log.
        settled: Whether the reader holds back nothing of what was read.
        log: What was noted of it.
    """

    def __init__(self, path: Path, *, printed: bool = False) -> None:
        self.path = path
        self.format = ""
        self.rank = len(RANKS)
        self.hopeless = False
        self.settled = False
        self.log = Log(path=path, format="", run="", files=[path])
        self.offset = 0
        self._printed = printed
        self._identity = (0, 0)
        self._changed_ns = 0
        self._reader: Reader | None = None
        self._whole: WholeFile | None = None
        self._certain = False
        self._packed = False
        self._doubtful: list[Row] = []
        self._rows = 0
        self._repeats = 0
        self._first: dict[str, float] | None = None

    def afresh(self) -> GrowingFile:
        """The same file, not read yet."""
        return GrowingFile(self.path, printed=self._printed)

    @property
    def is_log(self) -> bool:
        return bool(self.format) and self._certain

    @property
    def changed(self) -> float:
        """When it was last written to, in seconds since the epoch; 0 where it is gone."""
        try:
            return self.path.stat().st_mtime
        except OSError:
            return 0.0

    def identity(self) -> tuple[int, int]:
        """Device and inode; zeros where it is gone."""
        try:
            state = self.path.stat()
        except OSError:
            return 0, 0
        return state.st_dev, state.st_ino

    @property
    def size_bytes(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def poll(self, *, until: int | None = None) -> tuple[list[Row], bool]:
        """What was added since the last call, as rows, and whether anything was.

        Args:
            until: Read no further than this offset.
        """
        try:
            state = self.path.stat()
        except OSError:
            return [], False
        identity = (state.st_dev, state.st_ino)
        if identity != self._identity or state.st_size < self.offset:
            self._begin_again(identity)
        elif state.st_mtime_ns == self._changed_ns and not self._behind(state.st_size):
            return [], False
        grown = state.st_mtime_ns != self._changed_ns or state.st_size > self.offset
        self._changed_ns = state.st_mtime_ns
        self.settled = False
        if not self.format and not self.hopeless:
            self._recognise(state.st_mtime)
        if self._whole is not None:
            rows = self._whole.poll(self.log)
            self.offset = state.st_size
        else:
            rows = self._read_on(min(state.st_size, until or state.st_size))
        return self._counted(rows), grown

    def settle(self) -> list[Row]:
        self.settled = True
        return self._counted(self._reader.settle() if self._reader is not None else [])

    def close(self) -> list[Row]:
        """What is left; nothing is added any more."""
        if self._whole is not None:
            return self._counted(self._whole.poll(self.log, now=True))
        return self._counted(self._reader.close() if self._reader is not None else [])

    def _behind(self, size_bytes: int) -> bool:
        if self._whole is not None:
            return self._whole.behind
        return self.offset < size_bytes or not (self.format or self.hopeless)

    def _begin_again(self, identity: tuple[int, int]) -> None:
        self._identity = identity
        self._changed_ns = self.offset = 0
        self._repeats, self._rows = self._rows, 0
        if self._reader is not None:
            # The same kind of log goes on under the same name, which is how logs are rotated.
            self.format, self._reader = "", None

    def _recognise(self, changed: float) -> None:
        try:
            head = head_of(self.path)
            with self.path.open("rb") as file:
                self._packed = not head.startswith(file.read(_MAGIC_BYTES))
        except (LogUnreadableError, OSError):
            return
        whole = head.rpartition(b"\n")[0] + b"\n"
        binary = b"\0" in head[:64]
        if len(whole) < 2 and not binary:
            if not head or time.time() - changed < _SETTLED_S:
                return
            whole = head
        recognised = recognise(head if binary else whole)
        if recognised is None and (self._printed or len(head) >= HEAD_BYTES):
            recognised = late_console(head.ljust(HEAD_BYTES))
        if recognised is not None:
            self._take_format(recognised)
        elif len(head) >= HEAD_BYTES:
            self.hopeless = True

    def _take_format(self, recognised: Format) -> None:
        self.format, self.rank = recognised.name, recognised.rank
        self._certain = recognised.certain or self._printed
        make = None if self._packed else _READERS.get(recognised.name)
        if make is None:
            self._whole = self._whole or WholeFile(recognised)
        else:
            self._reader = make(self.log)

    def _read_on(self, until: int) -> list[Row]:
        rows: list[Row] = []
        if self._reader is None:
            return rows
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                while self.offset < until:
                    data = file.read(min(until - self.offset, _CHUNK_BYTES))
                    if not data:
                        break
                    self.offset += len(data)
                    rows += self._reader.feed(data)
        except OSError:
            pass
        return rows

    def _counted(self, rows: list[Row]) -> list[Row]:
        """Rows that are new, of what is a training's log."""
        if self._repeats and rows:
            # A logger that rewrites its file begins with the row that it began with before.
            if self._rows == 0 and not _repeated(self._first, rows[0].readings):
                self._repeats = 0
            skipped = min(self._repeats, len(rows))
            self._repeats -= skipped
            self._rows += skipped
            rows = rows[skipped:]
        if rows and self._first is None:
            self._first = dict(rows[0].readings)
        self._rows += len(rows)
        return rows if self._certain else self._believed(rows)

    def _believed(self, rows: list[Row]) -> list[Row]:
        """Nothing until a name is one that training logs; then all that was held back."""
        self._doubtful += rows
        names = {name for row in self._doubtful for name in row.readings}
        if names_training(names):
            self._certain = True
            rows, self._doubtful = self._doubtful, []
            return rows
        if len(self._doubtful) > _DOUBTFUL_ROWS:
            self.hopeless, self._doubtful = True, []
        return []


class WholeFile:
    """A log that is read as a whole each time, seldom enough for its size.

    Attributes:
        behind: Whether it has changed since it was read.
    """

    def __init__(self, recognised: Format) -> None:
        self._recognised = recognised
        self.behind = False
        self._seen = 0
        self._not_before = 0.0

    def poll(self, log: Log, *, now: bool = False) -> list[Row]:
        """The rows beyond those of the last call."""
        began = time.monotonic()
        self.behind = began < self._not_before and not now
        if self.behind:
            return []
        try:
            rows = list(self._recognised.read(log))
        except (LogUnreadableError, OSError):
            rows = []  # Being replaced just now.
        self._not_before = time.monotonic() + (time.monotonic() - began) / _REREAD_SHARE
        fresh = rows[self._seen :]
        self._seen = max(self._seen, len(rows))
        return fresh


class Lines:
    """Splits bytes into lines, and has each read; a line over a megabyte is left out."""

    def __init__(self, read: Callable[[str], Iterator[Row]]) -> None:
        self._read = read
        self._rest = b""

    def feed(self, data: bytes) -> list[Row]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            self._rest = b""
        return [row for line in whole for row in self._row(line + b"\n")]

    def settle(self) -> list[Row]:
        return []  # Every row is one line, and is told with it.

    def close(self) -> list[Row]:
        rest, self._rest = self._rest, b""
        return list(self._row(rest)) if rest else []

    def _row(self, line: bytes) -> Iterator[Row]:
        text = line.decode("utf-8", "replace").lstrip("\ufeff")
        if text.strip() and len(line) <= _LONGEST_LINE:
            yield from self._read(text)


def _json_lines(log: Log) -> Reader:
    counter = Counter(log)

    def read(text: str) -> Iterator[Row]:
        row = jsonlogs.parsed(text)
        if isinstance(row, dict) and "env_info" not in row:
            yield jsonlogs.mapping_row(row, counter)

    return Lines(read)


def _table(log: Log) -> Reader:
    columns: tuple[str, ...] = ()
    header: list[str] = []
    delimiter = ","
    counter: Counter | None = None
    torn = ""

    def read(text: str) -> Iterator[Row]:
        nonlocal columns, header, delimiter, counter, torn
        text, torn = torn + text, ""
        if text.count('"') % 2:
            # A quoted cell that goes on in the next line.
            torn = text if len(text) < _LONGEST_LINE else ""
            return
        if counter is None:
            if not text.startswith("#"):
                delimiter = tables.delimiter_of(text)
                header = tables.cells(text, delimiter) or []
                columns = tables.columns_of(header, log.path.name)
                counter = Counter(log, columns)
            return
        row = tables.cells(text, delimiter)
        if row is not None and row != header and (text.endswith("\n") or len(row) == len(columns)):
            yield tables.table_row(columns, row, counter)

    return Lines(read)


class EventFile:
    """TensorBoard's event file: a row as soon as the next step begins, or nothing comes."""

    def __init__(self, log: Log) -> None:
        log.unit = "step"
        self._log = log
        self._decoder = tensorboard.Decoder(log)
        self._verified: dict[bytes, int] = {}
        self._rest = b""
        self._skip = 0

    def feed(self, data: bytes) -> list[Row]:
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            data = data[passed:]
        if self._skip < 0 or not data:
            return []
        payloads, checksums, self._rest, self._skip = tfrecord.split(
            self._rest + data, self._verified
        )
        verified = tfrecord.verified(payloads, checksums, self._log, self._log.path.name)
        return _of_one_attempt(self._decoder.decode(verified))

    def settle(self) -> list[Row]:
        row, self._decoder.row = self._decoder.row, Row({})
        return _of_one_attempt([row] if row.readings else [])

    def close(self) -> list[Row]:
        return self.settle()


def _of_one_attempt(rows: list[Row]) -> list[Row]:
    """In an event file numbers that go back tell of no resume: that begins another file."""
    for row in rows:
        row.attempt = 1
    return rows


_READERS: dict[str, Callable[[Log], Reader]] = {
    "console": ConsoleReader,
    "jsonl": _json_lines,
    "sb3_json": _json_lines,
    "watchstep": _json_lines,
    "csv": _table,
    "sb3_csv": _table,
    "tensorboard": EventFile,
}


def _repeated(first: dict[str, float] | None, again: dict[str, float]) -> bool:
    """Whether a row says all that the first one did; the logger may have added columns."""
    return first is not None and all(
        name in again and (again[name] == value or value != value) for name, value in first.items()
    )
