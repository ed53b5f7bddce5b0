"""Dead and saturated units, against layers made so by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from watchstep.guard.units import Units


def test_units_that_never_let_anything_through_are_dead() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    with torch.no_grad():
        model[0].bias[:6] = -1e6
        model[0].bias[6:] = 1e6
    units = Units(model, every=1)

    model(torch.randn(32, 4))

    assert float(units.readings()["guard/dead_units"]) == 0.75


def test_units_that_never_leave_their_ends_are_saturated() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2), nn.Sigmoid())
    with torch.no_grad():
        model[0].bias[0] = 50.0
        model[0].bias[1] = -50.0
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([-30.0, 0.0]))
    units = Units(model, every=1)

    model(torch.randn(64, 4))

    assert float(units.readings()["guard/saturated_units"]) == 0.5


def test_the_worst_layer_counts_and_channels_are_units_of_images() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.ReLU6())
    with torch.no_grad():
        model[0].bias.fill_(1e3)
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([-1.0, 1.0]))
    units = Units(model, every=1)

    model(torch.randn(3, 1, 8, 8))

    assert float(units.readings()["guard/dead_units"]) == 0.5


def test_only_every_so_many_passes_are_measured_and_only_once() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    units = Units(model, every=3)

    has_readings = []
    for _ in range(6):
        model(torch.ones(4, 2))
        has_readings.append(bool(units.readings()))

    assert has_readings == [False, False, True, False, False, True]


def test_what_a_model_computes_is_not_touched() -> None:
    torch.manual_seed(3)
    plain = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    watched = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    watched.load_state_dict(plain.state_dict())
    units = Units(watched, every=1)
    before = torch.random.get_rng_state()
    inputs = torch.ones(5, 4)

    for model in (plain, watched):
        model(inputs).sum().backward()

    assert torch.equal(torch.random.get_rng_state(), before)
    for parameter, other in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(parameter.grad, other.grad)
    units.detach()
    watched(inputs)
    units.readings()
    watched(inputs)
    assert units.readings() == {}


def test_a_model_without_such_modules_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no nn\.ReLU"):
        Units(nn.Linear(2, 2))
