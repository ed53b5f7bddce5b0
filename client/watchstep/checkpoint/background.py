"""Saves written in a thread: one at a time, and the newest that came meanwhile waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

# Importing this package does not import torch.
if TYPE_CHECKING:
    from watchstep.checkpoint.snapshot import HostBuffers


class BackgroundWriter:
    """Writes saves in order; of those that wait for one in flight only the newest is kept.

    For one caller at a time. Costs the memory of one copy of the state, and of a second while a
    save waits.

    Attributes:
        passed_over: Saves that a newer one took the place of before they were begun.
    """

    def __init__(self) -> None:
        self.passed_over = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._written: _Save | None = None
        self._waiting: _Save | None = None
        self._buffers: list[HostBuffers] = []
        self._copied_into: HostBuffers | None = None

    def copied(self, state: Any) -> Any:
        """`state` copied to host memory, for the `write` that comes next.

        A save that waits is given up for it.
        """
        from watchstep.checkpoint.snapshot import HostBuffers

        with self._lock:
            self._give_up_waiting()
            in_use = None if self._written is None else self._written.buffers
        if not self._buffers:
            self._buffers = [HostBuffers(), HostBuffers()]
        self._copied_into = next(each for each in self._buffers if each is not in_use)
        return self._copied_into.copy(state)

    def write(self, write: Callable[[], None]) -> None:
        """Have a save written: now, or after the one in flight. It must not raise."""
        save, self._copied_into = _Save(write, self._copied_into), None
        with self._lock:
            self._give_up_waiting()
            if self._written is not None:
                self._waiting = save
                return
            self._written = save
        self._thread = threading.Thread(
            target=self._run, args=(save,), name="watchstep-checkpoint", daemon=True
        )
        self._thread.start()

    def flush(self, timeout_s: float | None) -> bool:
        """Wait for the save in flight and the one that waits; whether none is left."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def release(self) -> None:
        """Let go of the copies; only after a `flush` that left nothing."""
        self._buffers = []

    def _give_up_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting = None
            self.passed_over += 1

    def _run(self, save: _Save | None) -> None:
        while save is not None:
            save.write()
            with self._lock:
                save = self._written = self._waiting
                self._waiting = None


class _Save(NamedTuple):
    """What is to be written.

    Attributes:
        buffers: That its copy is in; None for one that has memory of its own.
    """

    write: Callable[[], None]
    buffers: HostBuffers | None
