"""Stable-Baselines3: PPO and A2C; the optimizers and checkpoints of DQN, SAC, TD3 and the like.

    model.learn(100_000, callback=WatchstepCallback(run="ppo-7", on_critical="halt"))

SB3 logs once a rollout, after every optimizer step of it has been taken, and one update late.
The callback looks inside instead: it guards the optimizer, sees gradient norms before SB3
clips them, follows the advantages into the loss, and judges each update right after its
`train()`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from stable_baselines3 import __version__ as sb3_version
from stable_baselines3.common import callbacks
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import safe_mean

from watchstep.guard import observe_clipping
from watchstep.hook import Watch
from watchstep.integrations.advantages import AdvantageTap
from watchstep.integrations.callback_base import CallbackBase

_ALWAYS_EXCLUDED = (
    "time/iterations",
    "time/time_elapsed",
    "time/total_timesteps",
    "train/n_updates",
)


class WatchstepCallback(CallbackBase, BaseCallback):
    """Watches one `learn()` of a Stable-Baselines3 model.

    Args:
        log_every: Gradient steps between logged updates, at least one call of `train()`, for
            off-policy algorithms, which train every few environment steps. On-policy ones log
            every update.
        choices: As for every callback, see `CallbackBase`; `save_every` is 1 by default.

    Attributes:
        updates: Calls of `train()` that have ended.
        readings: Of the last logged update.

    Raises:
        TrainingHalted: Out of `learn()`, when a halt was asked for.
    """

    made_by = f"stable-baselines3 {sb3_version}"

    def __init__(
        self,
        watch: Watch | None = None,
        *,
        save_every: int | None = 1,
        log_every: int = 100,
        **choices: Any,
    ) -> None:
        super().__init__(watch, save_every=save_every, **choices)
        self._log_every = log_every
        self._tap: AdvantageTap | None = None
        self.updates = self._gradient_steps = 0
        self.readings: dict[str, float] = {}

    def _on_training_start(self) -> None:
        self._begin(self._optimizers(), group=False, config=self._hyper_parameters())
        self._on_policy = isinstance(self.model, OnPolicyAlgorithm)
        if self._on_policy:
            self._follow_advantages()
        train = self._ending(self._watched_train(self.trained.train))
        self._replaced.replace(self.trained, "train", train)
        # EvalCallback and what is made of it call it by this name.
        evaluate = self._paused("evaluating", evaluate_policy)
        self._replaced.replace(callbacks, "evaluate_policy", evaluate)
        self._go_on(self.state())

    @property
    def trained(self) -> Any:
        return self.model

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._end(None)

    def _hyper_parameters(self) -> dict[str, Any]:
        """What the model was made with, as far as it is plain, and by what name SB3 calls it."""
        plain = (bool, int, float, str)
        settings = {
            name: value
            for name, value in vars(self.model).items()
            if not name.startswith("_") and isinstance(value, plain)
        }
        return {"algorithm": type(self.model).__name__, **settings}

    def _optimizers(self) -> dict[str, Any]:
        if hasattr(self.model.policy, "optimizer") and self.model.policy.optimizer is not None:
            return {"optimizer": self.model.policy.optimizer}
        names = ("actor", "critic", "q_net")
        parts = {name: getattr(self.model.policy, name, None) for name in names}
        optimizers = {
            f"{name}_optimizer": getattr(part, "optimizer", None) for name, part in parts.items()
        }
        # SAC's is no part of its policy.
        optimizers["ent_coef_optimizer"] = getattr(self.model, "ent_coef_optimizer", None)
        return {name: each for name, each in optimizers.items() if each is not None}

    def _follow_advantages(self) -> None:
        buffer = self.trained.rollout_buffer
        self._tap = AdvantageTap(self._note)
        original = buffer.get

        @functools.wraps(original)
        def get(*args: Any, **kwargs: Any) -> Iterator[Any]:
            assert self._tap is not None
            for batch in original(*args, **kwargs):
                self._tap.begin(batch.advantages)
                yield batch

        self._replaced.replace(buffer, "get", get)

    def _watched_train(self, train: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(train)
        def watched(*args: Any, **kwargs: Any) -> None:
            raw = self._raw_advantages()
            with observe_clipping(*self._guards), self._tap or nullcontext():
                train(*args, **kwargs)
            # `train(gradient_steps, batch_size)` of off-policy algorithms.
            self._gradient_steps += kwargs.get("gradient_steps", args[0] if args else 1)
            self._after_train(raw)

        return watched

    def _after_train(self, raw: Mapping[str, float]) -> None:
        assert self.watch is not None
        self.updates += 1
        if not self._on_policy and self._gradient_steps < self._log_every:
            return
        self._gradient_steps = 0
        readings = {
            name: value
            for name, value in self.logger.name_to_value.items()
            if name not in _ALWAYS_EXCLUDED and isinstance(value, (int, float, np.number))
        }
        readings.update(raw)
        if self._tap is not None:
            readings.update(self._tap.readings())
        readings.update(self._episodes())
        self.readings = readings
        self.watch.log(readings, step=self.model.num_timesteps)
        if self._is_due(self.updates):
            self.watch.save(self.state(), step=self.model.num_timesteps)

    def _raw_advantages(self) -> dict[str, float]:
        """Mean and deviation of the rollout's advantages as they were collected."""
        if not self._on_policy:
            return {}
        advantages = np.asarray(self.trained.rollout_buffer.advantages, dtype=np.float64)
        return {
            "train/advantages_mean_raw": float(advantages.mean()),
            "train/advantages_std_raw": float(advantages.std()),
        }

    def _episodes(self) -> dict[str, float]:
        episodes = self.model.ep_info_buffer
        if not episodes:
            return {}
        return {
            "rollout/ep_rew_mean": float(safe_mean([episode["r"] for episode in episodes])),
            "rollout/ep_len_mean": float(safe_mean([episode["l"] for episode in episodes])),
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds, and what `Watch.restore` fills: policy and optimizers.

        For SAC that is its entropy coefficient too, without which actor and critic would go on
        with another one than they were trained with.
        """
        state = {"policy": self.model.policy, **self._optimizers()}
        if "ent_coef_optimizer" in state:
            holder = torch.nn.Module()
            holder.register_buffer("log_ent_coef", self.trained.log_ent_coef)
            state["ent_coef"] = holder
        return state
