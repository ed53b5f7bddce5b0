"""Everything watchstep raises, sorted by what the caller does next.

WatchstepError
├── TrainingHalted          training was stopped on purpose: leave the loop, look at the alert
├── RuleError               a rule file or expression is wrong: fix the line it names
├── SettingsError           a setting is wrong: fix the key it names
├── WireError               bytes or values that no update can hold: fix the sender
├── CheckpointError         no checkpoint there that can be trusted: see the reason
├── GuardRefusedError       this optimizer cannot be guarded safely: guard another, or none
├── LogUnreadableError      a training log cannot be read: give another file
└── UnreachableError        the service does not answer: try later; training is not concerned
"""

from __future__ import annotations

import contextlib
import sys
import warnings

from watchstep.masking import masked

HALT_EXIT_CODE = 76
"""Process exit code after a halt.

BSD's EX_PROTOCOL, which neither Python, the shell nor a signal produces, so that a
scheduler can tell "stopped on purpose" from a crash.
"""


class WatchstepError(Exception):
    """Base of every error that watchstep raises on purpose."""


class TrainingHalted(WatchstepError, SystemExit):  # noqa: N818 - a decision, not a mistake
    """Training was stopped because the user asked for that on a critical alert.

    Where nobody catches it the process ends with `HALT_EXIT_CODE` and without a traceback,
    as it is a `SystemExit` too; it is an ordinary `Exception` for everybody who catches it.

    Attributes:
        rule: The rule that demanded the halt, or None for a remote command.
        update: Sequence number of the update that was judged.
        exit_code: What a script should exit with, see `HALT_EXIT_CODE`.
    """

    exit_code = HALT_EXIT_CODE

    def __init__(self, message: str, *, rule: str | None = None, update: int = 0) -> None:
        super().__init__(message)
        self.code = HALT_EXIT_CODE
        self.rule = rule
        self.update = update


class RuleError(WatchstepError):
    """A rule cannot be used.

    Attributes:
        line: 1-based line in the file, or 0 where there is no file.
        column: 1-based column in the expression or file, or 0.
        source: Name of the file, or "" for an expression given in code.
        key: That it is about, or "".
    """

    def __init__(
        self, reason: str, *, line: int = 0, column: int = 0, source: str = "", key: str = ""
    ) -> None:
        super().__init__(reason)
        self.key = key
        self.reason = reason
        self.line = line
        self.column = column
        self.source = source

    def __str__(self) -> str:
        """`FILE:LINE: reason`, with the parts that are known."""
        place = ":".join(part for part in (self.source, str(self.line or "")) if part)
        return f"{place}: {self.reason}" if place else self.reason


class SettingsError(WatchstepError):
    """A setting has a wrong name, type or value, or two of them contradict each other."""


class WireError(WatchstepError):
    """Bytes that are no update, or values that no update can hold."""


class CheckpointError(WatchstepError):
    """A checkpoint is missing, torn, altered, incomplete or not finite."""


class GuardRefusedError(WatchstepError):
    """An optimizer whose step cannot be judged, or cannot be skipped without a trace."""


class LogUnreadableError(WatchstepError):
    """A training log that cannot be opened or holds nothing readable."""


class UnreachableError(WatchstepError):
    """The service did not answer, or did not answer as watchstep's service does."""


def say(text: str) -> None:
    """Say one line on stderr, for the person at the terminal; never through `logging`.

    What looks like a secret is masked: a terminal's output lands in logs that others read.
    """
    if sys.stderr is not None:
        line = masked(" ".join(text.split()))
        with contextlib.suppress(OSError, ValueError):  # closed
            print(f"watchstep: {line}", file=sys.stderr, flush=True)  # noqa: T201


def warn(text: str, category: type[Warning] = UserWarning) -> bool:
    """Warn at the line of the training script that called into watchstep.

    Returns:
        False where warnings are errors: ours must not become training's.
    """
    package = __file__.removesuffix("errors.py")
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    try:
        warnings.warn(text, category, stacklevel=level)
    except Warning:
        return False
    return True
