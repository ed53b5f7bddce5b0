"""A copy of a state in host memory, whose buffers are used again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from watchstep.checkpoint.plain import mapped


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
        used: dict[str, torch.Tensor] = {}
        twins: dict[tuple[Any, ...], torch.Tensor] = {}

        def host(value: Any, name: str) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            identity = _identity(value) or (name,)
            if identity not in twins:
                twins[identity] = used[name] = self._filled(value, name)
            return twins[identity]

        with torch.no_grad():
            copied = mapped(state, host)
            self._carry_out()
        # Buffers of tensors that are gone are released.
        self._buffers = used
        return copied

    def _filled(self, value: torch.Tensor, name: str) -> torch.Tensor:
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
        copies, self._copies = self._copies, []
        if copies:
            buffers, values = zip(*copies, strict=True)
            torch._foreach_copy_(buffers, values, non_blocking=True)
            wait_for(value.device for value in values)


def wait_for(devices: Iterable[torch.device]) -> None:
    """Return once every accelerator among these has done what it was given."""
    for device in {device for device in devices if device.type != "cpu"}:
        torch.accelerator.synchronize(device)


def _identity(value: torch.Tensor) -> tuple[Any, ...] | None:
    if value.layout is not torch.strided or not value.numel():
        return None
    place = value.data_ptr(), value.device
    return (*place, tuple(value.shape), value.stride(), value.dtype)
