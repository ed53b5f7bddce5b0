"""A skipped step leaves no trace, and a healthy step after it is as if it never was."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from collections.abc import Callable, Mapping

import pytest
import torch
from torch.optim import (
    ASGD,
    LBFGS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
    Rprop,
)

from watchstep.core.updates import Action, Verdict
from watchstep.errors import GuardRefusedError, TrainingHalted
from watchstep.guard import Guard, bit_hash

Make = Callable[[list[torch.nn.Parameter]], Optimizer]

CASES: dict[str, Make] = {
    "sgd loop": lambda p: SGD(p, lr=0.1, foreach=False),
    "sgd foreach": lambda p: SGD(p, lr=0.1, foreach=True),
    "sgd fused": lambda p: SGD(p, lr=0.1, fused=True),
    "momentum loop": lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, foreach=False),
    "momentum foreach": lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, foreach=True),
    "momentum fused": lambda p: SGD(p, lr=0.1, momentum=0.9, dampening=0.1, fused=True),
    "nesterov": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam loop": lambda p: Adam(p, lr=0.1, foreach=False),
    "adam foreach": lambda p: Adam(p, lr=0.1, foreach=True),
    "adam fused": lambda p: Adam(p, lr=0.1, fused=True),
    "adam amsgrad": lambda p: Adam(p, lr=0.1, amsgrad=True),
    "adamw loop": lambda p: AdamW(p, lr=0.1, foreach=False),
    "adamw foreach": lambda p: AdamW(p, lr=0.1, foreach=True),
    "adamw fused": lambda p: AdamW(p, lr=0.1, fused=True),
    "rmsprop loop": lambda p: RMSprop(p, lr=0.1, momentum=0.5, centered=True, foreach=False),
    "rmsprop foreach": lambda p: RMSprop(p, lr=0.1, momentum=0.5, foreach=True),
    "adagrad loop": lambda p: Adagrad(p, lr=0.1, foreach=False),
    "adagrad foreach": lambda p: Adagrad(p, lr=0.1, foreach=True),
    "adagrad fused": lambda p: Adagrad(p, lr=0.1, fused=True),
    "adadelta": Adadelta,
    "adamax": Adamax,
    "asgd": lambda p: ASGD(p, lr=0.1),
    "nadam": NAdam,
    "radam": RAdam,
    "rprop": Rprop,
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.1),
    "groups": lambda p: AdamW([{"params": p[:1], "lr": 0.1}, {"params": p[1:], "lr": 0.01}]),
}


class OwnAdam(Adam):
    """A stranger's optimizer: decays weights even where there is no gradient."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            group["lr"] *= 0.5
            for parameter in group["params"]:
                parameter.mul_(0.9)
                parameter.sub_(parameter.grad * group["lr"])
                self.state[parameter]["seen"] = self.state[parameter].get("seen", 0) + 1


def skip_nonfinite(readings: Mapping[str, float]) -> Verdict:
    if readings["guard/nonfinite_gradients"]:
        return Verdict(Action.SKIP, ("NonfiniteGradients",), "a gradient is not finite")
    return Verdict()


def always(action: Action) -> Callable[[Mapping[str, float]], Verdict]:
    return lambda _: Verdict(action, ("Rule",), "because")


def network() -> torch.nn.Module:
    torch.manual_seed(7)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))


def fill_gradients(model: torch.nn.Module, seed: int, poison: float | None = None) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    if poison is not None:
        list(model.parameters())[1].grad[3] = poison


@pytest.fixture
def model() -> torch.nn.Module:
    return network()


@pytest.fixture
def optimizer(model: torch.nn.Module) -> SGD:
    return SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", CASES)
def test_a_skipped_step_is_bit_identical_and_the_next_one_too(name: str, poison: float) -> None:
    poisoned, clean = network(), network()
    optimizers = [CASES[name](list(model.parameters())) for model in (poisoned, clean)]
    guard = Guard(optimizers[0], skip_nonfinite)
    for model, optimizer in zip((poisoned, clean), optimizers, strict=True):
        for seed in (1, 2):
            fill_gradients(model, seed)
            optimizer.step()
    before = bit_hash(poisoned, optimizers[0])

    fill_gradients(poisoned, 3, poison)
    optimizers[0].step()

    assert bit_hash(poisoned, optimizers[0]) == before
    assert (guard.steps, guard.skipped, guard.nonfinite, guard.errors) == (3, 1, 1, 0)
    for model, optimizer in zip((poisoned, clean), optimizers, strict=True):
        fill_gradients(model, 4)
        optimizer.step()
    assert bit_hash(poisoned, optimizers[0]) == bit_hash(clean, optimizers[1]) != before


