"""Accelerate's tracker by name, and Transformers' `report_to`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate", reason="needs accelerate")

from accelerate import Accelerator

from watchstep import TrainingHalted
from watchstep.integrations.accelerate import WatchstepTracker
from watchstep.postmortem.readers import open_logs


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("WATCHSTEP_DIR", str(tmp_path / "spool"))
    return Accelerator(cpu=True, log_with="watchstep")


def test_what_accelerate_logs_is_judged(accelerator: Any, tmp_path: Path) -> None:
    options = {"watchstep": {"run": "acc-1"}}
    accelerator.init_trackers("my-project", config={"lr": 0.1}, init_kwargs=options)

    for step in range(5):
        accelerator.log({"train_loss": 1.0 / (step + 1), "note": "text"}, step=step * 10)
    tracker = accelerator.get_tracker("watchstep")
    watch = tracker.tracker
    accelerator.end_training()

    (log,) = open_logs([tmp_path / "spool"])
    updates = [update for update in log.updates if "train_loss" in update.readings]
    assert (log.run, watch.options.project, watch.options.config) == (
        "acc-1",
        "my-project",
        {"lr": 0.1},
    )
    assert [update.step for update in updates] == [0, 10, 20, 30, 40]
    assert isinstance(tracker, WatchstepTracker)
    assert watch.errors == {}


def test_a_halt_ends_a_training_under_accelerate(
    accelerator: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"watchstep": {"run": "acc-2", "on_critical": "halt"}}
    accelerator.init_trackers("my-project", init_kwargs=options)

    def train() -> None:
        for step in range(50):
            accelerator.log({"train_loss": math.nan if step > 10 else 1.0}, step=step)

    with pytest.raises(TrainingHalted):
        train()

    assert "NonFinite" in capsys.readouterr().err
