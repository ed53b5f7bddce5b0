"""From whatever a trainer calls a number to a float, without ever waiting for a device."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from watchstep.hook.options import is_metric_name

MOST_READINGS = 256
"""Metrics an update may hold; the service's default limit."""
_MOST_SHAPES = 1_024
MOST_UPDATES_BEHIND = 2
"""Updates whose device readings may be under way before the oldest is waited for."""


class Coercer:
    """Makes readings of what trainers log, and counts what it cannot use.

    Attributes:
        counts: Readings refused, by reason.
        news: Newest offender per reason since `take_news`.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.news: dict[str, str] = {}
        self._good_shapes: set[tuple[Any, ...]] = set()
        self._last_shape: tuple[Any, ...] | None = None

    def readings(self, metrics: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
        """Split metrics into numbers and tensors that live on a device.

        Args:
            metrics: Name to int, float, 0-d array or one-element tensor; nested mappings are
                flattened with "/". Anything else is left out and counted.
        """
        # Loops in C alone: the usual update costs 0.6 us so, and 1.3 us one by one. Comparing
        # with the last names is three times as fast as hashing them all.
        shape = tuple(metrics)
        if shape == self._last_shape or shape in self._good_shapes:
            self._last_shape = shape
            if [*map(type, metrics.values())].count(float) == len(shape):
                return dict(metrics), {}
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

    def take_news(self) -> dict[str, str]:
        """`news`, which is empty afterwards."""
        news, self.news = self.news, {}
        return news

    def _refuse(self, reason: str, name: object) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.news[reason] = str(name)[:140]


def _flattened(metrics: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            found.extend(_flattened(value, f"{prefix}{name}/"))
        else:
            found.append((f"{prefix}{name}" if prefix else name, value))
    return found


def _number(value: Any) -> float | None:
    """The value as a float, or None where it is none or lives on a CUDA device.

    Other accelerators (MPS, XPU) have no event to wait for later, and are read at once.
    """
    if value is None or isinstance(value, (str, bytes)):
        return None
    if hasattr(value, "detach"):
        value = value.detach()
        if value.device.type == "cuda" or value.numel() != 1:
            return None
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    except (TypeError, ValueError, RuntimeError):
        return None


def _is_on_device(value: Any) -> bool:
    device = getattr(value, "device", None)
    return getattr(device, "type", "cpu") == "cuda" and value.numel() == 1


class DeviceReadings:
    """Scalars on their way from CUDA devices to the host.

    Each device's copies go to pinned memory on its current stream and are read when their
    event has passed, so that nothing waits for the device.
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        import torch

        by_device: dict[Any, list[str]] = {}
        for name, tensor in tensors.items():
            by_device.setdefault(tensor.device, []).append(name)
        self._flying: list[tuple[list[str], Any, Any]] = []
        for device, names in by_device.items():
            stacked = torch.stack(
                [tensors[name].detach().reshape(()).to(torch.float64) for name in names]
            )
            host = torch.empty(stacked.shape, dtype=stacked.dtype, pin_memory=True)
            host.copy_(stacked, non_blocking=True)
            passed: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
            passed.record(torch.cuda.current_stream(device))
            self._flying.append((names, host, passed))

    def ready(self) -> bool:
        """Whether the numbers have arrived."""
        return all(passed.query() for _, _, passed in self._flying)

    def wait(self) -> dict[str, float]:
        """The numbers; waits for the devices if they have not arrived."""
        found: dict[str, float] = {}
        for names, host, passed in self._flying:
            passed.synchronize()
            found.update(zip(names, map(float, host.tolist()), strict=True))
        return found


class _Waiting(NamedTuple):
    readings: dict[str, float]
    device: DeviceReadings | None
    step: int
    event: Mapping[str, Any] | None


class Arrivals:
    """Updates behind a device, in order."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(
        self,
        readings: dict[str, float],
        tensors: Mapping[str, Any],
        step: int,
        event: Mapping[str, Any] | None,
    ) -> None:
        """Add the newest update; `tensors` are those of its readings that are on a device."""
        device = DeviceReadings(tensors) if tensors else None
        self._waiting.append(_Waiting(readings, device, step, event))

    def arrived(
        self, *, all_of_them: bool = False
    ) -> Iterator[tuple[dict[str, float], int, Mapping[str, Any] | None]]:
        """Readings, step and event of each update that can be judged, oldest first.

        Args:
            all_of_them: Wait for the device; otherwise only for updates too far behind.
        """
        while self._waiting:
            readings, device, step, event = self._waiting[0]
            late = all_of_them or len(self._waiting) > MOST_UPDATES_BEHIND
            if device is not None and not late and not device.ready():
                return
            self._waiting.popleft()
            yield readings | (device.wait() if device is not None else {}), step, event
