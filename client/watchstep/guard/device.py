"""Judging gradients on an accelerator without making the host wait for it.

The reduction stays on the device; a fused optimizer reads there whether to skip; the numbers
travel to the host beside the training, and the verdict about them comes one step later.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from watchstep.guard.measure import dense_values, tensor_norms
from watchstep.guard.optimizers import parameters_of

Receive = Callable[[list[float]], None]

SLOTS = 32
"""Packets in flight: more steps than the host can usually run ahead of a device."""

PACKET = 5
"""Numbers a packet holds at most."""


class CudaCopies:
    """Brings small packets to the host without waiting: pinned memory, and an event for each."""

    def __init__(self) -> None:
        # Pinning memory waits for the device, so all of it is pinned before training.
        self._free = [
            (torch.empty(PACKET, dtype=torch.float64, pin_memory=True), torch.cuda.Event())
            for _ in range(SLOTS)
        ]
        self._flying: deque[tuple[torch.Tensor, torch.cuda.Event, int, Receive]] = deque()

    def send(self, packet: torch.Tensor, receive: Receive) -> bool:
        """Begin copying up to `PACKET` float64 numbers; False if too many are under way."""
        if not self._free:
            return False
        buffer, event = self._free.pop()
        buffer[: len(packet)].copy_(packet, non_blocking=True)
        event.record(torch.cuda.current_stream(packet.device))
        self._flying.append((buffer, event, len(packet), receive))
        return True

    def deliver(self) -> None:
        """Hand every packet that has arrived to its receiver, oldest first."""
        while self._flying and self._flying[0][1].query():
            buffer, event, length, receive = self._flying.popleft()
            values = buffer[:length].tolist()
            self._free.append((buffer, event))
            receive(values)


class HostCopies:
    """The same for tensors that are on the host already: there at once, read by `deliver`."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[torch.Tensor, Receive]] = deque(maxlen=SLOTS)

    def send(self, packet: torch.Tensor, receive: Receive) -> bool:
        self._waiting.append((packet.clone(), receive))
        return True

    def deliver(self) -> None:
        while self._waiting:
            packet, receive = self._waiting.popleft()
            receive(packet.tolist())


class Arrived(NamedTuple):
    """What one earlier step turned out to be.

    Attributes:
        norm: As in `Measured`; +Inf squares of finite numbers are told as their largest.
        nonfinite: Gradient tensors with a non-finite element.
        skipped: Steps that the device skipped so far because of that.
        skipped_in_a_row: How many of these were the last ones.
        by_scaler: Whether a loss scaler had this step skipped: its gradients overflowed because
            of the scale, which says nothing about the training.
    """

    norm: float
    nonfinite: int
    skipped: int
    skipped_in_a_row: int
    by_scaler: bool


class DeviceLane:
    """Measures on the device, and has a fused optimizer skip there."""

    def __init__(self, copies: CudaCopies | HostCopies, *, skip: bool) -> None:
        self.copies = copies
        self._skip = skip
        self._counts: torch.Tensor | None = None
        self._unclipped: torch.Tensor | None = None
        self._found_inf: torch.Tensor | None = None
        self._displaced: torch.Tensor | None = None

    def before_clipping(self, gradients: Sequence[torch.Tensor]) -> None:
        """Measure before gradients are clipped; the next step is told by these numbers."""
        self._unclipped = _reduced(gradients)

    def watch(
        self,
        optimizer: torch.optim.Optimizer,
        gradients: Sequence[torch.Tensor],
        receive: Callable[[Arrived], None],
    ) -> None:
        """Measure a step that is about to happen, and let it skip itself if it must."""
        with torch.no_grad():
            now = _reduced(gradients)
            scale = getattr(optimizer, "grad_scale", None)
            if scale is not None:
                now = torch.stack([now[0] / scale.to(now.device, non_blocking=True), now[1]])
            whole = now if self._unclipped is None else self._unclipped
            self._unclipped = None
            # What clipping saw is told, but a fault that came after it counts all the same.
            whole = torch.where((now[1] > 0) & (whole[1] == 0), now, whole)
            theirs = _scalers_verdict(optimizer, now.device)
            bad = self._own_verdict(optimizer, now[1], theirs)
            packet = torch.cat([whole, self._counted(bad), theirs.double().reshape(1)])
            self.copies.send(packet, lambda values: receive(_arrived(values)))

    def release(self, optimizer: Any) -> None:
        """Take back what the optimizer was told, after its step."""
        ours, before = self._found_inf, self._displaced
        self._found_inf = self._displaced = None
        # After a step that raised, a loss scaler may have put its own there meanwhile.
        if ours is None or getattr(optimizer, "found_inf", None) is not ours:
            return
        if before is None:
            del optimizer.found_inf
        else:
            optimizer.found_inf = before

    def _own_verdict(
        self, optimizer: Any, nonfinite: torch.Tensor, theirs: torch.Tensor
    ) -> torch.Tensor:
        """1.0 on the device if this step is skipped because of us, else 0.0.

        Args:
            optimizer: Is told to skip, if it can be told so on the device.
            theirs: As of `_scalers_verdict`: their skip is their business, not counted as ours.
        """
        bad = (nonfinite > 0).to(torch.float32)
        if not (self._skip and skips_on_device(optimizer)):
            return torch.zeros_like(bad)
        before: torch.Tensor | None = getattr(optimizer, "found_inf", None)
        self._displaced = before
        self._found_inf = bad if before is None else torch.maximum(theirs, bad)
        optimizer.found_inf = self._found_inf
        return bad * (1.0 - theirs)

    def _counted(self, bad: torch.Tensor) -> torch.Tensor:
        wide = bad.to(torch.float64)
        total, in_a_row = (wide * 0, wide * 0) if self._counts is None else self._counts
        self._counts = torch.stack([total + wide, (in_a_row + wide) * wide])
        return self._counts


def _scalers_verdict(optimizer: torch.optim.Optimizer, device: torch.device) -> torch.Tensor:
    """1.0 on the device if an AMP loss scaler has told the optimizer to skip, else 0.0."""
    overflown: torch.Tensor | None = getattr(optimizer, "found_inf", None)
    if overflown is None:
        return torch.zeros((), dtype=torch.float32, device=device)
    here = overflown.to(device, torch.float32, non_blocking=True)
    return here.reshape(()).clamp(0.0, 1.0)


def skips_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step reads on the device if it must leave everything as it is.

    True for torch's fused optimizers once their state exists. Before that a skipped step
    would leave state behind that was created but never filled.
    """
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        return False
    if type(optimizer) is torch.optim.SGD and not any(
        g["momentum"] for g in optimizer.param_groups
    ):
        return True
    return all(optimizer.state.get(p) for p in parameters_of(optimizer) if p.grad is not None)


def _reduced(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """Norm and number of non-finite tensors, as two float64 numbers on the device."""
    with torch.no_grad():
        values = dense_values(gradients, exact=False)
        largest = tensor_norms(values, math.inf)
        nonfinite = (~torch.isfinite(largest)).sum().to(torch.float64)
        norm = torch.linalg.vector_norm(tensor_norms(values))
        overflown = torch.isinf(norm) & (nonfinite == 0)
        return torch.stack([torch.where(overflown, largest.max(), norm), nonfinite])


def _arrived(values: list[float]) -> Arrived:
    norm, nonfinite, skipped, in_a_row, by_scaler = values
    return Arrived(norm, int(nonfinite), int(skipped), int(in_a_row), by_scaler > 0)
