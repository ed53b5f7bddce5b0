"""Whether gradients are cleared between an optimizer's steps."""

from __future__ import annotations

import weakref

import torch
from torch.utils.hooks import RemovableHandle

from watchstep.boundary import Boundary
from watchstep.guard.optimizers import parameters_of
from watchstep.guard.tally import KEPT, Tally

ENOUGH_CLEARED = 5
"""Steps before which gradients were cleared, after which nobody looks any more: code that clears
them does so every time."""


class ZeroingCheck:
    """Tells the tally of each step whose gradients were added to those of the step before.

    It reads no number of a gradient: whoever clears one replaces it or writes into it, and both
    show in the tensor's identity and version. Between two steps there may be many backward passes,
    also of other losses, as of a generator through its discriminator: only where none of them found
    the gradient cleared was it kept. What else writes into a gradient counts as clearing it.
    """

    def __init__(self, tally: Tally, boundary: Boundary) -> None:
        self._tally = tally
        self._boundary = boundary
        self._parameter: weakref.ref[torch.Tensor] | None = None
        self._gradient: weakref.ref[torch.Tensor] | None = None
        self._hook: RemovableHandle | None = None
        self._version = self._passes = self._cleared = 0
        self._was_cleared = self._is_done = False

    def remove(self) -> None:
        """Look no more; doing it twice is harmless."""
        self._is_done = True
        if self._hook is not None:
            self._hook.remove()

    def before_step(self) -> None:
        """Tell what the backward passes since the last step have shown."""
        if self._is_done:
            return
        if self._was_cleared:
            self._cleared += 1
        elif self._passes:
            self._tally.slow(KEPT, 1.0)
        self._passes, self._was_cleared = 0, False
        if self._cleared >= ENOUGH_CLEARED:
            self.remove()

    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Remember what the gradient is when the step has been made."""
        if self._is_done:
            return
        if self._parameter is None:
            self._choose(optimizer)
        self._remember(0)

    def _choose(self, optimizer: torch.optim.Optimizer) -> None:
        """The smallest tensor with a gradient stands for all: one call clears them together."""
        trained = [p for p in parameters_of(optimizer) if p.grad is not None and p.is_leaf]
        if trained:
            parameter = min(trained, key=torch.Tensor.numel)
            self._parameter = weakref.ref(parameter)
            self._hook = parameter.register_hook(self._before_accumulating)

    def _before_accumulating(self, _: torch.Tensor) -> None:
        with self._boundary:
            gradient = self._now()
            before = None if self._gradient is None else self._gradient()
            kept = gradient is not None and gradient is before
            self._was_cleared = self._was_cleared or not kept or _version(gradient) != self._version
            self._passes += 1
            self._remember(1)

    def _now(self) -> torch.Tensor | None:
        parameter = None if self._parameter is None else self._parameter()
        return None if parameter is None else parameter.grad

    def _remember(self, writes: int) -> None:
        """Keep which tensor the gradient is, and its version after so many more writes."""
        gradient = self._now()
        self._gradient = None if gradient is None else weakref.ref(gradient)
        self._version = _version(gradient) + writes


def _version(gradient: torch.Tensor | None) -> int:
    """How often a tensor was written into; 0 without one."""
    return 0 if gradient is None else gradient._version  # noqa: SLF001 - it has no public name
