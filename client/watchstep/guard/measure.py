"""What a step is like: its gradients, its size, and what will never move again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from watchstep.guard.optimizers import mesh_of, parameters_of


@dataclass(frozen=True, slots=True)
class Measured:
    """The gradients of one optimizer at one moment.

    Attributes:
        norm: L2 norm over all gradients together. NaN if an element is NaN, else +Inf if one
            is infinite. Finite whenever every element is, however large (1e30 is finite).
        nonfinite: How many gradient tensors hold an element that is not finite.
    """

    norm: float
    nonfinite: int


SECOND_MOMENTS = frozenset(
    {"exp_avg_sq", "max_exp_avg_sq", "square_avg", "acc_delta", "sum", "exp_inf"}
)
"""State entries of torch's optimizers that a step is divided by, or by the root of which."""

SAMPLE_ELEMENTS = 65_536
"""Elements per tensor that a step's size is measured on: bounds the copy to 256 KiB each."""

EARLY_STEPS = frozenset({1, 10, 20, 50, 100, 150})
"""Steps at which slow readings are taken besides those of their cadence: a run that moves nothing
shall not need 200 steps to say so, and the first step may be the one that ruins the weights."""

SMALL_ELEMENTS = 65_536
"""Below it one norm of a copy beats a norm of each tensor: 9 us against 41 for 9,000 elements in
6 tensors on a CPU, and 1,290 against 630 for 1.3 million in 40."""
_FEW_TENSORS = 64
_WIDE = frozenset({torch.float32, torch.float64})


def measure(gradients: Sequence[torch.Tensor]) -> Measured:
    """Measure gradients at once; copies one number to the host.

    Args:
        gradients: Tensors of any shape, floating dtype and device, dense or sparse. Read
            only, and no graph is recorded. Of a DTensor the local shard is measured.
    """
    with torch.no_grad():
        quick = _quick_norm(gradients)
        if quick is not None and math.isfinite(quick):
            return Measured(quick, 0)
        values = dense_values(gradients)
        if not values:
            return Measured(0.0, 0)
        norms = tensor_norms(values)
        norm = torch.linalg.vector_norm(norms).item()
        # A sum of squares is finite only if every element is; the reverse does not hold,
        # since squares of 1e30 overflow float32: so a hit is looked at again, exactly.
        if math.isfinite(norm):
            return Measured(norm, 0)
        return _measure_exactly(values)


def _quick_norm(gradients: Sequence[torch.Tensor]) -> float | None:
    """The norm of the usual gradients: plain, dense, of one kind; None where they are not.

    Nothing in it is done for each tensor in Python, but for a few small ones.
    """
    if set(map(type, gradients)) != {torch.Tensor}:
        return None
    try:
        if _are_small(gradients):
            # The fused norm is a loop over tensors on a CPU: one copy of little is faster.
            flat = torch._C._nn.flatten_dense_tensors(list(gradients))
            if flat.dtype in _WIDE:
                return float(torch.linalg.vector_norm(flat).item())
        # In half precision the norm itself would overflow at 65,504.
        wide = torch.float64 if gradients[0].dtype is torch.float64 else torch.float32
        each = torch._foreach_norm(list(gradients), 2.0, dtype=wide)
        return float(torch.linalg.vector_norm(torch.stack(each)).item())
    except RuntimeError:
        # Sparse or complex ones, or several kinds or devices: each is looked at by itself.
        return None


def _are_small(gradients: Sequence[torch.Tensor]) -> bool:
    """Whether they are few and on a CPU, as the first one is: others would not flatten with it."""
    if len(gradients) > _FEW_TENSORS or not gradients[0].is_cpu:
        return False
    return sum(map(torch.Tensor.numel, gradients)) <= SMALL_ELEMENTS


def measure_share(gradients: Sequence[torch.Tensor], processes: int) -> Measured:
    """This process's share of a norm over gradients that are sharded over several.

    The squares of all shares add up to the square of the norm: what several processes hold
    alike counts in each by the part that makes it count once.

    Args:
        gradients: As for `measure`; DTensors and plain ones.
        processes: Over how many processes shares are added; all hold the plain ones.
    """
    by_copies: dict[int, list[torch.Tensor]] = {}
    for gradient in gradients:
        by_copies.setdefault(_copies(gradient, processes), []).append(gradient)
    shares = [(measure(members), copies) for copies, members in by_copies.items()]
    norms = [share.norm / math.sqrt(copies) for share, copies in shares]
    return Measured(joined_norm(norms), sum(share.nonfinite for share, _ in shares))


def joined_norm(norms: Sequence[float]) -> float:
    """The norm of parts by their norms; NaN if one is NaN, which `hypot` alone may lose."""
    return math.nan if any(math.isnan(norm) for norm in norms) else math.hypot(*norms)


