"""The last lines of a console, as a person would have seen them, and how a traceback ended."""

from __future__ import annotations

import re
from collections import deque

MOST_LINES = 50
_MOST_AT_ONCE = 2_000
"""Lines of one piece of output that are looked at."""
_LONGEST_LINE = 400
_LONGEST_TEXT = 8_000
"""Characters of all lines together: an event may have 16 KiB."""

_ANSI = re.compile(r"\x1b\[[0-9;?]{0,40}[ -/]{0,4}[@-~]|\x1b\][^\x07\x1b\n]{0,400}(?:\x07|\x1b\\)?")
_TRACEBACK = "Traceback (most recent call last)"
_RAISED = re.compile(r"^(?:\[?\w+\s?\d*\]?:\s?)?((?:[A-Za-z_]\w*\.)*[A-Z]\w*)(?::\s.*)?$")
_MOST_TRACEBACK = 20
_ARRAY_ROW = re.compile(r"^\s{1,80}\[{1,4}[-+.,\w\s]{0,400}\]{1,4},?$")
_MOST_ROWS = 3
"""Rows of a printed array that are kept: an exception prints a tensor of hundreds, behind which its
own line would be lost."""


class LastLines:
    """Keeps the newest lines of a command's streams; a line that is being drawn counts too."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=MOST_LINES)
        self._rests: dict[int, bytes] = {}
        self._rows = 0

    def feed(self, data: bytes, of: int = 1) -> None:
        *whole, rest = (self._rests.get(of, b"") + data).split(b"\n")
        for line in whole[-_MOST_AT_ONCE:]:
            shown = _shown(line)
            self._rows = self._rows + 1 if _ARRAY_ROW.match(shown) else 0
            if self._rows <= _MOST_ROWS:
                self._lines.append(shown)
        # A bar that is drawn over itself is as long as its last drawing.
        self._rests[of] = rest.rpartition(b"\r")[2][-4 * _LONGEST_LINE :]

    def texts(self) -> list[str]:
        """The lines, oldest first, cut to what an event may hold."""
        lines = [*self._lines, *(_shown(rest) for rest in self._rests.values() if rest)]
        newest: list[str] = []
        room = _LONGEST_TEXT
        for line in reversed(lines[-MOST_LINES:]):
            room -= len(line) + 1
            if room < 0:
                break
            newest.append(line)
        return newest[::-1]


def traceback_end(lines: list[str]) -> list[str]:
    """The last traceback's last lines, the exception at the end; empty where there is none."""
    begins = [at for at, line in enumerate(lines) if _TRACEBACK in line]
    for begin in reversed(begins):
        for at in range(begin + 1, len(lines)):
            if not lines[at][:1].isspace() and _RAISED.match(lines[at].strip()):
                return lines[begin : at + 1][-_MOST_TRACEBACK:]
    return []


def _shown(line: bytes) -> str:
    text = _ANSI.sub("", line.decode("utf-8", "replace")).rstrip("\r")
    text = text.rpartition("\r")[2][:_LONGEST_LINE]
    return "".join(char if char.isprintable() else " " for char in text).rstrip()
