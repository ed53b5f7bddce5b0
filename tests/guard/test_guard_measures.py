"""What the guard reports: exact finiteness, norms before clipping, readings per update."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping

import pytest
import torch

from watchstep.core.updates import Action, Verdict
from watchstep.guard import Guard, bit_hash, merged, observe_clipping
from watchstep.guard.measure import measure
from watchstep.guard.tally import WEIGHT_NORM


def pass_all(_: Mapping[str, float]) -> Verdict:
    return Verdict()


def one_parameter(*gradient: float) -> torch.nn.Parameter:
    parameter = torch.nn.Parameter(torch.ones(len(gradient)))
    parameter.grad = torch.tensor(gradient)
    return parameter


def test_the_norm_is_that_of_all_gradients_together() -> None:
    gradients = [torch.tensor([3.0]), torch.tensor([[0.0, 4.0]]), torch.empty(0)]

    assert measure(gradients).norm == pytest.approx(5.0)
    assert measure([]).norm == 0.0


@pytest.mark.parametrize(
    ("gradient", "norm"),
    [
        (torch.tensor([1e30, 1e30]), math.sqrt(2) * 1e30),
        (torch.tensor([3e38, -3e38]), math.sqrt(2) * 3e38),
        (torch.tensor([1e300, 1e300], dtype=torch.float64), math.sqrt(2) * 1e300),
        (torch.full((4,), 6e4, dtype=torch.float16), 1.2e5),
        (torch.full((4,), 1e38, dtype=torch.bfloat16), 2e38),
        (torch.tensor([3e30 + 4e30j]), 5e30),
        (torch.tensor([3 + 4j]).conj(), 5.0),
    ],
)
def test_a_huge_gradient_is_finite_and_its_norm_right(gradient: torch.Tensor, norm: float) -> None:
    measured = measure([gradient, torch.zeros(2)])

    assert measured.nonfinite == 0
    assert measured.norm == pytest.approx(norm, rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_one_bad_element_is_found_and_its_kind_told(dtype: torch.dtype, poison: float) -> None:
    bad = torch.zeros(1000, dtype=dtype)
    bad[777] = poison

    measured = measure([torch.full((2,), 1e30), bad, bad.clone()])

    assert measured.nonfinite == 2
    assert math.isnan(measured.norm) if math.isnan(poison) else measured.norm == math.inf


def test_nan_wins_over_infinity() -> None:
    assert math.isnan(measure([torch.tensor([math.inf]), torch.tensor([math.nan])]).norm)


def test_the_judge_sees_the_norm_before_clipping() -> None:
    parameter = one_parameter(30.0, 40.0)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    seen: list[float] = []
    guard = Guard(optimizer, lambda r: seen.append(r["train/grad_norm"]) or Verdict())

    with observe_clipping(guard):
        returned = torch.nn.utils.clip_grad_norm_((p for p in [parameter]), 0.5)
        optimizer.step()

    assert seen == [pytest.approx(50.0)]
    assert guard.last_norm == pytest.approx(50.0)
    assert returned.item() == pytest.approx(50.0)
    assert parameter.detach().tolist() == pytest.approx([1 - 0.3, 1 - 0.4], rel=1e-4)


def test_after_the_block_clipping_is_torch_again() -> None:
    originals = torch.nn.utils.clip_grad_norm_, torch.nn.utils.clip_grads_with_norm_
    parameter = one_parameter(30.0, 40.0)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    guard = Guard(optimizer, pass_all)

    wrapped = []

    def leave_with_an_error() -> None:
        with observe_clipping(guard):
            wrapped.append(torch.nn.utils.clip_grad_norm_)
            raise RuntimeError("user")

    with pytest.raises(RuntimeError, match="user"):
        leave_with_an_error()
    torch.nn.utils.clip_grad_norm_([parameter], 0.5)
    optimizer.step()

    assert wrapped[0] is not originals[0]
    assert (torch.nn.utils.clip_grad_norm_, torch.nn.utils.clip_grads_with_norm_) == originals
    assert guard.last_norm == pytest.approx(0.5, rel=1e-4)


def test_blocks_that_end_out_of_order_leave_torch_as_it_was_in_effect() -> None:
    parameter = one_parameter(30.0, 40.0)
    guard = Guard(torch.optim.SGD([parameter], lr=1.0), pass_all)
    original = torch.nn.utils.clip_grad_norm_
    first, second = observe_clipping(guard), observe_clipping(guard)

    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    torch.nn.utils.clip_grad_norm_([parameter], 0.5)
    guard.optimizer.step()

    assert guard.last_norm == pytest.approx(0.5, rel=1e-4)
    torch.nn.utils.clip_grad_norm_ = original


def test_clipping_of_another_networks_parameters_is_not_seen() -> None:
    own, other = one_parameter(3.0, 4.0), one_parameter(1e6)
    guard = Guard(torch.optim.SGD([own], lr=1.0), pass_all)

    with observe_clipping(guard):
        torch.nn.utils.clip_grad_norm_([other], 0.5)
        own.grad = torch.tensor([6.0, 8.0])
        guard.optimizer.step()

    assert guard.last_norm == pytest.approx(10.0)


def test_one_nan_spread_by_clipping_is_still_told_as_one_bad_tensor() -> None:
    good, bad = one_parameter(1.0), one_parameter(math.nan)
    optimizer = torch.optim.SGD([good, bad], lr=1.0)
    counts: list[float] = []

    def judge(readings: Mapping[str, float]) -> Verdict:
        counts.append(readings["guard/nonfinite_gradients"])
        return Verdict(Action.SKIP)

    with observe_clipping(Guard(optimizer, judge)):
        torch.nn.utils.clip_grad_norm_([good, bad], 0.5)
        optimizer.step()

    assert counts == [1.0]
    assert good.item() == 1.0


def test_poison_that_comes_after_clipping_counts() -> None:
    parameter = one_parameter(3.0, 4.0)
    guard = Guard(torch.optim.SGD([parameter], lr=1.0), lambda _: Verdict(Action.SKIP))

    with observe_clipping(guard):
        torch.nn.utils.clip_grad_norm_([parameter], 0.5)
        parameter.grad[0] = math.nan
        guard.optimizer.step()

    assert guard.nonfinite == 1
    assert math.isnan(guard.last_norm)


def test_readings_are_those_of_one_update_and_begin_anew() -> None:
    parameter = one_parameter(0.0)
    guard = Guard(torch.optim.SGD([parameter], lr=0.1), pass_all)
    for gradient in (1.0, 3.0, 2.0):
        parameter.grad = torch.tensor([gradient])
        guard.optimizer.step()

    first = guard.readings()
    second = guard.readings()

    assert first == {
        "guard/steps": 3.0,
        "guard/skipped": 0.0,
        "guard/nonfinite_gradients": 0.0,
        "guard/learning_rate": 0.1,
        "guard/largest_weight": 1.0,
        "guard/weight_norm": 1.0,
        "guard/zero_gradients": 0.0,
        "train/grad_norm": pytest.approx(2.0),
        "train/grad_norm_max": pytest.approx(3.0),
    }
    assert second == {"guard/steps": 0.0, "guard/skipped": 0.0, "guard/nonfinite_gradients": 0.0}


def test_one_bad_step_shows_in_the_mean_of_its_update() -> None:
    parameter = one_parameter(1.0)
    guard = Guard(torch.optim.SGD([parameter], lr=0.1), lambda _: Verdict(Action.SKIP))
    for gradient in (1.0, math.inf, 2.0):
        parameter.grad = torch.tensor([gradient])
        guard.optimizer.step()

    readings = guard.readings()

    assert readings["train/grad_norm"] == readings["train/grad_norm_max"] == math.inf
    assert readings["guard/nonfinite_gradients"] == 1.0
    assert readings["guard/skipped"] == 3.0


def test_a_note_is_judged_once() -> None:
    parameter = one_parameter(1.0)
    seen: list[Mapping[str, float]] = []
    guard = Guard(torch.optim.SGD([parameter], lr=0.1), lambda r: seen.append(r) or Verdict())

    guard.note("train/advantages_norm_max_abs", math.nan)
    guard.optimizer.step()
    guard.optimizer.step()

    assert math.isnan(seen[0]["train/advantages_norm_max_abs"])
    assert "train/advantages_norm_max_abs" not in seen[1]


def test_parameters_frozen_by_an_infinite_second_moment_are_counted() -> None:
    parameter = one_parameter(1.0, 1.0, 1e25)
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    guard = Guard(optimizer, pass_all, slow_every=2)

    optimizer.step()
    early = guard.readings()
    optimizer.step()

    # 1e25 squared overflows float32: the parameter is finite, and will never move again.
    assert "guard/frozen_parameters" not in early
    assert guard.readings()["guard/frozen_parameters"] == 1.0


def test_the_update_ratio_is_the_size_of_the_step_beside_the_weights() -> None:
    parameter = one_parameter(0.3, 0.4)
    guard = Guard(torch.optim.SGD([parameter], lr=1.0), pass_all, slow_every=1)

    guard.optimizer.step()
    first = guard.readings()
    guard.optimizer.step()
    second = guard.readings()

    assert first["guard/weight_norm"] == pytest.approx(math.sqrt(2))
    assert "guard/update_ratio" not in first
    assert second["guard/update_ratio"] == pytest.approx(0.5 / math.sqrt(0.7**2 + 0.6**2))


def test_the_largest_weight_is_looked_at_again_where_a_gradient_leaps() -> None:
    parameter = torch.nn.Parameter(torch.tensor([0.5, -0.25]))
    guard = Guard(torch.optim.SGD([parameter], lr=1e-12), pass_all)
    for _ in range(14):
        parameter.grad = torch.tensor([1.0, 1.0])
        guard.optimizer.step()
    calm = guard.readings()
    with torch.no_grad():
        parameter[1] = -3e37
    seen = []
    for norm in (1e3, math.inf, 1.0, 1e6):
        parameter.grad = torch.tensor([norm, 0.0])
        guard.optimizer.step()
        seen.append(guard.readings().get("guard/largest_weight"))

    assert calm["guard/largest_weight"] == pytest.approx(0.5)
    # At the leap and not at the next ones: a look costs as much as a norm.
    assert seen == [pytest.approx(3e37), None, None, None]


def test_gradients_that_are_zero_throughout_are_reported_as_a_share() -> None:
    dead, alive = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    guard = Guard(torch.optim.SGD([dead, alive], lr=0.1), pass_all)
    dead.grad, alive.grad = torch.zeros(3), torch.tensor([0.0, 1e-9, 0.0])

    guard.optimizer.step()

    assert guard.readings()["guard/zero_gradients"] == 0.5


def test_what_is_frozen_from_the_start_is_reported_as_a_share_until_it_is_thawed() -> None:
    frozen, trained = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    frozen.requires_grad = False
    guard = Guard(torch.optim.SGD([frozen, trained], lr=0.1), pass_all, slow_every=1)

    shares = []
    for thawed in (False, True):
        frozen.requires_grad = thawed
        trained.grad = torch.ones(3)
        guard.optimizer.step()
        shares.append(guard.readings()["guard/parameters_not_trained"])

    assert shares == [0.5, 0.0]


def test_readings_of_several_guards_become_one_update() -> None:
    parts = [
        {"guard/steps": 1.0, "train/grad_norm": 4.0, "train/grad_norm_max": 5.0},
        {"guard/steps": 3.0, "train/grad_norm": 8.0, "train/grad_norm_max": 9.0},
        {},
    ]

    together = merged(parts, ())

    assert together == {
        "guard/steps": 4.0,
        "train/grad_norm": 7.0,
        "train/grad_norm_max": 9.0,
    }
    assert math.isnan(merged([parts[0], {"train/grad_norm": math.nan}], ())["train/grad_norm"])


def test_a_compiled_step_is_judged_as_well() -> None:
    parameter = one_parameter(math.nan)
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    guard = Guard(optimizer, lambda _: Verdict(Action.SKIP))

    torch.compile(optimizer.step, backend="eager")()

    assert (guard.skipped, guard.errors) == (1, 0)
    assert parameter.item() == 1.0


def test_importing_guard_and_keeper_imports_neither_torch_nor_numpy() -> None:
    script = (
        "import sys, watchstep.guard, watchstep.checkpoint;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'typer', 'rich')))"
    )

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_bit_hash_tells_what_equality_does_not() -> None:
    positive, negative = torch.tensor([0.0]), torch.tensor([-0.0])
    nan = torch.tensor([math.nan])

    assert bit_hash(positive) != bit_hash(negative)
    assert bit_hash(nan) == bit_hash(nan.clone())
    assert bit_hash(torch.zeros(2)) != bit_hash(torch.zeros(2, dtype=torch.int32))
    assert bit_hash({"a": 1, "b": 2}) == bit_hash({"b": 2, "a": 1})
    assert bit_hash(torch.zeros(2, 3, dtype=torch.bfloat16)) != bit_hash(
        torch.zeros(3, 2, dtype=torch.bfloat16)
    )


def test_the_weights_of_several_optimizers_are_all_of_them_whichever_was_measured() -> None:
    big, small = {WEIGHT_NORM: 40.0}, {WEIGHT_NORM: 3.0}

    assert merged([big, {}], [40.0, None]) == {}
    assert merged([{}, small], [40.0, 3.0]) == {WEIGHT_NORM: math.hypot(40.0, 3.0)}