@pytest.mark.parametrize("name", CASES)
def test_a_skipped_first_step_creates_no_state(name: str) -> None:
    model = network()
    optimizer = CASES[name](list(model.parameters()))
    Guard(optimizer, skip_nonfinite)
    before = bit_hash(model, optimizer)

    fill_gradients(model, 1, math.nan)
    optimizer.step()

    assert bit_hash(model, optimizer) == before


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
@pytest.mark.parametrize("bad_evaluation", [1, 2, 4])
def test_lbfgs_is_put_back_wherever_in_its_search_the_poison_came(
    line_search: str | None, bad_evaluation: int
) -> None:
    poisoned, clean = network(), network()
    inputs = torch.linspace(-1, 1, 12).reshape(3, 4)
    poison_at: list[int] = []

    def closure_of(model: torch.nn.Module, optimizer: Optimizer) -> Callable[[], torch.Tensor]:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = (model(inputs) - 1).square().sum()
            if poison_at and (poison_at.append(0) or len(poison_at) == bad_evaluation + 1):
                loss = loss * math.nan
            loss.backward()
            return loss

        return closure

    def make(model: torch.nn.Module) -> Optimizer:
        return LBFGS(model.parameters(), max_iter=6, lr=0.1, line_search_fn=line_search)

    first, second = make(poisoned), make(clean)
    guard = Guard(first, skip_nonfinite)
    for model, optimizer in ((poisoned, first), (clean, second)):
        optimizer.step(closure_of(model, optimizer))
    before = bit_hash(poisoned, first)

    poison_at.append(0)
    first.step(closure_of(poisoned, first))
    poison_at.clear()

    assert bit_hash(poisoned, first) == before
    assert (guard.skipped, guard.errors) == (1, 0)
    for model, optimizer in ((poisoned, first), (clean, second)):
        optimizer.step(closure_of(model, optimizer))
    assert bit_hash(poisoned, first) == bit_hash(clean, second) != before


def test_lbfgs_is_put_back_before_a_halt_leaves_its_step() -> None:
    model = network()
    optimizer = LBFGS(model.parameters(), max_iter=4)
    evaluations = 0

    def judge(_: Mapping[str, float]) -> Verdict:
        return Verdict(Action.HALT, ("Rule",), "third") if evaluations == 3 else Verdict()

    def closure() -> torch.Tensor:
        nonlocal evaluations
        evaluations += 1
        optimizer.zero_grad()
        loss = model(torch.ones(2, 4)).square().sum()
        loss.backward()
        return loss

    Guard(optimizer, judge)
    before = bit_hash(model, optimizer)

    with pytest.raises(TrainingHalted, match="third"):
        optimizer.step(closure)

    assert bit_hash(model, optimizer) == before


@pytest.mark.parametrize("make", [lambda p: SGD(p, lr=0.1), lambda p: Adam(p, lr=0.1)])
def test_gradients_that_a_closure_computes_are_judged_as_well(make: Make) -> None:
    model = network()
    optimizer = make(list(model.parameters()))
    guard = Guard(optimizer, skip_nonfinite)
    before = bit_hash(model, optimizer)

    def closure() -> float:
        fill_gradients(model, 1, math.inf)
        return 3.5

    loss = optimizer.step(closure)

    assert loss == 3.5
    assert guard.skipped == 1
    assert bit_hash(model, optimizer) == before


def test_an_optimizer_of_others_is_put_back_although_it_ignores_missing_gradients() -> None:
    model = network()
    optimizer = OwnAdam(model.parameters())
    guard = Guard(optimizer, skip_nonfinite)
    fill_gradients(model, 1)
    optimizer.step()
    before = bit_hash(model, optimizer)

    fill_gradients(model, 2, math.nan)
    optimizer.step()

    assert bit_hash(model, optimizer) == before
    assert (guard.skipped, guard.errors) == (1, 0)


def test_every_optimizer_of_torch_is_tried() -> None:
    kinds = {
        kind
        for kind in vars(torch.optim).values()
        if isinstance(kind, type) and issubclass(kind, Optimizer)
    }

    tried = {type(make(list(network().parameters()))) for make in CASES.values()}

    # Each of these has a test of its own: they take no bias, no dense gradient, or a closure.
    others = {"Muon", "SparseAdam", "LBFGS", "Optimizer"}
    assert {kind.__name__ for kind in kinds - tried} == others


def test_muon_s_skipped_step_is_bit_identical() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    optimizer = torch.optim.Muon([weight], lr=0.1)
    Guard(optimizer, skip_nonfinite)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    before = bit_hash(weight, optimizer)

    weight.grad = torch.full_like(weight, math.nan)
    optimizer.step()

    assert bit_hash(weight, optimizer) == before


