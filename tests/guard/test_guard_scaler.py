"""Under an AMP loss scaler: whose skip is whose, and what the norm is of."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch

from watchstep.core.updates import Action, Verdict
from watchstep.guard import Guard, bit_hash, observe_clipping


def skip_nonfinite(readings: Mapping[str, float]) -> Verdict:
    bad = readings["guard/nonfinite_gradients"] > 0
    return Verdict(Action.SKIP) if bad else Verdict()


def scaled_training(
    fused: bool, strict: bool | None = None
) -> tuple[torch.nn.Linear, torch.optim.Adam, torch.amp.GradScaler, Guard]:
    torch.manual_seed(3)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    return model, optimizer, scaler, Guard(optimizer, skip_nonfinite, strict=strict)


def scaled_step(
    model: torch.nn.Linear,
    optimizer: torch.optim.Adam,
    scaler: torch.amp.GradScaler,
    factor: float = 1.0,
) -> None:
    optimizer.zero_grad()
    scaler.scale(model(torch.ones(1, 4)).sum() * factor).backward()
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize("fused", [False, True])
def test_the_norm_is_that_of_unscaled_gradients(fused: bool) -> None:
    model, optimizer, scaler, guard = scaled_training(fused)

    scaled_step(model, optimizer, scaler)

    # The gradient of a sum is 1 for each of four weights and one bias.
    assert guard.last_norm == pytest.approx(math.sqrt(5))


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_scaler_skips_is_not_counted_as_ours(fused: bool) -> None:
    model, optimizer, scaler, guard = scaled_training(fused)
    scaled_step(model, optimizer, scaler)
    before = bit_hash(model, optimizer)

    scaled_step(model, optimizer, scaler, math.inf)

    assert bit_hash(model, optimizer) == before
    assert (guard.skipped, guard.nonfinite) == (0, 0)
    assert guard.scaler_skipped == int(fused)
    assert guard.steps == 1 + int(fused)
    assert scaler.get_scale() == 512.0


def test_on_the_device_path_the_scalers_skip_is_not_ours_either() -> None:
    model, optimizer, scaler, guard = scaled_training(fused=True, strict=False)
    scaled_step(model, optimizer, scaler)
    before = bit_hash(model, optimizer)

    scaled_step(model, optimizer, scaler, math.nan)
    after = bit_hash(model, optimizer)
    scaled_step(model, optimizer, scaler)

    assert after == before
    assert (guard.skipped, guard.errors) == (0, 0)
    assert not hasattr(optimizer, "found_inf")


@pytest.mark.parametrize("told_on_device", [False, True])
def test_on_the_device_path_the_scalers_overflows_are_never_judged(told_on_device: bool) -> None:
    seen: list[float] = []

    def judge(readings: Mapping[str, float]) -> Verdict:
        seen.append(readings["guard/nonfinite_gradients"])
        return Verdict()

    torch.manual_seed(3)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    guard = Guard(optimizer, judge, strict=False, skip_on_device=told_on_device)

    for factor in (1.0, math.inf, math.inf, math.inf, 1.0, 1.0):
        scaled_step(model, optimizer, scaler, factor)

    assert seen == [0.0] * len(seen)
    assert (guard.scaler_skipped, guard.skipped, guard.nonfinite) == (3, 0, 0)
    assert guard.readings()["guard/scaler_skipped"] == 3.0


@pytest.mark.parametrize(("fused", "strict"), [(False, True), (True, True), (True, False)])
def test_what_was_clipped_before_a_skipped_step_says_nothing_of_the_next_one(
    fused: bool, strict: bool
) -> None:
    model, optimizer, scaler, guard = scaled_training(fused, strict)

    with observe_clipping(guard):
        for factor in (1.0, math.inf, 1.0, 1.0):
            optimizer.zero_grad()
            scaler.scale(model(torch.ones(1, 4)).sum() * factor).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()

    assert (guard.skipped, guard.nonfinite) == (0, 0)
    assert guard.last_norm == pytest.approx(math.sqrt(5))