def _copies(gradient: Any, processes: int) -> int:
    """How many processes hold the same numbers as this one."""
    mesh = mesh_of(gradient)
    if mesh is None:
        return processes
    copies = max(processes // int(mesh.size()), 1)
    for axis, placement in enumerate(gradient.placements):
        copies *= 1 if placement.is_shard() else int(mesh.size(axis))
    return copies


def dense_values(gradients: Sequence[torch.Tensor], *, exact: bool = True) -> list[torch.Tensor]:
    """The numbers in each gradient as a dense real tensor, leaving out empty ones.

    Args:
        gradients: Dense or sparse.
        exact: Whether duplicates in sparse ones are summed first, as the optimizer will do;
            a device is waited for then.
    """
    values = [_values(gradient.detach(), exact=exact) for gradient in gradients]
    return [value for value in values if value.numel()]


def tensor_norms(values: Sequence[torch.Tensor], order: float = 2.0) -> torch.Tensor:
    """The norm of each tensor, float64, shape (tensors,), on the first one's device.

    The order is by dtype and device, not the order of `values`. The norm of order inf is the
    largest magnitude, NaN where one is NaN.
    """
    kinds: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
    for value in values:
        kinds.setdefault((value.dtype, value.device), []).append(value)
    home = values[0].device
    norms: list[torch.Tensor] = []
    for (dtype, _), members in kinds.items():
        # In half precision the norm itself would overflow at 65,504.
        wide = torch.float64 if dtype is torch.float64 else torch.float32
        each = torch._foreach_norm(members, order, dtype=wide)
        norms.append(torch.stack(each).to(home, torch.float64, non_blocking=True))
    return torch.cat(norms)


def _values(gradient: torch.Tensor, *, exact: bool) -> torch.Tensor:
    if hasattr(gradient, "to_local"):
        gradient = gradient.to_local()
    if gradient.layout is torch.sparse_coo:
        gradient = gradient.coalesce().values() if exact else gradient._values()
    elif gradient.layout is not torch.strided:
        gradient = gradient.values()
    if gradient.is_complex():
        gradient = torch.view_as_real(gradient.resolve_conj())
    return gradient


def _measure_exactly(values: Sequence[torch.Tensor]) -> Measured:
    nonfinite, holds_nan = 0, False
    norms: list[float] = []
    for value in values:
        low, high = (bound.item() for bound in value.aminmax())
        if math.isfinite(low) and math.isfinite(high):
            norms.append(_norm_without_overflow(value, max(abs(low), abs(high))))
        else:
            nonfinite += 1
            holds_nan = holds_nan or math.isnan(low)
    if nonfinite:
        return Measured(math.nan if holds_nan else math.inf, nonfinite)
    return Measured(joined_norm(norms), 0)


def _norm_without_overflow(value: torch.Tensor, largest: float) -> float:
    if largest == 0.0:
        return 0.0
    scaled = value.to(torch.float64) / largest
    return largest * float(torch.linalg.vector_norm(scaled).item())


def largest_learning_rate(optimizer: torch.optim.Optimizer) -> float | None:
    """The largest rate of an optimizer's groups; None where one is a tensor on a device."""
    rates = [group.get("lr") for group in optimizer.param_groups]
    numbers = [float(rate) for rate in rates if isinstance(rate, (int, float))]
    return max(numbers) if len(numbers) == len(rates) else None


def without_gradient(parameters: Sequence[torch.Tensor], gradients: int, most: int) -> float:
    """Share of the trained parameters that a step finds without a gradient, 0 to 1.

    All of them, step after step: the loss does not depend on what the optimizer holds. What never
    had one because it is frozen (`requires_grad` is False) is not trained and does not count.

    Args:
        most: How many had one in the step that had most.
    """
    if gradients == len(parameters):
        return 0.0
    missing = sum(p.requires_grad and p.grad is None for p in parameters)
    missing = max(missing, most - gradients)
    return missing / (gradients + missing) if missing else 0.0


def zero_gradients(gradients: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """Share of gradient tensors that are zero throughout, 0 to 1, as a scalar on their device."""
    with torch.no_grad():
        values = dense_values(gradients, exact=False)
        return (tensor_norms(values, math.inf) == 0).double().mean() if values else None


def largest_weight(parameters: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """The largest magnitude of all parameters, as a scalar on their device; None without any."""
    with torch.no_grad():
        values = dense_values([p for p in parameters if p.is_floating_point()], exact=False)
        return tensor_norms(values, math.inf).max() if values else None


def not_trained(parameters: Sequence[torch.Tensor]) -> float:
    """Share of an optimizer's parameters that are frozen (`requires_grad` is False), 0 to 1."""
    return sum(not p.requires_grad for p in parameters) / max(len(parameters), 1)


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


def begin_step(
    optimizer: torch.optim.Optimizer,
) -> Callable[[], tuple[torch.Tensor, torch.Tensor] | None]:
    """Sample parameters before a step; what is returned measures after it how far they moved.

    That is the L2 norm of the weights before the step, and that of the step over it, both scalars
    on their device; the latter is NaN where all sampled weights were zero and did not move. None
    without parameters. Holds at most `SAMPLE_ELEMENTS` of each tensor, until it is dropped.
    """
    with torch.no_grad():
        parameters = parameters_of(optimizer)
        samples = [_sample(p) for p in parameters if p.numel() and p.is_floating_point()]
        before = [sample.clone() for sample in samples]

    def sizes() -> tuple[torch.Tensor, torch.Tensor] | None:
        if not samples:
            return None
        with torch.no_grad():
            moved = [now.float() - then.float() for now, then in zip(samples, before, strict=True)]
            norms = tensor_norms(moved), tensor_norms(before)
            moved_norm, norm = map(torch.linalg.vector_norm, norms)
            return norm, moved_norm / norm

    return sizes


def _sample(parameter: torch.Tensor) -> torch.Tensor:
    """A view of the first elements; a tensor with gaps is taken whole."""
    local = parameter.detach()
    if hasattr(local, "to_local"):
        local = local.to_local()
    if not local.is_contiguous():
        return local
    return local.view(-1)[:SAMPLE_ELEMENTS]
