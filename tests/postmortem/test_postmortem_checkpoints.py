"""The checkpoint to go back to: from before the damage, verified, nothing executed."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import watchstep
from postmortem.kit_postmortem import HEALTHY, examined, healthy_rows, run_of
from watchstep.postmortem.checkpoints import Good, search

EXPLODED = [*healthy_rows(30), *[{**HEALTHY, "train/value_loss": "NaN"}] * 10]


def saved(path: Path, value: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"weight": torch.full((4,), value)}, path)
    return path


def test_the_newest_finite_checkpoint_from_before_the_damage_is_named(tmp_path: Path) -> None:
    log = run_of(tmp_path / "updates.jsonl", EXPLODED)
    for number in (10, 20, 28, 35):
        saved(tmp_path / "checkpoints" / f"model_{number}.pt")

    checkpoints = examined(log).checkpoints

    assert checkpoints.best is not None
    assert checkpoints.best.path.name == "model_28.pt"
    assert [checkpoint.path.name for checkpoint in checkpoints.refused] == ["model_35.pt"]


def test_a_checkpoint_that_is_not_finite_or_torn_is_passed_over_with_its_reason(
    tmp_path: Path,
) -> None:
    log = run_of(tmp_path / "updates.jsonl", EXPLODED)
    good = saved(tmp_path / "model_10.pt")
    saved(tmp_path / "model_20.pt", math.nan)
    torn = saved(tmp_path / "model_25.pt")
    torn.write_bytes(torn.read_bytes()[:-40])

    checkpoints = examined(log).checkpoints

    assert checkpoints.best is not None
    assert checkpoints.best.path == good
    assert [(checkpoint.path.name, checkpoint.state) for checkpoint in checkpoints.refused] == [
        ("model_25.pt", "bad"),
        ("model_20.pt", "bad"),
    ]


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    witness = tmp_path / "executed"

    class Hostile:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(witness),)

    log = run_of(tmp_path / "updates.jsonl", EXPLODED)
    (tmp_path / "model_20.pt").write_bytes(pickle.dumps(Hostile()))

    checkpoints = examined(log).checkpoints

    assert checkpoints.best is None
    assert not witness.exists()


def test_checkpoints_numbered_in_steps_are_matched_to_a_log_of_iterations(tmp_path: Path) -> None:
    for steps in (1_000, 5_000, 9_000):
        saved(tmp_path / f"rl_model_{steps}_steps.pt")

    result = search(tmp_path / "progress.csv", Good(update=20, last_update=40, steps=5_120))

    assert result.best is not None
    assert result.best.step == 5_000


def test_where_no_update_was_good_every_numbered_checkpoint_is_too_new(tmp_path: Path) -> None:
    saved(tmp_path / "model_1.pt")

    result = search(tmp_path / "log.txt", Good(update=None, last_update=40))

    assert result.best is None


@pytest.mark.parametrize("healthy", [True, False])
def test_checkpoints_are_only_looked_for_where_one_is_needed(tmp_path: Path, healthy: bool) -> None:
    log = run_of(tmp_path / "updates.jsonl", healthy_rows(20) if healthy else EXPLODED)
    saved(tmp_path / "model_10.pt")

    assert (examined(log).checkpoints.best is None) == healthy


def test_the_hooks_own_log_leads_to_the_checkpoints_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHSTEP_MODE", "offline")
    model = torch.nn.Linear(2, 1)
    with watchstep.init(
        run="r", rules="ppo", directory=tmp_path / "spool", checkpoints=tmp_path / "far" / "away"
    ) as watch:
        for number in range(1, 31):
            watch.log(HEALTHY, step=number)
            if number % 10 == 0:
                watch.save({"model": model}, step=number)
        watch.log({**HEALTHY, "train/value_loss": math.nan}, step=31)

    examination = examined(tmp_path / "spool")

    assert examination.verdict == "diverged"
    assert examination.checkpoints.best is not None
    assert examination.checkpoints.best.path.is_relative_to(tmp_path / "far" / "away")
    assert examination.checkpoints.best.step == 30


def test_a_checkpoint_of_unknown_age_is_not_recommended(tmp_path: Path) -> None:
    log = run_of(tmp_path / "updates.jsonl", EXPLODED)
    saved(tmp_path / "best_model.pt")

    checkpoints = examined(log).checkpoints

    assert checkpoints.best is None
    assert [checkpoint.reason for checkpoint in checkpoints.refused] == [
        "neither name nor manifest tells when it was saved"
    ]


def test_the_checkpoints_of_another_run_are_not_recommended(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.log").write_text("loss: 1\n", encoding="utf-8")
        saved(tmp_path / name / "model_10.pt")
    saved(tmp_path / "checkpoints" / "model_5.pt")

    best = search(tmp_path / "second.log", Good(update=20, last_update=40)).best

    assert best is not None
    assert best.path == tmp_path / "second" / "model_10.pt"
