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
    """The parameters of all groups."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


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
    meshes = {id(mesh): mesh for p in parameters_of(optimizer) if (mesh := _mesh(p)) is not None}
    return sorted({rank for mesh in meshes.values() for rank in mesh.mesh.flatten().tolist()})


def _mesh(parameter: torch.Tensor) -> Any:
    return getattr(parameter, "device_mesh", None)
