"""Transformers' Trainer and TRL's SFT, DPO and GRPO, on a language model made on the spot."""

from __future__ import annotations

import copy
import functools
import math
import random
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from torch.nn import functional
from transformers import Trainer as TransformersTrainer
from transformers import (
    TrainerCallback,
    TrainingArguments,
)
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from benchmarks.judgement.cases import Case, Recording, Trainer
from benchmarks.judgement.faults import IDLE, RESUMES, WEIGHTS
from benchmarks.judgement.trainers.sabotage import detach_trunk, forget, meddle, rate_factor
from benchmarks.judgement.trainers.tiny_llm import llm, word_tokenizer, words

COUNT = 21
WORDS = words(COUNT)
STEPS = {"hf_trainer": 150, "trl_sft": 120, "trl_dpo": 80, "trl_grpo": 60}
VARIANTS = ("cosine", "warmup", "noisy", "short", "memorised", "constant_rate")
LENGTH = 12


def _sentence(draw: random.Random, seed: int, sharp: float) -> list[int]:
    """Words of a chain in which each mostly has one successor."""
    word, words = draw.randrange(3, len(WORDS)), []
    for _ in range(LENGTH):
        words.append(word)
        follows = 3 + (word * 7 + seed) % (len(WORDS) - 3)
        word = follows if draw.random() < sharp else draw.randrange(3, len(WORDS))
    return words


def _spelt(words: list[int]) -> str:
    return " ".join(WORDS[word] for word in words)


class Watcher(TrainerCallback):
    """Keeps what the trainer logs, and breaks the weights between steps."""

    def __init__(self, case: Case, recording: Recording) -> None:
        self.fault, self.recording = case.fault, recording
        self.forgot = False

    def on_step_begin(self, *_: Any, **given: Any) -> None:
        update, fault, model = self.recording.next, self.fault, given["model"]
        if fault.name != "bit_flip" or not self.forgot:
            meddle(model, fault, update)
        if fault.name in {"bit_flip", "resume_weights", "resume_rate"} and update >= fault.at:
            if fault.name.startswith("resume"):
                self.recording.attempt = 2
            if fault.name == "resume_weights" and not self.forgot:
                forget(model)
            self.forgot = True

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Any = None, **_: Any) -> None:
        numbers = {name: value for name, value in logs.items() if isinstance(value, int | float)}
        if "train_runtime" not in numbers:
            for clock in [name for name in numbers if "runtime" in name or "per_second" in name]:
                del numbers[clock]
            numbers.pop("step_time", None)
            self.recording.log(state.global_step, numbers)


class Setting:
    """What all four share: the model, its optimizer and rate, and the arguments."""

    def __init__(self, case: Case, rate: float) -> None:
        torch.manual_seed(case.number)
        self.case, self.fault, self.recording = case, case.fault, Recording()
        self.draw, self.model = case.draw(), llm(COUNT, hidden=24)
        self.steps = 25 if case.variant == "short" else STEPS[case.trainer]
        self.rate = rate * self.draw.choice((0.7, 1.0, 1.5))
        held = copy.deepcopy(self.model) if self.fault.name == "other_model" else self.model
        self.optimizer = torch.optim.AdamW(held.parameters(), lr=self.rate)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._factor)
        if self.fault.name == "detached":
            detach_trunk(self.model)

    def _factor(self, step: int) -> float:
        factor, share = rate_factor(self.fault, self.recording.next), step / self.steps
        if self.case.variant == "cosine":
            return factor * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))
        if self.case.variant == "warmup":
            return factor * min(1.0, 5.0 * share + 0.02)
        return factor if self.case.variant == "constant_rate" else factor * max(0.0, 1.0 - share)

    def arguments(self, folder: str, **more: Any) -> dict[str, Any]:
        return {
            "output_dir": folder,
            "max_steps": self.steps,
            "per_device_train_batch_size": 4 if self.case.variant == "noisy" else 8,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": [],
            "use_cpu": True,
            "bf16": False,
            "disable_tqdm": True,
            "seed": self.case.seed,
            **more,
        }

    def given(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "optimizers": (self.optimizer, self.schedule),
            "callbacks": [Watcher(self.case, self.recording)],
        }

    def keep_reference(self, folder: str) -> None:
        """Put the model where TRL will look for the reference: where the model came from."""
        self.model.save_pretrained(folder)
        self.model.config.name_or_path = folder

    def tokens(self, count: int, sharp: float = 0.8) -> torch.Tensor:
        count = 8 if self.case.variant == "memorised" else count
        rows = [_sentence(self.draw, self.case.number, sharp) for _ in range(count)]
        return torch.tensor(rows)

    def language_loss(self, tokens: torch.Tensor) -> float:
        with torch.no_grad():
            logits = self.model(input_ids=tokens).logits
        return float(
            functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        )

    def trained(self, trainer: Any, quality: Callable[[], float]) -> Recording:
        """Run it; a training that an exception ends keeps what it logged."""
        self.recording.start = quality()
        try:
            trainer.train()
        except (ValueError, RuntimeError) as error:
            self.recording.failure = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            return self.recording
        self.recording.outcome = quality()
        return self.recording


