"""The trainings, one module for each way of training; a module is read when one of its is made."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from benchmarks.judgement.cases import Trainer

MODULES = (
    "plain",
    "cleanrl",
    "sb3",
    "reinforce",
    "gan",
    "lightning_module",
    "huggingface",
    "hooked_ppo",
)


def trainers() -> Iterator[Trainer]:
    """Every trainer whose libraries are installed."""
    for name in MODULES:
        try:
            module = importlib.import_module(f"{__name__}.{name}")
        except ImportError as error:
            print(f"left out {name}: {error}")
        else:
            yield from module.TRAINERS
