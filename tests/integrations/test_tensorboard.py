"""Mirroring a TensorBoard writer, with torch's own SummaryWriter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorboard", reason="needs the extra tensorboard")

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

import watchstep
from integrations.kit_integrations import recorded
from watchstep import TrainingHalted
from watchstep.integrations.tensorboard import mirror

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Any]:
    made = SummaryWriter(str(tmp_path / "events"))
    yield made
    made.close()


def watched(tmp_path: Path, **given: Any) -> tuple[watchstep.Watch, list[Any]]:
    watch = watchstep.init(run="tb", directory=tmp_path / "spool", **given)
    return watch, recorded(watch)


def test_scalars_of_one_step_are_one_update(writer: Any, tmp_path: Path) -> None:
    watch, updates = watched(tmp_path)
    mirrored = mirror(writer, watch)

    for step in (10, 20):
        writer.add_scalar("losses/policy_loss", 0.5, step)
        writer.add_scalar("losses/value_loss", torch.tensor(2.0), step)
    mirrored.stop()
    watch.finish()

    both = {"losses/policy_loss": 0.5, "losses/value_loss": torch.tensor(2.0)}
    assert updates == [(10, both), (20, both)]
    assert mirrored.updates == 2


def test_with_a_beat_scalars_at_odd_steps_join_the_training_update(
    writer: Any, tmp_path: Path
) -> None:
    # CleanRL writes each episode at its own step, and losses once an iteration.
    watch, updates = watched(tmp_path)
    mirror(writer, watch, beat="charts/SPS")

    writer.add_scalar("charts/episodic_return", 17.0, 93)
    writer.add_scalar("charts/episodic_return", 21.0, 120)
    writer.add_scalar("losses/value_loss", 1.0, 128)
    writer.add_scalar("charts/SPS", 900, 128)
    watch.finish()

    assert updates == [
        (128, {"charts/episodic_return": 21.0, "losses/value_loss": 1.0, "charts/SPS": 900})
    ]


def test_a_nan_halts_the_loop_that_writes_it_and_is_still_written(
    writer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch, _ = watched(tmp_path, on_critical="halt")
    mirror(writer, watch)

    writer.add_scalar("losses/value_loss", 0.1, 1)
    writer.add_scalar("losses/value_loss", math.nan, 2)
    with pytest.raises(TrainingHalted) as caught:
        writer.add_scalar("losses/value_loss", 0.1, 3)

    assert caught.value.rule == "LossNonFinite"
    assert "LossNonFinite" in capsys.readouterr().err
    writer.flush()
    (events,) = (tmp_path / "events").iterdir()
    accumulated = EventAccumulator(str(events)).Reload()
    assert [Scalar.step for Scalar in accumulated.Scalars("losses/value_loss")] == [1, 2, 3]


def test_a_last_update_is_judged_when_the_writer_closes(writer: Any, tmp_path: Path) -> None:
    watch, updates = watched(tmp_path)
    mirror(writer, watch)

    writer.add_scalar("losses/value_loss", 1.0, 1)
    writer.close()
    watch.finish()

    assert updates == [(1, {"losses/value_loss": 1.0})]


def test_tags_become_metric_names_and_two_never_one(writer: Any, tmp_path: Path) -> None:
    watch, updates = watched(tmp_path)
    mirrored = mirror(writer, watch)

    writer.add_scalar("Loss (train)", 1.0, 1)
    writer.add_scalar("Loss [train]", 2.0, 1)
    mirrored.stop()
    watch.finish()

    ((_, readings),) = updates
    assert list(readings.values()) == [1.0, 2.0]
    assert all(name.startswith("Loss_train") for name in readings)
    assert watch.errors == {}


def test_stopping_leaves_the_writer_as_it_was(writer: Any, tmp_path: Path) -> None:
    watch, updates = watched(tmp_path)
    mirrored = mirror(writer, watch)

    mirrored.stop()
    mirrored.stop()
    writer.add_scalar("losses/value_loss", 1.0, 1)
    watch.finish()

    assert updates == []
    assert {"add_scalar", "flush", "close"}.isdisjoint(vars(writer))
