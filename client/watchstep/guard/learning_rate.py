"""A learning rate that a rollback made smaller stays smaller, whatever schedules it.

The factor stands in the optimizer's parameter groups, so a checkpoint carries it. torch's
schedulers never see it: around each of their steps the rate is what it would be without the
factor. A rate that a loop writes by itself gets the factor before the optimizer's next step.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch

FACTOR = "watchstep_lr_factor"

# What each group's rate was left at, to see whether somebody else has written it since.
_left: weakref.WeakKeyDictionary[torch.optim.Optimizer, dict[int, float]] = (
    weakref.WeakKeyDictionary()
)
_made_under: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
_lifted: set[int] = set()


def factor_of(optimizer: torch.optim.Optimizer) -> float:
    """What an optimizer's learning rates are multiplied with; 1 where nobody asked for it."""
    return float(optimizer.param_groups[0].get(FACTOR, 1.0))


def set_factor(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Multiply all learning rates with a factor, from now on, instead of with the one before."""
    _wrap_schedulers()
    for group in optimizer.param_groups:
        _multiply(group, factor / group.get(FACTOR, 1.0))
        group[FACTOR] = factor
    _note(optimizer)


def hold_factor(optimizer: torch.optim.Optimizer) -> None:
    """Before a step: give rates the factor that a loop has written without it."""
    groups = optimizer.param_groups
    if all(FACTOR not in group for group in groups):
        return
    _wrap_schedulers()
    left = _left.get(optimizer, {})
    for index, group in enumerate(groups):
        if index in left and _was_written_whole(group, left[index]):
            _multiply(group, group[FACTOR])
    _note(optimizer)


def _was_written_whole(group: dict[str, Any], left: float) -> bool:
    """Whether a rate is nearer to what it was before the factor than to what it was left at."""
    rate, factor = group["lr"], group.get(FACTOR, 1.0)
    if not isinstance(rate, (int, float)) or factor == 1.0 or rate == left or not rate > 0:
        # A tensor's rate may be on a device, which nobody shall wait for.
        return False
    if not left > 0:
        return True
    return abs(math.log(rate * factor / left)) < abs(math.log(rate / left))


def _note(optimizer: torch.optim.Optimizer) -> None:
    _left[optimizer] = {
        index: group["lr"]
        for index, group in enumerate(optimizer.param_groups)
        if isinstance(group["lr"], (int, float))
    }


def _multiply(group: dict[str, Any], factor: float) -> None:
    if isinstance(group["lr"], torch.Tensor):
        # The tensor itself may be in a captured graph.
        group["lr"].mul_(factor)
    else:
        group["lr"] *= factor


def _wrap_schedulers() -> None:
    """Have every step of torch's schedulers go on without the factor."""
    from torch.optim.lr_scheduler import LRScheduler

    kinds: list[Any] = [LRScheduler]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
        step = vars(kind).get("step")
        if step is not None and not hasattr(step, "watchstep_wraps"):
            kind.step = _without_factor(step)


def _without_factor(step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def stepped(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        optimizer = getattr(scheduler, "optimizer", None)
        groups = [g for g in getattr(optimizer, "param_groups", ()) if FACTOR in g]
        # A scheduler of schedulers calls the steps of those within it.
        if not groups or id(optimizer) in _lifted:
            return step(scheduler, *args, **kwargs)
        if getattr(scheduler, "last_epoch", None) == -1:
            # One that is being made takes the rates as they are for its own.
            _made_under[scheduler] = groups[0][FACTOR]
        factors = [group[FACTOR] / _made_under.get(scheduler, 1.0) for group in groups]
        _lifted.add(id(optimizer))
        for group, factor in zip(groups, factors, strict=True):
            _multiply(group, 1.0 / factor)
        try:
            return step(scheduler, *args, **kwargs)
        finally:
            _lifted.discard(id(optimizer))
            for group, factor in zip(groups, factors, strict=True):
                _multiply(group, factor)
            _tell_rates(scheduler, factors)
            assert optimizer is not None
            _note(optimizer)

    stepped.watchstep_wraps = step  # type: ignore[attr-defined]
    return stepped


def _tell_rates(scheduler: Any, factors: Sequence[float]) -> None:
    """Have `get_last_lr` answer with the rates as they are."""
    rates = getattr(scheduler, "_last_lr", None)
    if isinstance(rates, list) and len(rates) == len(factors):
        scheduler._last_lr = [rate * factor for rate, factor in zip(rates, factors, strict=True)]
