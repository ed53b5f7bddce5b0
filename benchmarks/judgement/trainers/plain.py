"""Supervised trainings in plain torch, each with the names that its kind of code logs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from benchmarks.judgement.cases import Case, Recording, Trainer
from benchmarks.judgement.trainers.supervised import FAULTS, VARIANTS, Batch, Loop, Row, Task

# Text


class TinyGPT(nn.Module):
    """One layer of causal attention and one of feed-forward, over 24 characters."""

    def __init__(self, vocabulary: int = 24, width: int = 32, context: int = 16) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.randn(context, width) * 0.02)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.attention = nn.Linear(width, 3 * width)
        self.forward_layer = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.tokens(tokens) + self.places
        query, key, value = self.attention(self.norms[0](hidden)).chunk(3, -1)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + mixed
        hidden = hidden + self.forward_layer(self.norms[1](hidden))
        return self.head(self.norms[2](hidden))


class WordLSTM(nn.Module):
    """One recurrent layer, as in torch's word language model."""

    def __init__(self, vocabulary: int = 24, width: int = 32) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.recurrent = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.recurrent(self.tokens(tokens))
        return self.head(hidden)


def _text(seed: int) -> Callable[[int, float], Batch]:
    """Sequences of a Markov chain; the harder ones mix in a second chain."""
    random = torch.Generator().manual_seed(seed)
    chains = torch.softmax(3.0 * torch.randn(2, 24, 24, generator=random), -1)

    def batch(size: int, harder: float) -> Batch:
        chain = chains[0] * (1.0 - 0.15 * harder) + chains[1] * 0.15 * harder
        tokens = torch.randint(0, 24, (size, 1), generator=random)
        columns = [tokens]
        for _ in range(16):
            columns.append(torch.multinomial(chain[columns[-1][:, 0]], 1, generator=random))
        sequence = torch.cat(columns, 1)
        return sequence[:, :-1], sequence[:, 1:]

    return batch


def _next_token(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    tokens, targets = batch
    return {"loss": functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())}


def _text_task(seed: int, model: Callable[[], nn.Module], names: Callable[[Row], dict[str, float]]):
    batch = _text(seed)
    held_out = batch(128, 0.0)
    return Task(
        model=model,
        batch=batch,
        losses=_next_token,
        names=names,
        judge=lambda model: {"loss": float(_next_token(model, held_out)["loss"])},
        rate=5e-3,
        every=1,
    )


def _nanogpt_names(row: Row) -> dict[str, float]:
    numbers = {"train/loss": row.losses["loss"], "lr": row.rate, "mfu": 0.4 / row.seconds}
    if row.evaluation:
        numbers["val/loss"] = row.evaluation["loss"]
    return numbers


def _titan_names(row: Row) -> dict[str, float]:
    return {
        "loss_metrics/global_avg_loss": row.losses["loss"],
        "loss_metrics/global_max_loss": row.losses["loss"] * 1.02,
        "grad_norm": row.norm,
        "lr": row.rate,
        "throughput(tps)": 1024.0 / row.seconds,
        **({"loss_scale": row.scale} if row.scale is not None else {}),
    }


def _word_model_names(row: Row) -> dict[str, float]:
    numbers = {
        "lr": row.rate,
        "ms/batch": 1e3 * row.seconds,
        "loss": row.losses["loss"],
        "ppl": math.exp(min(row.losses["loss"], 700.0)),
    }
    if row.evaluation:
        numbers["valid loss"] = row.evaluation["loss"]
    return numbers


# Pictures and vectors


def _pictures(seed: int) -> Callable[[int, float], Batch]:
    random = torch.Generator().manual_seed(seed)
    shapes = torch.randn(4, 1, 8, 8, generator=random)

    def batch(size: int, harder: float) -> Batch:
        labels = torch.randint(0, 4, (size,), generator=random)
        noise = torch.randn(size, 1, 8, 8, generator=random)
        return shapes[labels] * (1.0 - 0.1 * harder) + 1.2 * noise, labels

    return batch


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 4),
    )


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))


