"""The line between watchstep and the training loop: only a halt crosses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from watchstep.errors import TrainingHalted, warn

P = ParamSpec("P")
R = TypeVar("R")


class Boundary:
    """Calls our own code on behalf of a training loop that must go on.

    Attributes:
        errors: What failed inside, by kind, how often. Each kind is warned of once.
    """

    def __init__(self) -> None:
        self.errors: dict[str, int] = {}

    def survive(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """The function's result, or None if it failed; a halt and an interrupt pass."""
        try:
            return function(*args, **kwargs)
        except TrainingHalted:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary to the training loop
            self.count(error)
            return None

    def count(self, error: Exception) -> None:
        """Count an error that training does not see."""
        kind = type(error).__name__
        self.complain(kind, f"watchstep goes on after {kind}: {error}")

    def complain(self, kind: str, text: str) -> None:
        """Count something by its kind, and warn of the first."""
        self.errors[kind] = self.errors.get(kind, 0) + 1
        if self.errors[kind] == 1:
            warn(text)
