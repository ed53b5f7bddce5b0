"""The words that printed lines are made of: counters, units, statistics, evaluations."""

from __future__ import annotations

import re
from collections.abc import Sequence

GLOBAL = frozenset(
    [
        "global_step",
        "globalstep",
        "num_updates",
        "train_step",
        "opt_step",
        "training/global_step",
        "trainer/global_step",
        "train/global_step",
    ]
) | {"global step"}
"""Counters over a whole run, which win over any other beside them."""

ITERATIONS = frozenset(
    ["iteration", "iterations", "iter", "iters", "it", "itr", "update", "updates", "up"]
)
STEPS = frozenset(
    [
        "step",
        "steps",
        "batch",
        "minibatch",
        "timestep",
        "timesteps",
        "episode",
        "ep",
        "total_timesteps",
        "total_steps",
        "frame",
        "frames",
    ]
) | {"time step", "eval num_timesteps"}
EPOCHS = frozenset(("epoch", "epochs"))
COUNTERS = GLOBAL | ITERATIONS | STEPS | EPOCHS
NOT_IN_DICTIONARIES = EPOCHS | frozenset(["episode", "ep", "batch", "frame", "frames"])
"""Counters that, printed in a dictionary, are a reading among others."""

_UNDER_PATHS = frozenset(("iteration", "iterations", "itr", "epoch"))
_BEFORE_COUNTERS = frozenset(
    [
        "at",
        "after",
        "for",
        "on",
        "in",
        "the",
        "training",
        "train",
        "learning",
        "current",
        "starting",
        "start",
        "begin",
        "beginning",
        "end",
        "of",
        "finished",
        "completed",
        "running",
        "global",
        "learner",
        "actor",
        "trainer",
        "env",
        "environment",
        "optimizer",
    ]
)
PREPOSITIONS = frozenset(
    ["of", "no", "for", "has", "contains", "with", "are", "to", "the", "or", "in", "after", "by"]
)
_UNIT = re.compile(
    r"(?:[numµ]?s|secs?|seconds?|mins?|minutes?|h|hrs?|hours?|d|days?|%|x|[kKMGTP]?i?[bB](?:ytes)?"
    r"|[kKMGT]|its?|steps?|samples?|tok|tokens?|frames?|examples?|imgs?|images?|fps|nats?|bits?|dB"
    r"|[TGMP]?FLOPS?|Hz|[WC])(?:/[A-Za-z]{1,10})?"
)
STATISTICS = frozenset(
    ["mean", "std", "min", "max", "avg", "median", "sum", "var", "average", "stddev"]
)
TRAINING = re.compile(
    r"loss|reward|return|kl|entropy|grad|norm|lr|learning_rate|advantage|perplexity|ppl|acc|"
    r"explained_variance|clip|rmse|g_gan|epret|score|^cost$",
    re.IGNORECASE,
)
"""Names of which training logs one at least, beside whatever else."""

_EVALUATION = frozenset(
    ["val", "valid", "validation", "eval", "evaluation", "evaluating", "test", "dev", "testing"]
)
EVALUATED = re.compile(r"^(?:val|valid|eval|test|best)", re.IGNORECASE)
"""Names that say by themselves that they are of an evaluation."""

_SETTINGS = ("config", "args", "arguments", "namespace", "hparams", "settings", "params")


def counter_of(words: Sequence[str]) -> str:
    """The counter that a name ends in, "" where it is another name."""
    small = [word.lower() for word in words[-4:]]
    last, before = small[-1], small[:-1]
    whole_name = " ".join(small)
    if whole_name in COUNTERS:
        return whole_name
    if not before and last.rpartition("/")[2] in _UNDER_PATHS:
        return last.rpartition("/")[2]
    if last in COUNTERS and ("at" in before or _BEFORE_COUNTERS.issuperset(before)):
        return "global step" if small[-2:] == ["global", "step"] else last
    return ""


def is_unit(word: str) -> bool:
    """Whether a word after a number is its unit."""
    return _UNIT.fullmatch(word) is not None


def is_evaluation(words: Sequence[str]) -> bool:
    """Whether any of the words says that an evaluation is spoken of."""
    return any(word.lower() in _EVALUATION for word in words)


def is_settings(word: str) -> bool:
    """Whether a printed call holds settings: `Namespace(lr=0.1)`, `PPOConfig(...)`."""
    return word.lower().endswith(_SETTINGS)