def _classified(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    logits, labels = model(batch[0]), batch[1]
    return {
        "loss": functional.cross_entropy(logits, labels),
        "accuracy": (logits.argmax(-1) == labels).float().mean(),
    }


def _classifier_task(seed: int, model: Callable[[], nn.Module], names):
    batch = _pictures(seed)
    held_out = batch(256, 0.0)
    return Task(
        model=model,
        batch=batch,
        losses=_classified,
        names=names,
        judge=lambda model: {k: float(v) for k, v in _classified(model, held_out).items()},
        rate=2e-3,
    )


def _timm_names(row: Row) -> dict[str, float]:
    assert row.evaluation is not None
    return {
        "train_loss": row.losses["loss"],
        "eval_loss": row.evaluation["loss"],
        "eval_top1": 100.0 * row.evaluation["accuracy"],
        "lr": row.rate,
    }


def _keras_names(row: Row) -> dict[str, float]:
    assert row.evaluation is not None
    return {
        "loss": row.losses["loss"],
        "accuracy": row.losses["accuracy"],
        "val_loss": row.evaluation["loss"],
        "val_accuracy": row.evaluation["accuracy"],
        "learning_rate": row.rate,
    }


class VAE(nn.Module):
    """Sixteen numbers through four latent ones."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
        self.decoder = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 16))


def _mixture(seed: int, width: int) -> Callable[[int, float], Batch]:
    random = torch.Generator().manual_seed(seed)
    centres = 2.0 * torch.randn(6, width, generator=random)

    def batch(size: int, harder: float) -> Batch:
        which = torch.randint(0, 6 if harder else 3, (size,), generator=random)
        return (centres[which] + 0.3 * torch.randn(size, width, generator=random),)

    return batch


def _elbo(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    assert isinstance(model, VAE)
    mean, log_variance = model.encoder(batch[0]).chunk(2, -1)
    latent = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
    recon = functional.mse_loss(model.decoder(latent), batch[0], reduction="sum") / len(batch[0])
    kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(-1).mean()
    return {"loss": recon + kl, "recon_loss": recon, "kl_loss": kl}


class Denoiser(nn.Module):
    """Predicts the noise in a point of the plane, given how noisy it is."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 2)
        )

    def forward(self, points: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([points, share], -1))


def _denoised(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    points = batch[0]
    share, noise = torch.rand(len(points), 1), torch.randn_like(points)
    noisy = (1.0 - share).sqrt() * points + share.sqrt() * noise
    return {"loss": functional.mse_loss(model(noisy, share), noise)}


def _generative_task(seed: int, model, losses, names, width: int) -> Task:
    batch = _mixture(seed, width)
    held_out = batch(512, 0.0)

    def judge(model: nn.Module) -> dict[str, float]:
        state = torch.get_rng_state()
        torch.manual_seed(1)
        result = {key: float(value) for key, value in losses(model, held_out).items()}
        torch.set_rng_state(state)
        return result

    return Task(model, batch, losses, names, judge, rate=3e-3, size=64)


def _vae_names(row: Row) -> dict[str, float]:
    numbers = dict(row.losses) | {"lr": row.rate}
    if row.evaluation:
        numbers["test_loss"] = row.evaluation["loss"]
    return numbers


def _diffusers_names(row: Row) -> dict[str, float]:
    return {"train_loss": row.losses["loss"], "step_loss": row.losses["loss"], "lr": row.rate}


def _regression(seed: int) -> Callable[[int, float], Batch]:
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(96, 6, generator=random)
    harder = inputs + 0.05 * torch.randn(96, 6, generator=random)
    mixing = torch.randn(6, 1, generator=random)

    def batch(_size: int, late: float) -> Batch:
        chosen = harder if late else inputs
        return chosen, torch.sin(chosen @ mixing)

    return batch


def _squares(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    return {"loss": functional.mse_loss(model(batch[0]), batch[1])}


def _lbfgs_names(row: Row) -> dict[str, float]:
    return {"loss": row.losses["loss"], "grad_norm": row.norm}


def _lbfgs_task(seed: int) -> Task:
    batch = _regression(seed)
    held_out = batch(0, 0.0)
    return Task(
        model=lambda: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1)),
        batch=batch,
        losses=_squares,
        names=_lbfgs_names,
        judge=lambda model: {"loss": float(_squares(model, held_out)["loss"])},
        rate=0.3,
        optimizer="lbfgs",
        every=1,
        updates=120,
    )


