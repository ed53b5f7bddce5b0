"""NVIDIA's GPUs as readings, through NVML where `nvidia-ml-py` and a driver are installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

_IDLE_SHARE = 0.05
"""A device that is used less than this waits for data, or for nothing at all."""

_THROTTLED = 0x8 | 0x20 | 0x40 | 0x80
"""nvmlClocksEventReasons: hardware slowdown (0x8), software thermal (0x20), hardware thermal
(0x40), power brake (0x80). A power cap (0x4) is how a loaded device is meant to run."""

_LOST = 15
"""NVML_ERROR_GPU_IS_LOST: the device has fallen off the bus, or is otherwise out of reach."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device at one moment; None for what it does not tell.

    Attributes:
        lost: Whether it has fallen off the bus; nothing else is known then.
        utilization: Share of the last sample period in which a kernel ran, 0 to 1.
        ecc_errors: Uncorrected memory errors since the driver was loaded.
    """

    lost: bool = False
    utilization: float | None = None
    memory_used_share: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    throttled: bool | None = None
    ecc_errors: int | None = None


class GpuPort(Protocol):
    """Where devices are asked; a recording in tests."""

    def devices(self) -> list[Gpu]:
        """Every device now, in NVML's order."""


class Nvml:
    """The real devices. Not thread-safe.

    Args:
        library: The module `pynvml`, initialised.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._handles = [
            library.nvmlDeviceGetHandleByIndex(at) for at in range(library.nvmlDeviceGetCount())
        ]

    def devices(self) -> list[Gpu]:
        return [self._device(handle) for handle in self._handles]

    def _device(self, handle: Any) -> Gpu:
        nvml = self._library
        lost: list[bool] = []

        def ask(function: str, *more: Any) -> Any:
            try:
                return getattr(nvml, function)(handle, *more)
            except nvml.NVMLError as error:
                lost.extend([True] if error.value == _LOST else [])
            except AttributeError:
                pass  # An older nvidia-ml-py.
            return None

        utilization = ask("nvmlDeviceGetUtilizationRates")
        memory = ask("nvmlDeviceGetMemoryInfo")
        power = ask("nvmlDeviceGetPowerUsage")
        reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        temperature = ask("nvmlDeviceGetTemperature", 0)  # NVML_TEMPERATURE_GPU
        # NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC
        errors = ask("nvmlDeviceGetTotalEccErrors", 1, 0)
        if lost:
            return Gpu(lost=True)
        return Gpu(
            utilization=None if utilization is None else utilization.gpu / 100,
            memory_used_share=None if memory is None else memory.used / memory.total,
            temperature_celsius=None if temperature is None else float(temperature),
            power_watts=None if power is None else power / 1000,
            throttled=None if reasons is None else bool(reasons & _THROTTLED),
            ecc_errors=errors,
        )


def nvml() -> Nvml | None:
    """The devices of this machine; None without `nvidia-ml-py`, a driver, or a device."""
    try:
        pynvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        port = Nvml(pynvml)
        return port if port.devices() else None
    except pynvml.NVMLError:
        return None


def readings(devices: list[Gpu]) -> dict[str, float]:
    """`system/gpuN/...` of each device, and of all together what rules look at."""
    named: dict[str, float] = {}
    for at, gpu in enumerate(devices):
        for name in Gpu.__dataclass_fields__:
            value = getattr(gpu, name)
            if value is not None and (name != "lost" or value):
                named[f"system/gpu{at}/{name}"] = float(value)
    named["system/gpus_lost"] = _count(devices, lambda gpu: gpu.lost)
    named["system/gpus_throttled"] = _count(devices, lambda gpu: bool(gpu.throttled))
    measured = [gpu for gpu in devices if gpu.utilization is not None]
    if measured:
        named["system/gpus_idle"] = _count(
            measured, lambda gpu: (gpu.utilization or 0) < _IDLE_SHARE
        )
    errors = [gpu.ecc_errors for gpu in devices if gpu.ecc_errors is not None]
    if errors:
        named["system/gpu_ecc_errors"] = float(sum(errors))
    return named


def _count(devices: list[Gpu], claim: Callable[[Gpu], bool]) -> float:
    return float(sum(map(claim, devices)))
