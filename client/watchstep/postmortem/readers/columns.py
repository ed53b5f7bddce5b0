"""Tables that are printed column by column: fastai, YOLO, notebooks, Markdown in an issue."""

from __future__ import annotations

import re

from watchstep.postmortem.readers.console_lines import measured
from watchstep.postmortem.readers.naming import metric_name, number

_FIRST = re.compile(r"^(?:epochs?|steps?|iters?|iterations?|global_step|batch)$", re.IGNORECASE)
_RULE = re.compile(r"^[\s|:+-]+$")
_GAP = re.compile(r"\t|\s{2,}")
_LEADING_INT = re.compile(r"^(\d+)(?:/\d+)?$")


class Columns:
    """Follows a log's tables: a line of names, then lines with as many cells under it."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._bars = False

    def header(self, text: str) -> bool:
        """Whether a line is the head of a table, which the next lines then belong to."""
        cells = _cells(text, bars="|" in text)
        if len(cells) < 2 or not _FIRST.match(cells[0]) or any(number(cell) for cell in cells):
            return False
        names = [metric_name(cell) for cell in cells]
        if not any(measured(name) for name in names):
            return False
        self._names, self._bars = names, "|" in text
        return True

    def row(self, text: str) -> tuple[int, dict[str, float]] | None:
        """The number and the readings of a line under the head; None when it is none.

        A line may go on after its last cell, as YOLO's does with a progress bar. A cell that
        holds no number, such as "No log", is left out.
        """
        if not self._names or _RULE.match(text):
            return None
        cells = _cells(text, bars=True) if self._bars else text.split()
        if len(cells) < len(self._names):
            return None
        first = _LEADING_INT.match(cells[0])
        if first is None:
            return None
        readings = {
            name: value
            for name, cell in zip(self._names[1:], cells[1:], strict=False)
            if (value := number(cell.rstrip(":%GMK"))) is not None
        }
        return (int(first.group(1)), readings) if readings else None

    def __bool__(self) -> bool:
        """Whether a table has begun."""
        return bool(self._names)

    def is_rule(self, text: str) -> bool:
        """Whether a line only separates the head from the rows."""
        return bool(self._names) and _RULE.match(text) is not None


def _cells(text: str, *, bars: bool) -> list[str]:
    if bars:
        return [cell.strip() for cell in text.strip().strip("|").split("|")]
    cells = _GAP.split(text.strip())
    # Some heads are set so tightly that only one space is left between two names.
    return cells if len(cells) > 2 else text.split()
