"""Transformers' Trainer, training a real if tiny language model."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs the extra transformers")
pytest.importorskip("accelerate", reason="needs the extra transformers")

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

import watchstep
from integrations.kit_integrations import QUIET, recorded
from integrations.tiny_llm import sentences, tiny_llm
from watchstep import TrainingHalted
from watchstep.guard import bit_hash
from watchstep.integrations.transformers import WatchstepCallback
from watchstep.postmortem.readers import open_logs

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning:torch"
)


class FaultyTrainer(Trainer):
    """Multiplies the loss of one micro-batch by something."""

    faulty_batch = 0
    factor = math.nan
    batches = 0

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        if self.model.training:
            self.batches += 1
            if self.batches == self.faulty_batch:
                return loss * self.factor
        return loss


def watch_in(tmp_path: Path, **given: Any) -> watchstep.Watch:
    given.setdefault("rules", "pretrain")
    return watchstep.init(run="hf", directory=tmp_path / "spool", **given)


def trainer_in(tmp_path: Path, callback: WatchstepCallback | None, **given: Any) -> FaultyTrainer:
    torch.set_num_threads(1)
    data = sentences()
    arguments = {
        "max_steps": 8,
        "per_device_train_batch_size": 4,
        **QUIET,
        **given,
    }
    return FaultyTrainer(
        model=tiny_llm(),
        args=TrainingArguments(output_dir=str(tmp_path / "out"), **arguments),
        train_dataset=data,
        eval_dataset=data[:8],
        callbacks=[] if callback is None else [callback],
    )


def test_a_nan_loss_halts_although_the_trainer_hides_it_in_its_own_log(tmp_path: Path) -> None:
    callback = WatchstepCallback(watch_in(tmp_path, on_critical="halt"))
    trainer = trainer_in(tmp_path, callback)
    trainer.faulty_batch = 4

    with pytest.raises(TrainingHalted) as caught:
        trainer.train()

    assert caught.value.rule == "LossNonFinite"
    assert trainer.state.global_step == 4
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert all(math.isfinite(loss) for loss in losses)


def test_the_poisoned_step_never_reaches_weights_or_optimizer_state(tmp_path: Path) -> None:
    watch = watch_in(tmp_path)
    trainer = trainer_in(tmp_path, WatchstepCallback(watch))
    trainer.faulty_batch = 4
    before: list[str] = []
    after: list[str] = []

    class Hashes(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, model: Any, optimizer: Any, **__: Any) -> None:
            before.append(bit_hash(model, optimizer))

        def on_optimizer_step(self, *_: Any, model: Any, optimizer: Any, **__: Any) -> None:
            after.append(bit_hash(model, optimizer))

    trainer.add_callback(Hashes())
    trainer.train()
    watch.finish()

    untouched = [
        step for step, pair in enumerate(zip(before, after, strict=True), 1) if pair[0] == pair[1]
    ]
    assert untouched == [4]
    assert all(bool(parameter.isfinite().all()) for parameter in trainer.model.parameters())
    assert watch.errors == {}


def test_every_step_is_one_update_with_its_raw_loss_and_what_the_trainer_logs(
    tmp_path: Path,
) -> None:
    watch = watch_in(tmp_path)
    recorder = recorded(watch)
    trainer = trainer_in(tmp_path, WatchstepCallback(watch), logging_steps=2, eval_strategy="steps")
    trainer.train()
    watch.finish()

    assert [step for step, _ in recorder] == list(range(1, 9))
    losses = [float(readings["train/loss"]) for _, readings in recorder]
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    means = [(losses[at] + losses[at + 1]) / 2 for at in range(0, 8, 2)]
    assert means == pytest.approx(logged, rel=1e-5)
    assert recorder[0][1]["train/learning_rate"] == pytest.approx(5e-5)
    assert "eval_loss" in recorder[1][1]
    assert "eval_loss" not in recorder[0][1]


def test_losses_of_accumulated_micro_batches_add_up_to_the_step_s(tmp_path: Path) -> None:
    watch = watch_in(tmp_path)
    recorder = recorded(watch)
    trainer = trainer_in(
        tmp_path, WatchstepCallback(watch), gradient_accumulation_steps=2, max_steps=3
    )
    trainer.train()
    watch.finish()

    losses = [float(readings["train/loss"]) for _, readings in recorder]
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses == pytest.approx(logged, rel=1e-5)


def test_the_gradient_norm_is_the_one_before_clipping(tmp_path: Path) -> None:
    watch = watch_in(tmp_path)
    callback = WatchstepCallback(watch)
    trainer = trainer_in(tmp_path, callback, max_grad_norm=1e-3, max_steps=2)
    norms: list[float] = []
    guard_of = watch.guard

    def guard(*args: Any, **kwargs: Any) -> Any:
        made = guard_of(*args, **kwargs)
        assert made is not None
        judged = made._judge
        made._judge = lambda seen: (norms.append(seen["train/grad_norm"]), judged(seen))[1]
        return made

    watch.guard = guard  # type: ignore[method-assign]
    trainer.train()
    watch.finish()

    logged = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    assert norms == pytest.approx(logged, rel=1e-4)
    assert min(norms) > 0.1


def test_a_training_resumes_from_what_an_earlier_one_left(tmp_path: Path) -> None:
    begun: list[str] = []

    class Hasher(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **given: Any) -> None:
            begun.append(bit_hash(given["model"]))

    def trained(*more: Any) -> str:
        callback = WatchstepCallback(
            run="r",
            directory=tmp_path / "spool",
            checkpoints=tmp_path / "ck",
            save_every=8,
            resume=True,
        )
        trainer = trainer_in(tmp_path, callback)
        for each in more:
            trainer.add_callback(each)
        trainer.train()
        return bit_hash(trainer.model)

    first = trained()
    trained(Hasher())

    assert begun[0] == first


def test_an_exception_is_reported_and_everything_is_put_back(tmp_path: Path) -> None:
    callback = WatchstepCallback(run="hf", directory=tmp_path / "spool")
    trainer = trainer_in(tmp_path, callback)
    clip = torch.nn.utils.clip_grad_norm_

    class Broken(TrainerCallback):
        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            if state.global_step == 3:
                raise RuntimeError("the disk is gone")

    trainer.add_callback(Broken())
    with pytest.raises(RuntimeError, match="disk"):
        trainer.train()

    assert callback.watch is not None
    assert "TrainerFailed" in {transition.rule for transition in callback.watch.transitions}
    assert torch.nn.utils.clip_grad_norm_ is clip
    assert "training_step" not in vars(trainer)


def test_after_a_halt_nothing_stays_wrapped(tmp_path: Path) -> None:
    callback = WatchstepCallback(run="hf", directory=tmp_path / "spool", on_critical="halt")
    trainer = trainer_in(tmp_path, callback)
    trainer.faulty_batch = 2
    clip = torch.nn.utils.clip_grad_norm_

    with pytest.raises(TrainingHalted):
        trainer.train()

    assert torch.nn.utils.clip_grad_norm_ is clip
    assert "training_step" not in vars(trainer)
    assert callback.watch is not None
    assert [
        transition.rule
        for transition in callback.watch.transitions
        if transition.severity == "critical"
    ] == ["LossNonFinite"]


def test_a_callback_added_later_reads_raw_losses_too(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, None)
    trainer.add_callback(
        WatchstepCallback(run="hf", directory=tmp_path / "spool", on_critical="halt")
    )
    trainer.faulty_batch = 3

    with pytest.raises(TrainingHalted):
        trainer.train()

    assert trainer.state.global_step == 3


def test_the_log_filter_that_hides_nan_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="watchstep.transformers"):
        for hides in (False, True):
            callback = WatchstepCallback(run="hf", directory=tmp_path / "spool")
            trainer_in(tmp_path, callback, logging_nan_inf_filter=hides, max_steps=1).train()

    (record,) = caplog.records
    assert "would hide NaN losses (logging_nan_inf_filter=True)" in record.message


def test_training_is_bit_identical_with_and_without_watching(tmp_path: Path) -> None:
    watched = trainer_in(tmp_path, WatchstepCallback(run="hf", directory=tmp_path / "spool"))
    alone = trainer_in(tmp_path, None)

    watched.train()
    alone.train()

    assert bit_hash(watched.model, watched.optimizer) == bit_hash(alone.model, alone.optimizer)


def test_a_rollback_restores_the_pin_and_training_goes_on(tmp_path: Path) -> None:
    watch = watch_in(tmp_path, on_critical="rollback", checkpoints=tmp_path / "ckpt")
    trainer = trainer_in(tmp_path, WatchstepCallback(watch, save_every=1))
    trainer.faulty_batch = 5

    trainer.train()

    assert trainer.state.global_step == 8
    assert watch.pinned is not None
    assert any(transition.rule == "LossNonFinite" for transition in watch.transitions)
    watch.finish()


def test_the_trainer_reports_to_watchstep_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHSTEP_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("WATCHSTEP_RUN", "by-name")

    trainer = trainer_in(tmp_path, None, report_to="watchstep")
    trainer.train()

    (log,) = open_logs([tmp_path / "spool"])
    steps = [update.step for update in log.updates if "train/loss" in update.readings]
    assert (log.run, steps) == ("by-name", list(range(1, 9)))
