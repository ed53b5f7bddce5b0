"""A real agent with a real fault, and the environment that brings it out.

The environment is Gymnasium's MountainCar-v0 behind a market that is closed at first: until it
opens, the agent sees nothing move and every step pays -1. The critic soon predicts every
return, and the raw advantages shrink towards nothing, as in the no-trade periods of the seed
document. Then the market opens, and advantages are large again.

The fault is one that real code has: `DriftingPPO` divides advantages by a running deviation, as
one does with observations, instead of by that of the batch. While the advantages shrink the
running deviation follows them down. When they return, they are divided by a deviation that
belongs to other data.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from torch.nn import functional

ROLLOUT = 256
SETTINGS: dict[str, Any] = {
    "n_steps": ROLLOUT,
    "batch_size": 64,
    "n_epochs": 4,
    "gamma": 0.9,
    "learning_rate": 1e-3,
    "device": "cpu",
}


class Market(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that shows and pays nothing of interest until it opens.

    Args:
        env: MountainCar-v0, time limit included.
        opens_at: Steps, counted over all episodes, until it opens.
    """

    def __init__(self, env: gym.Env[Any, Any], opens_at: int) -> None:
        super().__init__(env)
        self.opens_at = opens_at
        self.steps = 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step: -1, and once open up to about 3 for speed and height."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        if self.steps <= self.opens_at:
            return np.zeros_like(observation), float(reward), terminated, truncated, info
        position, velocity = (float(part) for part in observation)
        shaped = float(reward) + abs(velocity) * 25.0 + math.sin(3 * position)
        return observation, shaped, terminated, truncated, info

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        closed = self.steps < self.opens_at
        return (np.zeros_like(observation) if closed else observation), info


def make_env(opens_at: int, seed: int) -> gym.Env[Any, Any]:
    """The market over MountainCar-v0."""
    env = Market(gym.make("MountainCar-v0"), opens_at)
    env.reset(seed=seed)
    return env


def healthy_agent(env: gym.Env[Any, Any], seed: int) -> PPO:
    """Stable-Baselines3's own PPO, which standardises each batch by itself."""
    return PPO("MlpPolicy", env, seed=seed, **SETTINGS)


def faulty_agent(env: gym.Env[Any, Any], seed: int) -> PPO:
    """The same agent with the fault."""
    return DriftingPPO("MlpPolicy", env, seed=seed, **SETTINGS)


class DriftingPPO(PPO):
    """PPO that divides advantages by a running deviation of earlier rollouts."""

    running_std = 1.0
    momentum = 0.5

    def train(self) -> None:
        """One update: several epochs over the rollout, as in PPO."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        clip_range = float(self.clip_range(self._current_progress_remaining))  # type: ignore[operator]
        records: dict[str, list[float]] = {}
        for _ in range(self.n_epochs):
            for batch in self.rollout_buffer.get(self.batch_size):
                for name, value in self._train_batch(batch, clip_range).items():
                    records.setdefault(name, []).append(value)
        self._follow_deviation()
        for name, values in records.items():
            self.logger.record(f"train/{name}", float(np.mean(values)))
        self.logger.record("train/clip_range", clip_range)

    def _train_batch(self, batch: Any, clip_range: float) -> dict[str, float]:
        actions = batch.actions
        if isinstance(self.action_space, gym.spaces.Discrete):
            actions = actions.long().flatten()
        values, log_prob, entropy = self.policy.evaluate_actions(batch.observations, actions)
        advantages = self._standardised(batch.advantages)
        ratio = torch.exp(log_prob - batch.old_log_prob)
        clipped = torch.clamp(ratio, 1 - clip_range, 1 + clip_range)
        policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()
        value_loss = functional.mse_loss(batch.returns, values.flatten())
        assert entropy is not None
        loss = policy_loss + self.vf_coef * value_loss - self.ent_coef * entropy.mean()
        self.policy.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        with torch.no_grad():
            log_ratio = log_prob - batch.old_log_prob
            return {
                "policy_gradient_loss": float(policy_loss),
                "value_loss": float(value_loss),
                "loss": float(loss),
                "entropy_loss": -float(entropy.mean()),
                "approx_kl": float((torch.exp(log_ratio) - 1 - log_ratio).mean()),
                "clip_fraction": float((torch.abs(ratio - 1) > clip_range).float().mean()),
            }

    def _standardised(self, raw: torch.Tensor) -> torch.Tensor:
        # Here is the fault: this is not the deviation of these advantages.
        return (raw - raw.mean()) / (self.running_std + 1e-8)

    def _follow_deviation(self) -> None:
        momentum = self.momentum
        deviation = float(self.rollout_buffer.advantages.std())
        self.running_std = momentum * self.running_std + (1 - momentum) * deviation
