"""What trainers print besides readings: how a run ended, and what they say of its numbers.

The words are data, see `endings.txt`. Looking for their pieces is linear in the line, whatever the
line is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from watchstep.core.error_texts import SAYS_LOSS_LOST
from watchstep.postmortem.readers.vocabulary import is_evaluation, word_lists

Ending = Literal["failed", "preempted", "interrupted", "finished"]

TRACEBACK = "Traceback (most recent call last)"
WORKER = "multiprocessing/process.py"
"""Stands in the traceback of a process that another one has started."""

_PARENT_GONE = ("EOFError", "BrokenPipeError", "ConnectionResetError", "KeyboardInterrupt")
_LONGEST_TEXT = 500

_WORDS = word_lists("endings.txt")
_PIECES = {
    heading: [tuple(entry.split("…")) for entry in sorted(_WORDS[heading])]
    for heading in ("failed", "preempted", "interrupted", "finished", "resumed", "warning")
}
_WHOLE_LINES: Mapping[str, Ending] = {
    **dict.fromkeys(("killed", "aborted", "aborted (core dumped)"), "failed"),
    **dict.fromkeys(("terminated", "preempted", "hangup"), "preempted"),
    # With an exclamation mark alone: without one it may be of any part of the work.
    "done!": "finished",
}
_MOST_WORDS_BEFORE = 7
_WORD = re.compile(r"[a-z]{2,30}")

NAMES_UPDATE = re.compile(
    r"\bat (?:iteration|iter|step|update)\s{0,4}[=:#]?\s{0,4}(\d{1,15})\b", re.IGNORECASE
)

_EXCEPTION = re.compile(r"[A-Za-z_][\w.]{0,120}(?:Error|Exception|Exit|Interrupt)(?::|$)")
_EXCEPTION_INSIDE = re.compile(
    r"\b(?:Value|Runtime|FloatingPoint|Assertion|ZeroDivision|Overflow|Memory|OS|Index)Error: "
    r".{0,400}"
)
_STOPPED_EARLY = re.compile(r"epoch \d{1,9}: early stopping\.?")
_EXIT_CODE = re.compile(r"exit(?:ed with)? ?(?:code|status)\s{0,4}[:=]?\s{0,4}(-?\d{1,4})")
_SCALE = re.compile(
    r"(?:overflow|reducing)\b.{0,200}?\b(?:reducing|setting)(?: dynamic)?(?: loss scale)?"
    r"(?: from \S{1,20})? to:?\s{0,4}(\d{1,20}(?:\.\d{1,20})?(?:e[-+]?\d{1,3})?)",
    re.IGNORECASE,
)
_FIRST_PIECES = tuple(
    {
        *(pieces[0].rstrip("0123456789") for group in _PIECES.values() for pieces in group),
        *("error", "exception", "exit", "interrupt", "nan", "inf", "^c", "killed", "aborted"),
        *(
            "terminated",
            "preempted",
            "hangup",
            "done!",
            "loss scale",
            "reducing",
            ": early stopping",
        ),
    }
)


def is_exception(text: str) -> bool:
    """Whether a line begins with the name of an exception; the numbers in it are no readings."""
    return _EXCEPTION.match(text) is not None


def may_speak(text: str) -> bool:
    """Whether a line needs a look at all: nearly none does, and a look costs a hundred searches."""
    small = text.lower().replace("info", "")  # A logger's level is no "inf".
    return any(piece in small for piece in _FIRST_PIECES)


def ending(text: str) -> Ending | None:
    """How a run ended by a line's words; None where the line does not say that it did."""
    text = text[: 4 * _LONGEST_TEXT]
    small = text.lower().strip()
    for words in (small, small.strip("*_`.! ")):
        if words in _WHOLE_LINES:
            return _WHOLE_LINES[words]
    if any(_holds(small, pieces) for pieces in _PIECES["interrupted"]) or small.startswith("^c"):
        return "interrupted"
    if any(_holds(small, pieces) for pieces in _PIECES["preempted"]):
        # Slurm cancels a job also when one of its machines is gone.
        return "failed" if "node failure" in small else "preempted"
    if any(_holds(small, pieces) for pieces in _PIECES["failed"]) or _EXCEPTION.match(text):
        return "failed"
    code = _EXIT_CODE.search(small)
    if code is not None and int(code.group(1)):
        # 128 and the signal's number, or the number below zero: SIGTERM is 15.
        return "preempted" if int(code.group(1)) in (-15, 143) else "failed"
    return "finished" if _finishes(small) else None


def event(text: str) -> dict[str, object] | None:
    """The event that a line tells of; None where it is no ending."""
    how = ending(text)
    error = _EXCEPTION_INSIDE.search(text[: 4 * _LONGEST_TEXT])
    if how == "finished":
        return {"kind": "finished"}
    if how == "preempted":
        return {"kind": "preempted", "reason": text[:_LONGEST_TEXT]}
    if how == "interrupted":
        return {"kind": "halted", "reason": f"stopped from outside: {text[:_LONGEST_TEXT]}"}
    return failure(error.group() if error else text) if how == "failed" or error else None


def failure(text: str) -> dict[str, object]:
    """The event of a failure in these words."""
    return {"kind": "failed", "error": text[:_LONGEST_TEXT]}


def warning(text: str) -> bool:
    """Whether a line of prose says that something was not finite, or was skipped for it."""
    small = text[: 4 * _LONGEST_TEXT].lower()
    if any(_holds(small, pieces) for pieces in _PIECES["warning"]):
        return True
    words = set(_WORD.findall(small))
    return bool(words & _WORDS["not finite"]) and bool(words & _WORDS["beside not finite"])


def loses_parent(error: str) -> bool:
    """Whether a worker's last words say no more than that its parent has ended."""
    return error.startswith(_PARENT_GONE)


def resumes(text: str) -> bool:
    """Whether a line says that training goes on from a checkpoint."""
    small = text[:_LONGEST_TEXT].lower()
    words = _WORD.findall(small)
    beside = not _WORDS["no resume"].isdisjoint(words) or is_evaluation(words)
    if beside and "resum" not in small:
        return False
    return any(_holds(small, pieces) for pieces in _PIECES["resumed"])


def loss_scale(text: str) -> float | None:
    """The loss scale that a trainer says it has fallen to, after an overflow."""
    match = _SCALE.search(text[: 2 * _LONGEST_TEXT])
    return float(match.group(1)) if match else None


def tells(event: Mapping[str, Any] | None) -> bool:
    """Whether an event says by itself how a run went, without any reading beside it."""
    if event is None:
        return False
    text = str(event.get("text", ""))
    return event["kind"] == "failed" or SAYS_LOSS_LOST.search(text) is not None


def _holds(small: str, pieces: tuple[str, ...]) -> bool:
    at = 0
    for piece in pieces:
        at = small.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return True


def _finishes(small: str) -> bool:
    """Whether a trainer says that training is done, and not what comes when it is."""
    for pieces in _PIECES["finished"] if len(small) < _LONGEST_TEXT else ():
        if _holds(small, pieces):
            before = _WORD.findall(small[: small.find(pieces[0])])
            if _WORDS["no success"].intersection(_WORD.findall(small)):
                return False
            return len(before) <= _MOST_WORDS_BEFORE and not _WORDS["not yet"].intersection(before)
    return _STOPPED_EARLY.fullmatch(small) is not None
