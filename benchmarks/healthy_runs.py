"""Healthy trainings of many kinds, and the same ones with a fault, for `false_alarms.py`.

Reinforcement learning runs through Stable-Baselines3 and its callback; everything else is a
plain loop of torch with the six lines of the README. Each run goes through the real hook in
offline mode, and what is kept of it is the hook's spool.
"""

from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import stable_baselines3 as sb3
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn
from torch.nn import functional

import watchstep
from watchstep.integrations.sb3 import WatchstepCallback

STEPS = 600
"""Updates of a supervised run."""
UPDATES = 60
"""Updates of an on-policy run."""
HARDER = "harder_data"
"""No fault at all: data that become harder at once, which no loss can tell from one."""


@dataclass(frozen=True)
class Training:
    """One kind of training.

    Attributes:
        packs: The rules that its user would choose.
        fault: What is wrong with it; "" for a healthy run.
        make: Trains; takes the watch, a generator of the run's details, and the fault; returns
            the number of the first update that the fault can show in, 0 for a healthy run.
    """

    name: str
    packs: str
    make: Callable[[watchstep.Watch, random.Random, str], int]
    fault: str = ""


# Reinforcement learning


def _rl(watch: watchstep.Watch, draw: random.Random, fault: str, *, how: RL) -> int:
    assert not fault
    seed = draw.randrange(10_000)
    set_random_seed(seed)
    settings = {key: draw.choice(values) for key, values in how.settings.items()}
    env: Any = make_vec_env(how.env, n_envs=how.envs, seed=seed)
    if how.normalise:
        env = VecNormalize(env)
    policy = "MlpPolicy"
    algorithm = getattr(sb3, how.algorithm)
    model = algorithm(policy, env, seed=seed, device="cpu", **settings)
    if how.algorithm in {"PPO", "A2C"}:
        total = UPDATES * model.n_steps * how.envs
        if how.algorithm == "A2C":
            total *= 5
    else:
        total = 2_500
    hook = WatchstepCallback(watch, save_every=None)
    model.learn(total, callback=hook)
    return 0


@dataclass(frozen=True)
class RL:
    """One algorithm on one environment; each setting is drawn from its values."""

    algorithm: str
    env: str
    envs: int = 4
    normalise: bool = False
    settings: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


_PPO = {
    "n_steps": (64, 128),
    "batch_size": (64, 128),
    "n_epochs": (3, 6),
    "learning_rate": (1e-4, 3e-4, 1e-3),
    "gamma": (0.9, 0.99, 0.999),
    "gae_lambda": (0.9, 0.95, 1.0),
    "clip_range": (0.1, 0.2, 0.3),
    "ent_coef": (0.0, 0.01),
    "vf_coef": (0.5, 1.0),
}
_OFF = {"learning_starts": (200,), "train_freq": (1,), "learning_rate": (3e-4, 1e-3)}
_DQN = {**_OFF, "train_freq": (4,), "target_update_interval": (250,)}
_CLASSIC = (
    "CartPole-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "Pendulum-v1",
    "MountainCarContinuous-v0",
)
_TEXT = ("FrozenLake-v1", "CliffWalking-v1", "Taxi-v4")
_MUJOCO = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "InvertedPendulum-v5", "Reacher-v5")


def _rl_trainings() -> Iterator[Training]:
    rows = [RL("PPO", env, settings=_PPO) for env in (*_CLASSIC, *_TEXT)]
    rows += [RL("PPO", env, normalise=True, settings=_PPO) for env in _CLASSIC]
    rows += [RL("PPO", env, envs=1, settings=_PPO) for env in _CLASSIC[:2]]
    rows += [RL("A2C", env) for env in (*_CLASSIC, *_TEXT[:2])]
    rows += [RL("DQN", env, envs=1, settings=_DQN) for env in (*_CLASSIC[:3], *_TEXT[:3])]
    rows += [RL("SAC", env, envs=1, settings=_OFF) for env in _CLASSIC[3:]]
    rows += [RL("TD3", env, envs=1, settings=_OFF) for env in _CLASSIC[3:]]
    try:
        import mujoco as _  # noqa: F401
    except ImportError:
        pass
    else:
        rows += [RL("PPO", env, normalise=n, settings=_PPO) for env in _MUJOCO for n in (0, 1)]
        rows += [RL("SAC", env, envs=1, settings=_OFF) for env in _MUJOCO[:2]]
    for row in rows:
        env = row.env.split("-")[0].lower()
        tail = "_normalised" if row.normalise else "_single" if row.envs == 1 else ""
        yield Training(f"{row.algorithm.lower()}_{env}{tail}", "ppo", partial(_rl, how=row))


