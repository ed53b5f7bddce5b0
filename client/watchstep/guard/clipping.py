"""Lets guards see gradient norms as they were before the loop clipped them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from watchstep.guard.guard import Guard

_NAMES = ("clip_grad_norm_", "clip_grads_with_norm_")


@contextmanager
def observe_clipping(*guards: Guard | None) -> Iterator[None]:
    """Measure gradients just before `torch.nn.utils.clip_grad_norm_` changes them.

    Inside the block, a call of `torch.nn.utils.clip_grad_norm_` or `clip_grads_with_norm_`
    with parameters of a guarded optimizer first lets that optimizer's guard measure its own
    gradients; the guard then judges the step by that norm. Arguments, return value and
    errors of the call stay the same. On leaving, torch's own functions are back.

    A function that was imported by name before (`from torch.nn.utils import
    clip_grad_norm_`) is not seen. Under an fp16 loss scaler, unscale before clipping, as
    torch demands anyway: otherwise the norm is that of scaled gradients.

    Args:
        guards: Those that should see it; None, as `Watch.guard` returns it where watchstep is
            disabled, is nobody. Without any, nothing is wrapped.
    """
    from torch.nn.utils import clip_grad

    watching = [guard for guard in guards if guard is not None]
    wrapped = [
        _wrap(place, name, watching)
        for place in (torch.nn.utils, clip_grad)
        for name in _NAMES
        if watching and hasattr(place, name)
    ]
    try:
        yield
    finally:
        # A block that ends out of order leaves a wrapper in place that only passes on.
        watching.clear()
        for place, name, original, wrapper in reversed(wrapped):
            if getattr(place, name) is wrapper:
                setattr(place, name, original)


def _wrap(place: Any, name: str, watching: list[Guard]) -> tuple[Any, str, Any, Any]:
    original: Callable[..., Any] = getattr(place, name)

    @functools.wraps(original)
    def observed(parameters: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(parameters, torch.Tensor):
            # A generator can be read only once.
            parameters = list(parameters)
        for guard in watching:
            guard.before_clipping([parameters] if torch.is_tensor(parameters) else parameters)
        return original(parameters, *args, **kwargs)

    setattr(place, name, observed)
    return place, name, original, observed
