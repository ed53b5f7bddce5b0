"""TRL's `GRPOTrainer`.

    GRPOTrainer(..., callbacks=[WatchstepCallback(run="grpo-7", on_critical="halt")])

TRL hides what is wrong with rewards: a NaN is left out or counts as 0, and an infinite one turns
the advantages of its whole group into 0 (`nansum`, `nan_to_num`). The callback reads what the
reward functions returned, and the advantages that stand in the loss, before the step is taken.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from transformers import Trainer
from trl import __version__ as trl_version

from watchstep.integrations import transformers as plain

EPSILON = 1e-4
"""What TRL adds to the deviation of rewards (GRPOTrainer, TRL 1.16)."""


class WatchstepCallback(plain.WatchstepCallback):
    """Watches one `GRPOTrainer.train()`.

    Besides what the callback for Transformers reads: `rollout/ep_rew_mean` (mean reward, NaN
    and infinities included), `rewards/nonfinite` (how many such the reward functions returned),
    `train/advantages_mean_raw` and `_std_raw` (rewards less their group's mean), and, as they
    stand in the loss, `grpo/advantages_max`, `_min` and `train/advantages_norm_max_abs`, with
    `train/group_size` and `train/advantages_count`: how many were standardised together.

    Args:
        group_size: How many rewards are standardised together; None to follow the trainer's
            `scale_rewards`. Give it if a subclass standardises over something else.
        choices: As for Transformers; `rules` is "grpo" by default.
    """

    default_rules = "grpo"
    made_by = f"trl {trl_version}"

    def __init__(self, watch: Any = None, *, group_size: int | None = None, **choices: Any) -> None:
        super().__init__(watch, **choices)
        self._group_size = group_size
        self._rewards: dict[str, list[float | None]] = {}
        self._advantages: dict[str, float] = {}

    def _follow(self, trainer: Trainer) -> None:
        super()._follow(trainer)
        if not hasattr(trainer, "reward_funcs"):
            return
        watched = [self._watched_reward(function) for function in trainer.reward_funcs]
        self._replaced.replace(trainer, "reward_funcs", watched)
        original = trainer.compute_loss

        @functools.wraps(original)
        def compute_loss(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if model.training and isinstance(inputs, Mapping):
                self._see_advantages(inputs.get("advantages"))
            return original(model, inputs, *args, **kwargs)

        self._replaced.replace(trainer, "compute_loss", compute_loss)

    def _watched_reward(self, function: Any) -> Any:
        # Reward models and coroutines are called in ways of their own.
        if isinstance(function, torch.nn.Module) or inspect.iscoroutinefunction(function):
            return function
        name = f"{getattr(function, '__name__', 'reward')}-{id(function)}"

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            rewards = function(*args, **kwargs)
            trainer: Any = self._trainer
            if not trainer.model.training:
                return rewards
            self._rewards[name] = [None if each is None else float(each) for each in rewards]
            return rewards

        return watched

    def _see_advantages(self, advantages: torch.Tensor | None) -> None:
        count = self._standardised_together()
        if advantages is None or not advantages.numel() or count is None:
            return
        low, high = (float(bound) for bound in advantages.detach().aminmax())
        seen = {
            "grpo/advantages_min": low,
            "grpo/advantages_max": high,
            "train/group_size": float(count),
            "train/advantages_norm_max_abs": max(abs(low), abs(high)),
            "train/advantages_count": float(count),
        }
        for name, value in seen.items():
            self._note(name, value)
        # Of a step's micro-batches the worst is told. TRL lets no NaN come this far.
        before = self._advantages.get("train/advantages_norm_max_abs", 0.0)
        if not seen["train/advantages_norm_max_abs"] < before:
            self._advantages = seen

    def _standardised_together(self) -> int | None:
        trainer: Any = self._trainer
        if self._group_size is not None:
            return self._group_size
        scale = str(getattr(trainer, "scale_rewards", "none"))
        if scale == "none":
            return None
        by_group = getattr(trainer, "multi_objective_aggregation", "") == "sum_then_normalize"
        if by_group and scale == "group":
            return int(trainer.num_generations)
        return int(trainer.args.generation_batch_size)

    def _step_readings(self) -> Mapping[str, Any]:
        readings = {**self._advantages, **self._reward_readings()}
        self._advantages, self._rewards = {}, {}
        return readings

    def _reward_readings(self) -> dict[str, float]:
        """Of the completions that this process scored since the last step."""
        trainer: Any = self._trainer
        by_function = list(self._rewards.values())
        if not by_function:
            return {}
        numbers = [each for rewards in by_function for each in rewards if each is not None]
        readings = {"rewards/nonfinite": float(sum(not math.isfinite(each) for each in numbers))}
        # Weights belong to all functions, in order; some may not be followed.
        if len(by_function) != len(trainer.reward_funcs):
            return readings
        weights = trainer.reward_weights.tolist()
        totals = [
            sum(
                weight * each for weight, each in zip(weights, row, strict=True) if each is not None
            )
            for row in zip(*by_function, strict=True)
        ]
        readings["rollout/ep_rew_mean"] = sum(totals) / len(totals)
        size = int(trainer.num_generations)
        # TRL leaves a NaN reward out of its group; what is not finite is told above.
        if all(map(math.isfinite, totals)) and len(totals) % size == 0:
            readings.update(_raw_advantages(totals, size))
        return readings


def _raw_advantages(totals: list[float], size: int) -> dict[str, float]:
    grouped = torch.tensor(totals, dtype=torch.float64).reshape(-1, size)
    raw = grouped - grouped.mean(dim=1, keepdim=True)
    return {
        "train/advantages_mean_raw": float(raw.mean()),
        "train/advantages_std_raw": float(raw.std(correction=0)),
        "train/advantages_epsilon": EPSILON,
    }
