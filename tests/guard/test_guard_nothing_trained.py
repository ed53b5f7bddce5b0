"""Readings by which a rule can see that nothing is trained."""

from __future__ import annotations

import copy

import torch

from watchstep.core.updates import Verdict
from watchstep.guard import Guard


def trained(model: torch.nn.Module, optimizer: torch.optim.Optimizer, guard: Guard) -> list[dict]:
    updates = []
    for _ in range(12):
        model.zero_grad()
        model(torch.ones(2, 3)).square().mean().backward()
        optimizer.step()
        updates.append(guard.readings())
    return updates


def test_an_optimizer_of_another_model_has_no_gradient_for_any_parameter() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(copy.deepcopy(model).parameters())
    guard = Guard(optimizer, lambda _: Verdict())

    updates = trained(model, optimizer, guard)

    assert [update["guard/parameters_without_gradient"] for update in updates] == [1.0] * 12


def test_frozen_parameters_do_not_count_and_a_sound_run_is_told_nothing() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    model[0].requires_grad_(requires_grad=False)
    optimizer = torch.optim.AdamW(model.parameters())
    guard = Guard(optimizer, lambda _: Verdict())

    updates = trained(model, optimizer, guard)

    assert not any("guard/parameters_without_gradient" in update for update in updates)


def test_a_share_without_gradient_is_told_and_told_over() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(3, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard = Guard(optimizer, lambda _: Verdict())

    half = trained(model[0], optimizer, guard)
    (model[0](torch.ones(1, 3)) + model[1](torch.ones(1, 3))).sum().backward()
    optimizer.step()

    assert half[0]["guard/parameters_without_gradient"] == 0.5
    assert guard.readings()["guard/parameters_without_gradient"] == 0.0


def test_what_trained_and_is_frozen_later_counts() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    guard = Guard(optimizer := torch.optim.SGD(model.parameters(), lr=0.1), lambda _: Verdict())

    before = trained(model, optimizer, guard)
    model[0].requires_grad_(requires_grad=False)
    after = trained(model, optimizer, guard)

    assert not any("guard/parameters_without_gradient" in update for update in before)
    assert [update["guard/parameters_without_gradient"] for update in after] == [0.5] * 12


def test_what_gets_its_gradient_in_some_step_of_an_update_is_trained() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(3, 2))
    guard = Guard(optimizer := torch.optim.SGD(model.parameters(), lr=0.1), lambda _: Verdict())

    for parts in ([model[0]], [model[0], model[1]]):
        model.zero_grad()
        sum(part(torch.ones(2, 3)).sum() for part in parts).backward()
        optimizer.step()

    assert guard.readings()["guard/parameters_without_gradient"] == 0.0


def test_a_rate_of_zero_is_seen_at_once_and_a_step_of_nothing_at_the_tenth() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    guard = Guard(optimizer, lambda _: Verdict())

    updates = trained(model, optimizer, guard)

    assert [update["guard/learning_rate"] for update in updates] == [0.0] * 12
    assert updates[9]["guard/update_ratio"] == 0.0
