"""Saving, pinning and going back, as a training loop does it."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from pathlib import Path

import pytest
import torch

import watchstep
from hook.kit_hook import updates_of
from sender.fake_service import FakeService
from watchstep import Action, TrainingHalted
from watchstep.errors import CheckpointError
from watchstep.guard import bit_hash

HEALTHY = {"train/policy_loss": 0.01, "train/value_loss": 0.5}


def _trainer() -> tuple[torch.nn.Linear, torch.optim.Adam]:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2)
    return model, torch.optim.Adam(model.parameters(), lr=0.1)


def _train_step(
    model: torch.nn.Linear, optimizer: torch.optim.Optimizer, scale: float = 1.0
) -> None:
    optimizer.zero_grad()
    (model(torch.ones(3, 4)).square().sum() * scale).backward()
    optimizer.step()


def _watch(tmp_path: Path, **given: object) -> watchstep.Watch:
    return watchstep.init(
        run="r",
        directory=tmp_path / "spool",
        checkpoints=tmp_path / "ckpt",
        **given,  # type: ignore[arg-type]
    )


def _pinned(
    watch: watchstep.Watch, model: torch.nn.Linear, optimizer: torch.optim.Optimizer
) -> None:
    """One step, saved and proven good."""
    watch.guard(optimizer)
    _train_step(model, optimizer)
    watch.log(HEALTHY, step=1)
    watch.save({"model": model, "optimizer": optimizer}, step=1)
    watch.log(HEALTHY, step=2)


def test_the_pin_follows_healthy_updates_and_stays_before_the_first_alert(tmp_path: Path) -> None:
    model, optimizer = _trainer()
    with _watch(tmp_path) as watch:
        for step in (1, 2, 3):
            _train_step(model, optimizer)
            watch.log(HEALTHY, step=step)
            watch.save({"model": model, "optimizer": optimizer}, step=step)
        watch.log({**HEALTHY, "train/value_loss": math.nan}, step=4)
        watch.save({"model": model, "optimizer": optimizer}, step=4)
        watch.log({**HEALTHY, "train/value_loss": math.nan}, step=5)

        assert watch.pinned is not None
        assert watch.pinned.step == 2


def test_restore_brings_back_weights_and_optimizer_bit_for_bit(tmp_path: Path) -> None:
    model, optimizer = _trainer()
    with _watch(tmp_path) as watch:
        _train_step(model, optimizer)
        watch.log(HEALTHY, step=1)
        watch.save({"model": model, "optimizer": optimizer}, step=1)
        watch.log(HEALTHY, step=2)
        good = bit_hash(model, optimizer)
        _train_step(model, optimizer, scale=1e6)

        checkpoint = watch.restore()

        assert checkpoint.step == 1
        assert bit_hash(model, optimizer) == good


def test_a_state_that_is_not_finite_is_refused_and_told(tmp_path: Path) -> None:
    model, optimizer = _trainer()
    with _watch(tmp_path) as watch:
        watch.log(HEALTHY, step=1)
        with torch.no_grad():
            model.weight[0, :] = math.inf

        checkpoint = watch.save({"model": model, "optimizer": optimizer}, step=1)

        assert checkpoint is not None
        assert not checkpoint.finite
        assert "ParametersNonFinite" in watch.firing
        (alert,) = [t for t in watch.transitions if t.rule == "ParametersNonFinite"]
        assert alert.reading == 1.0  # Tensors, not elements.


def test_a_guarded_poisoned_step_is_skipped_and_leaves_every_bit(tmp_path: Path) -> None:
    model, optimizer = _trainer()
    with _watch(tmp_path) as watch:
        watch.guard(optimizer)
        _train_step(model, optimizer)
        before = bit_hash(model, optimizer)

        _train_step(model, optimizer, scale=math.nan)

        assert bit_hash(model, optimizer) == before
        assert "StepSkipped" in watch.log(HEALTHY, step=1).firing


def test_a_checkpoint_that_the_service_asks_for_is_saved_at_the_next_update(
    tmp_path: Path,
) -> None:
    model, optimizer = _trainer()
    with _watch(tmp_path) as watch:
        watch.save({"model": model, "optimizer": optimizer}, step=1)
        _train_step(model, optimizer)

        watch._on_command({"id": "c1", "kind": "checkpoint", "reason": "before the weekend"})
        watch.log(HEALTHY, step=7)

        assert watch.keeper is not None
        assert 7 in [checkpoint.step for checkpoint in watch.keeper.list()]


def test_a_halt_that_a_person_asks_for_is_obeyed_even_where_rules_only_alert(
    tmp_path: Path,
) -> None:
    watch = _watch(tmp_path)

    watch._on_command({"id": "c2", "kind": "halt", "reason": "wrong data"})

    with pytest.raises(TrainingHalted, match="wrong data"):
        watch.log(HEALTHY, step=1)


def test_rollback_restores_the_pin_and_training_goes_on(tmp_path: Path) -> None:
    model, optimizer = _trainer()
    with _watch(tmp_path, on_critical="rollback", rollback_lr_factor=0.5) as watch:
        _pinned(watch, model, optimizer)
        good = bit_hash(model)
        _train_step(model, optimizer)

        verdict = watch.log({**HEALTHY, "train/value_loss": math.nan}, step=3)

        assert verdict.action is Action.ROLLBACK
        assert bit_hash(model) == good
        assert optimizer.param_groups[0]["lr"] == 0.05


def test_rollbacks_are_limited_and_the_next_one_halts(tmp_path: Path) -> None:
    model, optimizer = _trainer()
    watch = _watch(tmp_path, on_critical="rollback", max_rollbacks=1)
    watch.save({"model": model, "optimizer": optimizer}, step=0)
    watch.log(HEALTHY, step=1)
    watch.log({"train/loss": math.nan}, step=2)

    with pytest.raises(TrainingHalted):
        watch.log({"train/loss": math.nan}, step=3)


def test_a_poisoned_rollout_costs_one_rollback_however_many_steps_it_has(tmp_path: Path) -> None:
    model, optimizer = _trainer()
    with _watch(tmp_path, on_critical="rollback", max_rollbacks=1) as watch:
        _pinned(watch, model, optimizer)
        good = bit_hash(model, optimizer)

        for _ in range(12):
            _train_step(model, optimizer, scale=math.nan)
        verdict = watch.log({**HEALTHY, "train/value_loss": math.nan}, step=3)

        assert verdict.action is Action.ROLLBACK
        assert bit_hash(model, optimizer) == good
        assert watch._actions.rollbacks == 1


def test_restoring_where_nothing_was_saved_is_a_clear_error(tmp_path: Path) -> None:
    model, _ = _trainer()
    with _watch(tmp_path) as watch, pytest.raises(CheckpointError, match="no "):
        watch.restore({"model": model})


def test_a_save_in_the_background_is_told_once_it_is_durable(tmp_path: Path) -> None:
    model, optimizer = _trainer()
    with _watch(tmp_path, async_checkpoints=True) as watch:
        updates = updates_of(watch)
        watch.log(HEALTHY, step=1)
        assert watch.save({"model": model, "optimizer": optimizer}, step=1) is None
        assert watch.keeper is not None
        assert watch.keeper.flush(30.0)
        watch.log(HEALTHY, step=2)
        watch.log(HEALTHY, step=3)

    checkpoints = [
        update.event for update in updates if update.event and update.event["kind"] == "checkpoint"
    ]
    assert {(event["step"], event["pinned"]) for event in checkpoints} == {(1, False), (1, True)}


def test_a_save_that_fails_in_the_background_is_warned_of_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    model, _ = _trainer()
    with _watch(tmp_path, async_checkpoints=True) as watch:
        monkeypatch.setattr("watchstep.checkpoint.durable.os.fsync", full)
        watch.save({"model": model}, step=1)
        assert watch.keeper is not None
        assert watch.keeper.flush(30.0)
        with pytest.warns(UserWarning, match="not saved: No space left"):
            watch.log(HEALTHY, step=1)
        watch.log(HEALTHY, step=2)
        assert watch.firing == ("CheckpointNotSaved",)

        assert watch.errors == {"CheckpointError": 1}


def test_a_save_that_fails_is_an_alert_until_one_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    model, _ = _trainer()
    with _watch(tmp_path) as watch:
        updates = updates_of(watch)
        with monkeypatch.context() as disk:
            disk.setattr("watchstep.checkpoint.durable.os.fsync", full)
            with pytest.warns(UserWarning, match="not saved: No space left"):
                assert watch.save({"model": model}, step=1) is None
        watch.log(HEALTHY, step=1)
        assert watch.firing == ("CheckpointNotSaved",)

        watch.save({"model": model}, step=2)
        watch.log(HEALTHY, step=2)
        assert not watch.firing
    texts = [update.event["text"] for update in updates if update.event and "text" in update.event]
    assert any("No space left on device" in text for text in texts)


def test_a_state_that_is_refused_in_the_background_is_told_and_judged_at_the_next_update(
    tmp_path: Path,
) -> None:
    model, _ = _trainer()
    with _watch(tmp_path, async_checkpoints=True) as watch:
        updates = updates_of(watch)
        watch.log(HEALTHY, step=1)
        next(model.parameters()).data.view(-1)[0] = math.nan
        assert watch.save({"model": model}, step=1) is None
        assert watch.keeper is not None
        assert watch.keeper.flush(30.0)
        assert not watch.firing
        watch.log(HEALTHY, step=2)

        assert watch.keeper.list() == []
        assert watch.firing == ("ParametersNonFinite",)
    checkpoints = [
        update.event for update in updates if update.event and update.event["kind"] == "checkpoint"
    ]
    assert [(event["step"], event["finite"]) for event in checkpoints] == [(1, False)]


def test_the_end_of_a_run_waits_for_the_save_in_flight_and_tells_of_it(tmp_path: Path) -> None:
    model, optimizer = _trainer()
    with _watch(tmp_path, async_checkpoints=True, exit_s=30.0) as watch:
        updates = updates_of(watch)
        watch.log(HEALTHY, step=1)
        watch.save({"model": model, "optimizer": optimizer}, step=1)

    kinds = [update.event["kind"] for update in updates if update.event]
    assert kinds == ["started", "checkpoint", "finished"]


def test_the_end_of_a_run_writes_the_newest_of_many_saves_and_says_what_was_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    real, model = os.fsync, torch.nn.Linear(4, 1)
    monkeypatch.setattr(
        "watchstep.checkpoint.durable.os.fsync", lambda fd: released.wait(30) and real(fd)
    )
    watch = _watch(tmp_path, async_checkpoints=True, exit_s=30.0, keep=9)
    updates = updates_of(watch)
    for step in range(3):
        watch.save({"model": model}, step=step)
    with pytest.warns(UserWarning, match="passes over saves"):
        watch.log(HEALTHY, step=4)
    watch.save({"model": model}, step=4)
    released.set()
    watch.finish()

    assert watch.keeper is not None
    assert [checkpoint.step for checkpoint in watch.keeper.list()] == [4, 0]
    assert updates[0].readings["checkpoint/passed_over"] == 1.0


def test_the_end_of_a_run_has_one_budget_for_a_hung_disk_and_a_silent_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    model, _ = _trainer()
    with socket.create_server(("127.0.0.1", 0)) as hole:
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        watch = _watch(tmp_path, async_checkpoints=True, exit_s=1.0, url=url)
        monkeypatch.setattr(
            "watchstep.checkpoint.durable.os.fsync", lambda _: released.wait(30) and None
        )
        watch.log(HEALTHY, step=1)
        watch.save({"model": model}, step=1)

        begun = time.monotonic()
        with pytest.warns(UserWarning, match="leaves a save unfinished"):
            watch.finish()
        took_s = time.monotonic() - begun
        released.set()

    assert 1.0 <= took_s < 1.9


def test_a_save_that_is_abandoned_at_the_end_is_told_to_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, released = FakeService(), threading.Event()
    model, _ = _trainer()
    watch = _watch(tmp_path, async_checkpoints=True, exit_s=1.0, url=service.url)
    monkeypatch.setattr(
        "watchstep.checkpoint.durable.os.fsync", lambda _: released.wait(30) and None
    )
    watch.log(HEALTHY, step=1)
    watch.save({"model": model}, step=1)

    with pytest.warns(UserWarning, match="leaves a save unfinished"):
        watch.finish()

    events = [update["event"] for update in service.updates() if "event" in update]
    released.set()
    service.stop()
    assert [event["kind"] for event in events] == ["started", "log", "finished"]
    assert events[1]["text"] == "the run ended before its last save was on disk"


def test_a_halt_that_abandons_a_save_warns_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    model, _ = _trainer()
    watch = _watch(tmp_path, async_checkpoints=True, exit_s=0.2, on_critical="halt")
    monkeypatch.setattr(
        "watchstep.checkpoint.durable.os.fsync", lambda _: released.wait(30) and None
    )
    watch.save({"model": model}, step=1)

    with (
        pytest.warns(UserWarning, match="leaves a save unfinished"),
        pytest.raises(TrainingHalted),
    ):
        watch.log({**HEALTHY, "train/policy_loss": math.nan}, step=2)

    released.set()
