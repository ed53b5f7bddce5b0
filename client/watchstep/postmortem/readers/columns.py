"""Tables that are printed column by column: fastai, YOLO, notebooks, Markdown in an issue."""

from __future__ import annotations

import re

from watchstep.postmortem.readers.naming import metric_name, number

_FIRST = frozenset(
    (
        *(
            "epoch",
            "epochs",
            "step",
            "steps",
            "iter",
            "iters",
            "iteration",
            "iterations",
            "global_step",
        ),
        *("batch", "update", "updates", "episode", "it", "round", "ep"),
    )
)
_RULE = frozenset(" \t|:+-=─━┼╇")
_GAP = re.compile(r"\t|\s{2,}")
_LEADING_INT = re.compile(r"(\d{1,15})(?:/\d{1,15})?$")
_TRAINING = re.compile(
    r"loss|reward|return|kl|entropy|grad|acc|score|ppl|perplexity", re.IGNORECASE
)


def is_header(text: str) -> bool:
    """Whether a line is the head of a table, whose rows then come under it."""
    cells = _cells(text, bars="|" in text)
    if (
        len(cells) < 2
        or cells[0].lower() not in _FIRST
        or any(number(cell) is not None for cell in cells)
    ):
        return False
    return any(_TRAINING.search(cell) for cell in cells)


class Columns:
    """Follows a log's tables: a line of names, then lines with as many cells under it."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._bars = False

    def begin(self, text: str) -> None:
        """Take a line as the head of the table that comes."""
        text = text.translate(_SIDES)
        self._bars = "|" in text
        self._names = [metric_name(cell) for cell in _cells(text, bars=self._bars)]

    def row(self, text: str) -> tuple[int, dict[str, float]] | None:
        """The number and the readings of a line under the head; None when it is none.

        A line may go on after its last cell, as YOLO's does with a progress bar. A cell that
        holds no number, such as "No log", is left out.
        """
        if not self._names or _RULE.issuperset(text):
            return None
        text = text.translate(_SIDES)
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


_SIDES = str.maketrans("│┃║¦", "||||")


def _cells(text: str, *, bars: bool) -> list[str]:
    if bars:
        return [cell.strip() for cell in text.strip().strip("|").split("|")]
    cells = _GAP.split(text.strip())
    # Some heads are set so tightly that only one space is left between two names.
    return cells if len(cells) > 2 else text.split()
