"""The faults: what each is called when it is told rightly, and where it shows."""

from __future__ import annotations

import random
from dataclasses import dataclass

from benchmarks.judgement.cases import Fault


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        cause: Slug of the right cause; "" where no log can tell it.
        detail: Which of several ways to the same cause.
        chain: What metrics measure through which it works, first to last.
        sizes: Strengths to draw from.
        early: Share of the runs that have it from the first update on.
        span: Where in the run it begins otherwise, as shares of its updates.
        variant: The variant of the healthy run that it breaks.
    """

    cause: str
    chain: tuple[str, ...]
    detail: str = ""
    sizes: tuple[float, ...] = (1.0,)
    early: float = 0.0
    span: tuple[float, float] = (0.3, 0.6)
    variant: str = "plain"


_SOON, _LATE = (0.05, 0.3), (0.6, 0.9)
"""A run that stops learning late has learnt already; one that is set back early recovers."""
_FIT = ("loss", "grad", "eval", "value", "policy")
_RL = (*_FIT, "reward", "entropy", "spread", "kl", "weight")
RATES = ("rate_10x", "rate_100x", "rate_high", "rate_zero")
IDLE = (*RATES, "other_model", "frozen", "detached", "masked_loss")
"""Faults of the rate, and those by which nothing is trained."""
INPUTS = ("nan_batch", "nan_input", "inf_input", "corrupted_share")
RESUMES = ("resume_weights", "resume_rate")
WEIGHTS = ("bit_flip", "slow_growth", "loss_sign")
FAULTS: dict[str, Kind] = {
    "rate_10x": Kind("learning-rate", ("rate", *_RL), sizes=(10.0, 30.0), span=_LATE),
    "rate_100x": Kind("learning-rate", ("rate", *_RL), sizes=(100.0, 1000.0)),
    "rate_high": Kind("learning-rate", ("rate", *_RL), sizes=(30.0, 300.0), early=1.0),
    "rate_zero": Kind("nothing-trained", ("rate", *_RL), "rate-zero", early=0.5, span=_SOON),
    "other_model": Kind("nothing-trained", _RL, "other-model", early=1.0),
    "frozen": Kind("nothing-trained", _RL, "frozen", early=0.5, span=_SOON),
    "detached": Kind("nothing-trained", _RL, "detached", early=1.0),
    "masked_loss": Kind("nothing-trained", _RL, "masked", early=0.3, span=_SOON),
    "nan_batch": Kind("nonfinite-input", _RL, "once"),
    "nan_input": Kind("nonfinite-input", _RL, "for-good"),
    "inf_input": Kind("nonfinite-input", _RL, "once"),
    "corrupted_share": Kind("data-fault", _RL, "inputs", sizes=(0.5, 0.9)),
    "labels_shuffled": Kind("data-fault", _RL, "labels"),
    "input_scale": Kind("input-scale", _RL, sizes=(1e3, 1e4)),
    "reward_scale": Kind("reward-scale", _RL, sizes=(1e3, 1e6)),
    "reward_zero": Kind("no-trade", _RL, early=0.5),
    "discount": Kind("discount", _RL, sizes=(1.05, 1.2), early=1.0),
    "value_coefficient": Kind("value-coefficient", _RL, sizes=(1e3, 1e5), early=0.7),
    "entropy_runaway": Kind("entropy-coefficient", _RL, "too-high", sizes=(1.0, 10.0), early=0.7),
    "entropy_negative": Kind("entropy-coefficient", _RL, "negative", sizes=(1.0, 10.0), early=0.5),
    "clipping_off": Kind("clipping-off", _RL, early=1.0, variant="heavy_tailed"),
    "stale_statistics": Kind("wrong-sample-normalisation", _RL, sizes=(1e-2, 1e-4)),
    **{
        f"statistics_{way}": Kind("wrong-sample-normalisation", _RL, way, early=0.3)
        for way in ("previous", "running", "worker", "uncentred", "brackets", "leave_one_out")
    },
    "missing_epsilon": Kind("missing-epsilon", _RL),
    "target_never": Kind("bootstrapping", _RL, "target-never", early=1.0),
    "target_live": Kind("bootstrapping", _RL, "target-live", sizes=(10.0, 30.0), early=1.0),
    "fp16_overflow": Kind(
        "loss-scale-overflow", ("scale", *_RL), early=0.5, span=_SOON, variant="scaler"
    ),
    "bf16_lost": Kind("updates-below-resolution", _RL, early=1.0, variant="low_rate"),
    "resume_weights": Kind("lost-at-resume", _RL, "weights", span=_LATE),
    "resume_rate": Kind("lost-at-resume", ("rate", *_RL), "rate", sizes=(10.0, 30.0), span=_LATE),
    "bit_flip": Kind("corrupted-parameters", _RL, sizes=(30.0,)),
    "slow_growth": Kind("unstable-dynamics", ("weight", *_RL), sizes=(0.05, 0.1, 0.25)),
    "loss_sign": Kind("loss-sign", _RL, early=0.5),
    "warmup_missing": Kind(
        "learning-rate", ("rate", *_RL), "warm-up", sizes=(20.0, 100.0), early=1.0
    ),
    "slowdown": Kind("slowdown", ("speed",), sizes=(4.0, 10.0)),
}

MEASURE_ONLY_FAULTS = frozenset({"bit_flip", "loss_sign", "inf_input", "bf16_lost"})
"""Faults that nobody may choose a threshold by."""
MEASURE_ONLY_TRAINERS = frozenset({"lstm", "cleanrl_sac", "lbfgs", "trl_dpo", "keras_mlp"})
"""Trainers that nobody may choose a threshold by."""


def drawn(name: str, trainer: str, seed: int, updates: int) -> Fault:
    """The fault with its moment and strength, both from the seed."""
    kind, draw = FAULTS[name], random.Random(f"{name} {trainer} {seed}")
    early = draw.random() < kind.early
    at = 1 if early else round(draw.uniform(*kind.span) * updates)
    return Fault(name, at, draw.choice(kind.sizes))