def _spoil_tokens(setting: Setting, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The batch as the fault leaves it; labels of -100 do not count."""
    fault, update = setting.fault, setting.recording.next
    if fault.on("masked_loss", update):
        batch["labels"] = torch.full_like(batch["labels"], -100)
    elif fault.on("labels_shuffled", update):
        batch["labels"] = batch["labels"][torch.randperm(len(batch["labels"]))]
    elif fault.on("corrupted_share", update):
        bad = torch.rand(len(batch["input_ids"])) < fault.size
        noise = torch.randint(3, len(WORDS), batch["input_ids"].shape)
        batch["input_ids"] = torch.where(bad[:, None], noise, batch["input_ids"])
    return batch


class LossSign:
    """Mixed into a trainer whose loss may have the wrong sign."""

    setting: Setting

    def compute_loss(self, *args: Any, **given: Any) -> Any:
        loss = super().compute_loss(*args, **given)  # type: ignore[misc]
        training = self.model.training  # type: ignore[attr-defined]
        if training and self.setting.fault.on("loss_sign", self.setting.recording.next):
            return (-loss[0], *loss[1:]) if isinstance(loss, tuple) else -loss
        return loss


def _own(kind: type[Any], setting: Setting) -> type[Any]:
    return type(kind.__name__, (LossSign, kind), {"setting": setting})


def _hf_trainer(case: Case) -> Recording:
    setting = Setting(case, 5e-3)
    tokens, held_out = setting.tokens(512), setting.tokens(64)

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        chosen = torch.stack([torch.as_tensor(row["input_ids"]) for row in rows])
        batch = {"input_ids": chosen, "labels": chosen.clone()}
        return _spoil_tokens(setting, batch) if setting.model.training else batch

    def rows_of(tokens: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        return [{"input_ids": row, "labels": row} for row in tokens]

    with tempfile.TemporaryDirectory() as folder:
        more = {"eval_strategy": "steps", "eval_steps": 30, "remove_unused_columns": False}
        trainer = _own(TransformersTrainer, setting)(
            args=TrainingArguments(**setting.arguments(folder, **more)),
            train_dataset=rows_of(tokens),
            eval_dataset=rows_of(held_out),
            data_collator=collate,
            **setting.given(),
        )
        return setting.trained(trainer, lambda: setting.language_loss(held_out))


def _trl_sft(case: Case) -> Recording:
    setting = Setting(case, 5e-3)
    tokens, held_out = setting.tokens(512), setting.tokens(64)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _own(SFTTrainer, setting)(
            args=SFTConfig(**setting.arguments(folder, max_length=LENGTH + 1)),
            train_dataset=Dataset.from_dict({"text": [_spelt(row) for row in tokens.tolist()]}),
            processing_class=word_tokenizer(COUNT),
            **setting.given(),
        )
        collate = trainer.data_collator
        trainer.data_collator = lambda rows: _spoil_tokens(setting, collate(rows))
        return setting.trained(trainer, lambda: setting.language_loss(held_out))


def _trl_dpo(case: Case) -> Recording:
    setting = Setting(case, 1e-3)
    good, bad = setting.tokens(256, 0.9), setting.tokens(256, 0.1)
    held = torch.stack([setting.tokens(64, 0.9), setting.tokens(64, 0.1)])

    def spoil(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Chosen and rejected are the two halves of the batch."""
        fault, update = setting.fault, setting.recording.next
        half = len(batch["input_ids"]) // 2
        if fault.on("labels_shuffled", update):
            # The preferred and the rejected answer change places.
            return {
                name: torch.cat([value[half:], value[:half]])
                if isinstance(value, torch.Tensor) and value.dim() and len(value) == 2 * half
                else value
                for name, value in batch.items()
            }
        if fault.on("masked_loss", update) and "completion_mask" in batch:
            batch["completion_mask"] = torch.zeros_like(batch["completion_mask"])
        return batch

    def quality() -> float:
        return setting.language_loss(held[0]) - setting.language_loss(held[1])

    with tempfile.TemporaryDirectory() as folder:
        setting.keep_reference(folder)
        rows = {
            "prompt": [_spelt(row[:3]) for row in good.tolist()],
            "chosen": [" " + _spelt(row[3:]) for row in good.tolist()],
            "rejected": [" " + _spelt(row[3:]) for row in bad.tolist()],
        }
        trainer = _own(DPOTrainer, setting)(
            args=DPOConfig(**setting.arguments(folder, max_length=LENGTH + 2)),
            train_dataset=Dataset.from_dict(rows),
            processing_class=word_tokenizer(COUNT),
            **setting.given(),
        )
        collate = trainer.data_collator
        trainer.data_collator = lambda rows: spoil(collate(rows))
        return setting.trained(trainer, quality)


def _pay(text: str) -> float:
    """What a completion is paid: the share of even words, and its length."""
    words = [word for word in text.split() if word.startswith("w")]
    even = sum(int(word[1:]) % 2 == 0 for word in words) / max(len(words), 1)
    return even + 0.05 * len(words)


def _rewards(setting: Setting, completions: list[str]) -> list[float]:
    """The rewards as the fault leaves them."""
    fault, update = setting.fault, setting.recording.next
    values = [_pay(text) for text in completions]
    if fault.on("reward_scale", update):
        return [value * fault.size for value in values]
    if fault.on("reward_zero", update):
        return [0.0 for _ in values]
    if fault.on("loss_sign", update):
        return [-value for value in values]
    if fault.on("nan_input", update) or fault.first("nan_batch", update):
        values[0] = math.nan
    if fault.on("labels_shuffled", update):
        random.Random(update).shuffle(values)
    return values


def _mean_pay(setting: Setting, tokenizer: Any, prompts: list[str]) -> float:
    """Minus the mean pay of completions; NaN where nothing can be drawn from NaN."""
    batch = tokenizer(prompts, return_tensors="pt")
    state = torch.get_rng_state()
    torch.manual_seed(1)
    try:
        made = setting.model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=8,
            do_sample=True,
        )
    except RuntimeError:
        return math.nan
    finally:
        torch.set_rng_state(state)
    texts = tokenizer.batch_decode(made[:, 3:], skip_special_tokens=True)
    return -sum(map(_pay, texts)) / len(texts)


