"""Tables that are printed column by column: fastai, YOLO, notebooks, Markdown in an issue."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from watchstep.postmortem.readers.counters import is_numbered
from watchstep.postmortem.readers.naming import metric_name, number
from watchstep.postmortem.readers.vocabulary import EPOCHS, EVALUATED, ITERATIONS, STEPS, TRAINING

SIDES = str.maketrans("│┃║¦", "||||")
"""Turns the sides of drawn tables into plain bars."""

_COUNTERS = ITERATIONS | STEPS | EPOCHS | {"global_step", "round", "e", "#"}
_DETECTOR = frozenset(("box", "obj", "cls", "dfl", "GIoU", "total"))
"""Losses of YOLO before they were called so, two of which make a head."""

_RULE = frozenset(" \t|:+-=─━┼╇")
_CELL = re.compile(r"\[[^\[\]]{0,2000}\]|\S+")
_SEPARATOR = re.compile(r"[,\s]\s{0,9}")
_MOST_ALIKE = 1_000
"""Rows of training in a row that fill the columns of evaluations."""
_LEADING_INT = re.compile(r"(\d{1,15})(?:/\d{1,15})?$")


def is_header(text: str) -> bool:
    """Whether a line is the head of a table, whose rows then come under it."""
    text = _uncommented(text)
    bars = "|" in text
    cells = _cells(text, bars=bars)
    if len(cells) < 2 or any(number(cell) is not None for cell in cells):
        return False
    first, second = (f"{cell} ".split(" ")[0].lower() for cell in cells[:2])
    # MATLAB's is set over two lines, of which the first may name nothing but counters.
    trained = any(map(TRAINING.search, cells)) or len(_DETECTOR.intersection(cells)) > 1
    return first in _COUNTERS and (trained or (bars and second in _COUNTERS))


def is_csv_head(text: str) -> bool:
    """Whether a line is the head of CSV that training prints: words, of which one counts."""
    names = [cell.strip() for cell in text.split(",")]
    if len(names) < 2 or any(set(" :=") & set(name) or number(name) is not None for name in names):
        return False
    return is_numbered(names) and any(map(TRAINING.search, names))


def _uncommented(text: str) -> str:
    """A head without the mark of a comment, as NumPy, gnuplot and DeePMD-kit set before it."""
    bare = text.lstrip("#%!/ \t")
    return bare if bare.partition(" ")[0].strip().lower() in _COUNTERS or "\t" in bare else text


class Columns:
    """Follows a log's tables: a line of names, then lines with as many cells under it.

    Attributes:
        names: Of the table's columns; none before the first table.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._words: list[str] = []
        self._heads: list[str] = []
        self._printed: list[str] = []
        self._bars = self._marks = self._both = False
        self._kinds: set[bool] = set()
        self._alike = 0
        self._counter = 0
        self._head = ""

    def begin(self, text: str) -> None:
        """Take a line as the head of the table that comes."""
        self._head = text.translate(SIDES)
        text = _uncommented(text.translate(SIDES))
        self._bars = "|" in text
        self._marks = self._bars or "\t" in text
        self._words = [] if self._marks else text.split()
        self._name(_cells(text, bars=self._bars))

    def _name(self, heads: list[str]) -> None:
        self._heads = self._printed = heads
        detector = len(_DETECTOR.intersection(heads)) > 1
        self.names = [
            metric_name(f"{head}_loss" if detector and head in _DETECTOR else head)
            for head in heads
        ]
        # Of an epoch and the step beside it, the step tells more.
        self._counter = int(heads[0].lower() in EPOCHS | {"e"} and heads[1].lower() in _COUNTERS)

    def row(self, text: str) -> tuple[int, dict[str, float]] | None:
        """The number and the readings of a line under the head; None when it is none.

        A line may go on after its last cell, as YOLO's does with a progress bar. A cell that
        holds no number, such as "No log", is left out.
        """
        if _RULE.issuperset(text):
            return None
        text = text.translate(SIDES)
        split_by_marks = self._marks or "\t" in text
        cells = _cells(text, bars=self._bars) if split_by_marks else _CELL.findall(text)
        self._fit(cells)
        if len(cells) < len(self.names) and not split_by_marks:
            cells = self._under_heads(text)
        if not 0 < len(self.names) <= len(cells) or not _LEADING_INT.match(cells[0]):
            return None
        counted = _LEADING_INT.match(cells[self._counter])
        readings = {
            part: value
            for at, (name, cell) in enumerate(zip(self.names, cells, strict=False))
            if at > self._counter
            for part, text in _parts(name, cell)
            if (value := number(text.rstrip(":%GMK"))) is not None
        }
        readings = self._measured(readings)
        return (int(counted.group(1)), readings) if counted and readings else None

    def _under_heads(self, text: str) -> list[str]:
        """A line's cells where some are blank, as PrintReport of Chainer leaves them.

        Each must begin or end where a name does.
        """
        begins: dict[int, int] = {}
        ends: dict[int, int] = {}
        at = 0
        for column, name in enumerate(self._printed):
            at = self._head.find(name, at)
            begins[at] = ends[at + len(name)] = column
            at += len(name)
        cells = [""] * len(self.names)
        for match in _CELL.finditer(text):
            column = begins.get(match.start(), ends.get(match.end(), -1))
            if column < 0 or cells[column]:
                return []
            cells[column] = match.group()
        return cells

    def _fit(self, cells: list[str]) -> None:
        """Let the line under the head tell what the head leaves open.

        Whether one blank parts two names or stands within one, and whether it goes on.
        """
        goes_on = self._bars and len(cells) == len(self._heads) and not any(map(_digits, cells))
        if goes_on:
            self._name([f"{a} {b}".strip() for a, b in zip(self._heads, cells, strict=True)])
        elif len(cells) == len(self._words) != len(self.names):
            self._name(self._words)
        self._heads, self._words = [], []

    def _measured(self, readings: dict[str, float]) -> dict[str, float]:
        """Readings but for the NaNs with which rows of training fill the columns of evaluations.

        And the other way round. A NaN is one where a row once had numbers in both, or where so
        many rows of one kind have followed each other that those of the other kind would have come.
        """
        numbers = [name for name, value in readings.items() if not math.isnan(value)]
        kinds = {EVALUATED.match(name) is None for name in numbers}
        self._alike = self._alike + 1 if kinds == self._kinds else 1
        self._both = self._both or len(kinds) > 1
        self._kinds = kinds
        if self._both or not kinds or self._alike > _MOST_ALIKE:
            return readings
        return {
            name: value
            for name, value in readings.items()
            if (EVALUATED.match(name) is None) in kinds
        }


def _digits(cell: str) -> bool:
    return any(map(str.isdigit, cell))


def _parts(name: str, cell: str) -> Iterator[tuple[str, str]]:
    """A cell's numbers by name: DeepXDE prints a list of losses, `[1.0e-03, 2.0e-02]`, in one."""
    values = _SEPARATOR.split(cell[1:-1].strip()) if cell[:1] == "[" else [cell]
    if len(values) == 1:
        yield name, values[0]
        return
    for at, value in enumerate(values):
        yield f"{name}_{at}", value


def _cells(text: str, *, bars: bool) -> list[str]:
    if bars:
        return [cell.strip() for cell in text.strip().strip("|").split("|")]
    if "\t" in text:
        first, *rest = (cell.strip() for cell in text.strip().split("\t"))
        return [first.split()[-1] if first else "", *rest]  # What a logger set before it is cut.
    cells = re.split(r"\s{2,}", text.strip())
    # Some heads are set so tightly that only one space is left between two names.
    return cells if len(cells) > 2 else text.split()
