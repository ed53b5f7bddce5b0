"""TRL's GRPOTrainer, on a real if tiny language model: rewards and advantages as they are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the extra trl")

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

import watchstep
from integrations.kit_integrations import QUIET, recorded
from integrations.tiny_llm import tiny_llm, tiny_tokenizer
from watchstep import TrainingHalted
from watchstep.integrations.trl import WatchstepCallback

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning",
    "ignore::DeprecationWarning",
    "ignore::UserWarning",
    # Raised by TRL where rewards hold NaN.
    "ignore::RuntimeWarning",
)

LENGTHS = 0.1


class Rewards:
    """Counts words, until one of its calls returns something else."""

    __name__ = "counting"

    def __init__(self, **strange: float | None) -> None:
        self.strange = strange
        self.calls = 0

    def __call__(self, completions: list[str], **_: Any) -> list[float | None]:
        self.calls += 1
        values: list[float | None] = [
            completion.count("w5") + LENGTHS * len(completion.split()) for completion in completions
        ]
        if self.calls == 4 and "value" in self.strange:
            values[0] = self.strange["value"]
        return values


class WrongSample(GRPOTrainer):
    """From the third batch on, advantages are divided by a deviation of other data."""

    scored = 0

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        batch = super()._generate_and_score_completions(inputs)
        self.scored += 1
        if self.scored >= 3:
            batch["advantages"] = batch["advantages"] * 30.0
        return batch


def train(
    tmp_path: Path,
    rewards: Any,
    kind: type[GRPOTrainer] = GRPOTrainer,
    on_critical: str = "alert",
    **given: Any,
) -> tuple[Any, watchstep.Watch, list[dict[str, Any]]]:
    torch.set_num_threads(1)
    watch = watchstep.init(
        run="grpo",
        directory=tmp_path / "spool",
        rules="grpo",
        on_critical=on_critical,  # type: ignore[arg-type]
    )
    updates = recorded(watch)
    arguments = {
        "max_steps": 5,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 6,
        "learning_rate": 1e-3,
        "bf16": False,
        **QUIET,
        **given,
    }
    trainer = kind(
        model=tiny_llm(),
        processing_class=tiny_tokenizer(),
        args=GRPOConfig(output_dir=str(tmp_path / "out"), **arguments),
        reward_funcs=rewards,
        train_dataset=Dataset.from_dict({"prompt": ["w1 w2", "w3 w4"] * 8}),
        callbacks=[WatchstepCallback(watch)],
    )
    try:
        trainer.train()
    finally:
        watch.finish()
    return trainer, watch, [metrics for _, metrics in updates]


def test_advantages_in_the_loss_and_rewards_of_the_groups_are_read(tmp_path: Path) -> None:
    _, watch, updates = train(tmp_path, Rewards())

    assert len(updates) == 5
    for readings in updates:
        assert readings["train/group_size"] == 4
        assert 0 < readings["train/advantages_norm_max_abs"] <= math.sqrt(3)
        assert readings["rollout/ep_rew_mean"] == pytest.approx(readings["reward"], rel=1e-5)
        assert 0 < readings["train/advantages_std_raw"] < 3
    assert not any(transition.severity == "critical" for transition in watch.transitions)
    assert watch.errors == {}


def test_advantages_that_their_group_cannot_give_halt_before_the_step(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Remembering(WrongSample):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            seen.append(self)

    with pytest.raises(TrainingHalted) as caught:
        train(tmp_path, Rewards(), Remembering, on_critical="halt")

    assert caught.value.rule == "AdvantagesBeyondGroupBound"
    # The third step was judged and never taken.
    assert seen[0].state.global_step == 2


@pytest.mark.parametrize("value", [math.inf, math.nan], ids=str)
def test_a_reward_that_is_not_finite_is_told_although_trl_trains_on(
    tmp_path: Path, value: float
) -> None:
    _, watch, updates = train(tmp_path, Rewards(value=value))

    assert [readings["rewards/nonfinite"] for readings in updates] == [0, 0, 0, 1, 0]
    assert not math.isfinite(updates[3]["rollout/ep_rew_mean"])
    assert "ReadingNonFinite" in {
        transition.rule for transition in watch.transitions if transition.change == "firing"
    }
    assert all(math.isfinite(float(readings["train/loss"])) for readings in updates)


def test_no_reward_is_not_a_nan(tmp_path: Path) -> None:
    _, _, updates = train(tmp_path, Rewards(value=None))

    assert [readings["rewards/nonfinite"] for readings in updates] == [0] * 5


def test_advantages_that_are_only_centred_have_no_bound(tmp_path: Path) -> None:
    _, watch, updates = train(tmp_path, Rewards(), WrongSample, scale_rewards="none")

    assert not any("train/advantages_norm_max_abs" in readings for readings in updates)
    assert not any(transition.severity == "critical" for transition in watch.transitions)


def test_the_bound_of_a_batch_is_that_of_the_batch(tmp_path: Path) -> None:
    _, watch, updates = train(tmp_path, Rewards(), scale_rewards="batch")

    assert {readings["train/group_size"] for readings in updates} == {8}
    assert not any(transition.severity == "critical" for transition in watch.transitions)
