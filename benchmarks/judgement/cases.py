"""What is wrong with a run, since when, and what is true of it: the bench's nouns."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

HOOK: ContextVar[Callable[[], Mapping[str, float]]] = ContextVar("HOOK", default=dict)
"""Readings of watchstep's guards since the last call; see `guards.guarded`."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with one run.

    Attributes:
        name: A key of `faults.FAULTS`; "" in a healthy run.
        at: First logged update in which it acts, from 1.
        size: Its strength, where it has one.
    """

    name: str = ""
    at: int = 1
    size: float = 1.0

    def on(self, name: str, update: int) -> bool:
        """Whether this is the fault `name`, and it acts in this update."""
        return self.name == name and update >= self.at

    def first(self, name: str, update: int) -> bool:
        """Whether this is the fault `name`, and this is the update in which it begins."""
        return self.name == name and update == self.at


@dataclass(frozen=True)
class Case:
    """One run to make: everything random in it follows from these.

    Attributes:
        variant: "plain", or the honest difficulty that the run has.
    """

    trainer: str
    seed: int
    fault: Fault = Fault()
    variant: str = "plain"

    @property
    def folder(self) -> str:
        """Where it is kept, below the folder of all runs."""
        return f"{self.trainer}/{self.fault.name or 'healthy'}.{self.variant}.{self.seed:03d}"

    @property
    def number(self) -> int:
        """The seed of everything random: the same for a broken run and its healthy twin."""
        text = f"{self.trainer} {self.variant} {self.seed}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:3], "big")

    def draw(self) -> random.Random:
        """A generator for the settings: the same for a broken run and its healthy twin."""
        return random.Random(self.number)


@dataclass
class Recording:
    """What a training logged, and how it ended.

    Attributes:
        updates: One object an update: step, attempt, metrics under the trainer's own names, and
            what watchstep's hook adds to them.
        start, outcome: The quality before the first update and after the last, lower is better
            (a return is negated). NaN when it could not be computed.
        failure: The exception that ended it, as its traceback says it last; "" without one.
    """

    updates: list[dict[str, Any]] = field(default_factory=list)
    start: float = math.nan
    outcome: float = math.nan
    failure: str = ""
    attempt: int = 1

    @property
    def next(self) -> int:
        """Number of the update that will be logged next, from 1."""
        return len(self.updates) + 1

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep one update."""
        numbers = {name: float(value) for name, value in metrics.items()}
        row = {"step": step, "attempt": self.attempt, "metrics": numbers}
        self.updates.append({**row, "hook": dict(HOOK.get()())})


@dataclass(frozen=True)
class Trainer:
    """One kind of training.

    Attributes:
        name: Slug; also the folder of its runs.
        algorithm: What it runs, for people.
        family: "supervised", "on_policy", "off_policy", "preference" or "grpo".
        train: Makes one run.
        metrics: The names it logs by what they measure; the keys are
            the words of `faults.Kind.chain`.
        faults: Those that make sense for it.
        variants: Its honest difficulties besides "plain".
        updates: About how many it logs.
    """

    name: str
    algorithm: str
    family: str
    train: Callable[[Case], Recording]
    metrics: Mapping[str, tuple[str, ...]]
    faults: tuple[str, ...]
    variants: tuple[str, ...]
    updates: int


def half_of(trainer: str, seed: int) -> str:
    """ "choose" or "measure": the same for all runs of a trainer's seed, and fixed for ever."""
    digest = hashlib.sha256(f"{trainer}/{seed}".encode()).digest()
    return "measure" if digest[0] % 2 else "choose"