def test_sparse_gradients_are_judged_and_skipped() -> None:
    torch.manual_seed(0)
    table = torch.nn.Embedding(10, 3, sparse=True)
    optimizer = torch.optim.SparseAdam(table.parameters())
    guard = Guard(optimizer, skip_nonfinite)
    table(torch.tensor([1, 1, 4])).sum().backward()
    optimizer.step()
    norm = guard.last_norm
    before = bit_hash(table, optimizer)

    table.zero_grad()
    (table(torch.tensor([2, 3])).sum() * math.nan).backward()
    optimizer.step()

    # Row 1 was looked up twice, so its three elements have gradient 2.
    assert norm == pytest.approx(math.sqrt(3 * 4 + 3 * 1))
    assert guard.skipped == 1
    assert bit_hash(table, optimizer) == before


def test_the_gradients_are_still_there_after_a_skipped_step(
    model: torch.nn.Module, optimizer: SGD
) -> None:
    Guard(optimizer, skip_nonfinite)
    fill_gradients(model, 1, math.nan)
    gradients = [parameter.grad for parameter in model.parameters()]

    optimizer.step()

    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))


def test_accumulated_gradients_are_judged_as_one_step(
    model: torch.nn.Module, optimizer: SGD
) -> None:
    seen: list[float] = []
    Guard(optimizer, lambda readings: seen.append(readings["train/grad_norm"]) or Verdict())

    for _ in range(4):
        (model(torch.ones(2, 4)).sum() / 4).backward()
    optimizer.step()

    model.zero_grad()
    expected = network()
    expected(torch.ones(2, 4)).sum().backward()
    whole = torch.nn.utils.get_total_norm([p.grad for p in expected.parameters()])
    assert seen == [pytest.approx(whole.item(), rel=1e-5)]


def test_each_of_several_optimizers_is_judged_on_its_own() -> None:
    actor, critic = network(), network()
    optimizers = [Adam(actor.parameters()), Adam(critic.parameters())]
    guards = [Guard(optimizer, skip_nonfinite) for optimizer in optimizers]
    before = bit_hash(critic, optimizers[1])

    fill_gradients(actor, 1)
    fill_gradients(critic, 1, math.nan)
    for optimizer in optimizers:
        optimizer.step()

    assert [guard.skipped for guard in guards] == [0, 1]
    assert bit_hash(critic, optimizers[1]) == before


def test_a_halt_leaves_step_with_the_weights_untouched() -> None:
    model = network()
    optimizer = Adam(model.parameters())
    Guard(optimizer, always(Action.HALT), name="actor")
    fill_gradients(model, 1)
    before = bit_hash(model, optimizer)

    with pytest.raises(TrainingHalted, match="actor, step 1: because") as caught:
        optimizer.step()

    assert caught.value.rule == "Rule"
    assert bit_hash(model, optimizer) == before


@pytest.mark.parametrize("action", [Action.NONE, Action.PIN])
def test_a_verdict_below_skip_lets_the_step_happen(action: Action) -> None:
    model, twin = network(), network()
    optimizer, other = Adam(model.parameters()), Adam(twin.parameters())
    guard = Guard(optimizer, always(action))

    for m, o in ((model, optimizer), (twin, other)):
        fill_gradients(m, 1)
        o.step()

    assert guard.skipped == 0
    assert bit_hash(model, optimizer) == bit_hash(twin, other)


def test_a_rollback_restores_and_skips_the_step() -> None:
    model = network()
    optimizer = Adam(model.parameters())
    fill_gradients(model, 1)
    optimizer.step()
    pinned = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    at_pin = bit_hash(model, optimizer)
    fill_gradients(model, 2)
    optimizer.step()

    def restore(_: Mapping[str, float]) -> Verdict:
        model.load_state_dict(pinned[0])
        optimizer.load_state_dict(pinned[1])
        return Verdict(Action.ROLLBACK)

    Guard(optimizer, restore)
    fill_gradients(model, 3)
    optimizer.step()

    assert bit_hash(model, optimizer) == at_pin


def test_what_is_demanded_holds_whatever_the_judge_says(
    model: torch.nn.Module, optimizer: SGD
) -> None:
    demands = [Verdict(), Verdict(Action.SKIP)]
    guard = Guard(optimizer, always(Action.NONE), demanded=demands.pop)
    hashes = [bit_hash(model)]
    for seed in (1, 2):
        fill_gradients(model, seed)
        optimizer.step()
        hashes.append(bit_hash(model))

    assert guard.skipped == 1
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_run_cannot_skip_for_ever(model: torch.nn.Module, optimizer: SGD) -> None:
    guard = Guard(optimizer, always(Action.SKIP), skip_budget=3)
    fill_gradients(model, 1)
    for _ in range(3):
        optimizer.step()

    with pytest.raises(TrainingHalted, match="3 steps skipped in a row; last reason: because"):
        optimizer.step()

    assert guard.skipped == 3


