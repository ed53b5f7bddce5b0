"""Real faults in real, short PPO runs, for the experiment on stability.

Each run has one thing wrong: in the environment (`World`), in the model between two rollouts
(`Saboteur`), or in the code that standardises advantages (`FaultyPPO`). Nothing writes readings
by hand: what is logged is what the hook sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

N_ENVS, N_STEPS = 4, 64
FROZEN = 1e-3
"""A run is frozen if its parameters move less than this part of what they moved before."""


@dataclass
class World:
    """What is wrong with the environments of one run, and from which update on.

    Attributes:
        fault: One of the names handled below, or "" for a sound world.
        at: First update (from 1) in which the fault shows.
        size: The fault's strength, where it has one.
        update: The update whose rollout is being collected.
    """

    fault: str = ""
    at: int = 1
    size: float = 1.0
    update: int = 0
    spent: bool = False

    def once(self, worker: int) -> bool:
        """Whether a fault that happens once happens now, to the second worker."""
        if self.spent or worker != 1 or self.update < self.at:
            return False
        self.spent = True
        return True

    def reward(self, reward: float, worker: int) -> float:
        """The reward that the agent is paid."""
        on = self.update >= self.at
        if self.fault == "quiet_worker":
            return reward * (0.01 if worker == 0 else 1.0)
        if self.fault in {"constant_reward", "nothing_moves"}:
            return self.size if self.fault == "constant_reward" else 1.0
        if self.fault == "reward_zero" and on:
            return 0.0
        if self.fault in {"reward_scale", "regime"} and on:
            return reward * self.size
        if self.fault in {"reward_spike", "reward_nan", "reward_inf"} and self.once(worker):
            return {"reward_nan": np.nan, "reward_inf": np.inf}.get(self.fault, self.size)
        if self.fault == "crash" and self.once(worker):
            raise ConnectionResetError("the price feed closed the connection")
        return reward

    def observe(self, observation: Any, worker: int) -> Any:
        """The observation that the agent sees."""
        if self.fault == "obs_nan" and self.once(worker):
            return np.full_like(observation, np.nan)
        if self.fault == "stuck_sensor" and self.update >= self.at:
            return np.zeros_like(observation)
        if self.fault == "regime" and self.update >= self.at:
            return -observation
        if self.fault == "nothing_moves":
            return (observation * self.size + 1.0).astype(observation.dtype)
        if self.fault == "constant_reward" and self.size > 100.0:
            # Nothing to see but sensor noise: what is left to standardise is rounding.
            return (observation * 1e-6 + 1.0).astype(observation.dtype)
        return observation


class Meddled(gym.Wrapper[Any, Any, Any, Any]):
    """An environment as the world lets the agent see it."""

    def __init__(self, env: gym.Env[Any, Any], world: World, worker: int) -> None:
        super().__init__(env)
        self.world, self.worker = world, worker

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        return self.world.observe(observation, self.worker), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        paid = self.world.reward(float(reward), self.worker)
        return self.world.observe(observation, self.worker), paid, terminated, truncated, info


class Market(gym.Env[Any, Any]):
    """A small trading game: 32 steps, four drifting signals, the first says what to do.

    Args:
        sparse: Whether only every eighth step pays, as with few trades.
        easy: Whether one action is always right, so that the optimum is found soon.
    """

    def __init__(self, *, sparse: bool = False, easy: bool = False) -> None:
        self.observation_space = gym.spaces.Box(-10, 10, (4,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self.sparse, self.easy = sparse, easy
        self.signals, self.steps = np.zeros(4, np.float32), 0

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=kwargs.get("seed"))
        self.signals, self.steps = self.np_random.normal(size=4).astype(np.float32), 0
        return self.signals.copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        right = 1 if self.easy else int(self.signals[0] > 0)
        reward = 1.0 if int(action) == right else -0.5
        if not self.easy:
            reward += float(self.np_random.normal()) * 0.3
        self.steps += 1
        if self.sparse and self.steps % 8:
            reward = 0.0
        noise = self.np_random.normal(size=4)
        self.signals = (0.7 * self.signals + 0.7 * noise).astype(np.float32)
        return self.signals.copy(), reward, False, self.steps >= 32, {}


MAKERS: dict[str, Callable[[], gym.Env[Any, Any]]] = {
    "cartpole": lambda: gym.make("CartPole-v1"),
    "pendulum": lambda: gym.make("Pendulum-v1", max_episode_steps=64),
    "market": Market,
    "sparse_market": lambda: Market(sparse=True),
    "easy_market": lambda: Market(easy=True),
}


def environments(name: str, world: World, seed: int) -> DummyVecEnv:
    """Four of them, meddled with by one world."""

    def maker(worker: int) -> Callable[[], gym.Env[Any, Any]]:
        return lambda: Monitor(Meddled(MAKERS[name](), world, worker))

    environments = DummyVecEnv([maker(worker) for worker in range(N_ENVS)])
    environments.seed(seed)
    return environments


@dataclass
class Saboteur(BaseCallback):
    """Keeps the world's clock, and spoils the model between two rollouts.

    Attributes:
        moves: Distance the parameters moved in each update, the truth about a frozen optimizer.
    """

    world: World
    fault: str = ""
    at: int = 1
    size: float = 1.0
    moves: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._before: torch.Tensor | None = None

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._measure()
        self.world.update += 1
        if self.fault and self.world.update >= self.at:
            self._spoil(first=self.world.update == self.at)
            self._before = self._flat()

    def _on_training_end(self) -> None:
        self._measure()

    def _flat(self) -> torch.Tensor:
        parameters = self.model.policy.parameters()
        return torch.cat([each.detach().flatten() for each in parameters]).clone()

    def _measure(self) -> None:
        now = self._flat()
        if self._before is not None:
            self.moves.append(float((now - self._before).norm()))
        self._before = now

    @torch.no_grad()
    def _spoil(self, *, first: bool) -> None:
        policy: Any = self.model.policy
        if self.fault == "value_noise":
            weight = policy.value_net.weight
            weight.copy_(torch.randn_like(weight) * self.size)
        if not first:
            return
        if self.fault == "rate":
            self.model.lr_schedule = lambda _: self.size
        elif self.fault == "parameter":
            # One element of a hidden layer, as a flipped bit or a torn write leaves it.
            next(iter(policy.mlp_extractor.parameters())).view(-1)[7] = self.size
        elif self.fault == "one_action":
            policy.action_net.weight.zero_()
            policy.action_net.bias[0] += self.size


def frozen(moves: list[float], at: int) -> bool:
    """Whether the parameters stood still at the end of a run that moved before the fault."""
    before = [move for move in moves[: at - 1] if move == move]
    last = moves[-3:]
    if len(before) < 3 or len(moves) < at + 4:
        return False
    return all(move < FROZEN * median(before) for move in last)
