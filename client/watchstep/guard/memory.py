"""Remembers objects as they are, so that all that was done to them can be undone in place."""

from __future__ import annotations

import collections
import copy
import random
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

import torch

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
        if isinstance(value, _UNCHANGING):
            return lambda: value
        if isinstance(value, (torch.dtype, torch.device, torch.Size)):
            return lambda: value
        key = id(value)
        if key not in self._ways:
            self._alive.append(value)
            # An object that holds itself finds this; its own way back is already under way then.
            self._ways[key] = lambda: value
            self._ways[key] = self._new_way(value)
        return self._ways[key]

    def _new_way(self, value: Any) -> WayBack:
        makers: list[tuple[Any, Callable[[Any], WayBack]]] = [
            (torch.Tensor, self._tensor),
            (torch.Generator, lambda g: _restored(g, g.set_state, g.get_state())),
            (random.Random, lambda r: _restored(r, r.setstate, r.getstate())),
            (dict, self._dict),
            ((list, collections.deque), self._sequence),
            (set, _set),
            (tuple, self._tuple),
        ]
        for kinds, maker in makers:
            if isinstance(value, kinds):
                return maker(value)
        return _numpy(value) or self._object(value)

    def _tensor(self, value: torch.Tensor) -> WayBack:
        if self._dry:
            return lambda: value
        copied = value.detach().clone()

        def write_back() -> torch.Tensor:
            value.detach().copy_(copied)
            return value

        return write_back

    def _dict(self, value: dict[Any, Any]) -> WayBack:
        entries = {key: self.way_back(entry) for key, entry in value.items()}

        def refill() -> dict[Any, Any]:
            restored = {key: back() for key, back in entries.items()}
            value.clear()
            value.update(restored)
            return value

        return refill

    def _sequence(self, value: Any) -> WayBack:
        members = self._all(value)

        def refill() -> Any:
            restored = [back() for back in members]
            value.clear()
            value.extend(restored)
            return value

        return refill

    def _tuple(self, value: tuple[Any, ...]) -> WayBack:
        members = self._all(value)

        def rebuilt() -> tuple[Any, ...]:
            restored = [back() for back in members]
            if all(now is before for now, before in zip(restored, value, strict=True)):
                return value
            return tuple(restored)

        return rebuilt

    def _all(self, values: Iterable[Any]) -> list[WayBack]:
        return [self.way_back(member) for member in values]

    def _object(self, value: Any) -> WayBack:
        if type(value).__module__.startswith(_WITHOUT_MEMORY):
            return lambda: value
        attributes = getattr(value, "__dict__", None)
        if type(attributes) is dict and not getattr(type(value), "__slots__", ()):
            refill = self._dict(attributes)

            def refilled() -> Any:
                refill()
                return value

            return refilled
        try:
            copied = copy.deepcopy(value)
        except (TypeError, ValueError, AttributeError, RuntimeError, RecursionError) as error:
            raise NoWayBackError(type(value).__name__) from error
        return lambda: copy.deepcopy(copied)


def _set(value: set[Any]) -> WayBack:
    members = set(value)

    def refill() -> set[Any]:
        value.clear()
        value.update(members)
        return value

    return refill


def _numpy(value: Any) -> WayBack | None:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.ndarray) and value.shape:
        return _restored(value, lambda copied: value.__setitem__(..., copied), value.copy())
    if isinstance(value, numpy.random.Generator):
        bits = value.bit_generator
        return _restored(value, lambda copied: setattr(bits, "state", copied), bits.state)
    return None


def _restored(value: Any, setter: Callable[[Any], object], state: Any) -> WayBack:
    def put_back() -> Any:
        setter(state)
        return value

    return put_back
