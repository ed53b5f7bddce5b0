"""The finite check: exact for every dtype, layout and shape."""

from __future__ import annotations

import math

import pytest
import torch

from watchstep.checkpoint import all_finite, first_nonfinite
from watchstep.checkpoint.finite import inspect

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [*FLOATS, torch.complex64, torch.float8_e5m2])
def test_one_bad_element_anywhere_is_found(dtype: torch.dtype, poison: float) -> None:
    for position in (0, 517, 1022):
        numbers = torch.ones(1023)
        numbers[position] = poison

        assert first_nonfinite({"good": torch.ones(3), "bad": numbers.to(dtype)}) == "bad"


@pytest.mark.parametrize(
    "tensor",
    [
        torch.full((1000,), 1e30),
        torch.full((1000,), 3.4e38),
        torch.cat([torch.full((8,), 3.4e38), torch.full((8,), -3.4e38)]),
        torch.full((1000,), 1e308, dtype=torch.float64),
        torch.full((100_000,), 65_504.0, dtype=torch.float16),
        torch.full((1000,), 3e38, dtype=torch.bfloat16),
        torch.full((10,), 5e-324, dtype=torch.float64),
        torch.tensor([2**31 - 1], dtype=torch.int32),
        torch.empty(0),
        torch.tensor(True),
        torch.empty(3, device="meta"),
        torch.full((4,), 57344.0).to(torch.float8_e5m2),
    ],
    ids=str,
)
def test_whatever_is_finite_is_called_so_however_large(tensor: torch.Tensor) -> None:
    assert all_finite(tensor)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_tensors_are_passed_over() -> None:
    assert all_finite(torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8))


def test_infinities_that_cancel_are_found() -> None:
    assert not all_finite(torch.tensor([math.inf, -math.inf]))


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_sparse_strided_and_transposed_tensors_are_checked() -> None:
    bad = torch.eye(4)
    bad[1, 1] = math.nan

    assert not all_finite(bad.to_sparse())
    assert not all_finite(bad.to_sparse_csr())
    assert not all_finite(bad.t()[:, 1:3])
    assert all_finite(bad[::2, ::2])


def test_every_bad_element_is_counted_and_the_first_tensor_named() -> None:
    state = {
        "a": torch.ones(3),
        "b": [torch.ones(1), torch.full((2_000_001,), math.nan)],
        "c": torch.tensor([1.0, -math.inf]),
    }

    finiteness = inspect(state)

    assert (finiteness.tensors, finiteness.bad_tensor, finiteness.nonfinite) == (
        4,
        "b.1",
        2_000_002,
    )


def test_modules_and_optimizers_are_looked_into() -> None:
    model = torch.nn.BatchNorm1d(3)
    model.running_mean[1] = math.inf  # type: ignore[index]

    assert first_nonfinite({"model": model}) == "model.running_mean"
    assert first_nonfinite(torch.ones(2) * math.nan) == ""


def test_numbers_that_are_no_tensors_may_be_infinite() -> None:
    assert all_finite({"best": math.inf, "epoch": 3, "lr": [math.nan]})
