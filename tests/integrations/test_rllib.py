"""RLlib's PPO, new API stack, its learner in this process. Slow: Ray starts first."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.rllib", reason="needs Ray: make test-rllib")

import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.connectors.connector_v2 import ConnectorV2

from watchstep import TrainingHalted
from watchstep.guard import bit_hash
from watchstep.integrations.rllib import watchstep_callback

pytestmark = pytest.mark.filterwarnings("ignore")


class PoisonedLearner(PPOTorchLearner):
    """Its third loss is NaN."""

    poisoned = 3
    losses = 0

    def compute_loss_for_module(self, **given: Any) -> Any:
        loss = super().compute_loss_for_module(**given)
        type(self).losses += 1
        return loss * math.nan if self.losses == self.poisoned else loss


class OtherDeviation(ConnectorV2):
    """Divides advantages once more, by a deviation of other data."""

    def __call__(self, *, batch: Any, **_: Any) -> Any:
        for module_batch in batch.values():
            module_batch["advantages"] = module_batch["advantages"] * 200.0
        return batch


class WrongSampleLearner(PPOTorchLearner):
    """A custom pipeline that standardises twice."""

    def build(self) -> None:
        super().build()
        self._learner_connector.append(OtherDeviation())


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=100 * 2**20,
    )
    yield
    ray.shutdown()


def build(tmp_path: Path, learner: type[PPOTorchLearner] | None = None, **options: Any) -> Any:
    torch.set_num_threads(1)
    options.setdefault("run", "rllib")
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0)
        .learners(num_learners=0)
        .training(train_batch_size_per_learner=128, minibatch_size=64, num_epochs=1)
        .rl_module(model_config={"fcnet_hiddens": [8]})
        .callbacks(watchstep_callback(directory=str(tmp_path / "spool"), **options))
        .debugging(seed=0)
    )
    if learner is not None:
        config = config.training(learner_class=learner)
    return config.build_algo()


def watch_of(algorithm: Any) -> Any:
    (callback,) = (
        algorithm.callbacks if isinstance(algorithm.callbacks, list) else [algorithm.callbacks]
    )
    return callback.watch


def test_an_iteration_is_an_update_with_losses_returns_and_advantages(tmp_path: Path) -> None:
    algorithm = build(tmp_path)
    watch = watch_of(algorithm)
    updates: list[dict[str, Any]] = []
    original = watch.log
    watch.log = lambda metrics, step: (updates.append(dict(metrics)), original(metrics, step))[1]

    algorithm.train()
    algorithm.train()
    algorithm.stop()

    assert len(updates) == 2
    names = ("policy_loss", "vf_loss", "entropy", "mean_kl_loss", "episode_return_mean")
    assert all(math.isfinite(updates[1][name]) for name in names)
    # Each of the batch's episodes has one step more, for its bootstrapped value.
    count = updates[1]["train/advantages_count"]
    assert count >= 128
    assert 1 < updates[1]["train/advantages_norm_max_abs"] <= math.sqrt(count - 1)
    assert abs(updates[1]["train/advantages_norm_mean"]) < 1e-4
    assert watch.errors == {}


def test_a_nan_that_rllib_would_turn_into_zeros_is_skipped_and_told(tmp_path: Path) -> None:
    PoisonedLearner.losses = 0
    algorithm = build(tmp_path, PoisonedLearner)
    watch = watch_of(algorithm)
    learner = algorithm.learner_group._learner
    hashes: list[str] = []
    original = learner.apply_gradients

    def applied(gradients: Any) -> None:
        before = bit_hash(learner.module["default_policy"])
        original(gradients)
        hashes.append("same" if bit_hash(learner.module["default_policy"]) == before else "moved")

    learner.apply_gradients = applied
    algorithm.train()
    algorithm.train()
    algorithm.stop()

    assert hashes[2] == "same", hashes
    assert hashes.count("same") == 1
    assert "StepSkipped" in {transition.rule for transition in watch.transitions}


def test_advantages_of_other_data_halt_before_the_first_step_with_them(tmp_path: Path) -> None:
    algorithm = build(tmp_path, WrongSampleLearner, on_critical="halt")
    policy = algorithm.learner_group._learner.module["default_policy"]
    before = bit_hash(policy)

    with pytest.raises(TrainingHalted) as caught:
        algorithm.train()

    assert caught.value.rule == "AdvantagesBeyondBound"
    assert bit_hash(policy) == before
    algorithm.stop()
