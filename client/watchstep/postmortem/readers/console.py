"""Console output: whatever a trainer printed, row by row, with the errors in between."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from watchstep.postmortem.readers import console_lines as shapes
from watchstep.postmortem.readers import endings
from watchstep.postmortem.readers.columns import Columns
from watchstep.postmortem.readers.counters import epoch_seconds
from watchstep.postmortem.readers.logs import Log, Row, Unit
from watchstep.postmortem.readers.opening import lines
from watchstep.postmortem.readers.pairs import lone_pair
from watchstep.postmortem.readers.positions import bar_position, bare_position

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07")
_CLOCK = re.compile(r"^\W{0,2}(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?)")
_RANK = re.compile(r"^(?:\[?(?:rank|default|trainer)\s?\d*(?:\|\d+)?\]?:\s?|\(\w+ pid=\d+[^)]*\) )")
_PREFIX = re.compile(
    r"^(?:\W{0,2}\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?[\s\])|:,—-]*)?"
    r"(?:[^=\d]{0,80}?\[?\b(?:INFO|DEBUG|WARNING)\b\]?[\s|:—-]+)?"
    r"(?:\[\d{4}-\d\d-\d\d [\d:,.]+\]\s*)?"
)
_LONGEST_TEXT = 500

_LONGEST_ROW = 20_000
"""Characters of a line that can be a row; a dumped tensor is longer."""

_MOST_BLOCK = 1_000
"""Lines gathered as one block; no trainer prints more for one update."""


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
            yield _survived(held, row)
        begun = begun or bool(row.readings)
        held = row
    if held is not None:
        yield held


def _attached(held: Row, said: Row) -> bool:
    """Put an event on the row before it; False when that one carries another already."""
    if held.event is None or (held.event["kind"] == "log" and _ends(said)):
        held.event = said.event
        return True
    if held.event["kind"] == "log" and said.event and said.event["kind"] == "log":
        times = held.event.get("count", 1)
        held.event["count"] = (times if isinstance(times, int) else 1) + 1
        return True
    return False


def _ends(said: Row) -> bool:
    return said.event is not None and said.event["kind"] in ("failed", "halted", "finished")


def _survived(held: Row, following: Row) -> Row:
    """A row whose exception was caught is no end, since training goes on where it was."""
    goes_on = (
        following.readings
        and held.number is not None
        and following.number is not None
        and following.number > held.number
    )
    if goes_on and held.event and held.event["kind"] == "failed":
        held.event = {"kind": "log", "level": "error", "text": held.event["error"]}
    return held


class ConsoleParser:
    """Turns console lines into rows; tables and blocks are gathered until they end.

    An event comes as a row without readings. `log.format` is set by the first row's shape
    when it is not set yet.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._table: dict[str, float] = {}
        self._section = ""
        self._rsl: dict[str, float] | None = None
        self._rsl_number: int | None = None
        self._block: dict[str, float] = {}
        self._block_number: int | None = None
        self._blocks = 0
        self._heading: int | None = None
        self._counts = False
        self._columns = Columns()
        self._bar: tuple[int, int] | None = None
        self._bar_length: int | None = None
        self._scale: float | None = None
        self._last: Row | None = None
        self._traceback = False
        self._failed = False
        self._named = False

    def feed(self, text: str) -> Iterator[Row]:
        """The rows that a line completes."""
        if "\x1b" in text:
            text = _ANSI.sub("", text)
        if "\b" in text:
            text = re.sub(r"\x08+", "\r", text)
        for part in text.rstrip("\n").split("\r"):
            if part and not part.isspace():
                yield from self._line(part)

    def end(self) -> Iterator[Row]:
        """The rows that were still being gathered when the log ended."""
        yield from self._flush()
        if self._scale is not None:
            number = self._last.number if self._last else None
            yield Row({"loss_scale": self._scale}, number=number)

    def _line(self, text: str) -> Iterator[Row]:
        bare = text.strip()
        if bare.startswith("|") and bare.endswith("|") and bare.count("|") == 3:
            yield from self._table_line(bare)
        elif shapes.is_border(bare):
            yield from self._flush_table()
        elif len(text) > _LONGEST_ROW:
            self._log.note(f"lines of over {_LONGEST_ROW} characters are left out")
        else:
            yield from self._prose(_RANK.sub("", text, count=1))

    def _prose(self, text: str) -> Iterator[Row]:
        said = self._said(text)
        if said is not None:
            if said.event and said.event["kind"] != "log":
                yield from self._flush()
                self._failed = said.event["kind"] == "failed"
            yield said
            return
        if self._traceback:
            return
        iteration = shapes.rsl_rl_iteration(text)
        if iteration is not None:
            yield from self._flush()
            self._rsl, self._rsl_number = {}, iteration
        elif self._rsl is not None and shapes.rsl_rl_reading(text, self._rsl):
            return
        else:
            yield from self._reading(text)

    def _reading(self, text: str) -> Iterator[Row]:
        bar = shapes.keras_bar(text)
        if bar is not None:
            yield from self._keras(*bar)
            return
        row = self._under_columns(text) or self._single(text)
        if row is not None:
            yield from self._flush()
            row.time = _clock(text)
            yield self._emitted(row)
        else:
            yield from self._block_line(_PREFIX.sub("", text, count=1))

    def _keras(self, text: str, over: bool) -> Iterator[Row]:
        """One row an epoch: the bars before its end say nothing new, unless it breaks there."""
        found = shapes.printed(text)
        if found is None:
            return
        readings = found[1].readings
        if over or not all(math.isfinite(value) for value in readings.values()):
            self._recognised("keras")
            self._log.unit = "iteration"
            yield self._emitted(Row(readings, number=self._heading))

    def _under_columns(self, text: str) -> Row | None:
        if self._columns.header(text):
            return None
        found = self._columns.row(text) if self._columns else None
        if found is None:
            return None
        self._recognised("columns")
        self._log.unit = "step"
        return Row(found[1], number=found[0])

    def _single(self, text: str) -> Row | None:
        self._note_bar(text)
        found = shapes.printed(text)
        if found is None:
            return None
        name, said = found
        if said.finished:
            return Row({}, event={"kind": "finished"})
        if said.cut:
            self._log.tear("a line is torn: its last reading is left out")
        row = Row(said.readings, number=said.number, epoch=said.epoch, length=said.length)
        unit: Unit = said.unit
        if name == "hf_print" and row.number is None:
            row.number, unit = self._along_bar(), "step"
        elif row.number is None and self._heading is not None:
            row.number, unit, self._heading = self._heading, "iteration", None
        elif row.number is None and self._failed and self._last is not None:
            row.number = self._last.number  # It tells of the failure, as detectron2's loss_dict.
        if not said.by_epoch:
            self._counts = self._counts or said.number is not None
        elif self._counts and self._last is not None:
            row.number, unit = self._last.number, self._log.unit  # It sums up an epoch.
        self._recognised(name)
        if row.number is not None and unit != "row":
            self._log.unit = unit
        return row

    def _note_bar(self, text: str) -> None:
        if "%|" in text:
            self._bar = bar_position(text) or self._bar

    def _along_bar(self) -> int | None:
        """The step of the training's own bar; that of an evaluation is of another length."""
        if self._bar is None:
            return None
        if self._bar_length is None:
            self._bar_length = self._bar[1]
        return self._bar[0] if self._bar[1] == self._bar_length and self._bar[0] else None

    def _block_line(self, text: str) -> Iterator[Row]:
        """A line of a block that has one reading a line, or the heading above one."""
        heading = bare_position(text)
        if heading is not None:
            yield from self._flush()
            number, by_epoch = heading
            self._counts = self._counts or not by_epoch
            if not (by_epoch and self._counts):
                self._heading = number
            return
        pair = lone_pair(text)
        if pair is None:
            return
        key, value = pair
        if shapes.is_counter(key) and value == int(value):
            if self._block_number is not None:
                yield from self._flush_block(repeated=True)
            self._block_number = int(value)
            return
        if key in self._block:
            yield from self._flush_block(repeated=True)
        if len(self._block) < _MOST_BLOCK:
            self._block[key] = value

    def _table_line(self, text: str) -> Iterator[Row]:
        cell = shapes.table_cell(text)
        if cell is None:
            return
        key, value, indented = cell
        # Spinning Up sets keys to the right, so that all of them seem indented.
        indented = indented and bool(self._section)
        if value is None:
            if not indented and key.endswith("/"):
                self._section = key
            return
        name = shapes.table_name(self._section if indented else "", key)
        if key.endswith("..."):
            self._log.note(f"the logger cut long keys short, such as {name}")
        if name in self._table:
            yield from self._flush_table()
            self._section = self._section if indented else ""
        self._table[name] = value

    def _flush(self) -> Iterator[Row]:
        yield from self._flush_table()
        yield from self._flush_block(repeated=False)
        if self._rsl is not None:
            block, number = self._rsl, self._rsl_number
            self._rsl = None
            if block:
                self._recognised("rsl_rl")
                self._log.unit = "iteration"
                yield self._emitted(Row(block, number=number))

    def _flush_table(self) -> Iterator[Row]:
        table, self._table = self._table, {}
        if table:
            self._recognised("sb3_table")
            number, unit = shapes.table_number(table)
            if number is not None:
                self._log.unit = unit
            yield self._emitted(Row(table, number=number))

    def _flush_block(self, *, repeated: bool) -> Iterator[Row]:
        """A gathered block as a row, if anything shows that it is one and no settings."""
        block, self._block = self._block, {}
        number, self._block_number = self._block_number, None
        if number is None and block:
            number, self._heading = self._heading, None
        if not any(shapes.measured(name) for name in block):
            return
        if number is not None:
            self._log.unit = "iteration"
        elif self._last is not None and not self._blocks:
            number = self._last.number  # It goes on about the row before it.
        elif not (repeated or self._blocks):
            return
        if self._last is None or self._blocks:
            self._blocks += 1
            self._recognised("block")
        yield self._emitted(Row(block, number=number))

    def _emitted(self, row: Row) -> Row:
        if self._scale is not None:
            row.readings.setdefault("loss_scale", self._scale)
            self._scale = None
        self._last = row if row.readings else self._last
        return row

    def _said(self, text: str) -> Row | None:
        if endings.TRACEBACK in text:
            self._traceback = True
            return None
        event: dict[str, object] | None = None
        if not self._traceback and not endings.may_speak(text):
            return None
        if self._traceback:
            if text[:1].isspace():
                return None
            # The first line at the margin names the exception, whatever its class is called.
            self._traceback = False
            event = _ended(text.strip()) or _failed(text.strip())
        elif (why := endings.failure(text.strip())) is not None:
            event = _ended(why) or _failed(why)
        else:
            event = self._ended_or_warned(text)
        return Row({}, event=event) if event else None

    def _ended_or_warned(self, text: str) -> dict[str, object] | None:
        event = _ended(text.strip())
        if event is not None:
            return event
        if endings.finish(text):
            return {"kind": "finished"}
        if not endings.warning(text) or shapes.printed(text) is not None:
            return None
        scale = endings.loss_scale(text)
        self._scale = self._scale if scale is None else scale
        return {"kind": "log", "level": "warning", "text": text.strip()[:_LONGEST_TEXT]}

    def _recognised(self, name: str) -> None:
        if not self._named:
            self._named = True
            self._log.format = name


def _ended(text: str) -> dict[str, object] | None:
    why = endings.stop(text)
    return None if why is None else {"kind": "halted", "reason": f"stopped from outside: {why}"}


def _failed(text: str) -> dict[str, object]:
    return {"kind": "failed", "error": text[:_LONGEST_TEXT]}


def _clock(text: str) -> float | None:
    found = _CLOCK.match(text)
    return epoch_seconds(found.group(1)) if found else None
