"""Loading a state into live objects: all of them, or none."""

from __future__ import annotations

import copy
import functools
import random
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from watchstep.checkpoint.plain import unplain
from watchstep.errors import CheckpointError

if TYPE_CHECKING:
    import torch

_Get = Callable[[], Any]
_Put = Callable[[Any], object]

_LIKE_PARAMETER = frozenset(
    {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "square_avg", "momentum_buffer", "exp_inf"}
)
"""State of torch's optimizers that has its parameter's shape."""


def load_all(targets: Mapping[str, Any], saved: Mapping[str, Any]) -> Callable[[], None]:
    """Load `saved[name]` into each `targets[name]`, after all were found to fit.

    Should one refuse all the same, those before it get back what they had; this costs a copy
    of every target while it runs.

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
            put(unplain(state))
        except Exception as error:
            undo_all()
            raise CheckpointError(f"{name}: does not take its state: {error}") from error
    return undo_all


def _load_of(name: str, target: Any, saved: Mapping[str, Any]) -> tuple[_Get, _Put, Any]:
    if name not in saved:
        held = ", ".join(sorted(map(str, saved))) or "nothing"
        raise CheckpointError(f"{name}: not in the checkpoint, which holds {held}")
    access = _access(target)
    if access is None:
        raise CheckpointError(f"{name}: a {type(target).__name__} cannot be loaded in place")
    _check_fit(name, target, saved[name])
    return *access, saved[name]


def _access(target: Any) -> tuple[_Get, _Put] | None:
    """What reads a target as it is now, and what puts a state into it; None if nothing can."""
    import torch

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


def _check_fit(name: str, target: Any, state: Any) -> None:
    import torch

    if isinstance(target, torch.nn.Module):
        _check_module(name, target, state)
    elif isinstance(target, torch.optim.Optimizer):
        _check_optimizer(name, target, state)
    elif isinstance(target, dict) != isinstance(state, dict) and isinstance(target, (dict, list)):
        raise CheckpointError(f"{name}: holds a {type(state).__name__}, not a mapping or list")


def _check_module(name: str, module: torch.nn.Module, state: Any) -> None:
    import torch

    expected = module.state_dict()
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{name}: holds no module's state")
    missing = sorted(set(expected) - set(state))
    surplus = sorted(set(state) - set(expected))
    if missing or surplus:
        wrong = f"lacks {missing[0]}" if missing else f"has {surplus[0]} too many"
        raise CheckpointError(f"{name}: {wrong} ({len(missing)} missing, {len(surplus)} surplus)")
    for key, tensor in expected.items():
        if not isinstance(tensor, torch.Tensor):
            continue
        saved = state[key]
        shape = tuple(saved.shape) if isinstance(saved, torch.Tensor) else type(saved).__name__
        if shape != tuple(tensor.shape):
            raise CheckpointError(f"{name}.{key}: is {shape}, expected {tuple(tensor.shape)}")


def _check_optimizer(name: str, optimizer: torch.optim.Optimizer, state: Any) -> None:
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= set(state):
        raise CheckpointError(f"{name}: holds no optimizer's state")
    groups = state["param_groups"]
    sizes = [len(group["params"]) for group in groups]
    expected = [len(group["params"]) for group in optimizer.param_groups]
    if sizes != expected:
        raise CheckpointError(f"{name}: parameter groups of {sizes}, expected {expected}")
    indices = (index for group in groups for index in group["params"])
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    for index, parameter in zip(indices, parameters, strict=True):
        for key, entry in state["state"].get(index, {}).items():
            if key in _LIKE_PARAMETER and entry is not None and entry.shape != parameter.shape:
                shapes = f"{tuple(entry.shape)}, expected {tuple(parameter.shape)}"
                raise CheckpointError(f"{name}.state.{index}.{key}: is {shapes}")