# Supervised training


@dataclass
class Loop:
    """The plain loop that all supervised kinds share.

    Attributes:
        batch: Makes the inputs and targets of a step.
        loss: Of the model on a batch.
        rate: Learning rate at a step.
        every: Steps between logged updates; the loss logged is the mean over them.
    """

    model: nn.Module
    batch: Callable[[int], Any]
    loss: Callable[[nn.Module, Any], torch.Tensor]
    optimizer: torch.optim.Optimizer
    rate: Callable[[int], float]
    clip: float | None = 1.0
    every: int = 1
    steps: int = STEPS
    evaluate: Callable[[nn.Module], float] | None = None
    scaler: Any = None
    extra: Callable[[int], dict[str, float]] = lambda _step: {}

    def run(self, watch: watchstep.Watch, draw: random.Random, fault: str) -> int:
        at = draw.randint(self.steps // 3, self.steps // 2) if fault else self.steps
        at = STEPS // 2 + 1 if fault == HARDER else at
        watch.guard(self.optimizer)
        losses: list[float] = []
        for step in range(self.steps):
            batch = self.batch(step)
            if step >= at:
                batch = self._spoil(fault, batch, first=step == at)
            rate = self.rate(step) * (self._factor(fault) if step >= at else 1.0)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss = self.loss(self.model, batch)
            norm = self._step(loss)
            losses.append(float(loss))
            if (step + 1) % self.every == 0:
                told = {"loss": sum(losses) / len(losses), "learning_rate": rate}
                told |= {"grad_norm": norm} | self.extra(step)
                if self.scaler is not None:
                    told["loss_scale"] = self.scaler.get_scale()
                if self.evaluate is not None and (step + 1) % 50 == 0:
                    told["eval_loss"] = self.evaluate(self.model)
                watch.log(told, step=step)
                losses = []
        return at // self.every + 1 if fault else 0

    def _step(self, loss: torch.Tensor) -> float:
        self.optimizer.zero_grad()
        if self.scaler is not None:
            self.scaler.scale(loss).backward()
            self.scaler.unscale_(self.optimizer)
        else:
            loss.backward()
        limit = math.inf if self.clip is None else self.clip
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        if self.scaler is not None:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        return norm

    @staticmethod
    def _factor(fault: str) -> float:
        return {"rate_x30": 30.0, "rate_x300": 300.0}.get(fault, 1.0)

    def _spoil(self, fault: str, batch: Any, *, first: bool) -> Any:
        """The fault itself, at its first step or at each."""
        if fault == "nan_input" and first and batch[0].is_floating_point():
            batch[0].view(-1)[0] = math.nan
        if fault == "scaled_input" and batch[0].is_floating_point():
            return (batch[0] * 100.0, *batch[1:])
        if fault == "wrong_labels":
            return (batch[0], batch[1][torch.randperm(len(batch[1]))], *batch[2:])
        if fault == "weights_lost" and first:
            for layer in self.model.modules():
                if hasattr(layer, "reset_parameters"):
                    layer.reset_parameters()
        if fault == "weights_blown" and first:
            with torch.no_grad():
                for parameter in self.model.parameters():
                    parameter.mul_(30.0)
        if fault == "weight_nan" and first:
            with torch.no_grad():
                next(self.model.parameters()).view(-1)[0] = math.nan
        return batch


def _constant(rate: float) -> Callable[[int], float]:
    return lambda _step: rate


def _warm_cosine(peak: float) -> Callable[[int], float]:
    def rate(step: int) -> float:
        if step < 50:
            return peak * (step + 1) / 50
        return peak * (0.05 + 0.475 * (1 + math.cos(math.pi * (step - 50) / (STEPS - 50))))

    return rate


def _restarts(peak: float) -> Callable[[int], float]:
    return lambda step: peak * (0.02 + 0.49 * (1 + math.cos(math.pi * (step % 150) / 150)))


def _regression(draw: random.Random, *, noise: float = 0.1, harder: bool = False) -> Loop:
    model = nn.Sequential(
        nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
    )
    size = draw.choice((16, 32, 128))

    def batch(step: int) -> Any:
        inputs = torch.randn(size, 8) * (2.0 if harder and step > STEPS // 2 else 1.0)
        targets = torch.sin(inputs.sum(1, keepdim=True)) + noise * torch.randn(size, 1)
        return inputs, targets

    optimizer = torch.optim.Adam(model.parameters())
    rate = _constant(draw.choice((3e-4, 1e-3, 3e-3)))
    every = draw.choice((1, 1, 5))
    return Loop(
        model, batch, lambda m, b: functional.mse_loss(m(b[0]), b[1]), optimizer, rate, every=every
    )


def _classes(draw: random.Random, *, repeat: bool = False, sgd: bool = False) -> Loop:
    model = nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 10))
    centres, size = torch.randn(10, 20) * 1.5, draw.choice((8, 32, 128))
    whole = torch.randint(0, 10, (256,))
    points = centres[whole] + torch.randn(256, 20)

    def batch(_step: int) -> Any:
        if repeat:
            at = torch.randint(0, 256, (size,))
            return points[at], whole[at]
        labels = torch.randint(0, 10, (size,))
        return centres[labels] + torch.randn(size, 20), labels

    held = torch.randint(0, 10, (512,))
    held_points = centres[held] + torch.randn(512, 20)

    def evaluate(model: nn.Module) -> float:
        with torch.no_grad():
            return float(functional.cross_entropy(model(held_points), held))

    rate = draw.choice((0.01, 0.03)) if sgd else draw.choice((1e-3, 3e-3))
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(model.parameters(), momentum=0.9)
        if sgd
        else torch.optim.AdamW(model.parameters())
    )
    return Loop(
        model, batch, lambda m, b: functional.cross_entropy(m(b[0]), b[1]), optimizer,
        _constant(rate), evaluate=evaluate, clip=draw.choice((None, 1.0)),
    )  # fmt: skip


