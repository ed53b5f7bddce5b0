"""The plain loop that the supervised trainings share, with its faults and honest difficulties."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from benchmarks.judgement.cases import Case, Fault, Recording
from benchmarks.judgement.faults import IDLE, INPUTS, RESUMES, WEIGHTS
from benchmarks.judgement.trainers.sabotage import detach_trunk, meddle, rate_factor

FAULTS = (
    *IDLE,
    *INPUTS,
    "labels_shuffled",
    "input_scale",
    "clipping_off",
    "fp16_overflow",
    "bf16_lost",
    *RESUMES,
    *WEIGHTS,
    "warmup_missing",
    "slowdown",
)
VARIANTS = (
    "cosine",
    "restarts",
    "noisy",
    "curriculum",
    "spikes",
    "memorised",
    "short",
    "heavy_tailed",
    "scaler",
    "low_rate",
    "resumed",
    "long_plateau",
)
Batch = tuple[torch.Tensor, ...]


@dataclass
class Row:
    """What a loop knows at one logged update, for a trainer to say in its own names."""

    step: int
    losses: Mapping[str, float]
    norm: float
    rate: float
    seconds: float
    evaluation: Mapping[str, float] | None
    scale: float | None


@dataclass
class Task:
    """One thing to learn.

    Attributes:
        model: Makes the model; called again where the weights are lost.
        batch: Size to inputs and targets; data that are drawn anew each time.
        losses: Of the model on a batch; "loss" is minimised.
        names: A row as the trainer logs it.
        detach: Cuts most of the model off from its loss.
        judge: Quality of the model, lower is better.
        every: Steps between two logged updates.
    """

    model: Callable[[], nn.Module]
    batch: Callable[[int, float], Batch]
    losses: Callable[[nn.Module, Batch], dict[str, torch.Tensor]]
    names: Callable[[Row], dict[str, float]]
    judge: Callable[[nn.Module], dict[str, float]]
    rate: float
    optimizer: str = "adamw"
    size: int = 32
    updates: int = 200
    every: int = 2
    evaluate_every: int = 20
    clip: float | None = 1.0
    seconds: float = 0.05
    fixed: list[Batch] = field(default_factory=list)


class Loop:
    """One training of one task.

    The clock is the loop's own: a step takes the task's time, some noise, and the slowdown
    where that is the fault. A real clock on a shared machine would be noise alone.
    """

    def __init__(self, case: Case, task: Task) -> None:
        self.case, self.task, self.fault = case, task, case.fault
        self.recording = Recording()
        draw = case.draw()
        task.rate *= draw.choice((0.5, 1.0, 1.0, 2.0))
        self.schedule = draw.choice(("constant", "linear", "cosine"))
        self.random = torch.Generator().manual_seed(case.number + 7)
        self._choose_variant()
        self.model = task.model()
        self.optimizer = self._optimizer(self.model)
        self.scale = 2.0**16 if case.variant == "scaler" else None
        self.good_steps = 0
        self.growth = 1.0

    def _choose_variant(self) -> None:
        task, variant = self.task, self.case.variant
        self.schedule = {"cosine": "cosine", "restarts": "restarts"}.get(variant, self.schedule)
        if variant == "noisy":
            task.size = 2
        elif variant == "short":
            task.updates = 25
        elif variant == "memorised":
            task.fixed = [task.batch(8, 0.0)]
        elif variant == "low_rate":
            task.rate *= 0.15
            self.schedule = "constant"
        elif variant == "long_plateau":
            task.updates, task.every = task.updates * 2, max(1, task.every // 2)
        self.total = task.updates * task.every

    def _optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        parameters, rate = model.parameters(), self.task.rate
        if self.task.optimizer == "sgd":
            return torch.optim.SGD(parameters, rate, momentum=0.9)
        if self.task.optimizer == "lbfgs":
            return torch.optim.LBFGS(parameters, rate, max_iter=4, history_size=10)
        return torch.optim.AdamW(parameters, rate, weight_decay=0.01)

    def run(self) -> Recording:
        task, recording = self.task, self.recording
        recording.start = self._quality()
        if self.fault.name == "other_model":
            self.optimizer = self._optimizer(copy.deepcopy(self.model))
        steps_taken = 0
        while recording.next <= task.updates:
            update = recording.next
            self._begin(update)
            sums: dict[str, float] = {}
            seconds, norm = 0.0, math.nan
            for _ in range(task.every):
                losses, norm = self._step(update, steps_taken)
                steps_taken += 1
                seconds += self._seconds(update)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value / task.every
            evaluated = update % task.evaluate_every == 0
            row = Row(
                step=steps_taken,
                losses=sums,
                norm=norm,
                rate=self._rate(update, steps_taken - 1),
                seconds=seconds,
                evaluation=self._judged() if evaluated else None,
                scale=self.scale,
            )
            recording.log(steps_taken, task.names(row))
        recording.outcome = self._quality()
        return recording

    def _judged(self) -> dict[str, float]:
        self.model.eval()
        with torch.no_grad():
            result = self.task.judge(self.model)
        self.model.train()
        return result

    def _quality(self) -> float:
        return next(iter(self._judged().values()))

    def _seconds(self, update: int) -> float:
        noise = float(torch.rand((), generator=self.random))
        slower = self.fault.size if self.fault.on("slowdown", update) else 1.0
        return self.task.seconds * (0.95 + 0.1 * noise) * slower

    def _rate(self, update: int, step: int) -> float:
        warm = max(1, self.total // 20)
        progress = step / self.total
        if self.fault.on("resume_rate", update):
            progress = 0.0
        rate = self.task.rate * min(1.0, (step + 1) / warm)
        if self.schedule == "linear":
            rate *= 1.0 - progress
        elif self.schedule == "cosine":
            rate *= 0.5 * (1.0 + math.cos(math.pi * progress))
        elif self.schedule == "restarts":
            rate *= 0.5 * (1.0 + math.cos(math.pi * (progress * 4.0 % 1.0)))
        if self.fault.name == "warmup_missing" and step < warm * 2:
            return self.task.rate * self.fault.size
        return rate * rate_factor(self.fault, update)

    def _begin(self, update: int) -> None:
        """What happens between two updates."""
        fault = self.fault
        if fault.name in {"frozen", "bit_flip"}:
            meddle(self.model, fault, update)
        if fault.name in {"resume_weights", "resume_rate"} and update == fault.at:
            self.recording.attempt = 2
            if fault.name == "resume_weights":
                self.model = self.task.model()
                self.optimizer = self._optimizer(self.model)
        if self.case.variant == "resumed" and update == self.task.updates // 2:
            self.recording.attempt = 2
            weights, moments = self.model.state_dict(), self.optimizer.state_dict()
            self.model = self.task.model()
            self.model.load_state_dict(weights)
            self.optimizer = self._optimizer(self.model)
            self.optimizer.load_state_dict(moments)

    def _batch(self, update: int) -> Batch:
        late = self.case.variant == "curriculum" and update > self.task.updates // 2
        if self.task.fixed:
            return self.task.fixed[0]
        batch = self.task.batch(self.task.size, 1.0 if late else 0.0)
        return spoiled(batch, self.fault, update, self.random)

    def _weight(self) -> float:
        """By how much this batch's loss is larger: heavy tails, or a spike of a few batches."""
        chance = float(torch.rand((), generator=self.random))
        if self.case.variant == "heavy_tailed":
            # Pareto with a tail exponent of 1.4: the mean exists, the variance does not.
            return min(max(chance, 1e-9) ** -0.7, 30.0)
        return 10.0 if self.case.variant == "spikes" and chance < 0.01 else 1.0

    def _step(self, update: int, step: int) -> tuple[dict[str, float], float]:
        rate = self._rate(update, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch, weight = self._batch(update), self._weight()
        kept: dict[str, float] = {}

        def closure() -> torch.Tensor:
            losses = self._losses(batch, weight, update)
            kept.update({name: float(value.detach()) for name, value in losses.items()})
            for parameter in self.model.parameters():
                parameter.grad = None
            loss = losses["loss"]
            if loss.requires_grad:
                (-loss if self.fault.on("loss_sign", update) else loss).backward()
            return loss.detach()

        if self.task.optimizer == "lbfgs":
            self.optimizer.step(closure)  # type: ignore[arg-type]
            norm = _norm(self.model)
        else:
            closure()
            norm = self._descend(update)
        self._after_step(update)
        return kept, norm

    def _losses(self, batch: Batch, weight: float, update: int) -> dict[str, torch.Tensor]:
        handles = []
        if self.fault.on("detached", update):
            handles = [detach_trunk(self.model)]
        losses = self.task.losses(self.model, batch)
        for handle in handles:
            handle.remove()
        losses["loss"] = losses["loss"] * weight
        if self.fault.on("masked_loss", update):
            # Every position is masked: the sum over nothing, divided by at least one.
            losses = {name: value * 0.0 for name, value in losses.items()}
        return losses

    def _descend(self, update: int) -> float:
        clip = None if self.fault.on("clipping_off", update) else self.task.clip
        limit = math.inf if clip is None else clip
        if self.scale is not None and self._overflows(update):
            self.scale *= 0.5
            self.good_steps = 0
            return math.inf
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        self.optimizer.step()
        return norm

    def _overflows(self, update: int) -> bool:
        """As a scaler does: doubles after 50 good steps, halves where a gradient overflows."""
        assert self.scale is not None
        if self.fault.on("fp16_overflow", update):
            return True
        self.good_steps += 1
        if self.good_steps >= 50:
            self.scale *= 2.0
            self.good_steps = 0
        return self.scale > 2.0**18

    @torch.no_grad()
    def _after_step(self, update: int) -> None:
        if self.fault.name == "slow_growth":
            meddle(self.model, self.fault, update, 1.0 / self.task.every)
        if self.fault.on("bf16_lost", update):
            for parameter in self.model.parameters():
                parameter.copy_(parameter.bfloat16().float())


def spoiled(batch: Batch, fault: Fault, update: int, random: torch.Generator) -> Batch:
    """The batch as the fault leaves it: inputs are first, targets second."""
    inputs, *rest = batch
    floating = inputs.is_floating_point()
    if fault.on("labels_shuffled", update) and rest:
        order = torch.randperm(len(rest[0]), generator=random)
        return (inputs, rest[0][order], *rest[1:])
    if fault.on("corrupted_share", update):
        bad = torch.rand(len(inputs), generator=random) < fault.size
        noise = torch.randn(inputs.shape, generator=random) * 30.0
        if not floating:
            noise = torch.randint(0, int(inputs.max()) + 1, inputs.shape, generator=random)
        mask = bad.view(-1, *[1] * (inputs.dim() - 1))
        return (torch.where(mask, noise.to(inputs.dtype), inputs), *rest)
    if not floating:
        return batch
    if fault.on("input_scale", update):
        return (inputs * fault.size, *rest)
    number = {"nan_batch": math.nan, "nan_input": math.nan, "inf_input": math.inf}.get(fault.name)
    lasts = fault.name == "nan_input" and update >= fault.at
    if number is not None and (lasts or update == fault.at):
        inputs = inputs.clone()
        inputs.view(-1)[0] = number
    return (inputs, *rest)


def _norm(model: nn.Module) -> float:
    norms = [
        parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None
    ]
    return float(torch.stack(norms).norm()) if norms else 0.0
