"""Ray RLlib, new API stack, with its learner in the driver's process (`num_learners=0`).

    config = PPOConfig()...callbacks(watchstep_callback(run="ppo-7", on_critical="halt"))

RLlib turns NaN and infinite gradients into numbers before the optimizer sees them (an infinite one
into the largest float, which freezes its parameter in Adam for good), or skips such a step with no
more than a log line. The callback looks at gradients as they come out of the backward pass, and at
the advantages of the whole train batch. Learners in processes of their own are not guarded: of
those only the results of each iteration are judged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import torch
from ray import __version__ as ray_version
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.connector_v2 import ConnectorV2

from watchstep.errors import TrainingHalted
from watchstep.guard import Guard
from watchstep.hook import Watch, init
from watchstep.integrations.callback_base import recorded

_NOT_READINGS = ("timers", "connector", "config", "throughput", "weights_seq_no")


def watchstep_callback(**options: Any) -> type[RLlibCallback]:
    """A callback class for `AlgorithmConfig.callbacks`, which takes classes only.

    Args:
        options: `guard=False` not to judge optimizer steps; all others are arguments of
            `watchstep.init`. The watch ends with `algorithm.stop()`.

    Raises:
        TrainingHalted: Later, out of `algorithm.train()`, when a halt was asked for.
    """
    guard = bool(options.pop("guard", True))
    return type(
        "WatchstepCallback", (WatchstepCallback,), {"options": options, "wants_guard": guard}
    )


class WatchstepCallback(RLlibCallback):
    """Watches one algorithm. Copies of it in environment runners do nothing.

    Attributes:
        watch: None before the algorithm is built.
    """

    options: Mapping[str, Any] = {}
    wants_guard = True

    def __init__(self) -> None:
        super().__init__()
        self.watch: Watch | None = None
        self._guards: list[Guard] = []
        self._advantages: dict[str, float] = {}

    def on_algorithm_init(
        self, *, algorithm: Any, metrics_logger: Any = None, **kwargs: Any
    ) -> None:
        defaults = {"trainer": f"ray {ray_version}", "config": recorded(algorithm.config.to_dict())}
        self.watch = init(**{**defaults, **self.options})
        self._finish_with(algorithm)
        group = getattr(algorithm, "learner_group", None)
        if group is not None and group.is_local and self.wants_guard:
            group.foreach_learner(func=self._guard_learner)

    def on_train_result(
        self, *, algorithm: Any, metrics_logger: Any = None, result: dict[str, Any], **kwargs: Any
    ) -> None:
        """Judge an iteration: the losses of each module, and the environment runners' returns."""
        if self.watch is None:
            return
        modules = {
            name: results
            for name, results in result.get("learners", {}).items()
            if name != "__all_modules__"
        }
        readings: dict[str, float] = {}
        for name, results in modules.items():
            prefix = "" if len(modules) == 1 else f"{name}/"
            readings.update(_numbers(results, prefix))
        for name in ("episode_return_mean", "episode_len_mean"):
            readings.update(_numbers({name: result.get("env_runners", {}).get(name)}, ""))
        readings.update(self._advantages)
        self._advantages = {}
        step = int(result.get("num_env_steps_sampled_lifetime", result["training_iteration"]))
        self.watch.log(readings, step=step)

    def _guard_learner(self, learner: Any, **_: Any) -> None:
        assert self.watch is not None
        optimizers = [
            optimizer
            for module in learner.module.keys()  # noqa: SIM118 - iterating it gives modules
            for _, optimizer in learner.get_optimizers_for_module(module)
        ]
        results = [self.watch.guard(optimizer) for optimizer in optimizers]
        self._guards = [guard for guard in results if guard is not None]
        learner.compute_gradients = self._then_measure(learner.compute_gradients)
        # The pipeline has no public name on a learner that is built already.
        pipeline = learner._learner_connector  # noqa: SLF001
        if pipeline is not None:
            pipeline.append(_Reading(self._see_advantages))

    def _then_measure(self, compute_gradients: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(compute_gradients)
        def measured(*args: Any, **kwargs: Any) -> Any:
            gradients = compute_gradients(*args, **kwargs)
            for guard in self._guards:
                groups = guard.optimizer.param_groups
                guard.before_clipping(
                    [parameter for group in groups for parameter in group["params"]]
                )
                for name, value in self._advantages.items():
                    guard.note(name, value)
            return gradients

        return measured

    def _see_advantages(self, batch: Mapping[str, Any]) -> None:
        # RLlib standardises all of a module's advantages together, before minibatches.
        for results in batch.values():
            advantages = results.get("advantages") if isinstance(results, Mapping) else None
            if isinstance(advantages, torch.Tensor) and advantages.numel() > 1:
                self._advantages = {
                    "train/advantages_norm_max_abs": float(advantages.abs().max()),
                    "train/advantages_norm_mean": float(advantages.double().mean()),
                    "train/advantages_count": float(advantages.numel()),
                    "train/advantages_epsilon": 1e-4,
                }

    def _finish_with(self, algorithm: Any) -> None:
        cleanup = algorithm.cleanup
        watch = self.watch
        assert watch is not None

        @functools.wraps(cleanup)
        def finishing() -> Any:
            watch.finish()
            return cleanup()

        algorithm.cleanup = finishing
        step = algorithm.step

        @functools.wraps(step)
        def told() -> Any:
            try:
                return step()
            except TrainingHalted:
                raise
            except Exception as error:
                watch.finish(error)
                raise

        algorithm.step = told


class _Reading(ConnectorV2):
    """Shows each train batch to somebody, and changes nothing."""

    def __init__(self, see: Callable[[Mapping[str, Any]], None]) -> None:
        super().__init__()
        self._see = see

    def __call__(self, *, rl_module: Any, batch: Any, episodes: Any, **kwargs: Any) -> Any:
        self._see(batch)
        return batch


def _numbers(results: Mapping[str, Any], prefix: str) -> dict[str, float]:
    return {
        f"{prefix}{name}": float(value)
        for name, value in results.items()
        if isinstance(value, Real) and not any(part in name for part in _NOT_READINGS)
    }