class _Text(nn.Module):
    """A decoder of two layers, or an LSTM, over 32 symbols."""

    def __init__(self, *, recurrent: bool) -> None:
        super().__init__()
        self.symbols, self.places = nn.Embedding(32, 48), nn.Embedding(32, 48)
        layer = nn.TransformerEncoderLayer(
            48, 4, 96, dropout=0.0, batch_first=True, norm_first=True
        )
        self.body: nn.Module = (
            nn.LSTM(48, 48, 2, batch_first=True) if recurrent
            else nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        )  # fmt: skip
        self.recurrent, self.head = recurrent, nn.Linear(48, 32)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.symbols(tokens) + self.places(torch.arange(tokens.shape[1]))
        if self.recurrent:
            return self.head(self.body(hidden)[0])
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.head(self.body(hidden, mask=mask, is_causal=True))


def _text(draw: random.Random, *, recurrent: bool = False, rate: Any = None, amp: str = "") -> Loop:
    model = _Text(recurrent=recurrent)
    chain = torch.softmax(torch.randn(32, 32) * 2.0, -1)
    size = draw.choice((4, 16))

    def batch(_step: int) -> Any:
        rows = [torch.randint(0, 32, (size,))]
        for _ in range(24):
            rows.append(torch.multinomial(chain[rows[-1]], 1).squeeze(1))
        tokens = torch.stack(rows, 1)
        return tokens[:, :-1], tokens[:, 1:]

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        mixed = torch.autocast(
            "cpu", torch.bfloat16 if amp == "bf16" else torch.float16, enabled=bool(amp)
        )
        with mixed:
            logits = model(batch[0])
        return functional.cross_entropy(logits.float().flatten(0, 1), batch[1].flatten())

    peak = draw.choice((3e-4, 1e-3, 3e-3))
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, draw.choice((0.95, 0.999))))
    scaler = (
        torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=50)
        if amp == "fp16"
        else None
    )
    every = draw.choice((1, 1, 10))
    return Loop(
        model, batch, loss, optimizer, (rate or _warm_cosine)(peak), every=every, scaler=scaler,
        steps=STEPS // 2 if recurrent or amp else STEPS,
    )  # fmt: skip


