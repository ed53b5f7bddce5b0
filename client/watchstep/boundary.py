"""The line between watchstep and the training loop: only a halt crosses it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from watchstep.errors import TrainingHalted, warn

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("watchstep")


class Boundary:
    """Holds our own failures back from a training loop that must go on.

    As a context manager it ends a block at the first error; halts, interrupts and what a signal
    handler of the user's raises pass.

    Args:
        who: What fails, in warnings.

    Attributes:
        errors: What failed inside, by kind, how often. Each kind is warned of once; its
            traceback is in the log at DEBUG.
    """

    def __init__(self, who: str = "watchstep") -> None:
        self.errors: dict[str, int] = {}
        self._who = who

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: object, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception) or isinstance(error, TrainingHalted):
            return False
        if raised_by_signal_handler(error):
            return False
        self.count(error)
        return True

    def survive(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """The function's result, or None if it failed."""
        # On the way of every update: a `with` would cost each 0.4 us more.
        try:
            return function(*args, **kwargs)
        except TrainingHalted:
            raise
        except Exception as error:
            if raised_by_signal_handler(error):
                raise
            self.count(error)
            return None

    def count(self, error: Exception) -> None:
        """Count an error that training does not see."""
        kind = type(error).__name__
        self.complain(kind, f"{self._who} goes on after {kind}: {text_of(error.__str__)}")
        if self.errors[kind] == 1:
            log.debug("survived", exc_info=error)

    def complain(self, kind: str, text: str) -> None:
        """Count something by its kind, and warn of the first."""
        self.errors[kind] = self.errors.get(kind, 0) + 1
        if self.errors[kind] == 1:
            warn(text)


def of_stranger(ask: Callable[[], R], otherwise: R) -> R:
    """What a stranger's object gives, whose methods may raise anything."""
    try:
        return ask()
    except Exception as error:
        # It is a stranger's code, and only its answer is wanted.
        if raised_by_signal_handler(error):
            raise
        return otherwise


def text_of(to_text: Callable[[], str], otherwise: str = "(it cannot say)") -> str:
    """What a stranger's object says of itself."""
    return of_stranger(to_text, otherwise)


def raised_by_signal_handler(error: BaseException) -> bool:
    """Whether a signal handler raised it, on top of whatever code was running.

    Such an error is meant for the program, not for the code that the signal happened to interrupt.
    A handler is known by its arguments: the frame that it interrupted is one of them.
    """
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        interrupted = frame.f_back
        if interrupted is not None and any(
            value is interrupted or (type(value) is tuple and interrupted in value)
            for value in frame.f_locals.values()
        ):
            return True
        trace = trace.tb_next
    return False
