"""Ways to let an optimizer's step happen without a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from watchstep.guard.memory import Memory, NoWayBackError


class WithheldGradients:
    """Gradients taken away for one step: every torch optimizer passes over such parameters.

    Neither parameters, nor moments, nor step counters are touched, and state that does not
    exist yet is not created. `give_back` puts the same tensors where they were, so code that
    looks at gradients after the step finds them.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._held = [
            (parameter, parameter.grad)
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        for parameter, _ in self._held:
            parameter.grad = None

    def give_back(self) -> None:
        """Undo; only right directly after the step."""
        for parameter, gradient in self._held:
            parameter.grad = gradient


class ZeroedGradients(WithheldGradients):
    """Zeros for one step, for optimizers of others, which may not expect a missing gradient."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(optimizer)
        for parameter, _ in self._held:
            parameter.grad = torch.zeros_like(parameter)


class Snapshot:
    """A copy of all parameters, state and hyperparameters of an optimizer.

    What its class keeps in attributes of its own is copied too: numbers, containers, arrays, and
    objects of other classes with what they hold. Costs the memory of all of it once more while
    it is held.

    Attributes:
        left_out: What cannot be put back, by name and class.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        memory = Memory()
        self._groups = [
            {name: memory.way_back(value) for name, value in group.items()}
            for group in optimizer.param_groups
        ]
        self._state = {key: memory.way_back(value) for key, value in optimizer.state.items()}
        self._attributes, self.left_out = _ways_back(optimizer, memory)

    def restore(self) -> None:
        """Put every bit back in place; tensors and containers keep their identity."""
        with torch.no_grad():
            for group, remembered in zip(self._optimizer.param_groups, self._groups, strict=True):
                restored = {name: back() for name, back in remembered.items()}
                group.clear()
                group.update(restored)
            for key in [key for key in self._optimizer.state if key not in self._state]:
                del self._optimizer.state[key]
            for key, back in self._state.items():
                self._optimizer.state[key] = back()
            attributes = vars(self._optimizer)
            for name in own_attributes(self._optimizer).keys() - self._attributes.keys():
                if name not in self.left_out:
                    del attributes[name]
            for name, back in self._attributes.items():
                attributes[name] = back()


def refusal(optimizer: torch.optim.Optimizer) -> str | None:
    """Why a step of this optimizer could not be undone; None if it can. Copies no tensor."""
    if passes_over_missing_gradients(optimizer):
        return None
    _, left_out = _ways_back(optimizer, Memory(dry=True))
    if not left_out:
        return None
    name, kind = next(iter(left_out.items()))
    return (
        f"{type(optimizer).__name__} keeps a {kind} in its attribute {name!r}, which a skipped"
        " step could not put back"
    )


def own_attributes(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer's class keeps besides groups, state and what torch itself sets."""
    return {
        name: value
        for name, value in vars(optimizer).items()
        if name not in _TORCHS_ATTRIBUTES and not name.startswith(_TORCHS_PREFIXES)
    }


_TORCHS_ATTRIBUTES = frozenset(
    {"defaults", "state", "param_groups", "found_inf", "grad_scale", "step", "_opt_called"}
)
_TORCHS_PREFIXES = ("_optimizer_", "_zero_grad_", "_warned_", "_patched_")


def _ways_back(
    optimizer: torch.optim.Optimizer, memory: Memory
) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    ways: dict[str, Callable[[], Any]] = {}
    left_out: dict[str, str] = {}
    for name, value in own_attributes(optimizer).items():
        try:
            ways[name] = memory.way_back(value)
        except NoWayBackError as error:
            left_out[name] = str(error)
    return ways, left_out


def passes_over_missing_gradients(optimizer: torch.optim.Optimizer) -> bool:
    """Whether withholding gradients is known to leave no trace.

    True for torch's own optimizers, each of which is tested. LBFGS reads a missing gradient
    as zeros, and a stranger's class may do anything.
    """
    kind = type(optimizer)
    return kind.__module__.startswith("torch.optim.") and kind.__name__ != "LBFGS"
