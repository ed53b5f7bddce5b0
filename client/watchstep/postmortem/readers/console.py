"""Console output: whatever a trainer printed, row by row, with the errors in between."""

from __future__ import annotations

import re
from collections.abc import Iterator

from watchstep.postmortem.readers import console_lines as printed
from watchstep.postmortem.readers.counters import epoch_seconds
from watchstep.postmortem.readers.logs import Log, Row
from watchstep.postmortem.readers.opening import lines

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_CLOCK = re.compile(r"^\W{0,2}(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?)")
_RANK = re.compile(r"^\[?(?:rank|default)\s?\d+\]?:\s?")
_LONGEST_TEXT = 500

_LONGEST_ROW = 20_000
"""Characters of a line that can be a row; a dumped tensor is longer."""


def console_rows(log: Log) -> Iterator[Row]:
    """The rows of a console log; errors and warnings become events on the row before them."""
    return _with_events(_rows(log))


def _rows(log: Log) -> Iterator[Row]:
    parser = ConsoleParser(log)
    for text in lines(log.files[0], log):
        yield from parser.feed(text)
    yield from parser.end()


def _with_events(rows: Iterator[Row]) -> Iterator[Row]:
    held: Row | None = None
    begun = False
    for row in rows:
        if held is not None and not row.readings:
            if _attached(held, row):
                continue
            row.number = held.number
        if held is not None and not begun and row.readings:
            row.event = held.event  # What was said before the first row belongs to it.
        elif held is not None:
            yield held
        begun = begun or bool(row.readings)
        held = row
    if held is not None:
        yield held


def _attached(held: Row, said: Row) -> bool:
    """Put an event on the row before it; False when that one carries another already."""
    if held.event is None:
        held.event = said.event
        return True
    if held.event["kind"] == "log" and said.event and said.event["kind"] == "log":
        times = held.event.get("count", 1)
        held.event["count"] = (times if isinstance(times, int) else 1) + 1
        return True
    return False


class ConsoleParser:
    """Turns console lines into rows; tables and blocks are gathered until they end.

    An event comes as a row without readings. `log.format` is set by the first row's shape
    when it is not set yet.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._table: dict[str, float] = {}
        self._section = ""
        self._block: dict[str, float] | None = None
        self._block_number: int | None = None
        self._traceback = False
        self._named = False

    def feed(self, text: str) -> Iterator[Row]:
        """The rows that a line completes."""
        if "\x1b" in text:
            text = _ANSI.sub("", text)
        for part in text.rstrip("\n").split("\r"):
            if part and not part.isspace():
                yield from self._line(part)

    def end(self) -> Iterator[Row]:
        """The rows that were still being gathered when the log ended."""
        yield from self._flush()

    def _line(self, text: str) -> Iterator[Row]:
        if text.startswith("|") and text.rstrip().endswith("|") and text.count("|") == 3:
            yield from self._table_line(text)
        elif printed.is_border(text):
            yield from self._flush_table()
        elif len(text) > _LONGEST_ROW:
            self._log.note(f"lines of over {_LONGEST_ROW} characters are left out")
        else:
            yield from self._prose(text)

    def _prose(self, text: str) -> Iterator[Row]:
        said = self._said(text)
        if said is not None:
            if said.event and said.event["kind"] == "failed":
                yield from self._flush()
            yield said
            return
        if self._traceback:
            return
        iteration = printed.rsl_rl_iteration(text)
        if iteration is not None:
            yield from self._flush()
            self._block, self._block_number = {}, iteration
            return
        if self._block is not None and printed.rsl_rl_reading(text, self._block):
            return
        row = self._single(text)
        if row is not None:
            yield from self._flush()
            row.time = _clock(text)
            yield row

    def _single(self, text: str) -> Row | None:
        for name, unit, shape in printed.SHAPES:
            found = shape(text)
            if found is None:
                continue
            number, readings, cut = found
            if cut:
                self._log.tear("a line is torn: its last reading is left out")
            self._recognised(name)
            if number is not None and unit != "row":
                self._log.unit = unit
            return Row(readings, number=number)
        return None

    def _table_line(self, text: str) -> Iterator[Row]:
        cell = printed.table_cell(text)
        if cell is None:
            return
        key, value, indented = cell
        if value is None:
            if not indented and key.endswith("/"):
                self._section = key
            return
        name = printed.table_name(self._section if indented else "", key)
        if key.endswith("..."):
            self._log.note(f"the logger cut long keys short, such as {name}")
        if name in self._table:
            yield from self._flush_table()
            self._section = self._section if indented else ""
        self._table[name] = value

    def _flush(self) -> Iterator[Row]:
        yield from self._flush_table()
        if self._block is not None:
            block, number = self._block, self._block_number
            self._block = None
            if block:
                self._recognised("rsl_rl")
                self._log.unit = "iteration"
                yield Row(block, number=number)

    def _flush_table(self) -> Iterator[Row]:
        table, self._table = self._table, {}
        if table:
            self._recognised("sb3_table")
            number, unit = printed.table_number(table)
            if number is not None:
                self._log.unit = unit
            yield Row(table, number=number)

    def _said(self, text: str) -> Row | None:
        text = _RANK.sub("", text, count=1)
        if printed.TRACEBACK in text:
            self._traceback = True
            return None
        error = None
        if self._traceback:
            if text[:1].isspace():
                return None
            # The first line at the margin names the exception, whatever its class is called.
            self._traceback = False
            error = text.strip()
        else:
            error = printed.bare_error(text)
        if error is not None:
            return Row({}, event={"kind": "failed", "error": error[:_LONGEST_TEXT]})
        if printed.is_warning(text):
            said: dict[str, object] = {"kind": "log", "level": "warning"}
            return Row({}, event={**said, "text": text.strip()[:_LONGEST_TEXT]})
        return None

    def _recognised(self, name: str) -> None:
        if not self._named:
            self._named = True
            self._log.format = name


def _clock(text: str) -> float | None:
    found = _CLOCK.match(text)
    return epoch_seconds(found.group(1)) if found else None