def _word_task(seed: int) -> Task:
    task = _text_task(seed, WordLSTM, _word_model_names)
    task.optimizer, task.rate, task.clip = "sgd", 0.5, 0.25
    return task


def _epochs(task: Task) -> Task:
    """Logged and evaluated once an epoch of six steps."""
    task.updates, task.every, task.evaluate_every = 80, 6, 1
    return task


_TASKS: Mapping[str, Callable[[int], Task]] = {
    "nanogpt": lambda seed: _text_task(seed, TinyGPT, _nanogpt_names),
    "torchtitan": lambda seed: replace(_text_task(seed, TinyGPT, _titan_names), size=16),
    "lstm": _word_task,
    "cnn": lambda seed: _epochs(_classifier_task(seed, _cnn, _timm_names)),
    "keras_mlp": lambda seed: _epochs(_classifier_task(seed, _mlp, _keras_names)),
    "vae": lambda seed: _generative_task(seed, VAE, _elbo, _vae_names, 16),
    "diffusion": lambda seed: replace(
        _generative_task(seed, Denoiser, _denoised, _diffusers_names, 2), updates=300
    ),
    "lbfgs": _lbfgs_task,
}


def _train(name: str, case: Case) -> Recording:
    torch.manual_seed(case.number)
    return Loop(case, _TASKS[name](case.number)).run()


def _trainer(
    name: str,
    algorithm: str,
    metrics: Mapping[str, tuple[str, ...]],
    *,
    updates: int = 200,
    without: tuple[str, ...] = (),
) -> Trainer:
    faults = tuple(fault for fault in FAULTS if fault not in without)
    if "speed" not in metrics:
        faults = tuple(fault for fault in faults if fault != "slowdown")
    variants = tuple(variant for variant in VARIANTS if variant not in without)
    train = functools.partial(_train, name)
    return Trainer(name, algorithm, "supervised", train, metrics, faults, variants, updates)


_TOKENS = ("nan_batch", "nan_input", "inf_input", "input_scale")
"""What integers cannot be."""
_NO_TARGETS = ("labels_shuffled",)
_NO_SCALE = ("fp16_overflow", "scaler")
TRAINERS = (
    _trainer(
        "nanogpt",
        "GPT",
        {"loss": ("train/loss",), "eval": ("val/loss",), "rate": ("lr",), "speed": ("mfu",)},
        without=_TOKENS,
    ),
    _trainer(
        "torchtitan",
        "GPT",
        {
            "loss": ("loss_metrics/global_avg_loss", "loss_metrics/global_max_loss"),
            "grad": ("grad_norm",),
            "rate": ("lr",),
            "speed": ("throughput(tps)",),
            "scale": ("loss_scale",),
        },
        without=_TOKENS,
    ),
    _trainer(
        "lstm",
        "LSTM",
        {
            "loss": ("loss", "ppl"),
            "eval": ("valid loss",),
            "rate": ("lr",),
            "speed": ("ms/batch",),
        },
        without=(*_TOKENS, *_NO_SCALE),
    ),
    _trainer(
        "cnn",
        "CNN",
        {"loss": ("train_loss",), "eval": ("eval_loss", "eval_top1"), "rate": ("lr",)},
        updates=80,
    ),
    _trainer(
        "keras_mlp",
        "MLP",
        {
            "loss": ("loss", "accuracy"),
            "eval": ("val_loss", "val_accuracy"),
            "rate": ("learning_rate",),
        },
        updates=80,
    ),
    _trainer(
        "vae",
        "VAE",
        {"loss": ("loss", "recon_loss", "kl_loss"), "eval": ("test_loss",), "rate": ("lr",)},
        without=(*_NO_TARGETS, *_NO_SCALE),
    ),
    _trainer(
        "diffusion",
        "diffusion",
        {"loss": ("train_loss", "step_loss"), "rate": ("lr",)},
        updates=300,
        without=_NO_TARGETS,
    ),
    _trainer(
        "lbfgs",
        "LBFGS",
        {"loss": ("loss",), "grad": ("grad_norm",)},
        updates=120,
        without=(
            *_NO_SCALE,
            *("heavy_tailed", "clipping_off", "noisy", "memorised", "warmup_missing", "bf16_lost"),
            *("low_rate", "cosine", "restarts", "spikes"),
        ),
    ),
)
