"""Optimizers of others: whatever they keep, a skipped step leaves no trace of."""

from __future__ import annotations

import collections
import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from watchstep.core.updates import Action, Verdict
from watchstep.errors import GuardRefusedError
from watchstep.guard import Guard, bit_hash


def skip_nonfinite(readings: Mapping[str, float]) -> Verdict:
    bad = readings["guard/nonfinite_gradients"] > 0
    return Verdict(Action.SKIP) if bad else Verdict()


class Averages:
    """A helper object such as optimizers of others like to have."""

    def __init__(self) -> None:
        self.mean = torch.zeros(2)
        self.updates = 0


class Keeper(torch.optim.Optimizer):
    """Keeps what it learns in attributes of its own, of every kind."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1})
        self.calls = 0
        self.momentum = torch.ones(3)
        self.history: list[float] = [1.0]
        self.recent: collections.deque[float] = collections.deque([1.0], maxlen=3)
        self.by_name = collections.defaultdict(float, {"a": 1.0})
        self.seen = {1}
        self.pair = (torch.zeros(1), 2)
        self.array = np.zeros(2)
        self.generator = torch.Generator().manual_seed(3)
        self.random = random.Random(3)
        self.numbers = np.random.default_rng(3)
        self.averages = Averages()
        self.averages_again = self.averages
        self.model = torch.nn.Linear(1, 1)

    def kept(self) -> list[Any]:
        return [
            self.calls, self.momentum, self.history, list(self.recent), dict(self.by_name),
            sorted(self.seen), list(self.pair), self.array.tolist(), self.generator.get_state(),
            self.random.getstate(), self.numbers.bit_generator.state, self.averages.mean,
            self.averages.updates, self.model.state_dict(), hasattr(self, "late"),
        ]  # fmt: skip

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        if closure is not None:
            with torch.enable_grad():
                closure()
        self.calls += 1
        self.momentum.mul_(0.9)
        self.history.append(2.0)
        self.recent.append(2.0)
        self.by_name["b"] += 1.0
        self.seen.add(2)
        self.pair[0].add_(1)
        self.array += 1
        torch.rand(1, generator=self.generator)
        self.random.random()
        self.numbers.random()
        self.averages.mean.add_(1)
        self.averages.updates += 1
        self.model.weight.add_(1)
        self.late = 1
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.add_(parameter.grad + 1, alpha=-group["lr"])


def stepped(optimizer: torch.optim.Optimizer, model: torch.nn.Module, factor: float) -> None:
    optimizer.zero_grad()
    (model(torch.ones(1, 3)).sum() * factor).backward()
    optimizer.step()


@pytest.mark.parametrize("with_closure", [False, True])
def test_what_a_foreign_optimizer_keeps_in_attributes_is_undone(with_closure: bool) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = Keeper(model.parameters())
    momentum, averages = optimizer.momentum, optimizer.averages
    guard = Guard(optimizer, skip_nonfinite)
    before = bit_hash(model, optimizer.kept())

    if with_closure:

        def closure() -> None:
            optimizer.zero_grad()
            (model(torch.ones(1, 3)).sum() * math.nan).backward()

        optimizer.step(closure)
    else:
        stepped(optimizer, model, math.nan)

    assert bit_hash(model, optimizer.kept()) == before
    assert optimizer.momentum is momentum
    assert optimizer.averages is averages is optimizer.averages_again
    assert (guard.skipped, guard.errors) == (1, 0)


def test_the_step_after_a_skip_is_as_if_the_skip_had_not_been() -> None:
    torch.manual_seed(1)
    model, twin = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    twin.load_state_dict(model.state_dict())
    torch.manual_seed(2)
    optimizer = Keeper(model.parameters())
    torch.manual_seed(2)
    other = Keeper(twin.parameters())
    Guard(optimizer, skip_nonfinite)

    for factor in (1.0, math.nan, 2.0):
        stepped(optimizer, model, factor)
        if math.isfinite(factor):
            stepped(other, twin, factor)

    assert bit_hash(model, optimizer.kept()) == bit_hash(twin, other.kept())


def test_an_optimizer_whose_steps_cannot_be_undone_is_refused_with_a_word() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = Keeper(model.parameters())
    optimizer.noise = (random.random() for _ in range(9))

    with pytest.raises(
        GuardRefusedError, match="Keeper keeps a generator in its attribute 'noise'"
    ):
        Guard(optimizer, skip_nonfinite)


def test_what_cannot_be_put_back_and_comes_later_is_told() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = Keeper(model.parameters())
    guard = Guard(optimizer, skip_nonfinite)
    optimizer.noise = (random.random() for _ in range(9))
    before = bit_hash(model, optimizer.kept())

    with pytest.warns(UserWarning, match="'noise', which a skipped step does not put back"):
        stepped(optimizer, model, math.nan)

    assert bit_hash(model, optimizer.kept()) == before
    assert guard.skipped == 1