def _vae(draw: random.Random) -> Loop:
    model = nn.ModuleDict({"in": nn.Linear(16, 16), "out": nn.Linear(8, 16)})
    weight, place = torch.randn(3, 16), [0]

    def batch(step: int) -> Any:
        place[0] = step
        return (torch.tanh(torch.randn(64, 3) @ weight), torch.zeros(64))

    def loss(model: Any, batch: Any) -> torch.Tensor:
        mean, log_var = model["in"](batch[0]).chunk(2, -1)
        code = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
        divergence = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(-1).mean()
        beta = min(1.0, place[0] / (STEPS * draw_beta))
        return (model["out"](code) - batch[0]).pow(2).sum(-1).mean() + beta * divergence

    draw_beta = draw.choice((0.2, 0.5, 1.0))
    optimizer = torch.optim.Adam(model.parameters())
    return Loop(model, batch, loss, optimizer, _constant(draw.choice((1e-3, 3e-3))), clip=None)


def _contrast(draw: random.Random) -> Loop:
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16))
    size = draw.choice((32, 128))

    def batch(_step: int) -> Any:
        base = torch.randn(size, 16)
        return base + 0.3 * torch.randn(size, 16), base + 0.3 * torch.randn(size, 16)

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        one, two = (functional.normalize(model(part), dim=-1) for part in batch)
        return functional.cross_entropy(one @ two.T / 0.1, torch.arange(size))

    optimizer = torch.optim.Adam(model.parameters())
    return Loop(model, batch, loss, optimizer, _constant(1e-3), clip=None)


def _supervised(build: Callable[[random.Random], Loop]) -> Callable[..., int]:
    def make(watch: watchstep.Watch, draw: random.Random, fault: str) -> int:
        torch.manual_seed(draw.randrange(10_000))
        return build(draw).run(watch, draw, fault)

    return make


def _gan(watch: watchstep.Watch, draw: random.Random, fault: str) -> int:
    """Two losses that chase each other, logged beside their sum."""
    assert not fault
    torch.manual_seed(draw.randrange(10_000))
    maker = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    first = torch.optim.Adam(maker.parameters(), 1e-3, betas=(0.5, 0.9))
    second = torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.5, 0.9))
    both = functional.binary_cross_entropy_with_logits
    for step in range(STEPS):
        angle = torch.rand(64, 1) * 2 * math.pi
        real = torch.cat([angle.cos(), angle.sin()], 1)
        fake = maker(torch.randn(64, 4))
        loss_d = both(critic(real), torch.ones(64, 1)) + both(
            critic(fake.detach()), torch.zeros(64, 1)
        )
        second.zero_grad()
        loss_d.backward()
        second.step()
        loss_g = both(critic(fake), torch.ones(64, 1))
        first.zero_grad()
        loss_g.backward()
        first.step()
        told = {"loss_g": loss_g, "loss_d": loss_d, "loss": loss_g + loss_d}
        watch.log({name: float(value) for name, value in told.items()}, step=step)
    return 0


