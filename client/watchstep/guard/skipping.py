"""Ways to let an optimizer's step happen without a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


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
        import torch

        super().__init__(optimizer)
        for parameter, _ in self._held:
            parameter.grad = torch.zeros_like(parameter)


class Snapshot:
    """A copy of all parameters, state and hyperparameters of an optimizer.

    Costs the memory of parameters and optimizer state once more while it is held.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._groups = [
            {name: _remembered(value) for name, value in group.items()}
            for group in optimizer.param_groups
        ]
        self._state = {key: _remembered(value) for key, value in optimizer.state.items()}

    def restore(self) -> None:
        """Put every bit back in place; tensors and containers keep their identity."""
        import torch

        with torch.no_grad():
            for group, remembered in zip(self._optimizer.param_groups, self._groups, strict=True):
                restored = {name: back() for name, back in remembered.items()}
                group.clear()
                group.update(restored)
            for key in [key for key in self._optimizer.state if key not in self._state]:
                del self._optimizer.state[key]
            for key, back in self._state.items():
                self._optimizer.state[key] = back()


def passes_over_missing_gradients(optimizer: torch.optim.Optimizer) -> bool:
    """Whether withholding gradients is known to leave no trace.

    True for torch's own optimizers, each of which is tested. LBFGS reads a missing gradient
    as zeros, and a stranger's class may do anything.
    """
    kind = type(optimizer)
    return kind.__module__.startswith("torch.optim.") and kind.__name__ != "LBFGS"


def _remembered(value: Any) -> Callable[[], Any]:
    """A function that puts `value` back as it is now, in place where it can be changed."""
    import torch

    if isinstance(value, torch.Tensor):
        return _remembered_tensor(value)
    if isinstance(value, dict):
        entries = {key: _remembered(entry) for key, entry in value.items()}

        def refill() -> Any:
            restored = {key: back() for key, back in entries.items()}
            value.clear()
            value.update(restored)
            return value

        return refill
    if isinstance(value, list):
        members = [_remembered(member) for member in value]

        def reorder() -> Any:
            value[:] = [back() for back in members]
            return value

        return reorder
    return lambda: value


def _remembered_tensor(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    copy = tensor.detach().clone()

    def write_back() -> torch.Tensor:
        tensor.detach().copy_(copy)
        return tensor

    return write_back