def test_a_healthy_step_renews_the_skip_budget(model: torch.nn.Module, optimizer: SGD) -> None:
    guard = Guard(optimizer, skip_nonfinite, skip_budget=1)

    for poison in (math.nan, None, math.nan, None, math.nan):
        fill_gradients(model, 1, poison)
        optimizer.step()

    assert guard.skipped == 3


def test_an_error_in_the_judge_costs_nothing_but_the_judgement() -> None:
    def broken(_: Mapping[str, float]) -> Verdict:
        raise KeyError("rule")

    model, twin = network(), network()
    optimizer, other = Adam(model.parameters()), Adam(twin.parameters())
    guard = Guard(optimizer, broken)

    def both_step() -> None:
        for m, o in ((model, optimizer), (twin, other)):
            fill_gradients(m, seed=1)
            o.step()

    with pytest.warns(UserWarning, match="guard of Adam goes on after KeyError: 'rule'"):
        both_step()
    both_step()
    both_step()

    assert guard.errors == 3
    assert bit_hash(model, optimizer) == bit_hash(twin, other)


def test_an_error_in_the_users_closure_is_the_users(optimizer: SGD) -> None:
    guard = Guard(optimizer, skip_nonfinite)

    def closure() -> float:
        raise RuntimeError("out of data")

    with pytest.raises(RuntimeError, match="out of data"):
        optimizer.step(closure)

    assert guard.errors == 0


def test_gradients_of_a_step_that_raised_are_not_put_back_later(
    model: torch.nn.Module, optimizer: SGD
) -> None:
    Guard(optimizer, skip_nonfinite)

    def explode(*_: object) -> None:
        raise RuntimeError("another hook")

    late = optimizer.register_step_pre_hook(explode)
    fill_gradients(model, 1, math.nan)
    with pytest.raises(RuntimeError, match="another hook"):
        optimizer.step()
    late.remove()

    fill_gradients(model, 2)
    gradients = [parameter.grad for parameter in model.parameters()]
    optimizer.step()

    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))


def test_detaching_removes_every_hook(model: torch.nn.Module, optimizer: SGD) -> None:
    guard = Guard(optimizer, always(Action.HALT))

    guard.detach()
    guard.detach()
    fill_gradients(model, 1)
    optimizer.step()

    assert guard.steps == 0
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    Guard(optimizer, skip_nonfinite).detach()


def test_what_cannot_be_guarded_is_refused() -> None:
    with pytest.raises(GuardRefusedError, match=r"no torch\.optim\.Optimizer"):
        Guard(object(), skip_nonfinite)  # type: ignore[arg-type]


def test_a_newer_guard_takes_the_place_of_an_older_one_as_in_a_notebook() -> None:
    judges: list[str] = []
    optimizer = SGD(network().parameters(), lr=0.1)

    def judge_named(name: str) -> Callable[[Mapping[str, float]], Verdict]:
        return lambda _: judges.append(name) or Verdict()

    older = Guard(optimizer, judge_named("older"))
    Guard(optimizer, judge_named("newer"))
    older.detach()
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()

    assert judges == ["newer"]


def test_a_guard_keeps_no_optimizer_alive() -> None:
    optimizer = SGD(network().parameters(), lr=0.1)
    Guard(optimizer, skip_nonfinite)
    alive = weakref.ref(optimizer)

    del optimizer
    gc.collect()

    assert alive() is None


def test_an_optimizer_inside_a_wrapper_is_found(model: torch.nn.Module, optimizer: SGD) -> None:
    class Wrapper:
        def __init__(self, optimizer: Optimizer) -> None:
            self.optimizer = optimizer

    guard = Guard(Wrapper(optimizer), skip_nonfinite)  # type: ignore[arg-type]
    fill_gradients(model, 1, math.nan)

    optimizer.step()

    assert guard.skipped == 1


@pytest.fixture(name="globals_before")
def _globals_before() -> tuple[object, ...]:
    return torch.get_rng_state().clone(), torch.is_grad_enabled(), torch.get_default_dtype()


def test_a_guard_touches_no_rng_grad_mode_or_graph(globals_before: tuple[object, ...]) -> None:
    model = network()
    optimizer = Adam(model.parameters())
    Guard(optimizer, skip_nonfinite, slow_every=1)
    torch.set_rng_state(globals_before[0])  # type: ignore[arg-type]

    loss = model(torch.ones(1, 4)).square().sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()

    assert torch.equal(torch.get_rng_state(), globals_before[0])  # type: ignore[arg-type]
    assert torch.is_grad_enabled() is globals_before[1]
    assert torch.get_default_dtype() is globals_before[2]
    assert all(
        p.grad is not None and p.grad.grad_fn is g.grad_fn
        for p, g in zip(model.parameters(), gradients, strict=True)
    )
