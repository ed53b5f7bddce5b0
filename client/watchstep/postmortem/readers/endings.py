"""What trainers print besides readings: how a run ended, and what they say of its numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from watchstep.postmortem.readers.naming import NUMBER

TRACEBACK = "Traceback (most recent call last)"
_LONGEST_TEXT = 500

SAYS_LOSS_LOST = re.compile(
    r"\bloss(?:es)?\b[^.;]{0,30}?\b(?:is|are|was|became|becomes|turned|went|goes|=|to|with)\s*"
    r"(?:now |a )?(?:nan|inf(?:inite|inity)?|non-?finite)\b|\bnan loss\b|invalid loss, terminating",
    re.IGNORECASE,
)
"""Words beside the readings that say that the loss itself is lost, not one step's gradient."""

NAMES_UPDATE = re.compile(
    r"\bat (?:iteration|iter|step|update)\s*[=:#]?\s*(\d{1,15})\b", re.IGNORECASE
)

_BARE_ERROR = re.compile(
    r"((?:ValueError|RuntimeError|FloatingPointError|AssertionError|ZeroDivisionError|"
    r"OverflowError|torch\.\w*OutOfMemoryError|torch\.cuda\.\w+Error|KeyboardInterrupt|"
    r"torch\.distributed\.\w+Error)\b(?::.*)?)$"
)
_KILLED = re.compile(
    r"^Killed\b|Segmentation fault|\bBus error\b|\bcore dumped\b|oom[-_ ]?kill|Out Of Memory|"
    r"Watchdog caught collective operation timeout|"
    r"(?:terminate called after throwing|NCCL WARN .*(?:abort|timeout))|"
    r"failed \(exitcode: -?\d+\)",
    re.IGNORECASE,
)
_STOPPED = re.compile(
    r"^(?:\w+\.)*KeyboardInterrupt\b|^\^C|Keyboard ?interrupt|"
    r"\bCANCELLED AT\b|DUE TO (?:PREEMPTION|TIME LIMIT)|\bpreempted\b|"
    r"Received SIGTERM|got signal: 15|SignalException|\(?SIGTERM\)?: death signal",
    re.IGNORECASE,
)
_FINISHED = re.compile(
    r"^\W*(?:[\d:,. -]+\W*)?(?:\w+\W+){0,6}?(?:"
    r"`?Trainer\.fit`? stopped: `?max_(?:epochs|steps)=|"
    r"done training in [\d.]+ seconds|"
    r"\[after training is done\]|"
    r"Training completed\b|Training finished\b|Finished training\b|Training complete\b|"
    r"Overall training speed: |"
    r"\d+ epochs completed in [\d.]+ hours)",
    re.IGNORECASE,
)
_WARNING = re.compile(
    r"non-?finite|\bnan\b.*\b(?:detected|encountered|found|values?|loss(?:es)?|grad\w*)\b|"
    r"\bloss(?:es)? (?:is|are|became|was|turned|went) (?:now )?(?:nan|inf)|"
    r"(?:detected|found|encountered|contains?)\b.*\b(?:nan|infs?)\b|"
    r"invalid loss|gradient overflow|grad overflow|overflow detected|OVERFLOW!|"
    r"skipping (?:this )?(?:step|update|batch)|diverged",
    re.IGNORECASE,
)
_SCALE = re.compile(
    rf"(?:overflow|reducing)\b.*?\b(?:reducing(?: dynamic)?(?: loss scale)?(?: from {NUMBER})? to|"
    rf"setting loss scale to):?\s*({NUMBER})",
    re.IGNORECASE,
)


_SPEAKS = (
    *("error", "kill", "fault", "dumped", "oom", "out of memory", "watchdog", "terminate called"),
    *("nccl", "exitcode", "interrupt", "^c", "cancelled", "due to ", "preempt", "sigterm"),
    *("signal", "stopped", "done", "finish", "complete", "overall", "nan", "finite", "overflow"),
    *("skipping", "diverg", "invalid loss", "inf ", "infs", "inf,", "inf.", "infinit"),
)
"""Words, written small, of which one is in every line that this file looks for."""


def may_speak(text: str) -> bool:
    """Whether a line needs a look at all: nearly none does, and a look costs ten searches."""
    small = text.lower()
    return any(word in small for word in _SPEAKS)


def failure(text: str) -> str | None:
    """An exception printed without its traceback, or a process that was killed."""
    found = _BARE_ERROR.search(text)
    if found:
        return found.group(1)
    return text if _KILLED.search(text) else None


def stop(text: str) -> str | None:
    """What ended a run from outside: a person, a scheduler; no failure of the training."""
    return text[:_LONGEST_TEXT] if _STOPPED.search(text[:_LONGEST_TEXT]) else None


def finish(text: str) -> bool:
    """Whether the trainer says that training is done."""
    return len(text) < _LONGEST_TEXT and _FINISHED.search(text) is not None


def warning(text: str) -> bool:
    """Whether a line of prose says that something was not finite, or was skipped for it."""
    return _WARNING.search(text[:2_000]) is not None


def loss_scale(text: str) -> float | None:
    """The loss scale that a trainer says it has fallen to, after an overflow."""
    found = _SCALE.search(text[:1_000])
    return float(found.group(1).replace("_", "")) if found else None


def tells(event: Mapping[str, Any] | None) -> bool:
    """Whether an event says by itself how a run went, without any reading beside it."""
    if event is None:
        return False
    said = str(event.get("text", ""))
    return event["kind"] == "failed" or SAYS_LOSS_LOST.search(said) is not None
