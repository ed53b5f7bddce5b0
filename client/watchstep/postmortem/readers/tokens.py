"""A printed line as tokens: numbers, words and what stands between them.

Scanning is linear: no pattern here can match the same text in two ways, and every repetition
that something must follow is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

Kind = Literal["number", "clock", "word", "mark"]

_CLOCK = (
    r"\d{4}[-/]\d\d[-/]\d\d(?:[T _-]?\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)?"
    r"|\d{1,2}/\d{1,2} \d\d:\d\d:\d\d(?:\.\d{1,9})?"
    r"|\d{1,5}:\d\d(?::\d\d){0,2}(?:[.,]\d{1,9})?(?![\d.])"
)
_NUMBER = (
    r"[-+]?(?:\d{1,3}(?:,\d{3}){1,6}(?![\d,])(?:\.\d+)?"
    r"|\d+(?:_\d+)*(?:\.\d+)?(?:\.?[eE][-+]?\d+)?"
    r"|\.\d+(?:[eE][-+]?\d+)?"
    r"|(?i:nan|inf(?:inity)?)(?![A-Za-z0-9_]))"
)
SLOTS = re.compile(rf"(?<![\w.@$])(?<![A-Za-z_]/)({_CLOCK}|{_NUMBER})")
"""Every printed number and clock of a line. One inside a word, as in `rank0`, is part of it."""

_CLOCK_ONLY = re.compile(_CLOCK)
_PIECE = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<word>[^\W\d](?:[\w./@%+*^~-]|'(?=[a-z]))*)"
    r"|(?P<arrow>->|=>|:=|==)"
    r"|(?P<mark>[^\w\s]|[\d_])"
)
_TRAILING = "./-'*+~^"


class Token(NamedTuple):
    """A piece of a line.

    Attributes:
        text: As printed.
        slot: Which of the line's numbers it is, -1 for words and marks.
        before: Blanks before it: 0 for none, 1 for one, 2 for more, or a tab.
    """

    kind: Kind
    text: str
    slot: int
    before: int


def split(line: str) -> list[str]:
    """A line's fixed text and its numbers by turns: text at even places, numbers at odd ones."""
    return SLOTS.split(line)


def tokens(pieces: Sequence[str]) -> list[Token]:
    """The tokens of a line that `split` has taken apart."""
    found: list[Token] = []
    before = 0
    for at, piece in enumerate(pieces):
        if at % 2:
            kind: Kind = "clock" if _CLOCK_ONLY.fullmatch(piece) else "number"
            found.append(Token(kind, piece, at // 2, before))
            before = 0
        else:
            before = _add_words(piece, before, found)
    return found


def _add_words(piece: str, before: int, found: list[Token]) -> int:
    """Add the tokens of fixed text; how many blanks it ends in."""
    at = 0
    while at < len(piece):
        match = _PIECE.match(piece, at)
        if match is None:
            at += 1
            continue
        text = match.group()
        if match.lastgroup == "space":
            before = 2 if len(text) > 1 or text == "\t" else 1
            at = match.end()
            continue
        if match.lastgroup == "word":
            text = text.rstrip(_TRAILING)
            found.append(Token("word", text, -1, before))
        else:
            found.append(Token("mark", text, -1, before))
        at += len(text)
        before = 0
    return before
