"""Lightning's Trainer, training a real module."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning", reason="needs the extra lightning")

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

import watchstep
from integrations.kit_integrations import recorded
from watchstep import TrainingHalted
from watchstep.guard import bit_hash
from watchstep.integrations.lightning import WatchstepCallback
from watchstep.postmortem.readers import open_logs
from watchstep.sender.session import read_header, sessions

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


class Regression(LightningModule):
    """Two layers; its loss is multiplied by `factor` in one batch."""

    def __init__(self, faulty_batch: int = -1, factor: float = math.nan) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Linear(16, 1))
        self.faulty_batch = faulty_batch
        self.factor = factor
        self.losses: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        inputs, targets = batch
        loss = torch.nn.functional.mse_loss(self.layers(inputs), targets)
        if batch_idx == self.faulty_batch:
            loss = loss * self.factor
        self.losses.append(float(loss))
        self.log("mean_output", self.layers(inputs).mean())
        return loss

    def validation_step(self, batch: Any) -> None:
        inputs, targets = batch
        self.log("val_loss", torch.nn.functional.mse_loss(self.layers(inputs), targets))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class Alternating(Regression):
    """Two optimizers, stepped by hand."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        optimizer = self.optimizers()[batch_idx % 2]
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss

    def configure_optimizers(self) -> Any:
        return [torch.optim.AdamW(layer.parameters(), lr=1e-2) for layer in self.layers]


