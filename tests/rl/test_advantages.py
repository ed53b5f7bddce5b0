"""Standardised advantages: exact in every dtype, honest about what was done."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from watchstep.rl import standardize_advantages

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def reference(values: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Two passes in float64, over what the dtype left of the values."""
    wide = values.to(torch.float64).reshape(-1)
    centred = wide - math.fsum(wide.tolist()) / wide.numel()
    deviation = math.sqrt(math.fsum((centred * centred).tolist()) / wide.numel())
    return (centred / (deviation + eps)).reshape(values.shape)


def numbers(statistics: dict[str, torch.Tensor]) -> dict[str, float]:
    return {
        name.removeprefix("train/advantages_"): float(statistic)
        for name, statistic in statistics.items()
    }


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4], ids=str)
def test_values_agree_with_float64_to_the_rounding_of_their_dtype(
    dtype: torch.dtype, scale: float
) -> None:
    torch.manual_seed(0)
    raw = (torch.randn(64, 32, dtype=torch.float64) * scale).to(dtype)

    values, _ = standardize_advantages(raw)

    assert values.dtype is dtype
    assert values.shape == raw.shape
    error = (values.to(torch.float64) - reference(raw)).abs().max()
    assert error <= 4.0 * torch.finfo(dtype).eps


def test_a_large_mean_does_not_cancel() -> None:
    # One pass in float32, E[x^2] - E[x]^2, gives a negative variance here.
    torch.manual_seed(0)
    raw = (1e3 + 1e-1 * torch.randn(4096)).float()

    values, statistics = standardize_advantages(raw)

    assert torch.allclose(values.double(), reference(raw), atol=1e-6)
    assert numbers(statistics)["std_raw"] == pytest.approx(float(raw.double().std(correction=0)))


def test_half_precision_neither_overflows_nor_loses_its_epsilon() -> None:
    # Sums of squares pass 65,504 at once, and 1e-8 is 0 in fp16.
    large, _ = standardize_advantages(torch.full((2048,), 6e4, dtype=torch.float16))
    tiny, _ = standardize_advantages(torch.full((2048,), 6e-8, dtype=torch.float16))

    assert torch.equal(large, torch.zeros_like(large))
    assert torch.equal(tiny, torch.zeros_like(tiny))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_value_exceeds_the_bound_that_the_rules_rely_on(dtype: torch.dtype) -> None:
    raw = torch.zeros(2048, dtype=dtype)
    raw[7] = 3.0

    _, statistics = standardize_advantages(raw, eps=0.0)

    measured = numbers(statistics)
    assert measured["norm_max_abs"] == pytest.approx(math.sqrt(2047), rel=1e-6)
    assert measured["norm_max_abs"] <= math.sqrt(measured["count"] - 1) * (1 + 1e-12)


def test_masked_values_neither_count_nor_poison() -> None:
    torch.manual_seed(0)
    raw = torch.randn(8, 16)
    mask = torch.rand(8, 16) > 0.3
    dirty = torch.where(mask, raw, torch.tensor(math.nan))

    values, statistics = standardize_advantages(dirty, mask=mask)

    assert torch.allclose(values[mask].double(), reference(raw[mask]), atol=1e-6)
    assert torch.equal(values[~mask], torch.zeros(int((~mask).sum())))
    assert numbers(statistics)["count"] == float(mask.sum())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_told_and_not_hidden(bad: float) -> None:
    values, statistics = standardize_advantages(torch.tensor([1.0, bad, 2.0]), clip=5.0)

    assert values.isnan().all()
    assert math.isnan(numbers(statistics)["norm_max_abs"])
    assert math.isnan(numbers(statistics)["std_raw"])


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("eps", [0.0, 1e-8])
def test_without_any_difference_between_values_there_is_no_signal(count: int, eps: float) -> None:
    values, statistics = standardize_advantages(torch.full((count,), 0.1), eps=eps)

    assert torch.equal(values, torch.zeros(count))
    assert all(math.isfinite(number) for number in numbers(statistics).values())
    assert numbers(statistics)["count"] == count


def test_the_share_at_the_clip_tells_what_clipping_hides() -> None:
    raw = torch.tensor([0.0] * 98 + [50.0, -50.0])

    values, statistics = standardize_advantages(raw, clip=3.0)

    assert float(values.abs().max()) == 3.0
    assert numbers(statistics)["clip_share"] == pytest.approx(0.02)
    assert numbers(statistics)["norm_max_abs"] == pytest.approx(math.sqrt(50), rel=1e-6)


def test_divisor_and_epsilon_are_those_that_were_used() -> None:
    _, statistics = standardize_advantages(torch.tensor([1.0, 3.0]), eps=0.5)

    measured = numbers(statistics)
    assert (measured["mean_raw"], measured["std_raw"]) == (2.0, 1.0)
    assert (measured["divisor"], measured["epsilon"]) == (1.5, 0.5)


def test_the_argument_is_left_alone_and_no_graph_is_recorded() -> None:
    raw = torch.randn(16, requires_grad=True)
    before = raw.detach().clone()

    values, statistics = standardize_advantages(raw)

    assert torch.equal(raw.detach(), before)
    assert not values.requires_grad
    assert not any(statistic.requires_grad for statistic in statistics.values())


class HostReads(TorchDispatchMode):
    """Counts how often a number is brought to the host, for which a device is waited for."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_nothing_is_brought_to_the_host() -> None:
    raw, mask = torch.randn(64), torch.rand(64) > 0.5

    with HostReads() as reads:
        _, statistics = standardize_advantages(raw, mask=mask, clip=2.0)
        assert reads.count == 0
        float(statistics["train/advantages_count"])

    # The counter does count.
    assert reads.count == 1


def test_integers_and_foreign_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="floating point"):
        standardize_advantages(torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="shape"):
        standardize_advantages(torch.ones(4), mask=torch.ones(2))


PROGRAM = """
    import json, math, os, sys
    import torch
    import torch.distributed as dist
    from watchstep.rl import standardize_advantages

    rank = int(sys.argv[1])
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", sys.argv[2]
    dist.init_process_group("gloo", rank=rank, world_size=3)
    torch.manual_seed(0)
    every = [torch.randn(40) * 5, torch.zeros(0), torch.randn(24) + 7]
    values, statistics = standardize_advantages(every[rank], group=dist.group.WORLD)
    alone, expected = standardize_advantages(torch.cat(every))
    start = sum(len(one) for one in every[:rank])
    assert torch.allclose(values, alone[start : start + len(every[rank])], atol=1e-6)
    for name, one in expected.items():
        assert abs(float(one) - float(statistics[name])) < 1e-6, name

    # NaN on one process only: a maximum over processes must not lose it.
    part = torch.tensor([math.nan if rank == 2 else 1.0, 2.0])
    _, statistics = standardize_advantages(part, group=dist.group.WORLD)
    assert math.isnan(float(statistics["train/advantages_norm_max_abs"]))
    dist.destroy_process_group()
    print("agreed")
"""


def test_processes_standardise_by_the_statistics_of_all_their_values(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(textwrap.dedent(PROGRAM))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), port],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(3)
    ]
    outputs = [process.communicate(timeout=60) for process in processes]

    assert [out for out, _ in outputs] == ["agreed\n"] * 3, outputs
