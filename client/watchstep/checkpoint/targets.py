"""Loading a state into live objects: all of them, or none."""

from __future__ import annotations

import copy
import functools
import random
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

from watchstep.checkpoint.plain import unplain
from watchstep.errors import CheckpointError

_Get = Callable[[], Any]
_Put = Callable[[Any], object]

_LIKE_PARAMETER = frozenset(
    {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "square_avg", "momentum_buffer", "exp_inf"}
)
"""State of torch's optimizers that has its parameter's shape."""


def load_all(targets: Mapping[str, Any], saved: Mapping[str, Any]) -> Callable[[], None]:
    """Load `saved[name]` into each `targets[name]`.

    Should one not take it, all get back what they had; this costs a copy of every target while
    it runs.

    Args:
        targets: Modules, optimizers, schedulers, scalers and whatever else has
            `load_state_dict()`; torch, numpy and Python random generators; dicts and lists,
            which are refilled in place.
        saved: A state as `plain` made it.

    Returns:
        What undoes it, should another process not get as far.

    Raises:
        CheckpointError: If a target is not in the checkpoint or does not fit; nothing was
            changed then.
    """
    loads = {name: _load_of(name, target, saved) for name, target in targets.items()}
    undo: list[Callable[[], object]] = []

    def undo_all() -> None:
        for back in reversed(undo):
            back()

    for name, (get, put, state) in loads.items():
        try:
            undo.append(functools.partial(put, get()))
            _check_fit(targets[name], state)
            put(unplain(state))
        except Exception as error:
            undo_all()
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{name}: does not take its state: {reason}") from error
    return undo_all


def _load_of(name: str, target: Any, saved: Mapping[str, Any]) -> tuple[_Get, _Put, Any]:
    if name not in saved:
        held = ", ".join(sorted(map(str, saved))) or "nothing"
        raise CheckpointError(f"{name}: not in the checkpoint, which holds {held}")
    access = _access(target)
    if access is None:
        raise CheckpointError(f"{name}: a {type(target).__name__} cannot be loaded in place")
    return *access, saved[name]


def _access(target: Any) -> tuple[_Get, _Put] | None:
    """What reads a target as it is now, and what puts a state into it; None if nothing can."""
    if isinstance(target, torch.Generator):
        return target.get_state, target.set_state
    if hasattr(target, "load_state_dict"):
        return lambda: copy.deepcopy(target.state_dict()), target.load_state_dict
    if isinstance(target, random.Random):
        return target.getstate, target.setstate
    # The entries of containers may be live objects: only the container is ours to refill.
    if isinstance(target, (dict, list)):
        return target.copy, functools.partial(_refill, target)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(target, numpy.random.Generator):
        bits = target.bit_generator
        return lambda: copy.deepcopy(bits.state), lambda state: setattr(bits, "state", state)
    return None


def _refill(target: Any, state: Any) -> None:
    target.clear()
    if isinstance(target, dict):
        target.update(state)
    else:
        target.extend(state)


def _check_fit(target: Any, state: Any) -> None:
    """Refuse what the target itself would take although it does not fit."""
    if isinstance(target, (dict, list)) and isinstance(target, dict) != isinstance(state, dict):
        raise TypeError(f"a {type(state).__name__} is no {type(target).__name__}")
    if not isinstance(target, torch.optim.Optimizer):
        return
    indices = (index for group in state["param_groups"] for index in group["params"])
    parameters = (p for group in target.param_groups for p in group["params"])
    for index, parameter in zip(indices, parameters, strict=False):
        for key, entry in state["state"].get(index, {}).items():
            if key in _LIKE_PARAMETER and entry is not None and entry.shape != parameter.shape:
                shapes = f"{tuple(entry.shape)}, expected {tuple(parameter.shape)}"
                raise ValueError(f"state.{index}.{key}: is {shapes}")
