"""The last lines of a console, as a person would have seen them, and how a traceback ended."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

MOST_LINES = 50
_KEPT_BYTES = 256 << 10
"""Enough for the traceback of a rank, after which the others and the launcher print theirs."""

_PIECE_BYTES = 4 << 10
_LONGEST_LINE = 400
_LONGEST_TEXT = 8_000
"""Characters of all lines together: an event may have 16 KiB."""

_ANSI = re.compile(r"\x1b\[[0-9;?]{0,40}[ -/]{0,4}[@-~]|\x1b\][^\x07\x1b\n]{0,400}(?:\x07|\x1b\\)?")
_TRACEBACK = "Traceback (most recent call last)"
_RAISED = re.compile(r"^(?:\[?\w+\s?\d*\]?:\s?)?((?:[A-Za-z_]\w*\.)*_?[A-Z]\w*)(?::\s.*)?$")
_MOST_TRACEBACK = 20
_ARRAY_ROW = re.compile(r"^\s{1,80}\[{1,4}[-+.,\w\s]{0,400}\]{1,4},?$")
_MOST_ROWS = 3
"""Rows of a printed array that are kept: an exception prints a tensor of hundreds, behind which its
own line would be lost."""


class LastLines:
    """Keeps the newest output of a command's streams; a line that is being drawn counts too."""

    def __init__(self) -> None:
        self._chunks: deque[tuple[int, bytes]] = deque()
        self._bytes = 0

    def feed(self, data: bytes, of: int = 1) -> None:
        """Keep a piece of output; cheap, since it is called however much is printed."""
        self._bytes += len(data)
        if self._chunks and self._chunks[-1][0] == of and len(self._chunks[-1][1]) < _PIECE_BYTES:
            data = self._chunks.pop()[1] + data
        self._chunks.append((of, data))
        while self._bytes > _KEPT_BYTES and len(self._chunks) > 1:
            self._bytes -= len(self._chunks.popleft()[1])

    def lines(self) -> list[str]:
        """All lines that are kept, oldest first."""
        lines: list[str] = []
        rests: dict[int, bytes] = {}
        rows = 0
        for of, data in tuple(self._chunks):  # A stream may print meanwhile.
            *whole, rest = (rests.get(of, b"") + data).split(b"\n")
            for shown in map(_shown, whole):
                rows = rows + 1 if _ARRAY_ROW.match(shown) else 0
                if rows <= _MOST_ROWS:
                    lines.append(shown)
            # A bar that is drawn over itself is as long as its last drawing.
            rests[of] = rest.rpartition(b"\r")[2][-4 * _LONGEST_LINE :]
        return [*lines, *(_shown(rest) for rest in rests.values() if rest)]

    def texts(self) -> list[str]:
        """The newest lines, cut to what an event may hold."""
        return newest(self.lines())


def newest(lines: Sequence[str]) -> list[str]:
    """The last lines, oldest first, cut to what an event may hold."""
    kept: list[str] = []
    room = _LONGEST_TEXT
    for line in reversed(lines[-MOST_LINES:]):
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return kept[::-1]


def traceback_end(lines: Sequence[str]) -> list[str]:
    """The last traceback's last lines, the exception at the end; empty where there is none."""
    begins = [at for at, line in enumerate(lines) if _TRACEBACK in line]
    for begin in reversed(begins):
        for at in range(begin + 1, len(lines)):
            if not lines[at][:1].isspace() and _RAISED.match(lines[at].strip()):
                return list(lines[begin : at + 1][-_MOST_TRACEBACK:])
    return []


def _shown(line: bytes) -> str:
    text = _ANSI.sub("", line.decode("utf-8", "replace")).rstrip("\r")
    text = text.rpartition("\r")[2][:_LONGEST_LINE]
    return "".join(char if char.isprintable() else " " for char in text).rstrip()
