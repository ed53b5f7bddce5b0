"""Joins lines that a terminal broke: pasted from it, all long ones end at the window's edge."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from watchstep.postmortem.readers.gathering import BAR, LONGEST_ROW
from watchstep.postmortem.readers.tokens import split

_NARROWEST, _ENOUGH = 40, 5
"""Characters of a window, and full lines that show its width."""

_TRIMMED = 2
"""Blanks at the end of a full line that copying may have taken away."""

_BEGINNING, _NUMBER = 12, re.compile(r"\s*\d+")
"""Characters by which a line that begins a record is known, whatever its numbers are."""

_USUAL_WIDTHS = frozenset((80, 100, 120, 132, 160, 200))
_SIDES = frozenset("|│┃")
_INDENT = "    "


@dataclass(frozen=True)
class Breaks:
    """Where a text was broken.

    Attributes:
        width: Characters of a full line.
        begins: How lines begin that stand behind none that is full: those of records.
    """

    width: int
    begins: frozenset[str]

    def is_full(self, line: str) -> bool:
        return self.width - _TRIMMED <= len(line) <= self.width

    def goes_on(self, line: str, after: str) -> bool:
        """Whether the line after a full one is its end, and no record of its own."""
        ends = bool(after.strip()) and not after.startswith(_INDENT)
        return ends and self.is_full(line) and _beginning(after) not in self.begins


class Joining:
    """Hands on the parts of each line of a broken text, and the number of the last."""

    def __init__(self, breaks: Breaks, take: Callable[[list[str], int], None]) -> None:
        self._breaks, self._take = breaks, take
        self._parts: list[str] = []
        self._number = 0

    def line(self, text: str, number: int) -> None:
        parts = self._parts
        short = len(parts) * self._breaks.width < LONGEST_ROW
        if not (parts and short and self._breaks.goes_on(parts[-1], text)):
            self.end()
        self._parts.append(text)
        self._number = number

    def end(self) -> None:
        """Hand on what is still waiting for its end."""
        parts, self._parts = self._parts, []
        if any(parts):
            broken = [part.ljust(self._breaks.width) for part in parts[:-1]]
            self._take([*broken, parts[-1]], self._number)


def breaks_of(head: Iterable[str]) -> Breaks | None:
    """Where a text was broken, by its first lines; None where it was not.

    Rows of one length end at one column as well, and so do rows that have a second line. But
    broken lines fit together: whole, they are of fewer kinds than their ends. Where all break at
    the same word, the width must be a usual one.
    """
    lines = [line.rstrip("\r") for line in head]
    width = max(map(len, lines), default=0)
    if width < _NARROWEST or sum(len(line) == width for line in lines) < _ENOUGH:
        return None
    whole = Breaks(width, frozenset())
    behind_full = [False, *map(whole.is_full, lines)]
    firsts = (line for line, behind in zip(lines, behind_full, strict=False) if not behind)
    breaks = Breaks(width, frozenset(_beginning(line) for line in firsts))
    broken: list[list[str]] = []
    joining = Joining(breaks, lambda parts, _: broken.append(parts) if len(parts) > 1 else None)
    for number, line in enumerate(lines):
        joining.line(line, number)
    joining.end()
    kinds = {tuple(split("".join(parts))[::2]) for parts in broken}
    ends = {tuple(split(parts[-1])[::2]) for parts in broken}
    fits = len(kinds) < len(ends) or (width in _USUAL_WIDTHS and all(map(_may_fit, broken)))
    return breaks if fits and len(broken) >= _ENOUGH else None


def _beginning(line: str) -> str:
    return _NUMBER.sub("0", line[: 4 * _BEGINNING])[:_BEGINNING]


def _may_fit(parts: list[str]) -> bool:
    """Whether a full line may go on in the next, as no border, bar or cell of a table does."""
    line, words = parts[0].rstrip(), any(map(str.isalnum, parts[0]))
    framed = not words or {line[0], line[-1]} <= _SIDES or line.startswith(_INDENT)
    apart = parts[0][-1].isdigit() and parts[1][0].isalpha()
    return not (framed or apart or BAR.search(line))