def _grpo(watch: watchstep.Watch, draw: random.Random, fault: str) -> int:
    """Group-relative policy optimisation of a token-level softmax policy, TRL's names."""
    torch.manual_seed(draw.randrange(10_000))
    group, prompts, length = draw.choice((4, 8, 16)), 8, 12
    policy = nn.Sequential(nn.Embedding(64, 32), nn.Linear(32, 64))
    reference = nn.Sequential(nn.Embedding(64, 32), nn.Linear(32, 64))
    reference.load_state_dict(policy.state_dict())
    base = draw.choice((3e-3, 1e-2))
    optimizer = torch.optim.AdamW(policy.parameters())
    watch.guard(optimizer)
    wanted = torch.randint(0, 64, (prompts,))
    at = draw.randint(60, 100)
    for step in range(200):
        rate = base * (100.0 if fault == "rate_x100" and step >= at else 1.0)
        for each in optimizer.param_groups:
            each["lr"] = rate
        tokens = [torch.arange(prompts).repeat_interleave(group)]
        with torch.no_grad():
            for _ in range(length):
                tokens.append(
                    torch.multinomial(torch.softmax(policy(tokens[-1]), -1), 1).squeeze(1)
                )
        row = torch.stack(tokens, 1)
        rewards = (row[:, 1:] % 8 == (wanted % 8).repeat_interleave(group)[:, None]).float().mean(1)
        if fault == "reward_constant" and step >= at:
            rewards = torch.zeros_like(rewards)
        if fault == "reward_nan" and step == at:
            rewards[0] = math.nan
        grouped = rewards.view(prompts, group)
        std = grouped.std(1, keepdim=True)
        advantages = ((grouped - grouped.mean(1, keepdim=True)) / (std + 1e-4)).flatten()
        logs = torch.log_softmax(policy(row[:, :-1]), -1)
        chosen = logs.gather(2, row[:, 1:, None]).squeeze(2)
        ratio = torch.exp(chosen - chosen.detach())
        with torch.no_grad():
            known = (
                torch.log_softmax(reference(row[:, :-1]), -1).gather(2, row[:, 1:, None]).squeeze(2)
            )
        kl = torch.exp(known - chosen) - (known - chosen) - 1
        loss = (-ratio * advantages[:, None] + 0.04 * kl).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        entropy = -(logs.exp() * logs).sum(-1).mean()
        told = {
            "loss": loss, "grad_norm": norm, "learning_rate": rate, "reward": rewards.mean(),
            "reward_std": std.mean(), "frac_reward_zero_std": (std < 1e-8).float().mean(),
            "kl": kl.mean(), "entropy": entropy, "clip_ratio/region_mean": 0.0,
            "completions/mean_length": float(length),
        }  # fmt: skip
        watch.log({name: float(value) for name, value in told.items()}, step=step)
    return at + 1 if fault else 0


_KINDS: Mapping[str, Callable[[random.Random], Loop]] = {
    "regression": _regression,
    "regression_noisy": partial(_regression, noise=1.0),
    "classes": _classes,
    "classes_sgd": partial(_classes, sgd=True),
    "text": _text,
    "text_lstm": partial(_text, recurrent=True),
}
_HEALTHY_ONLY: Mapping[str, Callable[[random.Random], Loop]] = {
    "classes_memorised": partial(_classes, repeat=True),
    "text_restarts": partial(_text, rate=_restarts),
    "text_bf16": partial(_text, amp="bf16"),
    "text_fp16": partial(_text, amp="fp16"),
    "vae": _vae,
    "contrast": _contrast,
}
_FAULTS = ("rate_x30", "rate_x300", "nan_input", "scaled_input", "wrong_labels", "weights_lost")
_FAULTS_WEIGHTS = ("weights_blown", "weight_nan")


def trainings() -> Iterator[Training]:
    """Every kind, healthy first."""
    yield from _rl_trainings()
    for name, build in {**_KINDS, **_HEALTHY_ONLY}.items():
        yield Training(name, "pretrain", _supervised(build))
    yield Training("gan", "pretrain", _gan)
    yield Training("grpo", "grpo", _grpo)
    for name, build in _KINDS.items():
        for fault in (*_FAULTS, *_FAULTS_WEIGHTS):
            if name.startswith("text") and fault in {"nan_input", "scaled_input"}:
                continue  # symbols are no numbers
            yield Training(f"{name}-{fault}", "pretrain", _supervised(build), fault)
    harder = _supervised(partial(_regression, harder=True))
    yield Training("regression_harder", "pretrain", harder, HARDER)
    for fault in ("rate_x100", "reward_constant", "reward_nan"):
        yield Training(f"grpo-{fault}", "grpo", _grpo, fault)


def make(folder: Path, seeds: range, only: str = "") -> Iterator[tuple[Training, int, Path]]:
    """Every run, made where the folder does not hold it yet."""
    for seed in seeds:
        for training in trainings():
            here = folder / f"{training.name}-{seed}"
            if only and only not in training.name:
                continue
            if not (here / "truth.json").exists():
                _make_one(training, seed, here)
            yield training, seed, here


def _make_one(training: Training, seed: int, here: Path) -> None:
    torch.set_num_threads(1)  # on few cores waiting threads cost more than they save
    draw = random.Random(f"{training.name}-{seed}")
    truth: dict[str, Any] = {"fault": training.fault}
    watch = watchstep.init(run="kind", directory=here, mode="offline", capture_text=False)
    with warnings.catch_warnings(), watch:
        warnings.simplefilter("ignore")
        truth["at"] = training.make(watch, draw, training.fault)
    (here / "truth.json").write_text(json.dumps(truth))
