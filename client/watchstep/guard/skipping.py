"""Ways to let an optimizer's step happen without a trace."""

from __future__ import annotations

import collections
import copy
import random
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

import torch

from watchstep.guard.optimizers import parameters_of, passes_over_missing_gradients

WayBack = Callable[[], Any]
"""Makes an object as it was, and returns it: the same one where that can be."""

_UNCHANGING = (
    bool, int, float, complex, str, bytes, type(None), type, range, slice, property,
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType,
)  # fmt: skip
_WITHOUT_MEMORY = (
    "torch._C", "torch.distributed", "torch.cuda", "torch.utils.hooks",
    "_thread", "threading", "logging", "weakref", "functools",
)  # fmt: skip
"""Modules whose objects a step may use but learns nothing by: locks, streams, process groups."""


class WithheldGradients:
    """Gradients taken away for one step: every torch optimizer passes over such parameters.

    Neither parameters, nor moments, nor step counters are touched, and state that does not
    exist yet is not created. `give_back` puts the same tensors where they were, so code that
    looks at gradients after the step finds them.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._held = [(p, p.grad) for p in parameters_of(optimizer) if p.grad is not None]
        for parameter, _ in self._held:
            parameter.grad = None

    def give_back(self) -> None:
        """Undo; only right directly after the step."""
        for parameter, gradient in self._held:
            parameter.grad = gradient


class ZeroedGradients(WithheldGradients):
    """Zeros for one step, for optimizers of others, which may not expect a missing gradient."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(optimizer)
        for parameter, _ in self._held:
            parameter.grad = torch.zeros_like(parameter)


class Snapshot:
    """A copy of all parameters, state and hyperparameters of an optimizer.

    What its class keeps in attributes of its own is copied too: numbers, containers, arrays, and
    objects of other classes with what they hold. Costs the memory of all of it once more while
    it is held.

    Attributes:
        left_out: What cannot be put back, by name and class.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        memory = Memory()
        self._groups = [
            {name: memory.way_back(value) for name, value in group.items()}
            for group in optimizer.param_groups
        ]
        self._state = {key: memory.way_back(value) for key, value in optimizer.state.items()}
        self._attributes, self.left_out = _ways_back(optimizer, memory)

    def restore(self) -> None:
        """Put every bit back in place; tensors and containers keep their identity."""
        with torch.no_grad():
            for group, remembered in zip(self._optimizer.param_groups, self._groups, strict=True):
                restored = {name: back() for name, back in remembered.items()}
                group.clear()
                group.update(restored)
            for key in [key for key in self._optimizer.state if key not in self._state]:
                del self._optimizer.state[key]
            for key, back in self._state.items():
                self._optimizer.state[key] = back()
            attributes = vars(self._optimizer)
            for name in own_attributes(self._optimizer).keys() - self._attributes.keys():
                if name not in self.left_out:
                    del attributes[name]
            for name, back in self._attributes.items():
                attributes[name] = back()


def refusal(optimizer: torch.optim.Optimizer) -> str | None:
    """Why a step of this optimizer could not be undone; None if it can. Copies no tensor."""
    if passes_over_missing_gradients(optimizer):
        return None
    _, left_out = _ways_back(optimizer, Memory(dry=True))
    if not left_out:
        return None
    name, kind = next(iter(left_out.items()))
    return (
        f"{type(optimizer).__name__} keeps a {kind} in its attribute {name!r}, which a skipped"
        " step could not put back"
    )


def own_attributes(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer's class keeps besides groups, state and what torch itself sets."""
    return {
        name: value
        for name, value in vars(optimizer).items()
        if name not in _TORCHS_ATTRIBUTES and not name.startswith(_TORCHS_PREFIXES)
    }


_TORCHS_ATTRIBUTES = frozenset(
    {"defaults", "state", "param_groups", "found_inf", "grad_scale", "step", "_opt_called"}
)
_TORCHS_PREFIXES = ("_optimizer_", "_zero_grad_", "_warned_", "_patched_")


