"""The machine's readings, taken every few seconds in a thread of their own."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from watchstep.machine.gpus import GpuPort, nvml
from watchstep.machine.gpus import readings as gpu_readings
from watchstep.machine.processes import memory_of

EVERY_S = 5.0
"""Between samples: a leak shows in minutes, and a sample takes about a millisecond."""


class Sampler:
    """Takes a sample now and then; whoever asks gets each sample once.

    Args:
        folder: Of whose file system the free space is told: where checkpoints go.
        gpus: Where devices are asked; None looks for this machine's in the thread.
        every_s: Seconds between samples.
        inside: Whether this process is the training itself, and not one around it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        gpus: GpuPort | None = None,
        every_s: float = EVERY_S,
        inside: bool = False,
    ) -> None:
        self._inside = inside
        self._folder = folder
        self._gpus = gpus
        self._every_s = every_s
        self._newest: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchstep-machine", daemon=True)

    def start(self) -> None:
        """Begin to sample; twice is harmless."""
        if not self._stopping.is_set() and self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """End it, without waiting for a driver that does not answer."""
        self._stopping.set()

    def take(self) -> dict[str, float]:
        """The newest sample, empty where it was taken before."""
        newest, self._newest = self._newest, {}
        return newest

    def _run(self) -> None:
        if self._gpus is None:
            self._gpus = nvml()
        psutil = _psutil()
        while not self._stopping.is_set():
            self._newest = sample(self._folder, psutil, self._gpus, inside=self._inside)
            self._stopping.wait(self._every_s)


def sample(
    folder: Path, psutil: ModuleType | None, gpus: GpuPort | None, *, inside: bool = False
) -> dict[str, float]:
    """What can be read now: `system/...`, bytes as bytes, shares from 0 to 1."""
    named: dict[str, float] = {}
    sources: list[Callable[[], dict[str, float]]] = [
        lambda: _disk(folder),
        lambda: _processes(inside=inside),
    ]
    if psutil is not None:
        sources.append(lambda: _machine(psutil))
    if gpus is not None:
        sources.append(lambda: gpu_readings(gpus.devices()))
    for source in sources:
        try:
            named.update(source())
        except OSError:
            continue
    return named


def _machine(psutil: ModuleType) -> dict[str, float]:
    memory = psutil.virtual_memory()
    return {
        # Since the call before.
        "system/cpu_percent": float(psutil.cpu_percent(None)),
        "system/memory_used_share": 1.0 - memory.available / memory.total,
    }


def _disk(folder: Path) -> dict[str, float]:
    # Checkpoints may not have been saved yet.
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    space = os.statvfs(there)
    return {
        "system/disk_free_bytes": float(space.f_bavail * space.f_frsize),
        "system/disk_used_share": 1.0 - space.f_bavail / max(space.f_blocks, 1),
    }


def _processes(*, inside: bool) -> dict[str, float]:
    used = memory_of(os.getpid(), with_root=inside)
    return {"system/process_memory_bytes": float(used)} if used else {}


def _psutil() -> ModuleType | None:
    try:
        psutil = importlib.import_module("psutil")
    except ImportError:
        return None
    psutil.cpu_percent(None)  # The first call has nothing to compare with.
    return psutil
