"""Whether the guard sees that gradients are cleared, or never are, without reading one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from watchstep.core.updates import Verdict
from watchstep.guard import Guard

KEPT = "guard/gradients_kept"


def kept_in(
    loop: Callable[[torch.nn.Module, torch.optim.Optimizer], None], steps: int = 8
) -> list[float]:
    """In which of some steps the guard reports gradients that were kept."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    guard = Guard(optimizer, lambda _: Verdict())
    reported = []
    for _ in range(steps):
        loop(model, optimizer)
        reported.append(guard.readings().get(KEPT, 0.0))
    return reported


def backward(model: torch.nn.Module) -> None:
    model(torch.ones(4, 3)).square().mean().backward()


def test_gradients_that_are_never_cleared_are_reported_from_the_second_step_on() -> None:
    def loop(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        backward(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()

    # What came before the first step nobody has seen, so the second is the first to tell.
    assert kept_in(loop) == [0.0] + [1.0] * 7


@pytest.mark.parametrize("to_none", [True, False])
def test_cleared_gradients_are_not_reported_however_many_passes_make_one(to_none: bool) -> None:
    def loop(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        model.zero_grad(set_to_none=to_none)
        backward(model)
        backward(model)
        optimizer.step()

    assert not any(kept_in(loop))


def test_a_loss_of_another_model_that_passes_through_is_no_kept_gradient() -> None:
    def loop(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        backward(model)
        optimizer.step()
        backward(model)  # As a generator's loss, whose gradients are cleared before the next step.

    assert not any(kept_in(loop))


def test_nobody_looks_any_more_once_gradients_were_cleared_a_few_times() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    Guard(optimizer, lambda _: Verdict())

    for _ in range(8):
        optimizer.zero_grad()
        backward(model)
        optimizer.step()

    assert not any(parameter._backward_hooks for parameter in model.parameters())
