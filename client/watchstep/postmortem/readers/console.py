"""Console output, line by line: whatever a trainer printed, with the errors in between."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

from watchstep.postmortem.readers import endings, gathering, plans, prefixes
from watchstep.postmortem.readers.columns import SIDES, Columns
from watchstep.postmortem.readers.counters import table_number
from watchstep.postmortem.readers.gathering import LONGEST_ROW, Bars, Braces, Progress, Titles
from watchstep.postmortem.readers.logs import Log, Row, Unit
from watchstep.postmortem.readers.machine_rows import MachineRows
from watchstep.postmortem.readers.naming import number as number_of
from watchstep.postmortem.readers.plans import Plan, Shape, mask_of
from watchstep.postmortem.readers.sentences import Sentence, rsl_name
from watchstep.postmortem.readers.tokens import split
from watchstep.postmortem.readers.vocabulary import GLOBAL

_MOST_BLOCK = 1_000
"""Lines gathered as one block; no trainer prints more for one update."""

_MOST_PLANS = 2_048
"""Kinds of lines remembered; a trainer prints a few dozen."""

_MOST_SHAPES, _LONGEST_SHAPE = 8_192, 2_000
"""Shapes of lines remembered, some for each kind of line, and their length in bytes."""

_SHAPED = frozenset(("prose", "cell", "silent", "border"))

_WIPED = 10
"""Blanks with which a progress bar is wiped out; shorter ones are spaces between lines."""

_LONGEST_TEXT = 500


class ConsoleLines:
    """Turns console lines into rows; tables and blocks are gathered until they end.

    An event comes as a row without readings. `log.format` is set by the first row's shape
    when it is not set yet.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._rows: list[Row] = []
        self._epoch: int | None = None
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._shapes: dict[bytes, Shape] = {}
        self._number = 0
        self._cut = False
        self._torn_at = 0
        self._table: dict[str, float] = {}
        self._sections = gathering.Sections()
        self._margin = self._rank = ""
        self._table_unit: Unit = "row"
        self._block: dict[str, float] = {}
        self._block_number: int | None = None
        self._titles = Titles()
        self._headings_count = True
        self._blocks = 0
        self._headed = self._evaluating = self._learning = self._counts = False
        self._counted: gathering.Place | None = None
        self._columns, self._bars, self._machine = Columns(), Bars(), MachineRows(log)
        self._unfinished: deque[tuple[int, Row]] = deque(maxlen=_MOST_BLOCK)
        self._scales: list[float] = []
        self._last: Row | None = None
        self._traceback = self._of_worker = False
        self._progress = Progress()
        self._slashed = gathering.SlashedBatches()
        self._summaries = gathering.Summaries()
        self._failure: dict[str, object] | None = None
        self._resumed = self._named = self._repeats = False
        self._braces = Braces()

    def line(self, text: str, number: int) -> None:
        """Read one line, without its line feed; what it completes waits in `taken`."""
        self._number = number
        text = prefixes.plain(text)
        if len(text) > LONGEST_ROW:
            self._log.note(f"lines of over {LONGEST_ROW} characters are left out")
            return
        mask = mask_of(text)
        shape = self._shapes.get(mask)
        gathers = self._traceback or self._columns.names or self._braces.lines
        if shape is not None and not (gathers or self._machine.in_table):
            numbers = shape.numbers(text)
            if numbers is not None:
                self._read(text, numbers, shape.plan)
                self._bars.cleared = False
                return
        if not text.isspace():
            self._unshaped(text, mask)
        self._bars.cleared = text.isspace() and len(text) >= _WIPED

    def cut(self, text: str, number: int) -> None:
        """Read what stands behind the log's last line feed, where it may be cut off."""
        self._cut = True
        self.line(text, number)

    def _unshaped(self, line: str, mask: bytes) -> None:
        """Read a line of a shape that was not seen yet."""
        *records, text = prefixes.records(line)
        for record in records:
            self._unshaped(record, b"")
        if ("%|" in text or "/? [" in text) and (bar := gathering.BAR.search(text)):
            # Two streams in one file: what follows a bar may be the end of a row it cut in two.
            self._joined(text[: bar.end()], mask if text[bar.end() :].isspace() else b"")
            self._braces.cut()
            text = text[bar.end() :]
        whole_text = None if not text or text.isspace() else self._braces.joined(text)
        if whole_text is not None:
            self._joined(whole_text, mask if whole_text == line else b"")

    def _joined(self, joined: str, mask: bytes) -> None:
        """Read a line's text.

        Args:
            joined: It may be made of several lines.
            mask: The line's, where the text is all of it; empty otherwise.
        """
        if not self._traceback and (row := self._machine.row(joined)) is not None:
            self._flush()
            if row.readings:
                self._recognised("key_value")
                self._emit(replace(row, line=self._number))
            return
        pieces = split(joined)
        before = self._plans.get(tuple(pieces[::2]))
        plan = self._plan(joined, pieces)
        if (self._traceback or plan.speaks) and (self._said(joined, plan) or self._traceback):
            return
        if mask and len(mask) <= _LONGEST_SHAPE and plan.kind in _SHAPED and not plan.speaks:
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            self._shapes[mask] = plans.shape_of(plan, pieces)
        if self._cut and plans.is_torn(plan, pieces, before, self._plans):
            self._torn_at = self._number
            plan = plans.torn(plan, pieces)
        self._read(joined, pieces[1::2], plan)

    def taken(self) -> list[Row]:
        """The rows completed since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def settle(self) -> None:
        """Complete what is being gathered, after a silence: a live trainer goes on later.

        A heading that nothing stands under yet, and a first block that nothing shows to be one,
        wait for what comes, however slowly: a loop may print its loss alone.
        """
        if self._table or plans.is_row(self._block, shown=self._is_shown):
            self._flush()
        for row in self._bars.rest():
            self._emit_counted(row)

    def end(self) -> None:
        """Complete what was still being gathered when the log ended."""
        for text in self._braces.rest():
            self._joined(text, b"")
        if self._torn_at == self._number > 0:
            self._log.tear("the last line is torn: its last reading is left out")
        self._emit_unfinished()
        self._flush_block(repeated=False, ends=True)
        self.settle()
        self._emit_scales()
        if self._traceback:
            self._event({"kind": "failed", "error": "a traceback that is cut off"})

    def _plan(self, text: str, pieces: list[str]) -> Plan:
        key = tuple(pieces[::2])
        plan = self._plans.get(key)
        if plan is None:
            plan = plans.planned(text, pieces)
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def _read(self, text: str, numbers: list[str], plan: Plan) -> None:
        if plan.row and plan.sentence.torn and not plan.numbers:
            self._torn_at = self._number
        plan.numbers = numbers
        if plan.kind == "silent":
            return
        if plan.kind == "border":
            self._flush_table()
        elif plan.kind == "cell":
            if plan.key is not None:
                self._cell(plan.key, number_of(numbers[0]))
            else:
                key, value = text.translate(SIDES).strip()[1:-1].split("|")
                self._cell(key, number_of(value))
        elif plan.kind == "columns":
            self._columns.begin(text)
        elif not self._columns.names or not self._under_columns(text):
            self._rank = prefixes.rank(text) if plan.row else ""
            try:
                self._prose(plan, numbers)
            except ValueError:
                # A clock or a fraction stands where the first line of this kind had a count.
                self._prose(plans.planned(text, split(text)), numbers)

    def _prose(self, plan: Plan, numbers: list[str]) -> None:
        sentence = plan.sentence
        if self._summaries.covers(plan, numbers, self._last):
            return
        if sentence.has_end and sentence.position is not None:
            self._progress.passed(*plans.place(sentence.position, numbers))
        if plan.title or sentence.pairs:
            self._titles.passed(plan.title.strip(), indented=plan.indented)
        if sentence.keras:
            self._keras(sentence, numbers)
            return
        if sentence.bar is not None and not sentence.described:
            self._bars.moved(plans.place(sentence.bar, numbers), self._emit_counted)
        if sentence.bare and (sentence.bar is None or sentence.position is not sentence.bar):
            self._heading(sentence, numbers)
        elif sentence.pairs and plan.row:
            self._row(sentence, numbers)
        elif sentence.position is not None and plan.times and not self._headed:
            self._flush_block(repeated=False)
            self._block_number, _ = plans.place(sentence.position, numbers)
        elif sentence.pairs and sentence.position is None and (sentence.lone or self._headed):
            self._gather(plans.readings(sentence, numbers))

    def _row(self, sentence: Sentence, numbers: list[str]) -> None:
        readings = plans.readings(sentence, numbers)
        if readings.get("count") == 0:
            # A mean over nothing was not measured, as darknet's without an object.
            readings = {name: value for name, value in readings.items() if not math.isnan(value)}
        if sentence.quoted and "train_runtime" in readings:
            self._flush()
            self._event({"kind": "finished"})
            return
        if sentence.position is None and self._headed and not sentence.quoted:
            self._gather(readings)
            return
        number = self._block_number if self._headed and not self._block else None
        self._flush()
        row = Row(readings, line=self._number, time=plans.clock(sentence, numbers), rank=self._rank)
        unit: Unit = sentence.unit
        if sentence.position is not None:
            unit = self._numbered(row, sentence, numbers)
        elif number is not None:
            row.step, unit = number, "iteration"
        elif not self._failed_at(row) and sentence.quoted:
            self._recognised("hf_print")
            for held in self._bars.held(row):
                self._emit_counted(held)
            return
        self._recognised("hf_print" if sentence.quoted else "key_value")
        if row.step is not None and unit != "row":
            self._log.unit = unit
        self._emit(row)

    def _failed_at(self, row: Row) -> bool:
        """Number a row that tells of a failure, as loss_dict of detectron2; whether it is one."""
        error = str(self._failure["error"]) if self._failure else ""
        match = endings.NAMES_UPDATE.search(error)
        if match:
            row.step, row.event = int(match.group(1)), self._failure
            self._log.unit = "iteration"
        self._failure = None
        return match is not None

    def _numbered(self, row: Row, sentence: Sentence, numbers: list[str]) -> Unit:
        """Give a row the number that its own line prints."""
        assert sentence.position is not None
        row.step, row.length = plans.place(sentence.position, numbers)
        unit, self._failure = sentence.unit, None
        if self._table_unit == "iteration" != unit and self._last is not None:
            # SB3 prints an evaluation's time steps between tables that count iterations.
            row.step, row.length = self._last.step, None
            return self._table_unit
        if not sentence.by_epoch:
            self._counts = True
            if sentence.epoch is not None:
                row.epoch = plans.count(numbers[sentence.epoch.slot])
            elif sentence.position.word not in GLOBAL:
                row.epoch = self._epoch
            if sentence.position.word == "batch" and sentence.epoch is None:
                self._slashed.read(row)
            gathering.count_over_epochs(row, from_zero=sentence.from_zero)
            row.length = None if sentence.epoch is None else row.length
            if not (sentence.evaluates or self._titles.cover(row, self._counted)):
                self._counted = row.step, row.epoch, row.length
            return unit
        row.length = None
        if self._counts and self._counted is not None:
            (row.step, row.epoch, row.length), unit = self._counted, self._log.unit  # It sums up.
        return unit

    def _emit_counted(self, row: Row) -> None:
        """Send off a row that was counted along a progress bar, or could not be."""
        if row.step is not None:
            self._log.unit = "step"
        self._emit(row)

    def _keras(self, sentence: Sentence, numbers: list[str]) -> None:
        """One row an epoch: the bars before its end say nothing new, unless it breaks there."""
        assert sentence.bar is not None
        at, length = plans.place(sentence.bar, numbers)
        readings = plans.readings(sentence, numbers)
        row = Row(readings, step=self._block_number, line=self._number)
        lost = not all(map(math.isfinite, readings.values()))
        if at == length or lost:
            for _, before in list(self._unfinished)[-gathering.BEFORE_LOST :] if lost else ():
                self._emit_epoch(before)
            self._unfinished.clear()
            if readings:
                self._emit_epoch(row)
        elif readings:
            self._unfinished.append((at, row))

    def _emit_epoch(self, row: Row) -> None:
        self._recognised("keras")
        if row.step is not None:
            self._log.unit = "iteration"
        self._emit(row)

    def _heading(self, sentence: Sentence, numbers: list[str]) -> None:
        """A line with nothing but a position: the heading of a block, or a line of one."""
        assert sentence.position is not None
        number, _ = plans.place(sentence.position, numbers)
        by_epoch = sentence.by_epoch
        self._epoch = number if by_epoch else self._epoch
        if by_epoch and self._counts and self._headed and not self._block:
            return  # An epoch of an iteration of PPO, say.
        inside = self._block and self._block_number is None and not sentence.heads
        if not inside:
            self._flush()
        self._counts = self._counts or not by_epoch
        if by_epoch and self._counts:
            return
        self._block_number = number if self._headings_count else None
        self._headed = not inside
        self._evaluating = sentence.evaluates
        self._learning = sentence.learning

    def _gather(self, readings: dict[str, float]) -> None:
        """Add a line's readings to the block, which ends where a name comes again."""
        if self._learning:
            readings = {rsl_name(name): value for name, value in readings.items()}
        if self._evaluating:
            readings = gathering.evaluated(readings)
        readings = self._titles.told_apart(readings, self._block)
        if any(name in self._block for name in readings):
            self._flush_block(repeated=True)
        if len(self._block) < _MOST_BLOCK:
            self._block.update(readings)

    def _flush(self) -> None:
        if not (self._table or self._block or self._headed or self._evaluating):
            self._block_number, self._learning = None, False
            return
        self._flush_table()
        self._flush_block(repeated=False)
        self._headed = self._evaluating = self._learning = False
        self._block_number, self._titles.title = None, ""

    def _flush_block(self, *, repeated: bool, ends: bool = False) -> None:
        """A gathered block as a row, if anything shows that it is one and no settings.

        Args:
            repeated: Whether one of its names comes again.
            ends: Whether the log ends here; a lone block that measures much is then the whole log.
        """
        block, self._block = self._block, {}
        self._titles.of_names.clear()
        if repeated and self._headed:
            # The heading stands over several rows, and numbers none of them.
            self._headings_count, self._block_number = False, None
        number = self._block_number
        is_row = plans.is_row(block, shown=repeated or self._is_shown, ends=ends)
        if not self._headed:
            self._block_number = None
        if not is_row:
            return
        if number is not None:
            self._log.unit = "iteration"
        elif self._last is not None and not self._blocks:
            number = self._last.step  # It goes on about the row before it.
        if self._last is None or self._blocks:
            self._blocks += 1
            self._recognised("rsl_rl" if self._learning else "block")
        self._emit(Row(block, step=number, line=self._number))

    @property
    def _is_shown(self) -> bool:
        return self._block_number is not None or self._last is not None or self._blocks > 0

    def _cell(self, key: str, reading: float | None) -> None:
        name = self._sections.name(key, self._table, heads=reading is None)
        if reading is None or not name:
            return
        if key.rstrip().endswith("..."):
            self._log.note(f"the logger cut long keys short, such as {name}")
        if name in self._table:
            self._flush_table()
        self._table[name] = reading

    def _flush_table(self) -> None:
        table, self._table = self._table, {}
        number, unit = table_number(table)
        if number is None and not any(map(plans.measured, table)):
            return  # Settings, as llm.c prints them.
        self._recognised("sb3_table")
        if unit == "step" and self._table_unit == "iteration" and self._last is not None:
            number = self._last.step
        elif number is not None:
            self._table_unit = self._log.unit = unit
        self._emit(Row(table, step=number, line=self._number))

    def _under_columns(self, text: str) -> bool:
        cells = self._columns.row(text)
        if cells is None:
            return False
        self._flush()
        self._recognised("columns")
        self._log.unit = "step"
        self._emit(Row(cells[1], step=cells[0], line=self._number))
        return True

    def _said(self, text: str, plan: Plan) -> bool:
        """Note what a line tells of the run's course; whether it tells nothing else."""
        before, _, after = text.partition(endings.TRACEBACK)
        if len(before) < len(text) and not any(map(str.isalpha, after)):  # Else it is quoted.
            self._traceback, self._margin, self._of_worker = True, before, False
            return True
        if self._traceback and text.startswith(self._margin):
            bare = text[len(self._margin) :]
        else:
            bare = text[prefixes.length(text) :] if not text[:1].isspace() else text
        if self._traceback:
            if bare[:1].isspace() or not bare:
                self._of_worker = self._of_worker or endings.WORKER in bare
                return True
            # The first line at the margin names the exception, whatever its class is called.
            self._traceback = False
            error = bare.strip()
            if self._of_worker and self._progress.is_done and endings.loses_parent(error):
                self._event({"kind": "log", "level": "warning", "text": error[:_LONGEST_TEXT]})
            else:
                self._ended(endings.event(error) or endings.failure(error))
            return True
        sentence = plan.sentence
        event = endings.event(bare.strip())
        resumes = event is None and not plan.row and endings.resumes(bare)
        self._resumed = self._resumed or resumes
        self._repeats = event is not None and "best iteration" in bare.lower()
        if event is not None:
            self._ended(event)
        if event is not None or resumes:
            return True
        if (sentence.lone and not sentence.stated) or not endings.warning(text):
            return False
        self._scaled(endings.loss_scale(text))
        self._event({"kind": "log", "level": "warning", "text": text.strip()[:_LONGEST_TEXT]})
        return True

    def _scaled(self, scale: float | None) -> None:
        """A fallen loss scale is of the row that sums up its step; without rows, of the bar."""
        if scale is None:
            return
        if self._bars.at and not self._named:
            self._log.unit = "step"
            self._emit(Row({"loss_scale": scale}, step=self._bars.at, line=self._number))
        elif self._scales[-1:] != [scale] and len(self._scales) < _MOST_BLOCK:
            self._scales.append(scale)  # Each rank says it.

    def _emit_scales(self) -> None:
        """What is said of the scale last of all is of updates that no row was printed for."""
        scales, self._scales = self._scales, []
        if self._last is None or self._last.step is None:
            scales = scales[-1:]
        self._rows += [Row({"loss_scale": scale}, line=self._number) for scale in scales]

    def _emit_unfinished(self) -> None:
        """An epoch that the log breaks off in is told as it stood; of a first one every batch."""
        rows, first = list(self._unfinished), not self._named
        self._unfinished.clear()
        for at, row in rows if first else rows[-1:]:
            self._emit_epoch(replace(row, step=at) if first else row)

    def _ended(self, event: dict[str, object]) -> None:
        self._emit_unfinished()
        self._flush()
        self._emit_scales()
        self._failure = event if event["kind"] == "failed" else None
        self._titles.evaluates = False
        self._event(event)

    def _event(self, event: dict[str, object]) -> None:
        for held in self._bars.rest():
            self._emit_counted(held)
        self._rows.append(Row({}, event=event, line=self._number))

    def _emit(self, row: Row) -> None:
        if self._repeats and row.step is not None:
            self._repeats = False  # Boosting prints the row of its best iteration once more.
            return
        scales, self._scales = self._scales, []
        if scales:
            row.readings.setdefault("loss_scale", scales.pop())
        # Where rows are counted, for want of numbers, more of them would falsify the count.
        for scale in scales if row.step is not None else ():
            self._rows.append(replace(row, readings={"loss_scale": scale}))
        if row.readings:
            # Its number as it is now: who takes the row counts it on over epochs.
            self._last = Row({}, step=row.step, epoch=row.epoch)
            row.resumed, self._resumed = self._resumed, False
        self._rows.append(row)

    def _recognised(self, name: str) -> None:
        if not self._named:
            self._named = True
            self._log.format = name
