"""A learning rate that a rollback lowered stays lowered, whatever schedules it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from watchstep.core.updates import Verdict
from watchstep.guard import Guard, factor_of, set_factor

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1.0 / (1 + step)),
    "constant": lambda o: lr_scheduler.LambdaLR(o, lambda _: 1.0),
    "steps": lambda o: lr_scheduler.StepLR(o, 3, gamma=0.1),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.4, total_steps=40),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 15, eta_min=1e-3),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1, min_lr=1e-3),
    "sequence": lambda o: lr_scheduler.SequentialLR(
        o,
        [lr_scheduler.LinearLR(o, 0.1, total_iters=6), lr_scheduler.ExponentialLR(o, 0.8)],
        [6],
    ),
    "chain": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o, 0.1, total_iters=6), lr_scheduler.ExponentialLR(o, 0.8)]
    ),
}


def optimizer_of(rate: float | torch.Tensor = 0.1) -> torch.optim.Optimizer:
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    groups = [{"params": [weights[0]]}, {"params": [weights[1]], "lr": rate * 3}]
    return torch.optim.AdamW(groups, lr=rate)


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def scheduled(optimizer: torch.optim.Optimizer, scheduler: Any) -> list[float]:
    optimizer.step()
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler.step(1.0)
    else:
        scheduler.step()
    return rates(optimizer)


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_every_scheduler_goes_on_as_it_would_and_the_factor_stays(kind: str) -> None:
    plain, lowered = optimizer_of(), optimizer_of()
    Guard(lowered, lambda _: Verdict())
    own, other = SCHEDULERS[kind](plain), SCHEDULERS[kind](lowered)
    for _ in range(4):
        scheduled(plain, own)
        scheduled(lowered, other)

    set_factor(lowered, 0.1)
    now = rates(lowered)

    assert now == pytest.approx([rate * 0.1 for rate in rates(plain)])
    for _ in range(20):
        expected = [rate * 0.1 for rate in scheduled(plain, own)]
        assert scheduled(lowered, other) == pytest.approx(expected, rel=1e-9)
        assert other.get_last_lr() == pytest.approx(expected, rel=1e-9)


def test_a_rate_that_the_loop_writes_itself_is_lowered_before_the_step() -> None:
    optimizer = optimizer_of()
    Guard(optimizer, lambda _: Verdict())
    set_factor(optimizer, 0.1)
    used = []

    for step in range(30):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 + math.cos(math.pi * step / 40))
        optimizer.step()
        used.append(rates(optimizer)[0])

    assert used == pytest.approx([0.005 * (1 + math.cos(math.pi * s / 40)) for s in range(30)])


def test_a_rate_that_the_loop_multiplies_is_lowered_once() -> None:
    optimizer = optimizer_of()
    Guard(optimizer, lambda _: Verdict())
    set_factor(optimizer, 0.1)

    for _ in range(10):
        for group in optimizer.param_groups:
            group["lr"] *= 0.99
        optimizer.step()

    assert rates(optimizer)[0] == pytest.approx(0.01 * 0.99**10)


def test_a_rate_in_a_tensor_stays_the_same_tensor() -> None:
    optimizer = optimizer_of(torch.tensor(0.1))
    tensor = optimizer.param_groups[0]["lr"]
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    Guard(optimizer, lambda _: Verdict())

    set_factor(optimizer, 0.5)
    optimizer.step()
    scheduler.step()

    assert optimizer.param_groups[0]["lr"] is tensor
    assert float(tensor) == pytest.approx(0.05)


def test_a_checkpoint_carries_the_factor_and_a_second_rollback_lowers_it_again() -> None:
    optimizer = optimizer_of()
    before = optimizer.state_dict()
    set_factor(optimizer, 0.1)
    after = optimizer.state_dict()

    optimizer.load_state_dict(before)
    set_factor(optimizer, 0.1 * 0.1)
    from_before = rates(optimizer)[0]
    resumed = optimizer_of()
    scheduler = lr_scheduler.LambdaLR(resumed, lambda _: 1.0)
    Guard(resumed, lambda _: Verdict())
    resumed.load_state_dict(after)
    resumed.step()
    scheduler.step()

    assert from_before == pytest.approx(0.001)
    assert factor_of(resumed) == 0.1
    assert rates(resumed)[0] == pytest.approx(0.01)


def test_a_scheduler_that_is_made_after_the_rollback_takes_the_lowered_rate_for_its_own() -> None:
    optimizer = optimizer_of()
    Guard(optimizer, lambda _: Verdict())
    set_factor(optimizer, 0.1)

    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 / (1 + step))
    scheduled(optimizer, scheduler)
    after_one = rates(optimizer)[0]
    set_factor(optimizer, 0.01)
    scheduled(optimizer, scheduler)

    assert after_one == pytest.approx(0.01 / 2)
    assert rates(optimizer)[0] == pytest.approx(0.001 / 3)


def test_a_scheduler_of_an_optimizer_without_a_factor_is_left_alone() -> None:
    set_factor(optimizer_of(), 0.1)
    optimizer = optimizer_of()

    scheduled(optimizer, lr_scheduler.LambdaLR(optimizer, lambda _: 0.5))

    assert rates(optimizer) == pytest.approx([0.05, 0.15])
    assert all(
        set(group) == set(optimizer.defaults) | {"params", "initial_lr"}
        for group in optimizer.param_groups
    )