class Hashes(Callback):
    """Weights and optimizer state after each batch."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.seen.append(bit_hash(pl_module, *trainer.optimizers))


def loader(batches: int = 8) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(batches * 4, 4, generator=generator)
    return DataLoader(TensorDataset(inputs, inputs.sum(dim=1, keepdim=True)), batch_size=4)


def trainer_in(tmp_path: Path, *callbacks: Callback, **given: Any) -> Trainer:
    torch.set_num_threads(1)
    return Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        callbacks=list(callbacks),
        **{
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            **given,
        },
    )


def watch_in(tmp_path: Path, **given: Any) -> tuple[watchstep.Watch, list[Any]]:
    given.setdefault("rules", "pretrain")
    watch = watchstep.init(run="pl", directory=tmp_path / "spool", **given)
    return watch, recorded(watch)


def test_each_step_is_an_update_with_its_loss_and_what_the_module_logs(tmp_path: Path) -> None:
    watch, updates = watch_in(tmp_path)
    module = Regression()

    trainer_in(tmp_path, WatchstepCallback(watch)).fit(module, loader())
    watch.finish()

    assert [step for step, _ in updates] == list(range(1, 9))
    assert [float(readings["train/loss"]) for _, readings in updates] == pytest.approx(
        module.losses
    )
    assert all("mean_output" in readings for _, readings in updates)
    assert watch.errors == {}


def test_a_nan_step_changes_no_bit_and_training_goes_on(tmp_path: Path) -> None:
    watch, _ = watch_in(tmp_path)
    hashes = Hashes()
    module = Regression(faulty_batch=4)

    trainer_in(tmp_path, WatchstepCallback(watch), hashes).fit(module, loader())
    watch.finish()

    unchanged = [at for at in range(1, 8) if hashes.seen[at] == hashes.seen[at - 1]]
    assert unchanged == [4]
    assert all(bool(parameter.isfinite().all()) for parameter in module.parameters())


def test_a_halt_leaves_fit_and_is_no_failure(tmp_path: Path) -> None:
    callback = WatchstepCallback(run="pl", directory=tmp_path / "spool", on_critical="halt")
    trainer = trainer_in(tmp_path, callback)

    with pytest.raises(TrainingHalted) as caught:
        trainer.fit(Regression(faulty_batch=4), loader())

    assert caught.value.rule == "LossNonFinite"
    assert trainer.global_step == 5
    assert callback.watch is not None
    assert "TrainerFailed" not in {transition.rule for transition in callback.watch.transitions}


def test_the_gradient_norm_is_the_one_before_clipping(tmp_path: Path) -> None:
    watch, _ = watch_in(tmp_path)
    norms: list[float] = []
    judge = watch._actions.on_step

    def judged(name: str, readings: Any, *more: Any) -> Any:
        norms.append(readings["train/grad_norm"])
        return judge(name, readings, *more)

    watch._actions.on_step = judged  # type: ignore[method-assign]
    trainer_in(tmp_path, WatchstepCallback(watch), gradient_clip_val=1e-4).fit(
        Regression(), loader()
    )
    watch.finish()

    assert len(norms) == 8
    assert min(norms) > 1e-2


def test_what_validation_found_is_told_once(tmp_path: Path) -> None:
    watch, updates = watch_in(tmp_path)

    trainer_in(tmp_path, WatchstepCallback(watch), val_check_interval=4).fit(
        Regression(), loader(), loader(2)
    )
    watch.finish()

    assert [step for step, readings in updates if "val_loss" in readings] == [5]


def test_a_training_resumes_from_what_an_earlier_one_left(tmp_path: Path) -> None:
    begun: list[str] = []

    class Hasher(Callback):  # type: ignore[misc]
        def on_train_batch_start(self, _: Any, pl_module: Any, *_batch: Any) -> None:
            begun.append(bit_hash(pl_module))

    def callback(**more: Any) -> WatchstepCallback:
        return WatchstepCallback(
            run="r", directory=tmp_path / "spool", checkpoints=tmp_path / "ck", save_every=8, **more
        )

    first = Regression()
    trainer_in(tmp_path, callback(resume=True)).fit(first, loader())
    trainer_in(tmp_path, callback(resume=True), Hasher()).fit(Regression(), loader())

    assert begun[0] == bit_hash(first)


def test_losses_of_accumulated_batches_add_up(tmp_path: Path) -> None:
    watch, updates = watch_in(tmp_path)
    module = Regression()

    trainer_in(tmp_path, WatchstepCallback(watch), accumulate_grad_batches=2).fit(module, loader())
    watch.finish()

    means = [(module.losses[at] + module.losses[at + 1]) / 2 for at in range(0, 8, 2)]
    assert [float(readings["train/loss"]) for _, readings in updates] == pytest.approx(means)


def test_several_optimizers_stepped_by_hand_are_all_guarded(tmp_path: Path) -> None:
    watch, _ = watch_in(tmp_path)
    hashes = Hashes()

    trainer_in(tmp_path, WatchstepCallback(watch), hashes).fit(
        Alternating(faulty_batch=5), loader()
    )
    watch.finish()

    assert [at for at in range(1, 8) if hashes.seen[at] == hashes.seen[at - 1]] == [5]
    assert watch.errors == {}


def test_an_exception_is_told(tmp_path: Path) -> None:
    callback = WatchstepCallback(run="pl", directory=tmp_path / "spool")

    class Broken(Regression):
        def on_train_batch_start(self, *batch_and_index: Any) -> None:
            if batch_and_index[1] == 3:
                raise RuntimeError("out of shared memory")

    with pytest.raises(RuntimeError, match="shared memory"):
        trainer_in(tmp_path, callback).fit(Broken(), loader())

    assert callback.watch is not None
    assert "TrainerFailed" in {transition.rule for transition in callback.watch.transitions}


def test_a_rollback_restores_the_pin_and_training_goes_on(tmp_path: Path) -> None:
    watch, _ = watch_in(tmp_path, on_critical="rollback", checkpoints=tmp_path / "ckpt")
    trainer = trainer_in(tmp_path, WatchstepCallback(watch, save_every=1))
    module = Regression(faulty_batch=5)

    trainer.fit(module, loader())
    watch.finish()

    assert trainer.global_step == 8
    assert watch.pinned is not None
    assert watch.errors == {}


def test_training_is_bit_identical_with_and_without_watching(tmp_path: Path) -> None:
    watch, _ = watch_in(tmp_path)
    watched, alone = Regression(), Regression()

    trainer_in(tmp_path, WatchstepCallback(watch)).fit(watched, loader())
    trainer_in(tmp_path).fit(alone, loader())
    watch.finish()

    assert bit_hash(watched) == bit_hash(alone)


def test_lightning_s_own_stop_at_a_sigterm_is_a_preemption(tmp_path: Path) -> None:
    script = """
import os, signal, sys
import lightning, torch
from torch.utils.data import DataLoader, TensorDataset
from watchstep.integrations.lightning import WatchstepCallback

class Regression(lightning.pytorch.LightningModule):
    def __init__(self):
        super().__init__()
        self.save_hyperparameters({"rate": 0.1, "api_key": "abcdef"})
        self.layer = torch.nn.Linear(4, 1)
    def training_step(self, batch, at):
        if at == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.layer(batch[0]).pow(2).mean()
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())

callback = WatchstepCallback(run="stopped", mode="offline", directory="spool", guard=False)
rows = DataLoader(TensorDataset(torch.randn(400, 4)), batch_size=4)
lightning.pytorch.Trainer(
    max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, callbacks=[callback],
).fit(Regression(), rows)
"""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=tmp_path, timeout=120, check=False, capture_output=True,
    )  # fmt: skip

    (log,) = open_logs([tmp_path / "spool"])
    events = [update.event for update in log.updates if update.event]
    assert events[-1]["kind"] == "preempted"
    header = read_header(sessions(tmp_path / "spool")[0])
    assert header is not None
    assert header.config["rate"] == 0.1
    assert header.config["api_key"] == "***"
