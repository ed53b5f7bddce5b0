"""Saving, pinning and restoring in one directory."""

from __future__ import annotations

import errno
import hashlib
import itertools
import math
import os
import random
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from watchstep.checkpoint import Checkpoint, CheckpointKeeper, all_finite, plain, verify
from watchstep.checkpoint.durable import TEMPORARY_PREFIX
from watchstep.checkpoint.folder import Folder
from watchstep.checkpoint.plain import save_into
from watchstep.checkpoint.record import LossLevel
from watchstep.errors import CheckpointError


class Run:
    """A model and an optimizer that have been trained a little."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.train()

    def train(self) -> None:
        self.optimizer.zero_grad()
        self.model(torch.randn(16, 4)).square().sum().backward()
        self.optimizer.step()

    @property
    def state(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer}

    def copy(self) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def equals(self, tensors: Mapping[str, torch.Tensor]) -> bool:
        return all(torch.equal(t, tensors[n]) for n, t in self.model.state_dict().items())


@pytest.fixture
def run() -> Run:
    return Run()


def pinned_at(step: int, run: Run, folder: Path, keep: int = 3) -> None:
    """Leave one checkpoint in a folder, as the pin."""
    keeper = CheckpointKeeper(folder, keep=keep)
    keeper.save(run.state, step=step, update=1)
    keeper.observe(healthy=True, update=2)


def kept_files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


def test_what_was_saved_comes_back_bit_for_bit(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path)
    saved, moment = run.copy(), run.optimizer.state_dict()["state"][0]["exp_avg_sq"].clone()
    checkpoint = keeper.save(run.state, step=7, update=3)
    run.train()
    other = Run(seed=1)

    restored = keeper.restore(other.state)

    assert checkpoint is not None
    assert (restored.step, restored.update, restored.sha256) == (7, 3, checkpoint.sha256)
    assert other.equals(saved)
    assert torch.equal(other.optimizer.state_dict()["state"][0]["exp_avg_sq"], moment)
    assert not run.equals(saved)


def test_scheduler_scaler_and_generators_come_back(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(run.optimizer, [2, 2, 5])
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    own, python, legacy = (
        torch.Generator().manual_seed(1),
        random.Random(2),
        np.random.default_rng(3),
    )
    notes = {"best": np.float64(1.5), "history": np.arange(3.0), "phase": ("warm", None)}
    state = {
        "scheduler": scheduler, "scaler": scaler, "own": own, "python": python,
        "numpy": legacy, "notes": notes, "seen": [1, 2],
    }  # fmt: skip
    keeper.save(state, step=1)
    drawn = torch.rand(2, generator=own), python.random(), legacy.random()
    run.optimizer.step()
    scheduler.step()
    scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0})
    notes.clear()
    state["seen"].append(3)

    keeper.restore(state)

    assert scheduler.last_epoch == 0
    assert list(scheduler.milestones.elements()) == [2, 2, 5]
    assert scaler.get_scale() == 64.0
    assert torch.equal(torch.rand(2, generator=own), drawn[0])
    assert (python.random(), legacy.random()) == drawn[1:]
    assert (notes["best"], notes["phase"]) == (1.5, ("warm", None))
    assert np.array_equal(notes["history"], [0.0, 1.0, 2.0])
    assert state["seen"] == [1, 2]


def test_the_global_generators_come_back_if_asked(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path)

    keeper.save(run.state, step=1)
    first = torch.rand(3), random.random(), np.random.rand()
    keeper.restore(run.state)
    onwards = torch.rand(3), random.random(), np.random.rand()
    keeper.restore(run.state, rng=True)
    again = torch.rand(3), random.random(), np.random.rand()

    assert torch.equal(first[0], again[0])
    assert first[1:] == again[1:]
    assert not torch.equal(first[0], onwards[0])


def test_saving_moves_no_generator(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path)
    before = torch.get_rng_state(), random.getstate()

    keeper.save(run.state, step=1)

    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["parameter", "buffer", "moment"])
def test_a_state_that_is_not_finite_is_refused(
    tmp_path: Path, run: Run, place: str, poison: float
) -> None:
    keeper = CheckpointKeeper(tmp_path)
    keeper.save(run.state, step=1)
    before = kept_files(tmp_path)
    tensor, name = {
        "parameter": (run.model[0].weight.data, "model.0.weight"),
        "buffer": (run.model[1].running_var, "model.1.running_var"),
        "moment": (run.optimizer.state[run.model[0].bias]["exp_avg_sq"],
                   "optimizer.state.1.exp_avg_sq"),
    }[place]  # fmt: skip
    tensor.view(-1)[2] = poison

    refused = keeper.save(run.state, step=2)

    assert refused is not None
    assert (refused.finite, refused.bad_tensor, refused.nonfinite) == (False, name, 1)
    assert keeper.refused == 1
    assert kept_files(tmp_path) == before


def test_infinities_that_are_meant_may_be_exempt(tmp_path: Path) -> None:
    state = {"model": {"mask": torch.full((3,), -math.inf), "weight": torch.ones(2)}}

    CheckpointKeeper(tmp_path / "a").save(state, step=1)
    checkpoint = CheckpointKeeper(tmp_path / "b", exempt=["model.*mask"]).save(state, step=1)

    assert kept_files(tmp_path / "a") == []
    assert checkpoint is not None
    assert verify(checkpoint.path).unchecked == ("model.*mask",)


def test_what_would_have_to_be_pickled_is_refused(tmp_path: Path) -> None:
    keeper = CheckpointKeeper(tmp_path)

    with pytest.raises(CheckpointError, match=r"extra\.1: Path|extra\.1: PosixPath"):
        keeper.save({"extra": [1, Path("x")]}, step=1)

    assert kept_files(tmp_path) == []


def test_the_newest_three_and_the_pin_are_kept(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path)
    keeper.save(run.state, step=1, update=1)
    pinned = keeper.observe(healthy=True, update=2)
    keeper.observe(healthy=False, update=3)

    for step in range(2, 9):
        keeper.save(run.state, step=step, update=step + 2)

    assert pinned is not None
    assert [(c.step, c.pinned) for c in keeper.list()] == [
        (8, False), (7, False), (6, False), (1, True),
    ]  # fmt: skip
    assert verify(keeper.pinned.path).step == 1  # type: ignore[union-attr]


def test_the_pin_moves_only_after_enough_later_healthy_updates(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path, good_after=3)
    keeper.save(run.state, step=10, update=5)

    moves = [keeper.observe(healthy=True, update=update) for update in (5, 6, 7, 8, 9)]

    assert [move.step if move else None for move in moves] == [None, None, None, 10, None]


def test_an_earlier_pin_is_released_once_the_next_is_in_place(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path, keep=1)
    for update in range(1, 5):
        keeper.observe(healthy=True, update=update)
        keeper.save(run.state, step=update, update=update)

    pinned = list((tmp_path / "pinned").glob("*.pt"))

    assert [path.name for path in pinned] == [keeper.pinned.path.name]  # type: ignore[union-attr]
    assert keeper.pinned.step == 3  # type: ignore[union-attr]


def test_a_checkpoint_from_just_before_an_alert_is_never_pinned(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path, good_after=2)
    for update in (1, 2, 3, 4):
        keeper.observe(healthy=True, update=update)
        keeper.save(run.state, step=update, update=update)

    keeper.observe(healthy=False, update=5)
    keeper.save(run.state, step=5, update=5)
    for update in range(6, 20):
        keeper.observe(healthy=True, update=update)
    restored = keeper.restore(run.state)

    assert restored.step == 2
    assert restored.pinned
    assert {c.step for c in keeper.list() if c.suspect} == {3, 4, 5}


def test_the_pin_moves_although_saves_come_faster_than_proofs(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path, keep=2, good_after=10)

    pins = []
    for update in range(1, 26):
        pins.append(keeper.observe(healthy=True, update=update))
        keeper.save(run.state, step=update, update=update)

    assert [pin.step for pin in pins if pin] == [1, 9]
    assert len(keeper.list()) <= 2 + 2


def test_without_a_pin_the_newest_is_restored(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path)
    for step in (1, 2, 3):
        keeper.save(run.state, step=step)

    assert keeper.restore(run.state).step == 3


def test_what_is_newer_than_the_pin_counts_only_if_asked(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path)
    keeper.save(run.state, step=1, update=1)
    keeper.observe(healthy=True, update=2)
    keeper.save(run.state, step=2, update=2)

    assert keeper.restore(run.state).step == 1
    assert keeper.restore(run.state, unproven=True).step == 2
    assert keeper.restore(run.state, step=2).step == 2


def test_a_restart_knows_the_pin_and_the_suspects(tmp_path: Path, run: Run) -> None:
    first = CheckpointKeeper(tmp_path)
    first.save(run.state, step=1, update=1)
    first.observe(healthy=True, update=2)
    first.save(run.state, step=2, update=2)
    first.observe(healthy=False, update=3)

    second = CheckpointKeeper(tmp_path)

    assert second.pinned is not None
    assert second.restore(run.state, unproven=True).step == 1
    assert second.save(run.state, step=3).serial == 3  # type: ignore[union-attr]


def test_a_bad_newest_file_is_set_aside_and_the_next_restored(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path)
    keeper.save(run.state, step=1)
    newest = keeper.save(run.state, step=2)
    assert newest is not None
    with newest.path.open("r+b") as stream:
        stream.truncate(newest.size_bytes // 2)

    restored = keeper.restore(run.state)

    assert restored.step == 1
    assert keeper.quarantined == 1
    assert [c.step for c in keeper.list()] == [1]
    assert len(list((tmp_path / "quarantine").iterdir())) == 2


def test_a_bad_pin_gives_way_to_what_is_older(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path)
    for step in (1, 2, 3):
        keeper.save(run.state, step=step, update=step)
    keeper.observe(healthy=True, update=9)
    pin = keeper.pinned
    assert pin is not None
    with pin.path.open("r+b") as stream:
        stream.seek(pin.size_bytes // 2)
        stream.write(b"\0" * 64)

    restored = keeper.restore(run.state)

    assert (pin.step, restored.step) == (3, 2)


@pytest.mark.skipif(os.name != "posix", reason="needs a directory in a file's place")
def test_a_file_that_cannot_be_read_is_passed_over_and_left_where_it_is(
    tmp_path: Path, run: Run
) -> None:
    keeper = CheckpointKeeper(tmp_path)
    keeper.save(run.state, step=1)
    newest = keeper.save(run.state, step=2)
    assert newest is not None
    newest.path.unlink()
    newest.path.mkdir()

    restored = keeper.restore(run.state)

    assert (restored.step, keeper.quarantined) == (1, 0)
    assert newest.path.is_dir()


def test_nothing_is_loaded_if_one_target_does_not_fit(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path)
    keeper.save(run.state, step=1)
    run.train()
    now = run.copy()
    wider = torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.BatchNorm1d(9))
    misfits: dict[str, Any] = {
        r"other\.0\.weight: is \(8, 4\), expected \(9, 4\)": {"model": wider},
        "expected": {"optimizer": torch.optim.Adam([{"params": [p]} for p in wider.parameters()])},
    }

    for misfit in misfits.values():
        with pytest.raises(CheckpointError):
            keeper.restore({"optimizer": run.optimizer, "model": run.model, **misfit})
    with pytest.raises(CheckpointError, match="critic: not in the checkpoint, which holds model"):
        keeper.restore({"model": run.model, "critic": run.model})

    assert run.equals(now)
    assert len(keeper.list()) == 1


def test_a_target_that_refuses_late_undoes_those_before_it(tmp_path: Path, run: Run) -> None:
    class Stubborn:
        def state_dict(self) -> dict[str, int]:
            return {"a": 1}

        def load_state_dict(self, state: Mapping[str, int]) -> None:
            if state:
                raise KeyError("b")

    keeper = CheckpointKeeper(tmp_path)
    keeper.save({**run.state, "stubborn": Stubborn()}, step=1)
    run.train()
    now = run.copy()
    step_before = run.optimizer.state_dict()["state"][0]["step"].item()

    class Late(Stubborn):
        calls = 0

        def load_state_dict(self, state: Mapping[str, int]) -> None:
            self.calls += bool(state)
            if self.calls == 1:
                raise KeyError("b")

    with pytest.raises(CheckpointError, match="stubborn: does not take its state"):
        keeper.restore({**run.state, "stubborn": Late()})

    assert run.equals(now)
    assert run.optimizer.state_dict()["state"][0]["step"].item() == step_before == 2


def test_an_empty_directory_says_so(tmp_path: Path, run: Run) -> None:
    with pytest.raises(CheckpointError, match="no good checkpoint"):
        CheckpointKeeper(tmp_path / "new").restore(run.state)


def test_a_full_disk_leaves_earlier_checkpoints_and_no_litter(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = CheckpointKeeper(tmp_path)
    keeper.save(run.state, step=1)
    before = kept_files(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("watchstep.checkpoint.durable.os.fsync", full)
    with pytest.raises(CheckpointError, match="not saved: No space left on device"):
        keeper.save(run.state, step=2)
    monkeypatch.undo()

    assert kept_files(tmp_path) == before
    assert keeper.restore(run.state).step == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("elements", [10, 10_000_000])
def test_a_disk_that_fills_while_torch_writes_is_told_as_such(elements: int) -> None:
    from watchstep.checkpoint.durable import write_synced

    with pytest.raises(OSError, match="No space") as caught:
        write_synced(
            Path("/dev/full"),
            lambda file: save_into(file, {"state": torch.zeros(elements)}),
        )

    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("size", [0, 1, 4096, 1 << 20, (1 << 20) + 1, (17 << 20) + 4097])
def test_a_file_of_any_length_is_written_and_hashed(size: int, tmp_path: Path) -> None:
    from watchstep.checkpoint.durable import write_synced

    content = random.Random(size).randbytes(size)
    cuts = [0, min(1, size), min(5_000_001, size), size]
    path = tmp_path / "file"

    written = write_synced(
        path,
        lambda stream: [
            stream.write(content[begin:end]) for begin, end in itertools.pairwise(cuts)
        ],
    )

    assert path.read_bytes() == content
    assert written.sha256() == hashlib.sha256(content).hexdigest()
    assert written.size_bytes == size


def test_no_thread_of_a_save_outlives_it(tmp_path: Path) -> None:
    keeper = CheckpointKeeper(tmp_path)
    before = set(threading.enumerate())

    keeper.save({"large": {"w": torch.zeros(8_000_000)}}, step=1)
    for thread in set(threading.enumerate()) - before:
        thread.join(10.0)

    assert set(threading.enumerate()) <= before


LITTERING = """
import sys
from pathlib import Path
from watchstep.checkpoint.durable import temporary

