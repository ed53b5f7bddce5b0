"""What trainers print besides readings: how a run ended, and what they say of its numbers.

The words are data: a line tells of an ending when it holds the pieces of one entry, in order, in
small letters. Looking for pieces is linear in the line, whatever the line is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

Ending = Literal["failed", "preempted", "interrupted", "finished"]

TRACEBACK = "Traceback (most recent call last)"
_LONGEST_TEXT = 500

_FAILED: tuple[tuple[str, ...], ...] = (
    # Memory of the host and of devices: Linux, Slurm, PyTorch, TensorFlow, XLA, C++.
    ("out of memory",),
    ("outofmemory",),
    ("oom-kill",),
    ("oom_kill",),
    ("oom kill",),
    ("cannot allocate memory",),
    ("can't allocate memory",),
    ("std::bad_alloc",),
    ("resource_exhausted",),
    ("resource exhausted",),
    # Collectives: PyTorch's NCCL watchdog, NCCL itself, gloo.
    ("watchdog", "timeout"),
    ("watchdog got stuck",),
    ("watchdog", "terminated with exception"),
    ("taking the entire process down",),
    ("nccl warn", "abort"),
    ("nccl warn", "timeout"),
    ("connection closed by peer",),
    # Devices.
    ("cuda error",),
    ("hip error",),
    ("device-side assert",),
    ("assertion `", "failed"),
    ("illegal memory access",),
    ("unspecified launch failure",),
    ("uncorrectable ecc",),
    ("cublas_status_", "failed"),
    ("cudnn_status_", "failed"),
    ("fallen off the bus",),
    # XLA and TensorFlow.
    ("xlaruntimeerror",),
    ("check failed: ",),
    ("model diverged with loss",),
    ("nanlossduringtrainingerror",),
    # Trainers that give up: fairseq, Apex, DeepSpeed, ESPnet.
    ("minimum loss scale reached",),
    ("loss scale already at minimum",),
    ("training was stopped at", "epoch"),
    # The disk.
    ("no space left on device",),
    ("disk quota exceeded",),
    ("errno 28",),
    # The process.
    ("segmentation fault",),
    ("bus error",),
    ("core dumped",),
    ("terminate called after throwing",),
    ("fatal python error",),
    ("is killed by signal",),
    ("killed process",),
    ("line ", ": ", " killed "),
    ("died with <signals.",),
    ("childfailederror",),
    ("sigkill",),
    ("signal 9",),
    ("signal 11",),
    ("node failure",),
)
_WHOLE_LINES: Mapping[str, Ending] = {
    "killed": "failed",
    "aborted": "failed",
    "aborted (core dumped)": "failed",
    "terminated": "preempted",
    "hangup": "preempted",
}
_PREEMPTED: tuple[tuple[str, ...], ...] = (
    ("cancelled at",),
    ("due to preemption",),
    ("due to time limit",),
    ("time limit reached",),
    ("exceeded wall time",),
    ("exceeded walltime",),
    ("been preempted",),
    ("was preempted",),
    ("job preempted",),
    ("spot instance", "interrupt"),
    ("received sigterm",),
    ("caught sigterm",),
    ("sigterm received",),
    ("received signal 15",),
    ("signal 15 received",),
    ("got signal: 15",),
    ("signalexception",),
    ("sigterm", "death signal"),
)
_INTERRUPTED = (("keyboardinterrupt",), ("keyboard interrupt",))
_FINISHED: tuple[tuple[str, ...], ...] = (
    ("trainer.fit", "stopped: ", "max_"),
    ("done training in ",),
    ("[after training is done]",),
    ("training complete",),
    ("training is complete",),
    ("training finished",),
    ("training has finished",),
    ("training done",),
    ("training is done",),
    ("finished training",),
    ("completed training",),
    ("training successfully",),
    ("training ended successfully",),
    ("epochs completed in ",),
    ("end of training",),
    ("optimization finished",),
)
_NOT_YET = frozenset(
    (*("not", "until", "before", "when", "if", "will", "once", "while", "after", "unless", "was"),)
)
_MOST_WORDS_BEFORE = 7
_WARNINGS: tuple[tuple[str, ...], ...] = (
    ("non-finite",),
    ("nonfinite",),
    ("not finite",),
    ("invalid loss",),
    ("gradient overflow",),
    ("grad overflow",),
    ("overflow detected",),
    ("overflow!",),
    ("skipping step",),
    ("skipping this step",),
    ("skipping update",),
    ("skipping this update",),
    ("skipping batch",),
    ("skipping this batch",),
    ("skipping the step",),
    ("skipping the update",),
    ("grad", "invalid"),
    ("diverged",),
)
_NONFINITE = frozenset(("nan", "nans", "inf", "infs", "infinite", "infinity"))
_BESIDE_NONFINITE = frozenset(
    (
        *(
            "detected",
            "encountered",
            "found",
            "value",
            "values",
            "loss",
            "losses",
            "contains",
            "contain",
        ),
        *(
            "grad",
            "grads",
            "gradient",
            "gradients",
            "weights",
            "parameters",
            "logits",
            "activations",
        ),
    )
)
_WORD = re.compile(r"[a-z]{2,30}")

SAYS_LOSS_LOST = re.compile(
    r"\bloss(?:es)?\b[^.;]{0,30}?\b(?:is|are|was|became|becomes|turned|went|goes|=|to|with)\s{0,3}"
    r"(?:now |a )?(?:nan|inf(?:inite|inity)?|non-?finite)\b|\bnan loss\b|invalid loss, terminating",
    re.IGNORECASE,
)
"""Words beside the readings that say that the loss itself is lost, not one step's gradient."""

