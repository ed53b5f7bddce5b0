"""From whatever a trainer calls a number to a float, without ever waiting for a device."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from watchstep.boundary import Boundary, of_stranger, text_of
from watchstep.core.roles import is_core, role_of
from watchstep.wire.names import legal_metric_name

MOST_READINGS = 256
"""Readings an update may hold; the service's default limit."""
MOST_NAMES = 2_000
"""Metric names a run may hold; the service's default limit."""
# Our own names and those that rules look at may come late.
_NAMES_LOGGED = MOST_NAMES - 50
_NAMES_FOR_OTHERS = MOST_NAMES - 200
_MOST_NOTICED = 2_000
_SHOWN = 5
"""Metrics that are named of each reason; of the others their number is told."""
_MOST_SHAPES = 1_024
_DEEPEST = 8
MOST_UPDATES_BEHIND = 2
"""Updates whose device readings may be under way before the oldest is waited for."""


class Coercer:
    """Makes readings of what trainers log, and counts what it cannot use.

    Names that are not legal are mapped; two names never become one. What is over a limit is
    left out, first what no rule looks at.

    Args:
        looks_at: Whether a rule looks at the metric of that name.

    Attributes:
        counts: Readings refused, by reason.
        notices: Sentences for the user about what was changed or left out, each once.
    """

    def __init__(self, looks_at: Callable[[str], bool] = lambda _: False) -> None:
        self.counts: dict[str, int] = {}
        self.notices: list[str] = []
        self._looks_at = looks_at
        self._noticed: set[tuple[str, str]] = set()
        self._alike: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._other_names = 0
        self._good_shapes: set[tuple[Any, ...]] = set()
        self._last_shape: tuple[Any, ...] | None = None
        self._last_fit: tuple[tuple[str, ...], list[str]] = ((), [])

    def readings(self, metrics: Any) -> tuple[dict[str, float], dict[str, Any]]:
        """Split metrics into numbers and tensors that live on a device.

        Args:
            metrics: Name to anything that `float` takes, or an array or tensor of one element;
                nested mappings are flattened with "/". Anything else is left out and counted.
        """
        if type(metrics) is not dict:
            metrics = self._as_dict(metrics)
        # Loops in C alone: the usual update costs 0.6 us so, and 1.3 us one by one. Comparing
        # with the last names is three times as fast as hashing them all.
        shape = tuple(metrics)
        if shape == self._last_shape or shape in self._good_shapes:
            self._last_shape = shape
            if [*map(type, metrics.values())].count(float) == len(shape):
                return dict(metrics), {}
        return self._slowly(metrics)

    def fitting(self, readings: dict[str, float]) -> dict[str, float]:
        """The readings that one update may hold; the rest is left out and counted.

        What is not finite stays, and those without which there is no training (losses, rewards
        and their kin), then what rules look at, then what comes first.
        """
        if len(readings) <= MOST_READINGS:
            return readings
        names = tuple(readings)
        calm = math.isfinite(sum(readings.values()))
        if calm and names == self._last_fit[0]:
            chosen = self._last_fit[1]
        else:
            urgency = {
                name: (
                    math.isfinite(value) and not is_core(name, role_of(name)),
                    not self._looks_at(name),
                )
                for name, value in readings.items()
            }
            first = set(sorted(names, key=urgency.__getitem__)[:MOST_READINGS])
            chosen = [name for name in names if name in first]
            if calm:
                self._last_fit = (names, chosen)
        reason = f"more than {MOST_READINGS} metrics"
        self.counts[reason] = self.counts.get(reason, 0) + len(names) - len(chosen)
        if (reason, "") not in self._noticed:
            dropped = [name for name in names if name not in set(chosen)]
            shown = ", ".join(map(repr, dropped[:5])) + (", …" if len(dropped) > 5 else "")
            self._notice(
                reason,
                "",
                f"leaves out {shown}: an update takes {MOST_READINGS} metrics, and this one has"
                f" {len(names)}",
            )
        return {name: readings[name] for name in chosen}

    def take_notices(self) -> list[str]:
        notices, self.notices = self.notices, []
        for reason, alike in self._alike.items() if notices else ():
            if alike > _SHOWN:
                notices.append(f"does so with {alike - _SHOWN} more ({reason})")
                self._alike[reason] = _SHOWN
        return notices

    def _as_dict(self, metrics: Any) -> dict[Any, Any]:
        if metrics is None:
            return {}
        mapping: Any = None
        if isinstance(metrics, Mapping) or hasattr(metrics, "items"):
            mapping = of_stranger(lambda: dict(metrics.items()), None)
        if mapping is None:
            self._refuse("metrics", type(metrics).__name__, "is no mapping of names to numbers")
        return mapping or {}

    def _slowly(self, metrics: dict[Any, Any]) -> tuple[dict[str, float], dict[str, Any]]:
        numbers: dict[str, float] = {}
        waiting: dict[str, Any] = {}
        clean = True
        for raw, value in _flattened(metrics):
            name = self._names.get(raw) or self._admitted(raw)
            if name is None:
                clean = False
                continue
            if name in numbers or name in waiting:
                # Both {"a": {"b": 1}} and {"a/b": 2}, or the keys 1 and "1".
                name = self._renamed(raw, legal_metric_name(f"{raw} (again)"))
            clean = clean and name == raw
            number = number_of(value)
            if number is not None:
                numbers[name] = number
            elif _arrives_later(value):
                waiting[name] = value
            else:
                self._refuse("value", name, f"is no number but a {type(value).__name__}")
        if clean and not waiting and len(self._good_shapes) < _MOST_SHAPES:
            shape = tuple(metrics)
            if all(type(name) is str for name in shape):
                self._good_shapes.add(shape)
        return numbers, waiting

    def _admitted(self, raw: str) -> str | None:
        """The legal name of a metric that is new; None where the run has names enough."""
        name = legal_metric_name(raw)
        looked_at = self._looks_at(name)
        if len(self._names) >= _NAMES_LOGGED or (
            not looked_at and self._other_names >= _NAMES_FOR_OTHERS
        ):
            reason = "more names than a run holds"
            self.counts[reason] = self.counts.get(reason, 0) + 1
            why = f"leaves out {name!r} and later new metrics: a run holds {MOST_NAMES} names"
            self._notice(reason, "", why)
            return None
        self._other_names += not looked_at
        self._names[raw] = name
        return name if name == raw else self._renamed(raw, name)

    def _renamed(self, raw: str, name: str) -> str:
        self._notice("renamed", raw, f"calls the metric {raw[:60]!r} {name!r}")
        return name

    def _refuse(self, reason: str, name: str, why: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self._notice(reason, name, f"leaves out the metric {name[:140]!r}, which {why}")

    def _notice(self, reason: str, name: str, text: str) -> None:
        if len(self._noticed) < _MOST_NOTICED and (reason, name) not in self._noticed:
            self._noticed.add((reason, name))
            self._alike[reason] = self._alike.get(reason, 0) + 1
            if self._alike[reason] <= _SHOWN:
                self.notices.append(text)


def _flattened(
    metrics: Mapping[Any, Any], prefix: str = "", depth: int = 0
) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in metrics.items():
        name = key if isinstance(key, str) else text_of(key.__str__)
        if isinstance(value, Mapping) and depth < _DEEPEST:
            flat.extend(_flattened(_copied(value), f"{prefix}{name}/", depth + 1))
        else:
            flat.append((f"{prefix}{name}" if prefix else name, value))
    return flat


def _copied(mapping: Mapping[Any, Any]) -> dict[Any, Any]:
    return of_stranger(lambda: dict(mapping.items()), {})


def number_of(value: Any) -> float | None:
    """The value as a float, or None where it is none, or arrives from a device later.

    Accelerators without an event to wait for later (MPS, XPU) are read at once.
    """
    if value is None or isinstance(value, (str, bytes)):
        return None
    return of_stranger(lambda: _number_of(value), None)


def _number_of(value: Any) -> float | None:
    if hasattr(value, "detach"):
        value = value.detach()
        if value.device.type == "cuda" or value.numel() != 1:
            return None
    elif _is_jax(value):
        return None
    elif getattr(value, "size", None) == 1 and hasattr(value, "item"):
        # An array of one element: newer NumPy's `float` takes only those without a dimension.
        value = value.item()
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except ValueError:
        # A signalling NaN of `decimal`.
        return math.nan if getattr(value, "is_nan", bool)() else None


def _is_jax(value: Any) -> bool:
    return hasattr(value, "copy_to_host_async") and hasattr(value, "is_ready")


def _arrives_later(value: Any) -> bool:
    if _is_jax(value):
        return of_stranger(lambda: value.size, 0) == 1
    device = getattr(value, "device", None)
    return getattr(device, "type", "cpu") == "cuda" and value.numel() == 1


def read_now(waiting: Mapping[str, Any]) -> dict[str, float]:
    """Readings that are on a device, at the price of waiting for it."""
    return {name: float(value.item()) for name, value in waiting.items()}


class DeviceReadings:
    """Scalars on their way from devices to the host.

    Each CUDA device's copies go to pinned memory on its current stream and are read when their
    event has passed; a JAX array is asked for its copy and says itself when it is there. So
    nothing waits for a device.
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._jax = {name: value for name, value in tensors.items() if _is_jax(value)}
        for value in self._jax.values():
            value.copy_to_host_async()
        self._flying: list[tuple[list[str], Any, Any]] = []
        by_device: dict[Any, list[str]] = {}
        for name in tensors.keys() - self._jax.keys():
            by_device.setdefault(tensors[name].device, []).append(name)
        if by_device:
            self._copy(by_device, tensors)

    def _copy(self, by_device: Mapping[Any, list[str]], tensors: Mapping[str, Any]) -> None:
        import torch

        for device, names in by_device.items():
            stacked = torch.stack(
                [tensors[name].detach().reshape(()).to(torch.float64) for name in names]
            )
            host = torch.empty(stacked.shape, dtype=stacked.dtype, pin_memory=True)
            host.copy_(stacked, non_blocking=True)
            passed: Any = torch.cuda.Event()
            passed.record(torch.cuda.current_stream(device))
            self._flying.append((names, host, passed))

    def ready(self) -> bool:
        arrived = all(passed.query() for _, _, passed in self._flying)
        return arrived and all(value.is_ready() for value in self._jax.values())

    def wait(self) -> dict[str, float]:
        numbers = read_now(self._jax)
        for names, host, passed in self._flying:
            passed.synchronize()
            numbers.update(zip(names, map(float, host.tolist()), strict=True))
        return numbers


class _Waiting(NamedTuple):
    readings: dict[str, float]
    device: DeviceReadings | None
    step: int
    event: Mapping[str, Any] | None


class Arrivals:
    """Updates behind a device, in order.

    A device that fails costs the readings that are on it, and no other.
    """

    def __init__(self, boundary: Boundary) -> None:
        self._boundary = boundary
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
        device = self._boundary.survive(DeviceReadings, tensors) if tensors else None
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
            if device is not None and not late and not self._is_ready(device):
                return
            self._waiting.popleft()
            arrived = self._boundary.survive(device.wait) if device is not None else None
            yield readings | (arrived or {}), step, event

    def _is_ready(self, device: DeviceReadings) -> bool:
        ready = self._boundary.survive(device.ready)
        return True if ready is None else ready
