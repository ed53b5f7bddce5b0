"""Lightning's Trainer; what is kept is what its logger is given."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import Logger
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from benchmarks.judgement.cases import Case, Recording, Trainer
from benchmarks.judgement.faults import IDLE, INPUTS, RESUMES, WEIGHTS
from benchmarks.judgement.trainers.sabotage import detach_trunk, forget, meddle, rate_factor
from benchmarks.judgement.trainers.supervised import spoiled

UPDATES, EPOCH = 150, 15
VARIANTS = ("noisy", "short", "decay", "curriculum", "restarts")


class Rows(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Regression batches without end; spoiled where the fault says so."""

    def __init__(self, case: Case, recording: Recording) -> None:
        self.case, self.recording = case, recording
        self.random = torch.Generator().manual_seed(case.number)
        self.mixing = torch.randn(8, 4, generator=self.random)
        self.held_out = self.batch(256, 0)

    def batch(self, size: int, update: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = torch.randn(size, 8, generator=self.random)
        late = self.case.variant == "curriculum" and update > UPDATES // 2
        noise = 1.0 if self.case.variant == "noisy" else 0.1
        targets = torch.tanh(inputs @ self.mixing) * (1.2 if late else 1.0)
        return inputs, targets + noise * torch.randn(size, 4, generator=self.random)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(EPOCH):
            update = self.recording.next
            inputs, targets = spoiled(self.batch(32, update), self.case.fault, update, self.random)
            yield inputs, targets


class Regression(LightningModule):
    """Two layers on noisy rows."""

    def __init__(self, case: Case, recording: Recording, rows: Rows) -> None:
        super().__init__()
        self.case, self.fault, self.recording, self.rows = case, case.fault, recording, rows
        self.rate = case.draw().choice((3e-3, 1e-2))
        self.layers = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 4))
        self.held = copy.deepcopy(self.layers)
        self.clipped = 1.0
        if self.fault.name == "detached":
            detach_trunk(self.layers)

    def loss(self, batch: Any) -> torch.Tensor:
        return functional.mse_loss(self.layers(batch[0]), batch[1])

    def training_step(self, batch: Any, _index: int) -> torch.Tensor:
        loss = self.loss(batch)
        if self.fault.on("masked_loss", self.recording.next):
            loss = loss * 0.0
        self.log("train_loss", loss)
        return -loss if self.fault.on("loss_sign", self.recording.next) else loss

    def on_train_batch_start(self, _batch: Any, _index: int) -> None:
        update = self.recording.next
        meddle(self.layers, self.fault, update)
        if self.fault.name in {"resume_weights", "resume_rate"} and update == self.fault.at:
            self.recording.attempt = 2
            if self.fault.name == "resume_weights":
                forget(self.layers)

    def validation_step(self, batch: Any, _index: int) -> None:
        self.log("val_loss", self.loss(batch))

    def val_dataloader(self) -> Any:
        return DataLoader([self.rows.held_out], batch_size=None)

    def train_dataloader(self) -> Any:
        return DataLoader(self.rows, batch_size=None)

    def _factor(self, step: int) -> float:
        factor = rate_factor(self.fault, self.recording.next)
        if self.case.variant == "decay":
            factor *= max(0.0, 1.0 - step / UPDATES)
        elif self.case.variant == "restarts":
            factor *= 1.0 - (step % 50) / 50.0
        return factor

    def configure_optimizers(self) -> Any:
        parameters = self.held if self.fault.name == "other_model" else self.layers
        optimizer = torch.optim.AdamW(parameters.parameters(), lr=self.rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Into(Logger):
    """Keeps what Lightning logs; metrics of one step that come together are one update."""

    name, version = "bench", "0"

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self.recording = recording

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        updates = self.recording.updates
        if updates and updates[-1]["step"] == step:
            updates[-1]["metrics"].update({name: float(value) for name, value in metrics.items()})
        elif step is not None:
            self.recording.log(step, metrics)


def _train(case: Case) -> Recording:
    torch.manual_seed(case.number)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    recording = Recording()
    rows = Rows(case, recording)
    model = Regression(case, recording, rows)

    def quality() -> float:
        with torch.no_grad():
            return float(model.loss(rows.held_out))

    recording.start = quality()
    trainer = LightningTrainer(
        max_steps=25 if case.variant == "short" else UPDATES,
        accelerator="cpu",
        logger=Into(recording),
        callbacks=[LearningRateMonitor("step")],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
    )
    trainer.fit(model)
    recording.outcome = quality()
    return recording


TRAINERS = (
    Trainer(
        "lightning",
        "regression",
        "supervised",
        _train,
        {"loss": ("train_loss",), "eval": ("val_loss",), "rate": ("lr-AdamW",)},
        (*IDLE, *INPUTS, "labels_shuffled", "input_scale", *RESUMES, *WEIGHTS),
        VARIANTS,
        UPDATES,
    ),
)
