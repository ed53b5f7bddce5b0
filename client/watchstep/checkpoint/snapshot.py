"""A copy of a state in host memory, whose buffers are used again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from watchstep.checkpoint.plain import DESCEND, mapped


class HostBuffers:
    """Owns one copy of the tensors of a state.

    The copy that `copy` returned last is overwritten by the next call, so the caller must
    be done with it.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    def copy(self, state: Any) -> Any:
        """`state` with every tensor replaced by one in host memory.

        Tensors that share all their bytes, as tied weights do, share them in the copy too.
        """
        used: dict[str, torch.Tensor] = {}
        twins: dict[tuple[Any, ...], torch.Tensor] = {}
        pairs: list[tuple[torch.Tensor, torch.Tensor]] = []

        def copied(value: Any, name: str) -> Any:
            if not isinstance(value, torch.Tensor):
                return DESCEND
            # Keys may hold dots themselves.
            while name in used:
                name += "'"
            identity: tuple[Any, ...] = (name,)
            if value.layout is torch.strided and value.numel():
                place = value.data_ptr(), value.device
                identity = (*place, value.shape, value.stride(), value.dtype)
            if identity not in twins:
                twins[identity] = used[name] = self._room_for(value, name)
                if _is_strided(value):
                    pairs.append((used[name], value.detach()))
            return twins[identity]

        with torch.no_grad():
            copy = mapped(state, copied)
            if pairs:
                # All in one call: small tensors cost more to name than to copy.
                buffers, values = zip(*pairs, strict=True)
                torch._foreach_copy_(buffers, values, non_blocking=True)
                wait_for(value.device for value in values)
        # Buffers of tensors that are gone are released.
        self._buffers = used
        return copy

    def _room_for(self, value: torch.Tensor, name: str) -> torch.Tensor:
        """A buffer for a tensor; what is not laid out in strides is copied at once."""
        if not _is_strided(value):
            return value.detach().cpu().clone()
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != value.shape or buffer.dtype != value.dtype:
            buffer = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
        return buffer


def wait_for(devices: Iterable[torch.device]) -> None:
    """Return once every accelerator among these has done what it was given."""
    for device in {device for device in devices if device.type != "cpu"}:
        torch.accelerator.synchronize(device)


def _is_strided(value: torch.Tensor) -> bool:
    return value.layout is torch.strided and not value.is_quantized
