"""PPO of Stable-Baselines3 through watchstep's own callback, standardising as it should not.

Only here the log has what watchstep's callback reads inside the trainer: advantages before and
after they are standardised, and gradient norms before they are clipped.
"""

from __future__ import annotations

import functools
import tempfile
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import explained_variance

import watchstep
from benchmarks.judgement.cases import Case, Recording, Trainer
from benchmarks.judgement.trainers.sb3 import LONG, EveryUpdates, Saboteur, Worlds, learnt
from benchmarks.judgement.trainers.worlds import VARIANTS, World
from watchstep.demo.agent import DriftingPPO
from watchstep.integrations.sb3 import WatchstepCallback

COPIES, UPDATES = 8, 40
WAYS = ("previous", "running", "worker", "uncentred", "brackets", "leave_one_out")
"""Ways of standardising by other values than the batch's own; each is a fault."""


class FaultyPPO(DriftingPPO):
    """PPO whose way of standardising is a choice; "own" is Stable-Baselines3's.

    Attributes:
        smallest_std: Of all rollouts' raw advantages so far.
        largest: Magnitude of the largest standardised advantage so far, NaN left out.

    The advantages of a rollout have the shape (steps, workers) before its first batch is drawn.
    """

    standardise = "own"
    momentum = 0.8
    smallest_std = float("inf")
    largest = 0.0

    def _setup_model(self) -> None:
        super()._setup_model()
        self.kept_mean, self.kept_std = 0.0, 1.0

    def train(self) -> None:
        buffer = self.rollout_buffer
        self.rollout = float(buffer.advantages.mean()), float(buffer.advantages.std())
        self.smallest_std = min(self.smallest_std, self.rollout[1])
        self._study(buffer)
        fit = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        self.logger.record("train/explained_variance", float(fit))
        super().train()

    def _study(self, buffer: Any) -> None:
        """Take the statistics of only some of the values, where that is the fault."""
        chosen = None
        if self.standardise == "worker":
            chosen = buffer.advantages[:, 0]
        elif self.standardise == "masked":
            chosen = buffer.advantages[buffer.rewards == 0.0]
        if chosen is not None and chosen.size > 1:
            self.kept_mean, self.kept_std = float(chosen.mean()), float(chosen.std())

    def _follow_deviation(self) -> None:
        mean, std = self.rollout
        if self.standardise == "previous":
            self.kept_mean, self.kept_std = mean, std
        elif self.standardise == "running":
            kept = self.momentum
            self.kept_std = kept * self.kept_std + (1 - kept) * std

    def _standardised(self, raw: torch.Tensor) -> torch.Tensor:
        own_mean, own_std, kept = raw.mean(), raw.std(), self.kept_std + 1e-8
        ways = {
            "own": lambda: (raw - own_mean) / (own_std + 1e-8),
            "worker": lambda: (raw - self.kept_mean) / kept,
            "masked": lambda: (raw - self.kept_mean) / kept,
            "previous": lambda: (raw - self.kept_mean) / kept,
            "running": lambda: (raw - own_mean) / kept,
            "uncentred": lambda: raw / (own_std + 1e-8),
            "brackets": lambda: raw - own_mean / (own_std + 1e-8),
            "leave_one_out": lambda: _leave_one_out(raw),
            # The "vulnerable" version: no epsilon from 1e-8 on, a floor below.
            "seed_document": lambda: (raw - own_mean) / max(float(own_std), 1e-8),
        }
        advantages = ways[self.standardise]()
        self.largest = max(self.largest, float(advantages.abs().max()))
        return advantages


def _leave_one_out(raw: torch.Tensor) -> torch.Tensor:
    """Each value by the mean and deviation of all the others."""
    count = raw.numel()
    mean = (raw.sum() - raw) / (count - 1)
    square = ((raw**2).sum() - raw**2) / (count - 1)
    return (raw - mean) / ((square - mean**2).clamp(min=0).sqrt() + 1e-8)


def _watched(recording: Recording, folder: str) -> watchstep.Watch:
    """A watch that judges nothing and says nothing, and gives what it is told to the recording."""
    watch = watchstep.init(
        run="bench", directory=folder, mode="offline", on_critical="alert", capture_text=False
    )
    original = watch.log

    def log(metrics: Any = None, step: Any = None, **more: Any) -> Any:
        numbers = {
            name: float(value)
            for name, value in (metrics or {}).items()
            if isinstance(value, int | float | np.floating) and name != "time/fps"
        }
        recording.log(int(step or 0), numbers)
        return original(metrics, step, **more)

    watch.log = log  # type: ignore[method-assign]
    return watch


class Standardising(Saboteur):
    """Also chooses the way of standardising, from the fault's first update on."""

    def _coefficients(self, model: Any, update: int) -> None:
        super()._coefficients(model, update)
        for way in WAYS:
            if self.fault.on(f"statistics_{way}", update):
                model.standardise = way


def _train(case: Case) -> Recording:
    torch.manual_seed(case.number)
    draw, recording = case.draw(), Recording()
    continuous = draw.random() < 0.5
    updates = 20 if case.variant == "short" else UPDATES
    world = World(case, COPIES, continuous=continuous)
    world.total = updates
    rate = draw.choice((1e-3, 3e-3))
    model = FaultyPPO(
        "MlpPolicy",
        Worlds(world),
        learning_rate=(lambda left: rate * left) if case.variant == "decay" else rate,
        gamma=draw.choice((0.9, 0.95)),
        n_steps=32,
        batch_size=128,
        n_epochs=2,
        seed=case.number,
        device="cpu",
        policy_kwargs={"net_arch": [32, 32]},
    )
    model.set_logger(Logger(None, []))
    model.ep_info_buffer = deque(maxlen=40)

    with tempfile.TemporaryDirectory() as folder, _watched(recording, folder) as watch:
        callbacks = [
            Standardising(case.fault, recording, world, rate),
            WatchstepCallback(watch, save_every=None),
            EveryUpdates(recording, updates),
        ]
        learn = functools.partial(model.learn, LONG, callback=callbacks)
        return learnt(model, learn, recording, world)


_METRICS: Mapping[str, tuple[str, ...]] = {
    "rate": ("train/learning_rate",),
    "loss": ("train/loss",),
    "grad": ("train/grad_norm", "guard/grad_norm"),
    "value": ("train/value_loss", "train/explained_variance"),
    "policy": (
        "train/policy_gradient_loss",
        "train/policy_loss",
        "train/clip_fraction",
        "train/advantages_norm_max_abs",
        "train/advantages_norm_mean",
        "train/advantages_norm_std",
        "train/advantages_std_raw",
        "train/advantages_mean_raw",
    ),
    "entropy": ("train/entropy_loss",),
    "spread": ("train/std",),
    "kl": ("train/approx_kl",),
    "reward": ("rollout/ep_rew_mean",),
}
TRAINERS = (
    Trainer(
        "sb3_ppo_hook",
        "PPO",
        "on_policy",
        _train,
        _METRICS,
        (
            *(f"statistics_{way}" for way in WAYS),
            "rate_100x",
            "rate_high",
            "nan_batch",
            "reward_scale",
            "reward_zero",
            "input_scale",
            "entropy_runaway",
            "entropy_negative",
            "value_coefficient",
            "bit_flip",
            "slow_growth",
            "resume_weights",
        ),
        VARIANTS,
        UPDATES,
    ),
)
