"""What is told of a run that ended in an exception."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterable
from typing import Any

from watchstep.boundary import of_stranger, text_of
from watchstep.core.error_texts import memory_of
from watchstep.hook.environment import process_facts

_TRACEBACK_LINES = 20
_LONGEST_LINE = 300
_LONGEST_ERROR = 2_000
_LAST_LINES = 20


def failed_event(error: BaseException, last_lines: Iterable[str]) -> dict[str, Any]:
    """The event that tells of an exception: its type and text first, then where and who.

    Args:
        last_lines: What was captured last of warnings and log lines.
    """
    kind = type(error).__name__
    text = text_of(lambda: f"{kind}: {error}" if str(error) else kind, kind)
    event: dict[str, Any] = {"kind": "failed", "error": text[:_LONGEST_ERROR]}
    memory = _memory(error, text)
    if memory:
        event["oom"] = memory
    event["traceback"] = _last_lines_of(error)
    rank = os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or "0"
    event |= {"rank": rank, **process_facts()}
    lines = [line[:_LONGEST_LINE] for line in list(last_lines)[-_LAST_LINES:]]
    if lines:
        event["last_lines"] = lines
    return event


def _memory(error: BaseException, text: str) -> str:
    """Whose memory ran out, "device" or "host"; "" where that is not the cause."""
    no_room = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return "host" if isinstance(error, MemoryError) or no_room else memory_of(text)


def _last_lines_of(error: BaseException) -> str:
    nothing: list[str] = []
    parts = of_stranger(lambda: traceback.format_exception(error, limit=-_TRACEBACK_LINES), nothing)
    split = [line[:_LONGEST_LINE] for part in parts for line in part.rstrip().split("\n")]
    return "\n".join(split[-_TRACEBACK_LINES:])
