"""From whatever a trainer calls a number to a float, without ever waiting for a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from watchstep.hook.options import is_metric_name

MOST_READINGS = 256
"""Metrics an update may hold; the service's default limit."""
_MOST_SHAPES = 1_024


class Coercer:
    """Makes readings of what trainers log, and counts what it cannot use.

    Attributes:
        refused: Name of the first offender per reason, for one warning each.
    """

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self._good_shapes: set[tuple[Any, ...]] = set()

    def readings(self, metrics: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
        """Split metrics into numbers and tensors that live on a device.

        Args:
            metrics: Name to int, float, 0-d array or one-element tensor; nested mappings are
                flattened with "/". Anything else is left out and counted.
        """
        if tuple(metrics) in self._good_shapes:
            numbers = {}
            for name, value in metrics.items():
                if value.__class__ is float:
                    numbers[name] = value
                else:
                    break
            else:
                return numbers, {}
        return self._slowly(metrics)

    def _slowly(self, metrics: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
        numbers: dict[str, float] = {}
        waiting: dict[str, Any] = {}
        clean = True
        for name, value in _flattened(metrics):
            if not is_metric_name(name):
                self._refuse("name", name)
                clean = False
                continue
            if len(numbers) + len(waiting) >= MOST_READINGS:
                self._refuse("more than 256 metrics", name)
                break
            number = _number(value)
            if number is not None:
                numbers[name] = number
            elif _is_on_device(value):
                waiting[name] = value
            else:
                self._refuse("value", name)
        if clean and not waiting and len(self._good_shapes) < _MOST_SHAPES:
            self._good_shapes.add(tuple(metrics))
        return numbers, waiting

    def _refuse(self, reason: str, name: object) -> None:
        self.refused.setdefault(reason, str(name)[:140])


def _flattened(metrics: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            found.extend(_flattened(value, f"{prefix}{name}/"))
        else:
            found.append((f"{prefix}{name}" if prefix else name, value))
    return found


def _number(value: Any) -> float | None:
    """The value as a float, or None where it is none or lives on a device."""
    if value is None or isinstance(value, (str, bytes)):
        return None
    if hasattr(value, "detach"):
        value = value.detach()
        if value.device.type != "cpu" or value.numel() != 1:
            return None
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    except (TypeError, ValueError, RuntimeError):
        return None


def _is_on_device(value: Any) -> bool:
    device = getattr(value, "device", None)
    return getattr(device, "type", "cpu") != "cpu" and value.numel() == 1


class DeviceReadings:
    """Scalars on their way from a device to the host.

    The copy goes to pinned memory on the tensors' own stream and is read when its event has
    passed, so that nothing waits for the device.
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        import torch

        self.names = list(tensors)
        stacked = torch.stack(
            [tensor.detach().reshape(()).to(torch.float64) for tensor in tensors.values()]
        )
        self._host = torch.empty(stacked.shape, dtype=stacked.dtype, pin_memory=True)
        self._host.copy_(stacked, non_blocking=True)
        self._done: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._done.record()

    def ready(self) -> bool:
        """Whether the numbers have arrived."""
        return bool(self._done.query())

    def wait(self) -> dict[str, float]:
        """The numbers; waits for the device if they have not arrived."""
        self._done.synchronize()
        return dict(zip(self.names, map(float, self._host.tolist()), strict=True))