with temporary(Path(sys.argv[1])) as file, temporary(Path(sys.argv[1]), folder=True) as folder:
    print(file.name, folder.name, flush=True)
    sys.stdin.read()
"""


def test_what_a_writer_left_unfinished_is_swept_once_it_is_dead(tmp_path: Path) -> None:
    # Its number and host name may be those of a living process, as in containers.
    import subprocess
    import sys

    writer = subprocess.Popen(
        [sys.executable, "-c", LITTERING, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    names = writer.stdout.readline().split()

    CheckpointKeeper(tmp_path)
    while_it_lives = [(tmp_path / name).exists() for name in names]
    writer.kill()
    writer.communicate()
    CheckpointKeeper(tmp_path)
    after_it_died = [(tmp_path / name).exists() for name in names]

    assert (while_it_lives, after_it_died) == ([True, True], [False, False])


def test_without_locks_and_from_an_older_version_what_is_unfinished_is_swept_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    names = [f"{TEMPORARY_PREFIX}{rest}" for rest in ("host-1-abc", "0123abcd", "host-2-x", "77aa")]
    for name in names:
        (tmp_path / name).touch()
    for name in names[:2]:
        os.utime(tmp_path / name, (1.0, 1.0))

    CheckpointKeeper(tmp_path)

    assert [(tmp_path / name).exists() for name in names] == [False, False, True, True]


def test_a_file_system_without_hard_links_gets_a_copied_pin(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "no hard links")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    keeper = CheckpointKeeper(tmp_path)
    keeper.save(run.state, step=1, update=1)

    pinned = keeper.observe(healthy=True, update=2)

    assert pinned is not None
    assert verify(pinned.path).step == 1
    assert pinned.path.stat().st_nlink == 1


def test_two_writers_in_one_directory_do_each_other_no_harm(tmp_path: Path) -> None:
    runs = [Run(seed) for seed in (1, 2)]
    keepers = [CheckpointKeeper(tmp_path, keep=4) for _ in runs]
    errors: list[BaseException] = []

    def work(keeper: CheckpointKeeper, run: Run) -> None:
        try:
            for step in range(12):
                keeper.observe(healthy=True, update=step)
                keeper.save({"model": run.model.state_dict()}, step=step, update=step)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(keepers, runs, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert errors == []
    assert all(keeper.failures == 0 for keeper in keepers)
    everything = Folder(tmp_path).checkpoints()
    assert len(everything) >= 4
    assert {verify(c.path).finite for c in everything} == {True}


class Gate:
    """Holds a background write until the test opens it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail: Exception | None = None) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        original = plain.save_into

        def gated(stream: Any, whole: Any) -> None:
            self.entered.set()
            assert self.open.wait(30)
            if fail is not None:
                raise fail
            original(stream, whole)

        monkeypatch.setattr(plain, "save_into", gated)


