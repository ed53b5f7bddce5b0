"""Faults that any training can have: in its rate, its weights and its resumes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.judgement.cases import Fault

RATE = ("rate_10x", "rate_100x", "rate_high", "resume_rate", "target_live")
"""Faults that multiply the learning rate."""


def rate_factor(fault: Fault, update: int) -> float:
    """By how much the learning rate is wrong in this update."""
    if fault.on("rate_zero", update):
        return 0.0
    return fault.size if any(fault.on(name, update) for name in RATE) else 1.0


def meddle(model: nn.Module, fault: Fault, update: int, share: float = 1.0) -> None:
    """What the fault does to the weights between two updates.

    Args:
        share: The part of an update that has passed since the last call.
    """
    if fault.on("frozen", update):
        # All but the last bias, as where only a new head was meant to be trained.
        for parameter in list(model.parameters())[:-1]:
            parameter.requires_grad = False
    if fault.first("bit_flip", update):
        flip(model, int(fault.size))
    if fault.on("slow_growth", update):
        # Weight decay of the wrong sign: weights grow by a constant factor.
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.0 + fault.size * share)


def flip(model: nn.Module, bit: int) -> None:
    """Flip one bit of one weight of the largest tensor, as bad memory does."""
    weight = max(model.parameters(), key=lambda parameter: parameter.numel())
    with torch.no_grad():
        numbers = weight.view(-1)[:1].clone().view(torch.int32)
        weight.view(-1)[:1] = (numbers ^ (1 << bit)).view(torch.float32)


def forget(model: nn.Module) -> None:
    """Draw the weights anew, as where a resume does not load them."""
    for layer in model.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()


def detach_trunk(model: nn.Module) -> Any:
    """Cut what enters the last linear layer off from the gradient; returns the hook's handle."""
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    return last.register_forward_pre_hook(lambda _layer, args: (args[0].detach(), *args[1:]))
