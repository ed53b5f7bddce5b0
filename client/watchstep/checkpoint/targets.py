"""Loading a state into live objects: all of them, or none."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

from watchstep.checkpoint.plain import unplain
from watchstep.errors import CheckpointError

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

    try:
        for name, load in loads.items():
            undo.append(_restorer(targets[name]))
            load()
    except Exception as error:
        undo_all()
        raise CheckpointError(f"{name}: does not take its state: {error}") from error
    return undo_all


def _load_of(name: str, target: Any, saved: Mapping[str, Any]) -> Callable[[], object]:
    if name not in saved:
        held = ", ".join(sorted(map(str, saved))) or "nothing"
        raise CheckpointError(f"{name}: not in the checkpoint, which holds {held}")
    state = saved[name]
    loader = _loader(target)
    if loader is None:
        raise CheckpointError(f"{name}: a {type(target).__name__} cannot be loaded in place")
    _check_fit(name, target, state)
    return lambda: loader(unplain(state))


def _loader(target: Any) -> Callable[[Any], object] | None:
    """What puts a state into a target, None if nothing can."""
    if isinstance(target, torch.Generator):
        return target.set_state
    if hasattr(target, "load_state_dict"):
        loader: Callable[[Any], object] = target.load_state_dict
        return loader
    if isinstance(target, random.Random):
        return target.setstate
    if isinstance(target, dict):
        return lambda state: _refill(target, state)
    if isinstance(target, list):
        return lambda state: target.__setitem__(slice(None), state)
    return _numpy_loader(target)


def _refill(target: dict[Any, Any], state: Mapping[Any, Any]) -> None:
    target.clear()
    target.update(state)


def _numpy_loader(target: Any) -> Callable[[Any], object] | None:
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(target, numpy.random.Generator):
        return lambda state: setattr(target.bit_generator, "state", state)
    return None


def _restorer(target: Any) -> Callable[[], object]:
    """A function that puts a target back as it is now."""
    loader = _loader(target)
    assert loader is not None
    if isinstance(target, torch.Generator):
        before: Any = target.get_state()
    elif hasattr(target, "state_dict"):
        before = copy.deepcopy(target.state_dict())
    elif isinstance(target, random.Random):
        before = target.getstate()
    elif isinstance(target, (dict, list)):
        # The entries may be live objects: only the container is ours to refill.
        before = target.copy()
    else:
        before = copy.deepcopy(target.bit_generator.state)
    return lambda: loader(before)


def _check_fit(name: str, target: Any, state: Any) -> None:
    if isinstance(target, torch.nn.Module):
        _check_module(name, target, state)
    elif isinstance(target, torch.optim.Optimizer):
        _check_optimizer(name, target, state)
    elif isinstance(target, dict) != isinstance(state, dict) and isinstance(target, (dict, list)):
        raise CheckpointError(f"{name}: holds a {type(state).__name__}, not a mapping or list")


def _check_module(name: str, module: torch.nn.Module, state: Any) -> None:
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
