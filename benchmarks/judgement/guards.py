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


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Put a guard that stops nothing before every optimizer that is made meanwhile."""
    guards: weakref.WeakKeyDictionary[torch.optim.Optimizer, Guard] = weakref.WeakKeyDictionary()
    make = torch.optim.Optimizer.__init__

    def guard(optimizer: torch.optim.Optimizer) -> None:
        guards[optimizer] = Guard(optimizer, lambda _: Verdict(), skip_budget=None, strict=True)

    def making(optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
        make(optimizer, *args, **kwargs)
        guard(optimizer)

    def meet(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        # A trainer that has watchstep's hook in it has put its own guard there meanwhile.
        if optimizer in guards and not guards[optimizer]._hooks:  # noqa: SLF001 - it was detached
            guard(optimizer)

    def readings() -> dict[str, float]:
        present = list(guards.values())
        parts = [guard.readings() for guard in present]
        return merged(parts, [guard.weight_norm for guard in present])

    torch.optim.Optimizer.__init__ = making  # type: ignore[method-assign]
    handle = register_optimizer_step_pre_hook(meet)
    token = HOOK.set(readings)
    try:
        yield
    finally:
        HOOK.reset(token)
        handle.remove()
        torch.optim.Optimizer.__init__ = make  # type: ignore[method-assign]
        for made in list(guards.values()):
            made.detach()