def test_an_asynchronous_save_keeps_what_was_there_at_the_call(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    keeper = CheckpointKeeper(tmp_path, asynchronous=True)
    saved = run.copy()

    returned = keeper.save(run.state, step=1)
    run.train()
    gate.open.set()
    flushed = keeper.flush(30)
    other = Run(seed=9)
    keeper.restore(other.state)

    assert returned is None
    assert flushed
    assert other.equals(saved)
    assert [c.step for c in keeper.finished()] == [1]
    assert keeper.finished() == []


def test_of_saves_that_come_too_fast_the_newest_is_written_and_the_others_are_counted(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    keeper = CheckpointKeeper(tmp_path, keep=5, asynchronous=True)

    keeper.save(run.state, step=1)
    assert gate.entered.wait(30)
    for step in (2, 3, 4):
        run.train()
        keeper.save(run.state, step=step)
    newest = run.copy()
    run.train()
    gate.open.set()
    flushed = keeper.flush(30)
    other = Run(seed=9)
    keeper.restore(other.state, step=4)

    assert flushed
    assert keeper.passed_over == 2
    assert [c.step for c in keeper.list()] == [4, 1]
    assert other.equals(newest)


def test_a_save_that_waits_for_those_before_it_passes_none_over(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    keeper = CheckpointKeeper(tmp_path, asynchronous=True)

    keeper.save(run.state, step=1)
    assert gate.entered.wait(30)
    keeper.save(run.state, step=2)
    gate.open.set()
    keeper.save(run.state, step=3, wait=True)
    keeper.close(30)

    assert keeper.passed_over == 0
    assert [c.step for c in keeper.list()] == [3, 2, 1]


def test_a_failed_asynchronous_save_is_counted_and_not_raised(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, fail=OSError(errno.EIO, "Input/output error"))
    keeper = CheckpointKeeper(tmp_path, asynchronous=True)

    keeper.save(run.state, step=1)
    gate.open.set()
    keeper.flush(30)

    assert keeper.failures == 1
    assert "Input/output error" in str(keeper.last_error)
    assert kept_files(tmp_path) == []


def test_an_asynchronous_save_of_a_poisoned_state_is_refused_in_the_background(
    tmp_path: Path, run: Run
) -> None:
    keeper = CheckpointKeeper(tmp_path, asynchronous=True)
    run.model[0].bias.data[0] = math.nan

    returned = keeper.save(run.state, step=1)
    run.model[0].bias.data[0] = 0.0
    keeper.flush(30)

    (refused,) = keeper.finished()
    assert returned is None
    assert refused.bad_tensor == "model.0.bias"
    assert not refused.finite
    assert keeper.refused == 1
    assert kept_files(tmp_path) == []


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    weight = torch.randn(1000, 100)
    keeper = CheckpointKeeper(tmp_path, asynchronous=True)
    keeper.save({"model": {"a": weight, "b": weight}}, step=1)
    keeper.close()

    assert keeper.list()[0].size_bytes < 1.5 * weight.nbytes
    assert all_finite({"a": weight})


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for wrong in ({"keep": 0}, {"good_after": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            CheckpointKeeper(tmp_path, **wrong)  # type: ignore[arg-type]


def test_started_again_the_earlier_pin_and_its_neighbours_stay_until_there_is_a_better_one(
    tmp_path: Path, run: Run
) -> None:
    first = CheckpointKeeper(tmp_path)
    for step in range(100, 600, 100):
        first.observe(healthy=True, update=step)
        first.save(run.state, step=step, update=step)
    before = {(c.step, c.pinned) for c in first.list()}

    again = CheckpointKeeper(tmp_path)
    for step in range(0, 60, 10):
        again.observe(healthy=True, update=step)
        again.save(run.state, step=step, update=step)
    third = CheckpointKeeper(tmp_path)

    assert before == {(300, False), (400, True), (500, False)}
    assert before | {(30, False), (40, True), (50, False)} == {
        (c.step, c.pinned) for c in again.list()
    }
    assert again.pinned is not None
    assert again.pinned.step == 40
    assert again.restore(run.state).step == 40
    # Whoever begins anew goes on from the best.
    assert third.pinned is not None
    assert third.pinned.step == 400
    assert third.restore(run.state).step == 400


def test_a_better_pin_releases_what_an_earlier_attempt_left(tmp_path: Path, run: Run) -> None:
    pinned_at(20, run, tmp_path)

    again = CheckpointKeeper(tmp_path, keep=2)
    for step in (10, 20, 30, 40):
        again.save(run.state, step=step, update=step)
        again.observe(healthy=True, update=step + 1)

    assert [(c.step, c.pinned) for c in again.list()] == [(40, True), (30, False)]
    assert [c.step for c in Folder(tmp_path).pins()] == [40]


def test_after_a_restore_any_new_pin_is_better_also_where_steps_count_anew(
    tmp_path: Path, run: Run
) -> None:
    pinned_at(400, run, tmp_path)

    again = CheckpointKeeper(tmp_path, keep=1)
    again.restore(run.state)
    again.save(run.state, step=3, update=1)
    again.observe(healthy=True, update=2)

    assert [(c.step, c.pinned) for c in again.list()] == [(3, True), (400, False)]
    again.save(run.state, step=4, update=3)
    assert [c.step for c in again.list()] == [4, 3]


def test_a_run_that_fails_and_begins_anew_for_ever_does_not_fill_the_disk(
    tmp_path: Path, run: Run
) -> None:
    pinned_at(400, run, tmp_path, keep=2)

    for _ in range(6):
        keeper = CheckpointKeeper(tmp_path, keep=2)
        for step in range(3):
            keeper.save(run.state, step=step, update=step)
            keeper.observe(healthy=True, update=step + 1)

    files = list(tmp_path.rglob("*.pt"))
    assert len(files) <= 2 + 2 + 2
    assert keeper.restore(run.state, step=400).pinned


def test_a_way_back_of_a_run_that_began_anew_does_not_lead_into_an_earlier_one(
    tmp_path: Path, run: Run
) -> None:
    pinned_at(400, run, tmp_path)
    again = CheckpointKeeper(tmp_path)

    with pytest.raises(CheckpointError):
        again.restore(run.state, own=True)
    again.save(run.state, step=1, update=1)
    own = again.restore(run.state, own=True)
    resumed = CheckpointKeeper(tmp_path)
    resumed.restore(run.state, step=400)

    assert own.step == 1
    assert resumed.restore(run.state, own=True).step == 400


def test_the_hint_names_what_is_there_and_how_to_go_on(tmp_path: Path, run: Run) -> None:
    empty = CheckpointKeeper(tmp_path).resume_hint()
    first = CheckpointKeeper(tmp_path)
    for step in (100, 200):
        first.save(run.state, step=step, update=step)
    first.observe(healthy=True, update=300)

    hint = CheckpointKeeper(tmp_path).resume_hint()

    assert empty is None
    assert hint is not None
    assert "step 200 (the pin) and 1 more" in hint
    assert "watch.restore({...})" in hint
    assert "\n" not in hint


def test_a_save_made_while_an_alert_is_pending_is_never_pinned(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path)
    keeper.save(run.state, step=1, update=1)
    pending = keeper.observe(healthy=True, settled=False, update=2)
    keeper.save(run.state, step=2, update=2)

    cancelled = [keeper.observe(healthy=True, update=update) for update in (3, 4, 5)]

    assert pending is None
    assert [pin.step for pin in cancelled if pin] == [1]
    assert keeper.restore(run.state).step == 1


def test_a_folder_of_the_version_before_is_read_and_its_pin_stays(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from watchstep.checkpoint import folder, record

    def as_before(checkpoint: Any) -> bytes:
        fields = record._unsealed(original(checkpoint), tmp_path)
        del fields["attempt"]
        return record._sealed(fields)

    original = record.manifest_bytes
    with monkeypatch.context() as patch:
        patch.setattr(folder, "manifest_bytes", as_before)
        before = CheckpointKeeper(tmp_path)
        before._attempt = ""
        before.save(run.state, step=9, update=1)
        before.observe(healthy=True, update=2)

    keeper = CheckpointKeeper(tmp_path)
    keeper.save(run.state, step=1, update=1)
    keeper.observe(healthy=True, update=2)

    assert [(c.step, c.attempt != "") for c in Folder(tmp_path).pins()] == [(9, False), (1, True)]
    assert dataclasses.asdict(keeper.list()[0])["attempt"]


def test_tensors_whose_dotted_names_are_alike_stay_apart_in_asynchronous_saves(
    tmp_path: Path,
) -> None:
    keeper = CheckpointKeeper(tmp_path, asynchronous=True)
    state = {"net.0": {"w": torch.ones(3)}, "net": {"0": {"w": torch.zeros(3)}}}
    for step in (1, 2):
        keeper.save(state, step=step, wait=True)
    keeper.flush()
    restored: dict[str, Any] = {"net.0": {}, "net": {}}

    keeper.restore(restored)

    assert restored["net.0"]["w"].tolist() == [1.0] * 3
    assert restored["net"]["0"]["w"].tolist() == [0.0] * 3


def test_an_asynchronous_copy_waits_for_every_device_it_copies_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from watchstep.checkpoint import snapshot

    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    devices = [torch.device("cuda:1"), torch.device("cpu"), torch.device("cuda:0")]

    snapshot.wait_for([*devices, *devices])

    assert sorted(map(str, waited)) == ["cuda:0", "cuda:1"]


def level(value: float, usual: float | None = None) -> LossLevel:
    return LossLevel("train/loss", value, 1.1 * value if usual is None else usual)


def saved(
    keeper: CheckpointKeeper, run: Run, step: int, loss: LossLevel | None = None
) -> Checkpoint | None:
    """Save after the update of that number, and see a healthy one after it."""
    keeper.save(run.state, step=step, update=step, loss=loss)
    return keeper.observe(healthy=True, update=step + 1)


def test_the_pin_stays_where_it_is_while_the_loss_rises_and_follows_once_it_has_settled(
    tmp_path: Path, run: Run
) -> None:
    keeper = CheckpointKeeper(tmp_path)
    rising = {10: 1.0, 20: 1.05, 30: 1.3, 40: 1.7, 130: 2.0, 240: 2.0}

    pinned = {step: saved(keeper, run, step, level(loss)) for step, loss in rising.items()}

    assert [step for step, pin in pinned.items() if pin is not None] == [10, 20, 240]


def test_a_loss_of_another_name_and_none_at_all_hold_no_pin_back(tmp_path: Path, run: Run) -> None:
    keeper = CheckpointKeeper(tmp_path)

    saved(keeper, run, 1, level(1.0))

    assert saved(keeper, run, 2, LossLevel("loss/critic", 9.0, 9.0)) is not None
    assert saved(keeper, run, 3) is not None


def test_where_a_critical_alert_began_before_the_pin_it_goes_back_and_what_is_bad_is_marked(
    tmp_path: Path, run: Run
) -> None:
    keeper = CheckpointKeeper(tmp_path)
    for step in (10, 20, 30):
        saved(keeper, run, step)

    moved = keeper.observe(healthy=False, update=32, first_bad=25)
    for step in (40, 50, 60, 70):
        keeper.save(run.state, step=step, update=step)

    assert moved is not None
    assert moved.step == 20
    assert keeper.restore(Run(1).state).step == 20
    assert [(c.step, c.suspect) for c in keeper.list()] == [
        (70, True), (60, True), (50, True), (20, False), (10, False)
    ]  # fmt: skip


def test_a_pin_with_nothing_before_the_first_bad_update_is_called_suspect(
    tmp_path: Path, run: Run
) -> None:
    keeper = CheckpointKeeper(tmp_path)
    saved(keeper, run, 10)

    assert keeper.observe(healthy=False, update=12, first_bad=5) is None
    assert keeper.pinned is not None
    assert keeper.pinned.suspect


@pytest.mark.parametrize("is_resumed", [False, True], ids=["began anew", "resumed in part"])
def test_a_start_that_lost_what_was_learnt_does_not_release_the_earlier_pin(
    is_resumed: bool, tmp_path: Path, run: Run
) -> None:
    saved(CheckpointKeeper(tmp_path), run, 100, level(0.08))
    keeper = CheckpointKeeper(tmp_path)
    if is_resumed:
        keeper.restore({"optimizer": run.optimizer})

    for step, loss in ((101, None), (120, level(1.1)), (140, level(1.0))):
        saved(keeper, run, step, loss)
    hint = keeper.forgotten_hint()
    assert keeper.pinned is not None
    assert keeper.pinned.step == 100
    third = CheckpointKeeper(tmp_path)

    assert hint is not None
    assert "train/loss is 1 at step 140; it was 0.08 in the checkpoint of step 100" in hint
    assert third.restore(run.state).step == 100


def test_a_start_that_is_as_low_as_before_releases_the_earlier_pin(
    tmp_path: Path, run: Run
) -> None:
    saved(CheckpointKeeper(tmp_path), run, 100, level(0.08))
    keeper = CheckpointKeeper(tmp_path)

    saved(keeper, run, 120, level(0.1))

    assert keeper.forgotten_hint() is None
    assert [pin.step for pin in Folder(tmp_path).pins()] == [120]
