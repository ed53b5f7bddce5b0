"""Where every thread of this process stands, and whether one of them moves."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

STACKS_BYTES = 8 * 1024
"""Of all stacks together."""
_FRAMES = 24
# Three places that take turns are all seen but once in 200 times.
_SAMPLES = 16
_APART_S = 0.25
_GOLDEN = 0.618
_OURS = "watchstep-"
# A loop that polls (`queue.get` with a timeout) is seen in two places at most.
_STANDING_PLACES = 2
_WORKING_SHARE = 0.05
"""Of one core: one that polls uses less of it than one that works between short waits."""
_LIBRARY = ("<", os.__file__.removesuffix("os.py"))


class Standing:
    """Since when a thread was seen at one place, or two that take turns, by looks far apart."""

    def __init__(self) -> None:
        self._places: set[tuple[tuple[int, int], ...]] = set()
        self._since_s: float | None = None

    def seconds(self, thread: int, now_s: float) -> float:
        """Look once more, and say how long the thread has stood so.

        Args:
            now_s: On the monotonic clock.
        """
        place = _whole_place(sys._current_frames().get(thread))
        self._places.add(place)
        if self._since_s is None or len(self._places) > _STANDING_PLACES:
            self._places, self._since_s = {place}, now_s
        return now_s - self._since_s


def stacks(first: int) -> str:
    """The innermost frames of every thread, innermost first, within `STACKS_BYTES`.

    Args:
        first: Identifier of the thread that comes first.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()
    others = [ident for ident in frames if ident != first]
    texts: list[str] = []
    for ident in [first, *others]:
        name = names.get(ident, "unknown")
        if ident in frames and not name.startswith(_OURS):
            texts.append("\n".join([f"thread {name}:", *_lines(frames[ident])]))
    text = "\n".join(texts).encode("utf-8", "replace")
    if len(text) > STACKS_BYTES:
        text = text[: STACKS_BYTES - 8] + b"\n..."
    return text.decode("utf-8", "ignore")


def innermost(thread: int) -> str:
    """Where a thread stands, as `file:line function`; "" where it is gone."""
    frame = sys._current_frames().get(thread)
    return "" if frame is None else _place(frame)


def own_line(thread: int) -> str:
    """The line of the training itself that a thread is in, though a library may stand inside."""
    frame = sys._current_frames().get(thread)
    while frame is not None and _is_library(frame.f_code.co_filename):
        frame = frame.f_back
    return "" if frame is None else _place(frame)


def moves(thread: int, interrupted: Callable[[float], bool]) -> bool:
    """Whether a thread is seen at several places within a moment; takes that moment.

    Two places are work where it uses the processor: it may wait a little after each piece.

    Args:
        interrupted: Sleeps at most so many seconds; whether something came that cannot wait.
    """
    places: set[tuple[tuple[int, int], ...]] = set()
    begun_s, used_s = time.monotonic(), _cpu_s(thread)
    for number in range(_SAMPLES):
        places.add(_whole_place(sys._current_frames().get(thread)))
        if len(places) > _STANDING_PLACES:
            return True
        # Unevenly, or work that repeats in step with the looks would seem to stand.
        if interrupted(_APART_S * (0.5 + number * _GOLDEN % 1)):
            break
    share = (_cpu_s(thread) - used_s) / (time.monotonic() - begun_s)
    return len(places) == _STANDING_PLACES and share > _WORKING_SHARE


def _cpu_s(thread: int) -> float:
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(thread))
    except (OSError, AttributeError):
        return 0.0  # It is gone, or the system cannot tell.


def _whole_place(frame: FrameType | None) -> tuple[tuple[int, int], ...]:
    """Every frame's instruction: a model's work ends in one kernel, called from many lines."""
    place = []
    while frame is not None:
        # The instruction, not the line: a loop may stand in one line.
        place.append((id(frame.f_code), frame.f_lasti))
        frame = frame.f_back
    return tuple(place)


def _is_library(file: str) -> bool:
    # Debian calls its folder dist-packages.
    return file.startswith(_LIBRARY) or "-packages/" in file


def _lines(frame: FrameType | None) -> list[str]:
    lines: list[str] = []
    while frame is not None and len(lines) < _FRAMES:
        lines.append(f"  {_place(frame)}")
        frame = frame.f_back
    return lines


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"
