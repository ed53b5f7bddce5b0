"""SAC, TD3 and DQN, which train from a buffer every few environment steps, for real."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("stable_baselines3", reason="needs the extra sb3")

import torch
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback

import watchstep
from watchstep import TrainingHalted
from watchstep.checkpoint import all_finite
from watchstep.guard import bit_hash
from watchstep.integrations.sb3 import WatchstepCallback

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:torch")

SMALL = {
    "device": "cpu",
    "seed": 0,
    "learning_starts": 32,
    "batch_size": 32,
    "buffer_size": 400,
}
OPTIMIZERS = {
    SAC: ["actor_optimizer", "critic_optimizer", "ent_coef_optimizer"],
    TD3: ["actor_optimizer", "critic_optimizer"],
    DQN: ["optimizer"],
}
STEPS = 180
POISONED_AFTER = 100
ONE_ROW, EVERY_ROW = slice(40, 41), slice(None)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def make(algorithm: type[Any], **options: Any) -> Any:
    environment = "CartPole-v1" if algorithm is DQN else "Pendulum-v1"
    if algorithm is DQN:
        options.setdefault("train_freq", 1)
    # SB3 writes into the dict of a policy's options.
    options["policy_kwargs"] = {"net_arch": [16]}
    return algorithm("MlpPolicy", environment, **SMALL, **options)


class Poison(BaseCallback):
    """Makes rows of the replay buffer NaN, once."""

    def __init__(self, column: str, rows: slice) -> None:
        super().__init__()
        self._column, self._rows = column, rows

    def _on_step(self) -> bool:
        if self.num_timesteps == POISONED_AFTER:
            getattr(self.model.replay_buffer, self._column)[self._rows] = math.nan  # type: ignore[attr-defined]
        return True


def watching(tmp_path: Path, on_critical: str = "halt") -> Any:
    return watchstep.init(
        run="off-policy",
        directory=tmp_path / "spool",
        checkpoints=tmp_path / "ckpt",
        on_critical=on_critical,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("algorithm", OPTIMIZERS)
def test_a_healthy_training_is_followed_in_every_optimizer_and_left_as_it_is(
    algorithm: type[Any], tmp_path: Path
) -> None:
    plain = make(algorithm).learn(STEPS)
    agent = make(algorithm)

    with watching(tmp_path) as watch:
        agent.learn(STEPS, callback=WatchstepCallback(watch, log_every=20))

    assert [guard.name for guard in watch.guards] == OPTIMIZERS[algorithm]
    assert all(guard.steps > STEPS / 3 and guard.skipped == 0 for guard in watch.guards)
    assert all(math.isfinite(guard.last_norm) and guard.last_norm > 0 for guard in watch.guards)
    assert bit_hash(agent.policy) == bit_hash(plain.policy)
    assert {
        transition.rule for transition in watch.transitions if transition.severity == "critical"
    } == set()
    assert watch.pinned is not None
    assert watch.errors == {}


def test_an_agent_that_trains_seldom_and_then_long_is_logged_at_each_training(
    tmp_path: Path,
) -> None:
    agent = make(DQN, train_freq=32, gradient_steps=32)
    with watching(tmp_path) as watch:
        callback = WatchstepCallback(watch, log_every=20)
        agent.learn(STEPS, callback=callback)

    assert 1 <= callback.updates < 20
    assert "train/loss" in callback.readings


@pytest.mark.parametrize("algorithm", OPTIMIZERS)
def test_one_nan_reward_in_the_buffer_never_reaches_a_weight(
    algorithm: type[Any], tmp_path: Path
) -> None:
    agent = make(algorithm)
    with watching(tmp_path, "alert") as watch:
        callback = WatchstepCallback(watch, log_every=20)
        agent.learn(STEPS, callback=[callback, Poison("rewards", ONE_ROW)])

    skipped = {guard.name: guard.skipped for guard in watch.guards}
    learns_from_rewards = "optimizer" if algorithm is DQN else "critic_optimizer"
    assert skipped.pop(learns_from_rewards) > 0
    assert not any(skipped.values())
    assert all_finite(callback.state())
    assert "StepSkipped" in {transition.rule for transition in watch.transitions}


def test_a_nan_observation_is_kept_from_actor_critic_and_entropy_coefficient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As under `python -O`: else torch itself refuses a policy that is NaN, and training ends.
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", False)
    agent = make(SAC)
    with watching(tmp_path, "alert") as watch:
        callback = WatchstepCallback(watch, log_every=20)
        agent.learn(STEPS, callback=[callback, Poison("observations", ONE_ROW)])

    assert all(guard.skipped > 0 for guard in watch.guards)
    assert all_finite(callback.state())
    assert bool(agent.log_ent_coef.isfinite())


@pytest.mark.parametrize("algorithm", OPTIMIZERS)
def test_a_halt_leaves_learn_at_the_third_poisoned_batch_in_a_row(
    algorithm: type[Any], tmp_path: Path
) -> None:
    agent = make(algorithm)
    watch = watching(tmp_path)
    callback = WatchstepCallback(watch, log_every=20)
    with pytest.raises(TrainingHalted):
        agent.learn(STEPS, callback=[callback, Poison("rewards", EVERY_ROW)])

    assert agent.num_timesteps == POISONED_AFTER + 2
    assert all_finite(callback.state())
    assert watch.pinned is not None


def test_the_way_back_includes_the_entropy_coefficient(tmp_path: Path) -> None:
    agent = make(SAC)
    with watching(tmp_path) as watch:
        callback = WatchstepCallback(watch, log_every=20)
        agent.learn(STEPS, callback=callback)
        saved = watch.keeper.list()[0]
        before = bit_hash(callback.state())
        watch.save(callback.state(), step=saved.step + 1)
        with torch.no_grad():
            agent.log_ent_coef.fill_(7.0)
            next(agent.actor.parameters()).fill_(7.0)
        tensor = agent.log_ent_coef

        watch.restore(callback.state(), step=saved.step + 1)

    assert bit_hash(callback.state()) == before
    assert agent.log_ent_coef is tensor
    assert tensor.requires_grad
    assert agent.ent_coef_optimizer.param_groups[0]["params"][0] is tensor


def test_a_fixed_entropy_coefficient_has_no_optimizer(tmp_path: Path) -> None:
    agent = make(SAC, ent_coef=0.1)
    with watching(tmp_path) as watch:
        agent.learn(60, callback=WatchstepCallback(watch, log_every=20))

    assert [guard.name for guard in watch.guards] == ["actor_optimizer", "critic_optimizer"]
    assert watch.errors == {}
