"""Writes updates to the spool, and holds those that the disk does not take until it does."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from watchstep.sender.spool import Spool, SpoolBrokenError

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 300.0
# Of the trainer's time, what a disk that hangs again and again may take: a twentieth.
_PAUSE_SHARE = 20.0
# Written at once when the disk is back, each time an update is put.
_CATCH_UP = 64


class _Held(NamedTuple):
    seq: int
    framed: bytes
    names: bytes
    keep_when_full: bool


class SpoolWriter:
    """Puts updates on disk in their order, over pauses of a disk that is full or slow.

    Args:
        most_held: Updates that are held in memory meanwhile; beyond, the oldest is given up.
        on_lost: Told the number of each update that is given up.
        on_pause: Told why the disk is not written to for a while.
    """

    def __init__(
        self,
        spool: Spool,
        most_held: int,
        *,
        on_lost: Callable[[int], None],
        on_pause: Callable[[str], None],
    ) -> None:
        self._spool = spool
        self._most_held = most_held
        self._on_lost = on_lost
        self._on_pause = on_pause
        self._held: deque[_Held] = deque()
        self._not_before_s = 0.0
        self._pause_s = _FIRST_PAUSE_S

    @property
    def all_written(self) -> bool:
        return not self._held

    def write(self, seq: int, framed: bytes, names: bytes, *, keep_when_full: bool) -> None:
        """Write one update, or hold it after those that are held already."""
        if not self._held:
            if not self._wrote(seq, framed, names, keep_when_full):
                self._held.append(_Held(seq, framed, b"", keep_when_full))
            return
        self._held.append(_Held(seq, framed, names, keep_when_full))
        if len(self._held) > self._most_held:
            self._on_lost(self._held.popleft().seq)
        if time.monotonic() >= self._not_before_s:
            self._catch_up(_CATCH_UP)

    def close(self) -> None:
        """Try once more to write what is held; the rest is given up."""
        if self._held:
            self._catch_up(len(self._held))
        while self._held:
            self._on_lost(self._held.popleft().seq)

    def _catch_up(self, most: int) -> None:
        for _ in range(min(most, len(self._held))):
            update = self._held[0]
            if not self._wrote(*update):
                # The spool remembers the names, and writes them into its next segment.
                self._held[0] = update._replace(names=b"")
                return
            self._held.popleft()
        if not self._held:
            self._pause_s = _FIRST_PAUSE_S

    def _wrote(self, seq: int, framed: bytes, names: bytes, keep_when_full: bool) -> bool:
        begun_s = time.monotonic()
        try:
            self._spool.append(seq, framed, names, keep_when_full=keep_when_full)
        except SpoolBrokenError as error:
            now_s = time.monotonic()
            pause_s = max(self._pause_s, _PAUSE_SHARE * (now_s - begun_s))
            self._not_before_s = now_s + min(pause_s, _LONGEST_PAUSE_S)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            self._spool.begin_anew()
            self._on_pause(str(error))
            return False
        return True
