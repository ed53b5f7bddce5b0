"""Transformers' `Trainer`, and every trainer built on it.

    Trainer(..., callbacks=[WatchstepCallback(run="bert-7", on_critical="halt")])

or `import watchstep.integrations.transformers` and `report_to="watchstep"`, with what the
environment says.

The Trainer's log hides a NaN loss behind the mean of earlier ones (`logging_nan_inf_filter`).
The callback reads the loss of every step as `training_step` returned it, guards the optimizer,
and sees gradient norms before they are clipped.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Mapping
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers import __version__ as transformers_version
from transformers.integrations import integration_utils

from watchstep.guard import observe_clipping
from watchstep.hook import Watch
from watchstep.integrations.callback_base import CallbackBase

log = logging.getLogger("watchstep.transformers")

_NOT_READINGS = ("loss", "learning_rate", "epoch", "step", "total_flos")


class WatchstepCallback(CallbackBase, TrainerCallback):
    """Watches one `Trainer.train()`.

    Give it as `callbacks=[...]`. A step is judged when the Trainer has logged it, before the next
    one begins, and its gradients before `optimizer.step()` touches a weight.

    Args:
        choices: As for every callback, see `CallbackBase`; an update is an optimizer step, and
            `rules` is "pretrain" by default.

    Raises:
        TrainingHalted: Out of `train()`, when a halt was asked for.
    """

    default_rules = "pretrain"
    made_by = f"transformers {transformers_version}"

    def __init__(self, watch: Watch | None = None, **choices: Any) -> None:
        super().__init__(watch, **choices)
        self._trainer: Trainer | None = None
        self._wraps_train = False
        self._loss: Any = None
        self._learning_rate: float | None = None
        self._due: dict[str, Any] | None = None

    # What the Trainer calls

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Find the Trainer, so that whatever ends its training is seen."""
        trainer: Any = self._calling_trainer()
        self._trainer = trainer
        if trainer is not None and not self._wraps_train:
            self._wraps_train = True
            trainer.train = self._ending(trainer.train)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any
    ) -> None:
        self._put_back()
        self._begin({"optimizer": parts["optimizer"]}, group=True, config=args)
        self._replaced.enter_context(observe_clipping(*self._guards))
        # Not found yet if it was given by `add_callback`.
        self._trainer = self._trainer or self._calling_trainer()
        if self._trainer is not None:
            self._follow(self._trainer)
            self._go_on(self.state())
            if args.logging_nan_inf_filter:
                log.warning(
                    "the Trainer's own log would hide NaN losses (logging_nan_inf_filter=True);"
                    " watchstep reads them unfiltered"
                )
        else:
            log.warning("no Trainer found: losses are read from its log, which may hide NaN")

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._judge()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any
    ) -> None:
        """Remember the rate of this step: the scheduler moves on before the step ends."""
        self._learning_rate = parts["optimizer"].param_groups[0]["lr"]

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """A step has ended; what the Trainer logs of it comes next."""
        self._judge()
        self._due = {"step": state.global_step}
        if self._loss is not None:
            self._due["train/loss"], self._loss = self._loss, None
        if self._learning_rate is not None:
            self._due["train/learning_rate"] = self._learning_rate
        self._due.update(self._step_readings())

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Take what the Trainer logs into the step that it belongs to."""
        # The summary at the end (train_runtime, train_loss, ...) belongs to no step.
        if self._due is None or logs is None or "train_runtime" in logs:
            return
        for name, value in logs.items():
            if name not in _NOT_READINGS and isinstance(value, (int, float)):
                self._due.setdefault(name, value)
        if self._trainer is None and "loss" in logs:
            self._due["train/loss"] = logs["loss"]

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._judge()
        self._end(None)

    # How it works

    def _follow(self, trainer: Trainer) -> None:
        """Look at what the Trainer does not tell. Undone when training ends."""
        original = trainer.training_step

        @functools.wraps(original)
        def training_step(*args: Any, **kwargs: Any) -> Any:
            loss = original(*args, **kwargs)
            # Already divided by the number of micro-batches in the step.
            self._loss = loss if self._loss is None else self._loss + loss
            return loss

        self._replaced.replace(trainer, "training_step", self._ending(training_step))
        evaluate = self._paused("evaluating", trainer.evaluate)
        self._replaced.replace(trainer, "evaluate", evaluate)
        # Of no public name; where it is called otherwise one day, saves are not marked.
        if hasattr(trainer, "_save_checkpoint"):
            save = self._paused("saving", trainer._save_checkpoint)  # noqa: SLF001 - see above
            self._replaced.replace(trainer, "_save_checkpoint", save)

    def _step_readings(self) -> Mapping[str, Any]:
        """More readings of the step that has just ended, for trainers that have some."""
        return {}

    def _judge(self) -> None:
        due, self._due = self._due, None
        if due is None or self.watch is None:
            return
        step = due.pop("step")
        self.watch.log(due, step=step)
        if self._is_due(step) and self._trainer is not None:
            self.watch.save(self.state(), step=step)

    def state(self) -> dict[str, Any]:
        assert self._trainer is not None
        trainer = self._trainer
        parts = {
            "model": trainer.accelerator.unwrap_model(trainer.model),
            "optimizer": trainer.optimizer,
            "scheduler": trainer.lr_scheduler,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _calling_trainer(self) -> Trainer | None:
        """The Trainer whose method is calling this callback.

        The Trainer gives its callbacks the model, the optimizer and the loaders, but not itself,
        and it alone knows the loss before its log filter.
        """
        frame = inspect.currentframe()
        while frame is not None:
            caller = frame.f_locals.get("self")
            if isinstance(caller, Trainer):
                return caller
            frame = frame.f_back
        return None

    def _end(self, error: BaseException | None) -> None:
        super()._end(error)
        self._put_back()

    def _put_back(self) -> None:
        self._replaced.close()
        self._loss = self._due = None


# What `report_to` chooses from; a version without it is told of callbacks alone.
getattr(integration_utils, "INTEGRATION_TO_CALLBACK", {})["watchstep"] = WatchstepCallback
