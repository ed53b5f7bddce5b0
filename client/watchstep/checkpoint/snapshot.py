"""A copy of a state in host memory, whose buffers are used again."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class HostBuffers:
    """Owns one copy of the tensors of a state.

    The copy that `copy` returned last is overwritten by the next call, so the caller must
    be done with it.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}
        self._copies: list[tuple[torch.Tensor, torch.Tensor]] = []

    def copy(self, state: Any) -> Any:
        """`state` with every tensor replaced by one in host memory.

        Tensors that share all their bytes, as tied weights do, share them in the copy too.
        """
        import torch

        used: dict[str, torch.Tensor] = {}
        twins: dict[tuple[Any, ...], torch.Tensor] = {}
        with torch.no_grad():
            copied = self._copied(state, "", used, twins)
            self._carry_out()
        # Buffers of tensors that are gone are released.
        self._buffers = used
        return copied

    def _copied(
        self,
        value: Any,
        name: str,
        used: dict[str, torch.Tensor],
        twins: dict[tuple[Any, ...], torch.Tensor],
    ) -> Any:
        import torch

        if isinstance(value, torch.Tensor):
            identity = _identity(value)
            if identity is None or identity not in twins:
                used[name] = self._filled(value, name)
                twins[identity or (name,)] = used[name]
            return twins[identity or (name,)]
        if isinstance(value, Mapping):
            entries = {k: self._copied(v, f"{name}.{k}", used, twins) for k, v in value.items()}
            return (
                collections.Counter(entries) if isinstance(value, collections.Counter) else entries
            )
        if isinstance(value, (list, tuple)):
            members = [self._copied(v, f"{name}.{i}", used, twins) for i, v in enumerate(value)]
            return members if isinstance(value, list) else type(value)(members)
        return value

    def _filled(self, value: torch.Tensor, name: str) -> torch.Tensor:
        import torch

        if value.layout is not torch.strided or value.is_quantized:
            return value.detach().cpu().clone()
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != value.shape or buffer.dtype != value.dtype:
            pinned = value.is_cuda
            buffer = torch.empty(value.shape, dtype=value.dtype, pin_memory=pinned)
        self._copies.append((buffer, value.detach()))
        return buffer

    def _carry_out(self) -> None:
        """All copies in one call: small tensors cost more to name than to copy."""
        import torch

        copies, self._copies = self._copies, []
        if copies:
            buffers, values = zip(*copies, strict=True)
            torch._foreach_copy_(buffers, values, non_blocking=True)
            wait_for(value.device for value in values)


def wait_for(devices: Iterable[torch.device]) -> None:
    """Return once every accelerator among these has done what it was given."""
    import torch

    for device in {device for device in devices if device.type != "cpu"}:
        torch.accelerator.synchronize(device)


def _identity(value: torch.Tensor) -> tuple[Any, ...] | None:
    import torch

    if value.layout is not torch.strided or not value.numel():
        return None
    place = value.data_ptr(), value.device
    return (*place, tuple(value.shape), value.stride(), value.dtype)
