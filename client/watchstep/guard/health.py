"""Slow readings: parameters frozen for ever, and the size of a step beside the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch

SECOND_MOMENTS = frozenset(
    {"exp_avg_sq", "max_exp_avg_sq", "square_avg", "acc_delta", "sum", "exp_inf"}
)
"""State entries of torch's optimizers that a step is divided by, or by the root of which."""

SAMPLE_ELEMENTS = 65_536
"""Elements per tensor that a step's size is measured on: bounds the copy to 256 KiB each."""


EARLY_STEPS = frozenset({10, 50, 100})
"""Steps at which slow readings are taken besides those of their cadence: a run that moves nothing
shall not need 200 steps to say so."""


def largest_learning_rate(optimizer: torch.optim.Optimizer) -> float | None:
    """The largest rate of an optimizer's groups; None where one is a tensor on a device."""
    rates = [group.get("lr") for group in optimizer.param_groups]
    numbers = [float(rate) for rate in rates if isinstance(rate, (int, float))]
    return max(numbers) if len(numbers) == len(rates) else None


def without_gradient(parameters: Sequence[torch.Tensor], gradients: int) -> float:
    """Share of the trainable parameters that a step finds without a gradient, 0 to 1.

    All of them, step after step: the loss does not depend on what the optimizer holds.

    Args:
        parameters: Of all groups.
        gradients: How many of them have a gradient.
    """
    if gradients == len(parameters):
        return 0.0
    missing = sum(p.requires_grad and p.grad is None for p in parameters)
    return missing / (gradients + missing) if missing else 0.0


def frozen_parameters(optimizer: torch.optim.Optimizer) -> torch.Tensor | None:
    """How many parameter elements have an infinite second moment, as a scalar on their device.

    A step is divided by the root of that moment, so such an element never moves again,
    although its value is finite and no gradient is wrong any more. None without such state.
    """
    with torch.no_grad():
        counts = [
            torch.isinf(entry).sum()
            for state in optimizer.state.values()
            for name, entry in state.items()
            if name in SECOND_MOMENTS and isinstance(entry, torch.Tensor)
        ]
        if not counts:
            return None
        home = counts[0].device
        return torch.stack([count.to(home, non_blocking=True) for count in counts]).sum()


class StepSize:
    """Samples parameters before a step, and measures after it how far they moved.

    Holds at most `SAMPLE_ELEMENTS` of each tensor, and only between the two calls.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        with torch.no_grad():
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self._samples = [_sample(p) for p in parameters if p.numel() and p.is_floating_point()]
            self._before = [sample.clone() for sample in self._samples]

    def ratio(self) -> torch.Tensor | None:
        """L2 norm of the step over that of the weights before it, a scalar on their device.

        NaN where all sampled weights were zero and did not move. None without parameters.
        """
        if not self._samples:
            return None
        with torch.no_grad():
            moved = [
                now.float() - before.float()
                for now, before in zip(self._samples, self._before, strict=True)
            ]
            ratio: torch.Tensor = _norm(moved) / _norm(self._before)
            return ratio


def _sample(parameter: torch.Tensor) -> torch.Tensor:
    """A view of the first elements; a tensor with gaps is taken whole."""
    local = parameter.detach()
    if hasattr(local, "to_local"):
        local = local.to_local()
    if not local.is_contiguous():
        return local
    return local.view(-1)[:SAMPLE_ELEMENTS]


def _norm(tensors: list[torch.Tensor]) -> torch.Tensor:
    home = tensors[0].device
    norms = [torch.linalg.vector_norm(t.float()).to(home, non_blocking=True) for t in tensors]
    total: torch.Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total