def _ways_back(
    optimizer: torch.optim.Optimizer, memory: Memory
) -> tuple[dict[str, WayBack], dict[str, str]]:
    ways: dict[str, WayBack] = {}
    left_out: dict[str, str] = {}
    for name, value in own_attributes(optimizer).items():
        try:
            ways[name] = memory.way_back(value)
        except NoWayBackError as error:
            left_out[name] = str(error)
    return ways, left_out


class NoWayBackError(Exception):
    """An object can neither be refilled nor copied; the message is its class."""


class Memory:
    """Ways back for objects that may refer to each other, each remembered once."""

    def __init__(self, *, dry: bool = False) -> None:
        """Begin.

        Args:
            dry: Only find out whether there is a way back: no tensor is copied.
        """
        self._dry = dry
        self._ways: dict[int, WayBack] = {}
        # An id is an object's only while the object lives.
        self._alive: list[Any] = []

    def way_back(self, value: Any) -> WayBack:
        """What makes `value` as it is now.

        Raises:
            NoWayBackError: There is nothing that could.
        """
        unchanging = (*_UNCHANGING, torch.dtype, torch.device, torch.Size)
        if isinstance(value, unchanging):
            return lambda: value
        key = id(value)
        if key not in self._ways:
            self._alive.append(value)
            # An object that holds itself finds this; its own way back is already under way then.
            self._ways[key] = lambda: value
            self._ways[key] = self._new_way(value)
        return self._ways[key]

    def _new_way(self, value: Any) -> WayBack:
        if isinstance(value, torch.Tensor):
            saved = value if self._dry else value.detach().clone()
            return _restored(value, lambda saved: value.detach().copy_(saved), saved)
        if isinstance(value, torch.Generator):
            return _restored(value, value.set_state, value.get_state())
        if isinstance(value, random.Random):
            return _restored(value, value.setstate, value.getstate())
        if isinstance(value, (dict, list, collections.deque, set, tuple)):
            return self._container(value)
        return _numpy(value) or self._object(value)

    def _container(self, value: Any) -> WayBack:
        if isinstance(value, tuple):
            return self._tuple(value)
        if isinstance(value, set):
            before = value.copy()
            return _refilled(value, value.update, lambda: before)
        if isinstance(value, dict):
            entries = {key: self.way_back(entry) for key, entry in value.items()}
            return _refilled(
                value, value.update, lambda: {k: back() for k, back in entries.items()}
            )
        members = [self.way_back(member) for member in value]
        return _refilled(value, value.extend, lambda: [back() for back in members])

    def _tuple(self, value: tuple[Any, ...]) -> WayBack:
        members = [self.way_back(member) for member in value]

        def rebuilt() -> tuple[Any, ...]:
            restored = [back() for back in members]
            if all(now is before for now, before in zip(restored, value, strict=True)):
                return value
            return tuple(restored)

        return rebuilt

    def _object(self, value: Any) -> WayBack:
        if type(value).__module__.startswith(_WITHOUT_MEMORY):
            return lambda: value
        attributes = getattr(value, "__dict__", None)
        if type(attributes) is dict and not getattr(type(value), "__slots__", ()):
            refill = self._container(attributes)
            return _restored(value, lambda _: refill(), None)
        try:
            saved = copy.deepcopy(value)
        except (TypeError, ValueError, AttributeError, RuntimeError, RecursionError) as error:
            raise NoWayBackError(type(value).__name__) from error
        return lambda: copy.deepcopy(saved)


def _refilled(
    value: Any, fill: Callable[[Any], object], contents: Callable[[], Iterable[Any]]
) -> WayBack:
    def refill() -> Any:
        restored = contents()
        value.clear()
        fill(restored)
        return value

    return refill


def _numpy(value: Any) -> WayBack | None:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.ndarray) and value.shape:
        return _restored(value, lambda saved: value.__setitem__(..., saved), value.copy())
    if isinstance(value, numpy.random.Generator):
        bits = value.bit_generator
        return _restored(value, lambda saved: setattr(bits, "state", saved), bits.state)
    return None


def _restored(value: Any, setter: Callable[[Any], object], state: Any) -> WayBack:
    def put_back() -> Any:
        setter(state)
        return value

    return put_back