def _trl_grpo(case: Case) -> Recording:
    setting = Setting(case, 3e-3)
    prompts = [_spelt(row[:3]) for row in setting.tokens(64).tolist()]
    tokenizer = word_tokenizer(COUNT)

    def reward(completions: list[str], **_: Any) -> list[float]:
        return _rewards(setting, completions)

    with tempfile.TemporaryDirectory() as folder:
        setting.keep_reference(folder)
        more = {
            "num_generations": 4,
            "max_completion_length": 8,
            "beta": 0.04,
            "per_device_train_batch_size": 16,
        }
        trainer = GRPOTrainer(
            args=GRPOConfig(**(setting.arguments(folder) | more)),
            reward_funcs=reward,
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            processing_class=tokenizer,
            **setting.given(),
        )
        return setting.trained(trainer, lambda: _mean_pay(setting, tokenizer, prompts[:32]))


_SHARED = (*IDLE, "labels_shuffled", "corrupted_share", *RESUMES, *WEIGHTS)
_RATE = {"rate": ("learning_rate",), "grad": ("grad_norm",)}


def _trainer(
    name: str,
    train: Callable[[Case], Recording],
    family: str,
    metrics: dict[str, tuple[str, ...]],
    *,
    without: tuple[str, ...] = (),
    more: tuple[str, ...] = (),
) -> Trainer:
    faults = (*(fault for fault in _SHARED if fault not in without), *more)
    variants = tuple(variant for variant in VARIANTS if variant not in without)
    algorithm = name.rsplit("_", 1)[-1].upper() if name.startswith("trl") else "causal LM"
    train = functools.partial(train)
    return Trainer(name, algorithm, family, train, _RATE | metrics, faults, variants, STEPS[name])


TRAINERS = (
    _trainer("hf_trainer", _hf_trainer, "supervised", {"loss": ("loss",), "eval": ("eval_loss",)}),
    _trainer(
        "trl_sft",
        _trl_sft,
        "supervised",
        {"loss": ("loss", "mean_token_accuracy"), "entropy": ("entropy",)},
    ),
    _trainer(
        "trl_dpo",
        _trl_dpo,
        "preference",
        {
            "loss": ("loss",),
            "reward": ("rewards/chosen", "rewards/rejected", "rewards/margins"),
            "policy": ("rewards/accuracies", "logps/chosen", "logps/rejected"),
        },
        without=("corrupted_share",),
    ),
    _trainer(
        "trl_grpo",
        _trl_grpo,
        "grpo",
        {
            "policy": ("loss",),
            "reward": ("reward", "reward_std", "frac_reward_zero_std"),
            "kl": ("kl",),
            "entropy": ("entropy",),
        },
        without=("masked_loss", "corrupted_share", "memorised"),
        more=("reward_scale", "reward_zero", "nan_batch", "nan_input"),
    ),
)
