"""The single-file PPO of the page, trained for real: healthy, switched off, and with a fault."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gymnasium", reason="needs gymnasium, of the extra sb3")

import torch

import watchstep
from watchstep import TrainingHalted
from watchstep.guard import bit_hash
from watchstep.rl import standardize_advantages

PAGE = Path(__file__).parents[2] / "docs" / "integrations" / "cleanrl.md"
TOTAL = 1_536


@pytest.fixture(scope="module")
def program() -> str:
    """The file on the page, up to where it begins to train."""
    first = re.search(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert first is not None
    return first[1].partition("torch.manual_seed")[0]


class Trained:
    """One training by the page's code."""

    def __init__(self, program: str, watch: watchstep.Watch, **replaced: Any) -> None:
        torch.manual_seed(1)
        torch.set_num_threads(1)
        self.page: dict[str, Any] = {}
        exec(compile(program, str(PAGE), "exec"), self.page)
        self.page.update(replaced)
        self.watch = watch
        self.agent = self.page["Agent"]()
        self.optimizer = torch.optim.Adam(self.agent.parameters(), lr=1e-3)

    def run(self) -> str:
        """Train, and return a hash of what came of it."""
        envs = self.page["make_envs"]()
        self.page["train"](self.watch, self.agent, self.optimizer, envs, TOTAL)
        return bit_hash(self.agent, self.optimizer)


def watching(tmp_path: Path, **given: Any) -> watchstep.Watch:
    return watchstep.init(
        run="loop",
        directory=tmp_path / "spool",
        checkpoints=tmp_path / "ckpt",
        on_critical="halt",
        **given,
    )


def test_a_watched_training_ends_bit_for_bit_as_one_with_watchstep_switched_off(
    program: str, tmp_path: Path
) -> None:
    with watching(tmp_path) as watch:
        watched = Trained(program, watch).run()
    with watching(tmp_path, mode="disabled") as off:
        unwatched = Trained(program, off).run()

    assert watched == unwatched
    assert watch.errors == {}
    assert watch.firing == ()
    assert watch.pinned is not None
    assert watch.pinned.step >= TOTAL / 2


def test_a_deviation_of_other_data_stops_the_first_step_that_has_it(
    program: str, tmp_path: Path
) -> None:
    at_the_fault: list[str] = []

    def faulty(advantages: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        own, statistics = standardize_advantages(advantages)
        minibatches.append(len(advantages))
        if len(minibatches) <= 50:
            return own, statistics
        at_the_fault.append(bit_hash(training.agent, training.optimizer))
        wrong = (advantages - advantages.mean()) / 0.01
        return wrong, {**statistics, "train/advantages_norm_max_abs": wrong.abs().max()}

    minibatches: list[int] = []
    training = Trained(program, watching(tmp_path), standardize_advantages=faulty)
    with pytest.raises(TrainingHalted, match="AdvantagesBeyondBound"):
        training.run()

    assert [bit_hash(training.agent, training.optimizer)] == at_the_fault
