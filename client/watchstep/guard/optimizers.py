"""What there is to know of an optimizer before it is guarded."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from watchstep.errors import GuardRefusedError


def hookable(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer whose `step` really runs, beneath wrappers such as Accelerate's.

    Raises:
        GuardRefusedError: There is none with step hooks.
    """
    while not hasattr(optimizer, "_optimizer_step_pre_hooks") and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, torch.optim.Optimizer):
        kind = type(optimizer).__name__
        raise GuardRefusedError(f"{kind} is no torch.optim.Optimizer, so it has no step hooks")
    return optimizer


def parameters_of(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def gradients_of(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """The gradients that the optimizer's next step would use, over all parameter groups."""
    return [p.grad for p in parameters_of(optimizer) if p.grad is not None]


def is_flattened(optimizer: torch.optim.Optimizer) -> bool:
    """Whether parameters are FSDP1's: plain tensors of which each process has its own part."""
    # The mark that torch.distributed.fsdp sets on every such tensor; it has no public name.
    return any(getattr(p, "_fsdp_flattened", False) for p in parameters_of(optimizer))


def ranks_of_shards(optimizer: torch.optim.Optimizer) -> list[int]:
    """Ranks of the processes that share the parameters; empty where each has all of them.

    A DTensor says so by its device mesh. FSDP1's parameters do not say whose they are, so all
    processes count.
    """
    if not dist.is_available() or not dist.is_initialized():
        return []
    if is_flattened(optimizer):
        return list(range(dist.get_world_size()))
    meshes = {id(mesh): mesh for p in parameters_of(optimizer) if (mesh := mesh_of(p)) is not None}
    return sorted({rank for mesh in meshes.values() for rank in mesh.mesh.flatten().tolist()})


def mesh_of(parameter: torch.Tensor) -> Any:
    """Where a DTensor's shards are; None for a plain tensor."""
    return getattr(parameter, "device_mesh", None)


def passes_over_missing_gradients(optimizer: torch.optim.Optimizer) -> bool:
    """Whether withholding gradients is known to leave no trace.

    True for torch's own optimizers, each of which is tested. LBFGS reads a missing gradient
    as zeros, and a stranger's class may do anything.
    """
    kind = type(optimizer)
    return kind.__module__.startswith("torch.optim.") and kind.__name__ != "LBFGS"
