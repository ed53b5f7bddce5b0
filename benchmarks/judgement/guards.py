"""What watchstep's hook adds to a log: the readings of its guard before every optimizer."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from benchmarks.judgement.cases import HOOK
from watchstep.core.updates import Verdict
from watchstep.guard import Guard, merged
from watchstep.guard.tally import STEPS


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Put a guard that stops nothing before every optimizer that steps meanwhile."""
    guards: weakref.WeakKeyDictionary[torch.optim.Optimizer, Guard] = weakref.WeakKeyDictionary()

    def meet(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if optimizer not in guards:
            guards[optimizer] = Guard(optimizer, lambda _: Verdict(), skip_budget=None, strict=True)

    def readings() -> dict[str, float]:
        each = [guard.readings() for guard in guards.values()]
        return merged(part for part in each if part[STEPS])

    handle = register_optimizer_step_pre_hook(meet)
    token = HOOK.set(readings)
    try:
        yield
    finally:
        HOOK.reset(token)
        handle.remove()
        for guard in list(guards.values()):
            guard.detach()
