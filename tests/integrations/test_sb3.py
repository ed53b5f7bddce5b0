"""Stable-Baselines3, trained for real."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("stable_baselines3", reason="needs the extra sb3")

import gymnasium as gym
import torch
from stable_baselines3 import A2C, DQN, PPO

import watchstep
from watchstep import TrainingHalted
from watchstep.demo.agent import ROLLOUT, faulty_agent, healthy_agent, make_env
from watchstep.guard import bit_hash
from watchstep.integrations.sb3 import WatchstepCallback

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:torch")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _watch(tmp_path: Path, **given: Any) -> watchstep.Watch:
    given.setdefault("on_critical", "halt")
    return watchstep.init(
        run="sb3", directory=tmp_path / "spool", checkpoints=tmp_path / "ckpt", **given
    )


def test_what_sb3_does_not_log_is_measured_before_each_poisoned_step_can_happen(
    tmp_path: Path,
) -> None:
    agent = PPO("MlpPolicy", "CartPole-v1", n_steps=128, batch_size=64, n_epochs=2, device="cpu")
    with _watch(tmp_path) as watch:
        callback = WatchstepCallback(watch)
        agent.learn(256, callback=callback)

    readings = callback.readings
    assert readings["train/advantages_count"] == 64
    assert 1 < readings["train/advantages_norm_max_abs"] <= math.sqrt(63)
    assert abs(readings["train/advantages_norm_mean"]) < 1e-5
    assert readings["train/advantages_divisor"] == pytest.approx(
        readings["train/advantages_std_raw"], rel=0.5
    )
    assert readings["train/value_loss"] > 0
    assert watch.errors == {}


def test_the_gradient_norm_is_the_one_before_clipping(tmp_path: Path) -> None:
    agent = PPO(
        "MlpPolicy",
        "CartPole-v1",
        n_steps=128,
        batch_size=64,
        n_epochs=1,
        device="cpu",
        max_grad_norm=0.5,
    )
    with _watch(tmp_path) as watch:
        callback = WatchstepCallback(watch)
        agent.learn(128, callback=callback)
        guard = watch.guards[0]

    assert guard.last_norm > 0.5


def test_a_deviation_of_other_data_is_proven_and_the_step_never_happens(tmp_path: Path) -> None:
    agent = faulty_agent(make_env(15 * ROLLOUT, seed=0), seed=0)
    before: list[str] = []

    class Hasher(watchstep.integrations.sb3.BaseCallback):  # type: ignore[name-defined,misc]
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            before.append(bit_hash(self.model.policy, self.model.policy.optimizer))

    watch = _watch(tmp_path)
    with pytest.raises(TrainingHalted, match="AdvantagesBeyondBound"):
        agent.learn(30 * ROLLOUT, callback=[WatchstepCallback(watch), Hasher()])

    assert agent.num_timesteps == 16 * ROLLOUT
    assert bit_hash(agent.policy, agent.policy.optimizer) == before[-1]
    assert watch.pinned is not None
    assert watch.pinned.step < 16 * ROLLOUT


def test_a_healthy_agent_through_the_same_change_raises_nothing_serious(tmp_path: Path) -> None:
    agent = healthy_agent(make_env(15 * ROLLOUT, seed=1), seed=1)
    with _watch(tmp_path) as watch:
        agent.learn(30 * ROLLOUT, callback=WatchstepCallback(watch))

    serious = {t.rule for t in watch.transitions if t.severity != "info"}
    assert serious == set()


def test_a_second_training_with_the_same_callback_is_watched_as_the_next_attempt(
    tmp_path: Path,
) -> None:
    agent = PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=64, n_epochs=1, device="cpu")
    callback = WatchstepCallback(run="twice", directory=tmp_path / "spool")

    agent.learn(64, callback=callback)
    first = callback.watch
    agent.learn(64, callback=callback)

    assert callback.watch is not first
    assert callback.watch is not None
    assert callback.watch._stream.seq > 0
    assert callback.watch.errors == {}


def test_an_evaluation_is_a_marked_phase(tmp_path: Path) -> None:
    from stable_baselines3.common.callbacks import EvalCallback
    from stable_baselines3.common.monitor import Monitor

    evaluation = EvalCallback(
        Monitor(gym.make("CartPole-v1")), eval_freq=64, n_eval_episodes=1, verbose=0
    )
    with _watch(tmp_path) as watch:
        agent = PPO("MlpPolicy", "CartPole-v1", n_steps=64, n_epochs=1, device="cpu")
        agent.learn(128, callback=[evaluation, WatchstepCallback(watch)])

    assert list(watch._progress._phases) == ["evaluating", "saving"]
    assert evaluation.evaluations_timesteps == [] or evaluation.best_mean_reward > 0


def test_a_training_resumes_from_what_an_earlier_one_left(tmp_path: Path) -> None:
    def agent(seed: int) -> PPO:
        return PPO("MlpPolicy", "CartPole-v1", n_steps=64, n_epochs=1, device="cpu", seed=seed)

    options = {"directory": tmp_path / "spool", "checkpoints": tmp_path / "ckpt", "run": "r"}
    first, fresh, resumed = agent(1), agent(2), agent(3)
    first.learn(64, callback=WatchstepCallback(**options))
    saved = bit_hash(first.policy)

    begun: list[str] = []

    class Hasher(watchstep.integrations.sb3.BaseCallback):  # type: ignore[name-defined,misc]
        def _on_training_start(self) -> None:
            begun.append(bit_hash(self.model.policy))

        def _on_step(self) -> bool:
            return True

    resumed.learn(64, callback=[WatchstepCallback(**options, resume=True), Hasher()])
    fresh.learn(64, callback=[WatchstepCallback(**options), Hasher()])

    assert begun[0] == saved
    assert begun[1] != saved


def test_training_is_put_back_as_it_was(tmp_path: Path) -> None:
    agent = PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=64, n_epochs=1, device="cpu")
    with _watch(tmp_path) as watch:
        agent.learn(64, callback=WatchstepCallback(watch))

    assert "train" not in vars(agent)
    assert "get" not in vars(agent.rollout_buffer)
    assert torch.nn.utils.clip_grad_norm_.__name__ == "clip_grad_norm_"


@pytest.mark.parametrize(("algorithm", "options"), [(A2C, {}), (DQN, {"learning_starts": 50})])
def test_other_algorithms_are_watched(
    tmp_path: Path, algorithm: type[Any], options: dict[str, Any]
) -> None:
    agent = algorithm("MlpPolicy", "CartPole-v1", device="cpu", seed=0, **options)
    with _watch(tmp_path) as watch:
        callback = WatchstepCallback(watch, log_every=20)
        agent.learn(400, callback=callback)

    assert "train/loss" in callback.readings or "train/value_loss" in callback.readings
    assert "train/advantages_norm_max_abs" not in callback.readings
    assert watch.errors == {}
    assert watch.pinned is not None


def test_an_error_in_training_ends_the_run_as_failed(tmp_path: Path) -> None:
    agent = PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=64, n_epochs=1, device="cpu")
    callback = WatchstepCallback(run="sb3", directory=tmp_path / "spool")
    with torch.no_grad():
        agent.policy.action_net.weight.fill_(math.nan)

    # Which one depends on whether torch validates distributions, a process-wide setting.
    with pytest.raises((ValueError, RuntimeError), match=r"Expected parameter|probability tensor"):
        agent.learn(128, callback=callback)
