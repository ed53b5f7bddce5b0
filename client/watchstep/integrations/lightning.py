"""Lightning's `Trainer`.

    Trainer(callbacks=[WatchstepCallback(run="vision-7", on_critical="halt")]).fit(module, data)

The callback guards every optimizer, reads gradients before Lightning clips them, takes the loss
that `training_step` returned and whatever the module logs, and tells of exceptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import lightning
from lightning.pytorch import Callback, LightningModule, Trainer

from watchstep.errors import TrainingHalted
from watchstep.guard.optimizers import parameters_of
from watchstep.hook import Watch
from watchstep.integrations.callback_base import CallbackBase


class WatchstepCallback(CallbackBase, Callback):
    """Watches one `fit()`.

    Args:
        choices: As for every callback, see `CallbackBase`; an update is an optimizer step, and
            `rules` is "pretrain" by default.

    Raises:
        TrainingHalted: Out of `fit()`, when a halt was asked for.
    """

    made_by = f"lightning {lightning.__version__}"
    default_rules = "pretrain"

    def __init__(self, watch: Watch | None = None, **choices: Any) -> None:
        super().__init__(watch, **choices)
        self._pauses = ExitStack()
        self._loss: Any = None
        self._step = 0
        self._trained: set[str] = set()
        self._evaluated: dict[str, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        state = self.state(trainer, pl_module)
        optimizers = {name: part for name, part in state.items() if part is not pl_module}
        hyper_parameters = {**pl_module.hparams, "max_epochs": trainer.max_epochs}
        self._begin(optimizers, group=True, config=hyper_parameters)
        self._go_on(state)
        self._step = trainer.global_step

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        """Measure gradients: unscaled already, and not clipped yet."""
        parameters = parameters_of(optimizer)
        for guard in self._guards:
            guard.before_clipping(parameters)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Judge an update once its optimizer step has been taken."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            # Already divided by the number of batches that are accumulated.
            loss = loss.detach()
            self._loss = loss if self._loss is None else self._loss + loss
        if trainer.global_step == self._step or self.watch is None:
            return
        self._step = trainer.global_step
        self.watch.log(self._readings(trainer), step=self._step)
        if self._is_due(self._step):
            self.watch.save(self.state(trainer, pl_module), step=self._step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.watch is not None:
            self._pauses.enter_context(self.watch.pause("validating"))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what validation found for the next update."""
        self._pauses.close()
        if not trainer.sanity_checking:
            self._evaluated = {
                name: value
                for name, value in trainer.callback_metrics.items()
                if name not in self._trained
            }

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._pauses.close()
        self._end(None if isinstance(exception, TrainingHalted) else exception)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end(None)

    def state(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        optimizers = {f"optimizer{at}": each for at, each in enumerate(trainer.optimizers)}
        return {"module": pl_module, **optimizers}

    def _readings(self, trainer: Trainer) -> dict[str, Any]:
        # Lightning never forgets a metric: those of the last validation are still there.
        logged = {
            name: value
            for name, value in trainer.callback_metrics.items()
            if name not in self._evaluated
        }
        self._trained.update(logged)
        readings: dict[str, Any] = dict(logged)
        if self._loss is not None:
            readings["train/loss"], self._loss = self._loss, None
        for name in list(self._evaluated):
            value = self._evaluated[name]
            if value is not None:
                readings[name], self._evaluated[name] = value, None
        return readings
