"""The path for accelerators: nothing waits for the device, and verdicts come a step late."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from watchstep.core.updates import Action, Verdict
from watchstep.errors import TrainingHalted
from watchstep.guard import Guard, bit_hash, observe_clipping
from watchstep.guard.device import DeviceLane, Receive

SYNCHRONISING = {"_local_scalar_dense", "nonzero", "is_nonzero", "item", "equal", "masked_select"}
READING = {"item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__"}


class Operators(TorchDispatchMode):
    """Notes every operator that makes a host wait for its device."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        if name in SYNCHRONISING:
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


class Methods(TorchFunctionMode):
    """Notes every method that reads numbers out of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in READING:
            self.waits.append(func.__name__)
        return func(*args, **(kwargs or {}))


class HeldCopies:
    """Copies that arrive when the test says so."""

    def __init__(self) -> None:
        self.sent: deque[tuple[torch.Tensor, Receive]] = deque()
        self.here: deque[tuple[list[float], Receive]] = deque()

    def send(self, packet: torch.Tensor, receive: Receive) -> bool:
        self.sent.append((packet, receive))
        return True

    def deliver(self) -> None:
        while self.here:
            values, receive = self.here.popleft()
            receive(values)

    def arrive(self) -> None:
        while self.sent:
            packet, receive = self.sent.popleft()
            self.here.append((packet.tolist(), receive))


class Recorder:
    """A judge that remembers, and answers as it is told."""

    def __init__(self, action: Action = Action.NONE) -> None:
        self.action = action
        self.seen: list[Mapping[str, float]] = []

    def __call__(self, readings: Mapping[str, float]) -> Verdict:
        self.seen.append(readings)
        bad = not math.isfinite(readings["train/grad_norm"])
        return Verdict(self.action, ("Rule",), "bad") if bad else Verdict()


def trained(fused: bool = True, **options: Any) -> tuple[torch.nn.Linear, Guard, Recorder]:
    torch.manual_seed(5)
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
    judge = Recorder(options.pop("action", Action.NONE))
    return model, Guard(optimizer, judge, strict=False, **options), judge


def step(model: torch.nn.Linear, guard: Guard, factor: float = 1.0) -> None:
    guard.optimizer.zero_grad()
    (model(torch.ones(1, 4)).sum() * factor).backward()
    guard.optimizer.step()


@contextmanager
def waits_counted() -> Iterator[list[str]]:
    operators, methods = Operators(), Methods()
    waits: list[str] = []
    with operators, methods:
        yield waits
    waits.extend(operators.waits + methods.waits)


def test_the_counting_fake_notices_a_wait() -> None:
    with waits_counted() as waits:
        torch.ones(1).sum().item()
        bool(torch.ones(1) > 0)
        torch.ones(1).tolist()

    assert len(waits) >= 3


@pytest.mark.parametrize("clipped", [False, True])
def test_no_step_after_the_first_makes_the_host_wait(clipped: bool) -> None:
    model, guard, _ = trained(slow_every=1)
    step(model, guard)
    guard._lane = DeviceLane(HeldCopies(), skip=True)

    with waits_counted() as waits, observe_clipping(*([guard] if clipped else [])):
        for factor in (1.0, math.nan, 1.0):
            guard.optimizer.zero_grad()
            (model(torch.ones(1, 4)).sum() * factor).backward()
            if clipped:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
            # torch's own zero-dimensional step counters may be read by the optimizer itself:
            # only what happens before its kernels is the guard's.
            guard._before_step(guard.optimizer, (guard.optimizer,), {})
            guard._after_step()

    assert waits == []
    assert guard.errors == 0


def test_a_strict_guard_does_wait() -> None:
    torch.manual_seed(5)
    model = torch.nn.Linear(4, 2)
    guard = Guard(torch.optim.SGD(model.parameters(), lr=0.1), Recorder(), strict=True)
    model(torch.ones(1, 4)).sum().backward()

    with waits_counted() as waits:
        guard._before_step(guard.optimizer, (guard.optimizer,), {})

    assert waits


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("first", [False, True])
def test_a_fused_step_skips_itself_on_the_device(poison: float, first: bool) -> None:
    model, guard, judge = trained()
    if not first:
        step(model, guard)
    else:
        judge.action = Action.SKIP
    before = bit_hash(model, guard.optimizer)

    step(model, guard, poison)

    assert bit_hash(model, guard.optimizer) == before
    assert not hasattr(guard.optimizer, "found_inf")


def test_fused_momentum_is_exact_although_torch_leaves_its_first_buffer_unfilled() -> None:
    torch.manual_seed(5)
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
    guard = Guard(optimizer, Recorder(Action.SKIP), strict=False)
    before = bit_hash(model, optimizer)

    step(model, guard, math.nan)
    after_first = bit_hash(model, optimizer)
    step(model, guard)
    healthy = bit_hash(model, optimizer)
    step(model, guard, math.nan)

    assert after_first == before
    assert bit_hash(model, optimizer) == healthy


def test_the_verdict_about_a_step_comes_one_step_late() -> None:
    model, guard, judge = trained()
    step(model, guard)
    guard._lane = DeviceLane(copies := HeldCopies(), skip=True)
    seen = len(judge.seen)

    guard.note("train/loss", 7.0)
    step(model, guard, math.nan)
    late = len(judge.seen)
    copies.arrive()
    step(model, guard)

    assert late == seen
    assert math.isnan(judge.seen[-1]["train/grad_norm"])
    assert judge.seen[-1]["guard/nonfinite_gradients"] == 2.0
    assert judge.seen[-1]["train/loss"] == 7.0
    assert (guard.skipped, guard.nonfinite) == (1, 1)


def test_a_late_halt_stops_the_next_step() -> None:
    model, guard, _ = trained(action=Action.HALT)
    step(model, guard)
    step(model, guard, math.nan)
    before = bit_hash(model, guard.optimizer)

    with pytest.raises(TrainingHalted):
        step(model, guard)

    assert bit_hash(model, guard.optimizer) == before


def test_a_late_rollback_skips_the_step_whose_gradients_are_of_older_weights() -> None:
    model, guard, _ = trained(action=Action.ROLLBACK)
    step(model, guard)
    step(model, guard, math.nan)
    before = bit_hash(model, guard.optimizer)

    step(model, guard)

    assert bit_hash(model, guard.optimizer) == before


def test_the_skip_budget_counts_skips_on_the_device() -> None:
    model, guard, _ = trained(skip_budget=2)
    step(model, guard)

    for _ in range(3):
        step(model, guard, math.nan)
    with pytest.raises(TrainingHalted, match="3 steps skipped in a row"):
        step(model, guard, math.nan)

    assert guard.skipped == 3


def test_without_a_fused_optimizer_poison_passes_and_the_halt_follows() -> None:
    model, guard, _ = trained(fused=False, action=Action.HALT)
    step(model, guard)

    step(model, guard, math.nan)

    assert not torch.isfinite(model.weight).any()
    with pytest.raises(TrainingHalted):
        step(model, guard)


def test_skipping_on_the_device_can_be_declined() -> None:
    model, guard, _ = trained(skip_on_device=False)
    step(model, guard)

    step(model, guard, math.nan)

    assert not torch.isfinite(model.weight).any()


def test_finite_gradients_whose_squares_overflow_are_not_skipped() -> None:
    model, guard, judge = trained()
    step(model, guard)
    before = bit_hash(model)
    step(model, guard, 1e30)
    step(model, guard)

    assert bit_hash(model) != before
    assert judge.seen[-1]["guard/nonfinite_gradients"] == 0.0
    assert 1e30 <= judge.seen[-1]["train/grad_norm"] < math.inf


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD])
def test_on_cuda_a_poisoned_step_is_skipped_without_a_host_synchronisation(
    kind: type[torch.optim.Optimizer],
) -> None:
    model = torch.nn.Linear(64, 64, device="cuda")
    momentum = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimizer = kind(model.parameters(), lr=1e-3, fused=True, **momentum)
    guard = Guard(optimizer, Recorder())
    inputs = torch.ones(8, 64, device="cuda")

    def train(factor: torch.Tensor) -> None:
        optimizer.zero_grad()
        (model(inputs).sum() * factor).backward()
        optimizer.step()

    number, nan = torch.ones((), device="cuda"), torch.full((), math.nan, device="cuda")
    train(number)
    train(number)
    before = bit_hash(model, optimizer)
    torch.cuda.synchronize()

    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):
            train(nan)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    after = bit_hash(model, optimizer)
    train(number)

    assert after == before
    assert (guard.skipped, guard.errors) == (5, 0)