NAMES_UPDATE = re.compile(
    r"\bat (?:iteration|iter|step|update)\s{0,4}[=:#]?\s{0,4}(\d{1,15})\b", re.IGNORECASE
)

_EXCEPTION = re.compile(r"[A-Za-z_][\w.]{0,120}(?:Error|Exception|Exit|Interrupt)(?::|$)")
_EXCEPTION_INSIDE = re.compile(
    r"\b(?:Value|Runtime|FloatingPoint|Assertion|ZeroDivision|Overflow|Memory|OS|Index)Error: "
    r".{0,400}"
)
_EXIT_CODE = re.compile(r"exit ?(?:code|status)\s{0,4}[:=]?\s{0,4}(-?\d{1,4})")
_SCALE = re.compile(
    r"(?:overflow|reducing)\b.{0,200}?\b(?:reducing|setting)(?: dynamic)?(?: loss scale)?"
    r"(?: from \S{1,20})? to:?\s{0,4}(\d[\d.]{0,20}(?:e[-+]?\d{1,3})?)",
    re.IGNORECASE,
)
_FIRST_PIECES = tuple(
    {
        *(
            pieces[0].rstrip("0123456789")
            for group in (_FAILED, _PREEMPTED, _INTERRUPTED, _FINISHED)
            for pieces in group
        ),
        *(pieces[0] for pieces in _WARNINGS),
        *("error", "exception", "exit", "interrupt", "nan", "inf", "^c", "killed", "aborted"),
        *("terminated", "hangup", "loss scale", "reducing"),
    }
)


def may_speak(text: str) -> bool:
    """Whether a line needs a look at all: nearly none does, and a look costs a hundred searches."""
    small = text.lower()
    return any(piece in small for piece in _FIRST_PIECES)


def ending(text: str) -> Ending | None:
    """How a run ended by a line's words; None where the line does not say that it did."""
    text = text[: 4 * _LONGEST_TEXT]
    small = text.lower().strip()
    if small in _WHOLE_LINES:
        return _WHOLE_LINES[small]
    if any(_holds(small, pieces) for pieces in _INTERRUPTED) or small.startswith("^c"):
        return "interrupted"
    if any(_holds(small, pieces) for pieces in _PREEMPTED):
        return "preempted"
    if any(_holds(small, pieces) for pieces in _FAILED) or _EXCEPTION.match(text):
        return "failed"
    code = _EXIT_CODE.search(small)
    if code is not None and int(code.group(1)):
        # 128 and the signal's number, or the number below zero: SIGTERM is 15.
        return "preempted" if int(code.group(1)) in (-15, 143) else "failed"
    return "finished" if _finishes(small) else None


def error_in(text: str) -> str:
    """The part of a line that names the error, the line itself where none is named."""
    match = _EXCEPTION_INSIDE.search(text[: 4 * _LONGEST_TEXT])
    return (match.group() if match else text)[:_LONGEST_TEXT]


def names_error(text: str) -> bool:
    """Whether a line holds the text of a Python error, wherever it stands."""
    return _EXCEPTION_INSIDE.search(text[: 4 * _LONGEST_TEXT]) is not None


def warning(text: str) -> bool:
    """Whether a line of prose says that something was not finite, or was skipped for it."""
    small = text[: 4 * _LONGEST_TEXT].lower()
    if any(_holds(small, pieces) for pieces in _WARNINGS):
        return True
    words = set(_WORD.findall(small))
    return bool(words & _NONFINITE) and bool(words & _BESIDE_NONFINITE)


def loss_scale(text: str) -> float | None:
    """The loss scale that a trainer says it has fallen to, after an overflow."""
    match = _SCALE.search(text[: 2 * _LONGEST_TEXT])
    return float(match.group(1).rstrip(".")) if match else None


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
    for pieces in _FINISHED if len(small) < _LONGEST_TEXT else ():
        if _holds(small, pieces):
            before = _WORD.findall(small[: small.find(pieces[0])])
            return len(before) <= _MOST_WORDS_BEFORE and not _NOT_YET.intersection(before)
    return False
