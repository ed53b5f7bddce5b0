"""What a person asks for through the service, obeyed by every rank at the same step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from guard.ranks import run_ranks
from watchstep import TrainingHalted


def test_a_person_s_halt_reaches_every_rank_in_the_same_step(tmp_path: Path) -> None:
    program = """
        watch = watching(mode="offline")
        def ask(step):
            if (rank, step) == (0, 2):
                watch._on_command({"kind": "halt", "id": "c1", "reason": "please"})
        steps_until_halted(watch, lambda step: {"train/loss": 1.0}, before=ask)
    """

    ranks = run_ranks(tmp_path, 2, program)

    assert [code for code, _ in ranks] == [76, 76]
    assert [ended["step"] for _, ended in ranks] == [3, 3]
    assert all("halted by command: please" in ended["why"] for _, ended in ranks)


def test_a_person_s_halt_is_no_rollback(make: Any, tmp_path: Path) -> None:
    watch = make(mode="offline", on_critical="rollback", checkpoints=tmp_path / "ckpt")
    watch._on_command({"kind": "halt", "id": "c1", "reason": "please"})

    with pytest.raises(TrainingHalted, match="halted by command: please"):
        watch.log({"train/loss": 1.0})


def test_several_commands_are_all_obeyed(make: Any, tmp_path: Path) -> None:
    import torch

    watch = make(mode="offline", checkpoints=tmp_path / "ckpt")
    watch.log({"train/loss": 1.0}, step=1)
    watch.save({"model": torch.nn.Linear(2, 2)})
    watch._on_command({"kind": "checkpoint", "id": "c1"})
    watch._on_command({"kind": "halt", "id": "c2"})

    with pytest.raises(TrainingHalted):
        watch.log({"train/loss": 1.0}, step=2)

    assert {saved.step for saved in watch.keeper.list()} == {1, 2}
