"""What is told of pins names the file that is there, and a start says what an earlier one left."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

import watchstep

torch = pytest.importorskip("torch")


def begun(tmp_path: Path, **more: Any) -> watchstep.Watch:
    return watchstep.init(
        run="pins", directory=tmp_path / "spool", mode="offline", rules="pretrain",
        checkpoints=tmp_path / "ckpt", on_critical="halt", **more,
    )  # fmt: skip


def recorded(watch: watchstep.Watch, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Updates as they go to the service."""
    updates: list[Any] = []
    outbound = watch._stream.outbound
    assert outbound is not None
    send = outbound.put
    monkeypatch.setattr(outbound, "put", lambda update: (updates.append(update), send(update)))
    return updates


def told_pin(updates: list[Any]) -> str | None:
    events = [update.event for update in updates if update.event]
    paths = [e["path"] for e in events if e["kind"] == "checkpoint" and e["pinned"]]
    return paths[-1] if paths else None


def test_the_pin_that_was_told_last_is_there_after_every_update_and_after_the_halt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = begun(tmp_path)
    updates = recorded(watch, monkeypatch)
    model = torch.nn.Linear(2, 1)

    for step in range(8):
        watch.log({"train/loss": 1.0}, step=step)
        watch.save({"model": model}, step=step)
        pin = told_pin(updates)
        assert pin is None or Path(pin).exists()
        assert (pin is None) == (step < 1)
    with pytest.raises(watchstep.TrainingHalted):
        watch.log({"train/loss": math.nan}, step=8)

    pin = told_pin(updates)
    assert pin is not None
    assert Path(pin).exists()
    halted = next(u.event for u in updates if u.event and u.event["kind"] == "halted")
    assert halted["checkpoint"] == pin


def test_a_second_start_says_what_is_there_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = torch.nn.Linear(2, 1)
    for steps in (range(400, 404), range(4)):
        watch = begun(tmp_path)
        for step in steps:
            watch.log({"train/loss": 1.0}, step=step)
            watch.save({"model": model}, step=step)
        watch.finish()
    lines = capsys.readouterr().err.splitlines()
    again = begun(tmp_path)
    restored = again.restore({"model": model})
    again.finish()

    hint = (
        f"watchstep: {tmp_path / 'ckpt'} holds a checkpoint of step 402 (the pin) and 2 more of"
        " an earlier start: watch.restore({...}) goes on from it; without that they stay until"
        " this run has come as far"
    )
    assert [line for line in lines if "watch.restore" in line] == [hint]
    assert restored.step == 402


def test_a_rollback_of_a_run_that_began_anew_does_not_jump_into_the_earlier_one(
    tmp_path: Path,
) -> None:
    model = torch.nn.Linear(2, 1)
    first = begun(tmp_path)
    for step in range(400, 403):
        first.log({"train/loss": 1.0}, step=step)
        first.save({"model": model}, step=step)
    first.finish()
    with torch.no_grad():
        model.weight.fill_(7.0)

    watch = watchstep.init(
        run="pins", directory=tmp_path / "spool", mode="offline", rules="pretrain",
        checkpoints=tmp_path / "ckpt", on_critical="rollback",
    )  # fmt: skip
    watch.log({"train/loss": 1.0}, step=1)
    watch.save({"model": model}, step=1)
    watch.log({"train/loss": 1.0}, step=2)
    watch.log({"train/loss": math.nan}, step=3)
    watch.finish()

    assert watch._actions.rollbacks == 1
    assert bool((model.weight == 7.0).all())


def test_the_pin_at_a_halt_is_from_before_the_loss_began_to_rise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = begun(tmp_path)
    model = torch.nn.Linear(2, 1)
    noise = random.Random(1)

    def train() -> None:
        for step in range(400):
            loss = 0.99**step if step <= 120 else 0.99**120 * 1.03 ** (step - 120)
            watch.log({"train/loss": loss * noise.gauss(1, 0.02)}, step=step)
            if step % 10 == 0:
                watch.save({"model": model}, step=step)

    with pytest.raises(watchstep.TrainingHalted):
        train()

    assert watch.pinned is not None
    assert 110 <= watch.pinned.step <= 130
    assert f"good checkpoint: {watch.pinned.path.name}" in capsys.readouterr().err


def test_what_a_critical_alert_shows_to_be_bad_is_not_the_pin_any_more(tmp_path: Path) -> None:
    watch = watchstep.init(
        run="late", directory=tmp_path / "spool", mode="offline", rules="ppo",
        checkpoints=tmp_path / "ckpt",
    )  # fmt: skip
    model = torch.nn.Linear(2, 1)
    noise = random.Random(1)
    pins = []

    for step in range(1, 141):
        value = 1.0 if step <= 100 else 1.5 ** (step - 100)
        watch.log({"train/value_loss": value * noise.gauss(1, 0.02)}, step=step)
        if step % 3 == 0:
            watch.save({"model": model}, step=step)
        pins.append(watch.pinned)
    halts = [t.seq for t in watch.transitions if t.severity == "critical"]
    watch.finish()

    assert halts
    assert max(pin.step for pin in pins if pin is not None) > 100
    assert pins[-1] is not None
    assert pins[-1].step <= 100
