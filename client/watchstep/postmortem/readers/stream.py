"""A console's bytes as rows, taken as they come: the same for a file and for a live trainer."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path

from watchstep.postmortem.readers.broken_lines import Breaks, Joining, breaks_of
from watchstep.postmortem.readers.console import ConsoleLines
from watchstep.postmortem.readers.gathering import LONGEST_ROW
from watchstep.postmortem.readers.jsonlogs import parsed, printed_in
from watchstep.postmortem.readers.logs import Log, Row
from watchstep.postmortem.readers.opening import (
    ENCODINGS,
    encoding_of,
    head_of,
    lines,
    open_stream,
    read_some,
)

__all__ = ["ConsoleReader", "Row"]

FAILED_START = "a start failed before its first reading"
_CHUNK_BYTES = 1 << 18


def console_rows(log: Log) -> Iterator[Row]:
    """The rows of a console log; errors and warnings become events on the row before them."""
    return with_events(_file_rows(log), log)


def _file_rows(log: Log) -> Iterator[Row]:
    path = log.files[0]
    head = head_of(path)
    encoding = encoding_of(head)
    *whole, _ = head.decode(encoding or "utf-8", "replace").split("\n")
    reader = ConsoleReader(log, encoding, breaks_of(whole))
    with open_stream(path) as stream:
        while chunk := read_some(stream, _CHUNK_BYTES, log, path.name):
            yield from reader.feed(chunk)
    yield from reader.close()


def wrapped_rows(log: Log) -> Iterator[Row]:
    """The rows of a console log whose lines a logger of containers has wrapped in JSON."""
    return with_events(_wrapped_rows(log), log)


def _wrapped_rows(log: Log) -> Iterator[Row]:
    reader = ConsoleReader(log, "utf-8")
    for text in lines(log.files[0], log):
        printed = printed_in(parsed(text))
        line = text if printed is None else f"{printed.rstrip()}\n"
        yield from reader.feed(line.encode("utf-8", "replace"))
    yield from reader.close()


class ConsoleReader:
    """Turns the bytes that a trainer prints into rows.

    A row comes as soon as it is complete: a line of readings at once, a block or table when the
    next begins, or at `close`. An event (a failure, an end, a warning) is a row without readings.
    Memory is bounded whatever is fed: of a line over 20,000 characters nothing is kept.

    Args:
        log: Takes the notes, the format and what rows are numbered by; a fresh one without.
        encoding: None to tell it from the first bytes.
        breaks: Where a terminal broke the lines, if one did.
    """

    def __init__(
        self,
        log: Log | None = None,
        encoding: str | None = None,
        breaks: Breaks | None = None,
    ) -> None:
        self.log = log or Log(path=Path(), format="", run="")
        self._lines = ConsoleLines(self.log)
        self._joining = Joining(breaks, self._joined) if breaks else None
        self._line = self._joining.line if self._joining else self._lines.line
        self._encoding = encoding
        self._decoder: codecs.IncrementalDecoder | None = None
        self._number = 1
        self._rest = ""
        self._dropping = False

    def feed(self, data: bytes) -> list[Row]:
        """The rows that these bytes complete."""
        self._take(self._decoded(data, final=False))
        return self._lines.taken()

    def settle(self) -> list[Row]:
        """The rows being gathered, after a silence; what comes later begins a new one."""
        self._lines.settle()
        return self._lines.taken()

    def close(self) -> list[Row]:
        """The rows that were still being gathered; feed nothing afterwards."""
        self._take(self._decoded(b"", final=True))
        if self._joining is not None:
            self._part(self._rest)
            self._joining.end()
        elif self._rest and not self._dropping:
            self._lines.cut(self._rest, self._number)
        self._rest = ""
        self._lines.end()
        return self._lines.taken()

    def _decoded(self, data: bytes, *, final: bool) -> str:
        if self._decoder is None:
            begins = (name for mark, name in ENCODINGS if data.startswith(mark))
            self._encoding = self._encoding or next(begins, "utf-8")
            self._decoder = codecs.getincrementaldecoder(self._encoding)("replace")
        if b"\0" in data and str(self._encoding).startswith("utf-8"):
            self.log.tear("zeros stand where text was lost")
            data = data.replace(b"\0", b"")
        text = self._decoder.decode(data, final)
        if "\ufffd" in text:
            self.log.note(f"bytes that are no {self._encoding} were replaced")
        return text

    def _take(self, text: str) -> None:
        # A progress bar is drawn over itself: what a carriage return or backspaces part are lines.
        if "\b" in text:
            text = text.replace("\b", "\r")
        *whole, rest = text.split("\n")
        plain = "\r" not in text
        for line in whole:
            if plain and not self._rest and not self._dropping:
                if line or self._joining:
                    self._line(line, self._number)
            else:
                for part in (self._rest + line).split("\r"):
                    self._part(part)
                self._rest, self._dropping = "", False
            self._number += 1
        self._rest += rest
        if "\r" in rest:
            *bars, self._rest = self._rest.split("\r")
            for bar in bars:
                self._part(bar)
        if len(self._rest) > LONGEST_ROW:
            self.log.note(f"lines of over {LONGEST_ROW} characters are left out")
            self._rest, self._dropping = "", True

    def _part(self, part: str) -> None:
        if part and not self._dropping:
            self._line(part, self._number)
        self._dropping = False

    def _joined(self, parts: list[str], number: int) -> None:
        self._lines.line("".join(parts), number)


def with_events(rows: Iterable[Row], log: Log) -> Iterator[Row]:
    """Rows with what was said after each of them put on it."""
    held: Row | None = None
    begun = False
    farthest: tuple[float, int] = (0, -1)
    for row in rows:
        if held is not None and not row.readings:
            if not begun and _failed(held) and _failed(row):
                log.note(FAILED_START)
                held = row
                continue
            if _attached(held, row):
                continue
            row.step, row.epoch, row.length = held.step, held.epoch, held.length
        if held is not None and not begun and row.readings:
            _take_over(held, row, log)
        elif held is not None:
            goes_on = _place(row) > farthest or _finished(row)
            yield _survived(held) if goes_on else held
        if row.readings and (_place(row)[1] >= 0 or farthest[1] < 0):
            farthest = _place(row)
        begun = begun or bool(row.readings)
        held = row
    if held is not None:
        yield held


def _take_over(held: Row, row: Row, log: Log) -> None:
    """What was said before the first row belongs to it, but for starts that failed."""
    if row.event is None and _failed(held):
        log.note(FAILED_START)
    elif row.event is None:
        row.event = held.event


def _attached(held: Row, row: Row) -> bool:
    """Put an event on the row before it; False when that one carries another already."""
    if held.event is None or (held.event["kind"] == "log" and _ends(row)):
        held.event = row.event
        return True
    if held.event["kind"] == "log" and row.event and row.event["kind"] == "log":
        times = held.event.get("count", 1)
        held.event["count"] = (times if isinstance(times, int) else 1) + 1
        return True
    return False


def _ends(row: Row) -> bool:
    return row.event is not None and row.event["kind"] != "log"


def _failed(row: Row) -> bool:
    return row.event is not None and row.event["kind"] == "failed"


def _finished(row: Row) -> bool:
    return row.event is not None and row.event["kind"] == "finished"


def _place(row: Row) -> tuple[float, int]:
    """Where a row stands: without a number, as Hugging Face's, in which part of an epoch."""
    if row.step is None:
        return (row.readings.get("epoch", 0), -1)
    return (row.epoch or 0, row.step if row.readings else -1)


def _survived(row: Row) -> Row:
    """An exception that was caught is no end, since training goes on where it was."""
    if row.event and row.event["kind"] == "failed":
        row.event = {"kind": "log", "level": "error", "text": row.event["error"]}
    return row
