"""Stable-Baselines3's own algorithms; what is kept is what its logger writes out."""

from __future__ import annotations

import copy
import functools
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from benchmarks.judgement.cases import Case, Fault, Recording, Trainer
from benchmarks.judgement.trainers.cleanrl import DISCRETE_ONLY, SHARED
from benchmarks.judgement.trainers.sabotage import detach_trunk, forget, meddle, rate_factor
from benchmarks.judgement.trainers.worlds import HORIZON, SIGNALS, VARIANTS, World, quality

COPIES = 8
ON_POLICY_UPDATES, OFF_POLICY_UPDATES = 60, 80
LONG = 10**7
"""Steps of a training that ends by its updates."""
NEVER = (
    "time/iterations",
    "time/total_timesteps",
    "time/time_elapsed",
    "time/episodes",
    "train/n_updates",
)
"""Counters."""
CLASSIC = {
    "PPO": ("CartPole-v1", "Acrobot-v1", "Pendulum-v1", "FrozenLake-v1", "MountainCar-v0"),
    "A2C": ("CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "MountainCarContinuous-v0"),
    "DQN": ("CartPole-v1", "Acrobot-v1", "FrozenLake-v1"),
    "SAC": ("Pendulum-v1", "MountainCarContinuous-v0"),
    "TD3": ("Pendulum-v1", "MountainCarContinuous-v0"),
}
"""Gymnasium's own games, of which some pay for the first time after thousands of steps."""


class Worlds(VecEnv):
    """A world as SB3 wants it."""

    def __init__(self, world: World) -> None:
        spaces = gym.spaces
        self.world = world
        actions: Any = spaces.Box(-1.0, 1.0, (1,)) if world.continuous else spaces.Discrete(2)
        super().__init__(COPIES, spaces.Box(-np.inf, np.inf, (SIGNALS,)), actions)

    def reset(self) -> np.ndarray:
        return self.world.observe()

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        seen, rewards, ends = self.world.step(self.actions)
        infos: list[dict[str, Any]] = [{} for _ in range(COPIES)]
        returns, self.world.episodes.returns = self.world.episodes.returns, []
        for number, total in zip(np.flatnonzero(ends), returns, strict=True):
            infos[number] = {
                "episode": {"r": total, "l": HORIZON, "t": 0.0},
                "terminal_observation": seen[number],
                "TimeLimit.truncated": False,
            }
        return seen, rewards, ends, infos

    def close(self) -> None: ...

    def get_attr(self, *_: Any, **__: Any) -> list[Any]:
        return [None] * COPIES

    def set_attr(self, *_: Any, **__: Any) -> None: ...

    def env_method(self, *_: Any, **__: Any) -> list[Any]:
        return [None] * COPIES

    def env_is_wrapped(self, *_: Any, **__: Any) -> list[bool]:
        # So that SB3 adds no Monitor: the episodes' returns are in the infos already.
        return [True] * COPIES


class Into(KVWriter):
    """Keeps what the logger writes, without the clocks of a shared machine."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    def write(self, values: dict[str, Any], _excluded: Any, step: int = 0) -> None:
        metrics = {
            name: value
            for name, value in values.items()
            if name not in NEVER and name != "time/fps" and isinstance(value, int | float)
        }
        if any(name.startswith("train/") for name in metrics):
            self.recording.log(step, metrics)

    def close(self) -> None: ...


class Saboteur(BaseCallback):
    """Keeps the world's clock, and breaks what the fault says between two updates."""

    def __init__(self, fault: Fault, recording: Recording, world: World, base: float) -> None:
        super().__init__()
        self.fault, self.recording, self.world, self.base = fault, recording, world, base
        self.prepared, self.forgot = False, False

    def _on_step(self) -> bool:
        self._begin()
        return True

    def _on_rollout_start(self) -> None:
        self._begin()

    def _begin(self) -> None:
        update = self.recording.next
        model: Any = self.model
        if update == self.world.update and self.prepared:
            return
        self.prepared, self.world.update = True, update
        fault = self.fault
        if fault.name in {"rate_10x", "rate_100x", "rate_high", "rate_zero", "resume_rate"}:
            factor = rate_factor(fault, update)
            model.lr_schedule = lambda _progress: self.base * factor
        if fault.on("discount", update):
            model.gamma = fault.size
            if hasattr(model, "rollout_buffer"):
                model.rollout_buffer.gamma = fault.size
        self._coefficients(model, update)
        for network in _networks(model):
            meddle(network, fault, update)
        if fault.name in {"resume_weights", "resume_rate"} and update >= fault.at:
            self.recording.attempt = 2
            if fault.name == "resume_weights" and not self.forgot:
                self.forgot = True
                for network in _networks(model):
                    forget(network)

    def _coefficients(self, model: Any, update: int) -> None:
        fault = self.fault
        if fault.on("value_coefficient", update):
            model.vf_coef = fault.size
        if fault.on("entropy_runaway", update):
            if hasattr(model, "target_entropy"):
                model.target_entropy = 5.0
            else:
                model.ent_coef = fault.size
        if fault.on("entropy_negative", update):
            if hasattr(model, "target_entropy"):
                model.target_entropy = -20.0
            else:
                model.ent_coef = -fault.size
        if fault.on("target_live", update):
            model.tau = 1.0
        if fault.on("target_never", update):
            model.tau = 0.0


def _networks(model: Any) -> list[nn.Module]:
    policy = model.policy
    parts = [getattr(policy, name, None) for name in ("actor", "critic", "q_net")]
    return [part for part in parts if part is not None] or [policy]


def _optimizers(model: Any) -> list[torch.optim.Optimizer]:
    owners = [model.policy, *_networks(model)]
    return [owner.optimizer for owner in owners if getattr(owner, "optimizer", None) is not None]


def _prepare(model: Any, fault: Fault) -> None:
    if fault.name == "other_model":
        for optimizer in _optimizers(model):
            for group in optimizer.param_groups:
                group["params"] = [copy.deepcopy(each.detach()) for each in group["params"]]
                for each in group["params"]:
                    each.requires_grad_()
    if fault.name == "detached":
        for network in _networks(model):
            detach_trunk(getattr(network, "mlp_extractor", network))
    if fault.name in {"masked_loss", "loss_sign"}:
        # Their losses are inside SB3; what reaches the weights is the same through a gradient.
        factor = 0.0 if fault.name == "masked_loss" else -1.0
        for network in _networks(model):
            for parameter in network.parameters():
                parameter.register_hook(lambda grad: grad * factor)


def _settings(name: str, case: Case) -> dict[str, Any]:
    draw = case.draw()
    settings: dict[str, Any] = {
        "learning_rate": draw.choice((1e-3, 3e-3)),
        "gamma": draw.choice((0.9, 0.95)),
        "policy_kwargs": {"net_arch": [32, 32]},
    }
    if name == "PPO":
        settings |= {"n_steps": 32, "batch_size": 128, "n_epochs": 3, "ent_coef": 0.005}
    elif name == "A2C":
        settings |= {"n_steps": 8, "learning_rate": draw.choice((2e-3, 4e-3))}
    else:
        settings["learning_rate"] = draw.choice((2e-3, 4e-3))
        settings |= {"buffer_size": 6_000, "learning_starts": 160, "batch_size": 64}
        settings |= {"train_freq": 2, "gradient_steps": 1, "tau": 0.08}
    if name == "DQN":
        settings |= {"target_update_interval": 1, "exploration_fraction": 0.4}
    if case.variant == "decay":
        base = settings["learning_rate"]
        settings["learning_rate"] = lambda left: base * left
    return settings


class EveryUpdates(BaseCallback):
    """Ends the training after so many logged updates."""

    def __init__(self, recording: Recording, most: int) -> None:
        super().__init__()
        self.recording, self.most = recording, most

    def _on_step(self) -> bool:
        return self.recording.next <= self.most


def _train(name: str, case: Case) -> Recording:
    torch.manual_seed(case.number)
    draw, recording = case.draw(), Recording()
    continuous = {"DQN": False, "SAC": True, "TD3": True}.get(name, draw.random() < 0.5)
    on_policy = name in {"PPO", "A2C"}
    updates = ON_POLICY_UPDATES if on_policy else OFF_POLICY_UPDATES
    updates = 20 if case.variant == "short" else updates
    world = World(case, COPIES, continuous=continuous)
    world.total = updates
    settings = _settings(name, case)
    classic = case.variant == "classic"
    env: Any = Worlds(world)
    if classic:
        env = make_vec_env(draw.choice(CLASSIC[name]), n_envs=4, seed=case.number)
    model = getattr(sb3, name)("MlpPolicy", env, seed=case.number, device="cpu", **settings)
    model.set_logger(Logger(None, [Into(recording)]))
    model.ep_info_buffer = deque(maxlen=40)
    _prepare(model, case.fault)

    base = settings["learning_rate"] if case.variant != "decay" else 0.0
    watching = [
        Saboteur(case.fault, recording, world, base),
        EveryUpdates(recording, updates),
    ]
    # Calls of train for PPO and A2C; episodes for the others.
    interval = {"PPO": 1, "A2C": 6}.get(name, 1 if classic else 4)
    steps = (16_000 if on_policy else 6_000) if classic else LONG
    learn = functools.partial(model.learn, steps, callback=watching, log_interval=interval)
    return learnt(model, learn, recording, None if classic else world)


def learnt(
    model: Any, learn: Callable[[], object], recording: Recording, world: World | None
) -> Recording:
    """The recording of a training, with the quality before and after where a world can tell."""

    def act(seen: np.ndarray) -> np.ndarray:
        return model.predict(seen, deterministic=True)[0]

    def measured() -> float:
        if world is None:
            return math.nan
        return quality(world.case, act, continuous=world.continuous)

    recording.start = measured()
    try:
        learn()
    except ValueError as error:
        recording.failure = f"ValueError: {str(error).splitlines()[0]}"
        return recording
    recording.outcome = measured()
    if not all(bool(each.isfinite().all()) for each in model.policy.parameters()):
        recording.outcome = math.nan
    return recording


_ON_POLICY: Mapping[str, tuple[str, ...]] = {
    "rate": ("train/learning_rate",),
    "loss": ("train/loss",),
    "value": ("train/value_loss", "train/explained_variance"),
    "policy": (
        "train/policy_gradient_loss",
        "train/policy_loss",
        "train/clip_fraction",
    ),
    "entropy": ("train/entropy_loss",),
    "spread": ("train/std",),
    "kl": ("train/approx_kl",),
    "reward": ("rollout/ep_rew_mean",),
}
_OFF_POLICY: Mapping[str, tuple[str, ...]] = {
    "rate": ("train/learning_rate",),
    "loss": ("train/loss", "train/critic_loss"),
    "policy": ("train/actor_loss",),
    "weight": ("train/ent_coef", "train/ent_coef_loss"),
    "reward": ("rollout/ep_rew_mean",),
}
_ENTROPY = ("entropy_runaway", "entropy_negative")
_TARGETS = ("target_never", "target_live")


def _trainer(name: str, faults: tuple[str, ...]) -> Trainer:
    on_policy = name in {"PPO", "A2C"}
    dropped = DISCRETE_ONLY if name in {"SAC", "TD3"} else ()
    return Trainer(
        f"sb3_{name.lower()}",
        name,
        "on_policy" if on_policy else "off_policy",
        functools.partial(_train, name),
        _ON_POLICY if on_policy else _OFF_POLICY,
        faults,
        ("classic", *(variant for variant in VARIANTS if variant not in dropped)),
        ON_POLICY_UPDATES if on_policy else OFF_POLICY_UPDATES,
    )


TRAINERS = (
    _trainer("PPO", (*SHARED, "value_coefficient", *_ENTROPY)),
    _trainer("A2C", (*SHARED, "value_coefficient", *_ENTROPY)),
    _trainer("DQN", (*SHARED, *_TARGETS)),
    _trainer("SAC", (*SHARED, *_TARGETS, *_ENTROPY)),
    _trainer("TD3", (*SHARED, *_TARGETS)),
)
