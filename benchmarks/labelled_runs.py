"""Labelled runs: real trainings with a known fault, kept in a cache folder.

Everything goes through the real hook in offline mode; what is kept of a run is the hook's
spool and `truth.json`. A folder that has its truth is not made again, so a run of the
benchmark that was cut off goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import json
import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from faults import N_STEPS, FaultyPPO, Saboteur, World, environments
from stable_baselines3.common.utils import set_random_seed
from torch import nn

import watchstep
from watchstep.integrations.sb3 import WatchstepCallback

UPDATES = 32
FROZEN = 1e-3
"""A run is frozen if its parameters move less than this part of what they moved before."""


@dataclass(frozen=True)
class Case:
    """One fault; details such as its moment and strength are drawn from the seed.

    Attributes:
        causes: Slugs that are true of such a run; empty for none that has a name.
        sizes: Strengths to draw from, each as likely.
        early: Whether the fault is there from update 1 on.
    """

    name: str
    causes: tuple[str, ...] = ()
    kind: str = ""
    envs: tuple[str, ...] = ("cartpole", "pendulum", "market")
    standardise: str = "own"
    world: str = ""
    model: str = ""
    sizes: tuple[float, ...] = (1.0,)
    early: bool = False
    trainer: str = "ppo"
    settings: dict[str, Any] = field(default_factory=dict)


SAMPLE = "wrong-sample-normalisation"
INPUT = "nonfinite-input"
CASES = (
    Case("healthy"),
    Case("healthy_fast", settings={"learning_rate": 1e-3}),
    Case("healthy_sparse", envs=("sparse_market",)),
    Case("healthy_unclipped", settings={"max_grad_norm": 1e9}),
    Case(
        "near_optimal",
        ("near-optimal-low-entropy",),
        envs=("easy_market",),
        settings={"learning_rate": 5e-3},
    ),
    Case(
        "constant_reward",
        ("deterministic-environment",),
        world="constant_reward",
        envs=("market",),
        sizes=(1.0, 2.0, 5.0),
        early=True,
        settings={"learning_rate": 3e-3},
    ),
    Case(
        "below_resolution",
        ("deterministic-environment", "noise-below-resolution"),
        world="constant_reward",
        envs=("market",),
        sizes=(1e3, 1e4),
        early=True,
        settings={"gamma": 0.0, "gae_lambda": 0.0},
    ),
    Case("no_trade_turned", ("no-trade",), world="reward_zero", envs=("market", "pendulum")),
    Case("no_trade", ("no-trade",), world="reward_zero", envs=("market", "pendulum"), early=True),
    Case("regime", ("regime-change",), world="regime", sizes=(4.0, 8.0, 15.0)),
    Case(
        "previous",
        (SAMPLE,),
        "stale-or-running",
        standardise="previous",
        world="regime",
        sizes=(0.1, 20.0),
    ),
    Case(
        "running",
        (SAMPLE,),
        "stale-or-running",
        standardise="running",
        settings={"learning_rate": 1e-3},
    ),
    Case("worker", (SAMPLE,), "subset", standardise="worker", world="quiet_worker", early=True),
    Case("masked", (SAMPLE,), "subset", standardise="masked", envs=("sparse_market",), early=True),
    Case("uncentred", (SAMPLE,), "not-centred", standardise="uncentred", early=True),
    Case("brackets", (SAMPLE,), "not-divided", standardise="brackets", early=True),
    Case(
        "leave_one_out",
        (SAMPLE,),
        "leave-one-out",
        standardise="leave_one_out",
        envs=("sparse_market", "market"),
        world="reward_spike",
        sizes=(1e3, 1e5),
    ),
    Case("rate_leap", ("learning-rate",), model="rate", sizes=(0.1, 0.3, 1.0)),
    Case("rate_high", ("learning-rate",), sizes=(0.05, 0.3, 3.0), early=True, model="rate"),
    Case("reward_scale", ("reward-scale",), world="reward_scale", sizes=(1e3, 1e5, 1e20)),
    Case("reward_spike", ("reward-scale",), world="reward_spike", sizes=(1e5, 1e7)),
    Case(
        "reward_spike_unclipped",
        ("reward-scale",),
        world="reward_spike",
        sizes=(1e7, 1e10),
        settings={"max_grad_norm": 1e12},
    ),
    Case("obs_nan", (INPUT,), world="obs_nan"),
    Case("reward_nan", (INPUT,), world="reward_nan"),
    Case("reward_inf", (INPUT,), world="reward_inf"),
    Case("parameter_nan", ("corrupted-parameters",), model="parameter", sizes=(float("nan"),)),
    Case("parameter_flip", ("corrupted-parameters",), model="parameter", sizes=(1e8, 1e20)),
    Case("value_noise", ("value-collapse",), model="value_noise", sizes=(5.0, 50.0)),
    Case(
        "value_untrained",
        ("value-collapse",),
        early=True,
        envs=("cartpole", "pendulum"),
        settings={"vf_coef": 0.0},
    ),
    Case(
        "one_action",
        ("policy-collapse",),
        model="one_action",
        sizes=(8.0, 15.0),
        envs=("cartpole", "market"),
    ),
    Case("stuck_sensor", ("value-collapse",), world="stuck_sensor"),
    Case("crash", ("silent-death",), world="crash"),
    Case("killed", ("silent-death",)),
    Case("loss_scale", ("loss-scale-overflow",), trainer="fp16"),
    Case("hidden", ("hidden-nan", INPUT), trainer="hiding"),
)


def make(folder: Path, seeds: range) -> Iterator[tuple[Case, int, Path]]:
    """Every run of every case, made where the folder does not hold it yet."""
    for seed in seeds:
        for case in CASES:
            here = folder / f"{case.name}-{seed}"
            if not (here / "truth.json").exists():
                _make_one(case, seed, here)
            yield case, seed, here


def _make_one(case: Case, seed: int, here: Path) -> None:
    draw = random.Random(f"{case.name}-{seed}")
    size, env = draw.choice(case.sizes), draw.choice(case.envs)
    at = 1 if case.early else draw.randint(13, 22)
    set_random_seed(seed)
    trainer = {"ppo": _train_ppo, "fp16": _train_fp16, "hiding": _train_hiding}[case.trainer]
    moves: list[float] = []
    watch = watchstep.init(run="labelled", directory=here, mode="offline", capture_text=False)
    try:
        with warnings.catch_warnings(), contextlib.suppress(Exception), watch:
            warnings.simplefilter("ignore")
            trainer(case, watch, {"at": at, "size": size, "env": env, "seed": seed}, moves)
    finally:
        truth = {"at": at, "size": str(size), "env": env, "frozen": frozen(moves, at)}
        (here / "truth.json").write_text(json.dumps(truth))


def frozen(moves: list[float], at: int) -> bool:
    """Whether the parameters stood still at the end of a run that moved before the fault."""
    before = [move for move in moves[: at - 1] if move == move]
    last = moves[-3:]
    if len(before) < 3 or len(moves) < at + 4:
        return False
    return all(move < FROZEN * median(before) for move in last)


def _train_ppo(case: Case, watch: Any, how: dict[str, Any], moves: list[float]) -> None:
    world = World(case.world, how["at"], how["size"])
    saboteur = Saboteur(world, case.model, how["at"], how["size"], moves)
    made = environments(how["env"], world, how["seed"])
    settings = {"n_steps": N_STEPS, "batch_size": 64, "n_epochs": 3, "gamma": 0.95, **case.settings}
    model = FaultyPPO("MlpPolicy", made, seed=how["seed"], device="cpu", **settings)
    model.standardise = case.standardise
    hook = WatchstepCallback(watch, save_every=None)
    model.learn(made.num_envs * N_STEPS * UPDATES, callback=[saboteur, hook])


def _regression(seed: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
    inputs = torch.randn(UPDATES, 64, 8)
    return model, inputs, inputs.sum(-1, keepdim=True)


def _norm(model: nn.Module) -> torch.Tensor:
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    return torch.linalg.vector_norm(torch.cat([each.flatten() for each in gradients]))


def _train_fp16(case: Case, watch: Any, how: dict[str, Any], moves: list[float]) -> None:
    """A loop with fp16 gradients and a dynamic loss scale that grows until it overflows."""
    del case, moves
    model, inputs, targets = _regression(how["seed"])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scale, logs_scale = 2.0 ** (12 + how["seed"] % 4), how["seed"] % 3 != 0
    for update, (batch, target) in enumerate(zip(inputs, targets, strict=True)):
        loss = torch.nn.functional.mse_loss(model(batch), target)
        optimizer.zero_grad()
        (loss * scale).backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad = parameter.grad.half().float() / scale
        norm = float(_norm(model))
        told = {"train/loss": float(loss), "train/grad_norm": norm, "train/learning_rate": 1e-3}
        watch.log(told | ({"train/loss_scale": scale} if logs_scale else {}), step=update)
        if norm < float("inf"):
            optimizer.step()
            scale *= 2.0 if update % 4 == 3 else 1.0
        else:
            scale /= 2.0


def _train_hiding(case: Case, watch: Any, how: dict[str, Any], moves: list[float]) -> None:
    """A loop whose log shows no NaN: it prints 0, or leaves the loss out."""
    del case, moves
    model, inputs, targets = _regression(how["seed"])
    inputs[how["at"] - 1, 3] = float("nan")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for update, (batch, target) in enumerate(zip(inputs, targets, strict=True)):
        loss = torch.nn.functional.mse_loss(model(batch), target)
        optimizer.zero_grad()
        loss.backward()
        told = {"train/learning_rate": 1e-3}
        shown = float(loss)
        if shown == shown or how["seed"] % 2:
            told["train/loss"] = shown if shown == shown else 0.0
        if how["seed"] % 2:
            told["train/grad_norm"] = float(_norm(model))
        watch.log(told, step=update)
        optimizer.step()
