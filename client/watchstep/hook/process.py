"""What the hook asks of the process it is a guest in."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs",
     "beegfs", "panfs", "ncpfs", "virtiofs"}
)  # fmt: skip


def is_reporting_rank() -> bool:
    """Whether this process reports: rank 0 of a distributed job, or the only one."""
    # Looked up, not imported: whoever has not imported torch is in no process group.
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return bool(distributed.get_rank() == 0)
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


def network_file_system(folder: Path) -> str | None:
    """What kind of network file system a folder is on; None if it is on none, or unknown."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        place = str(folder.resolve())
    except OSError:
        return None
    longest, kind = "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4].replace("\\040", " ")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(longest):
            longest, kind = point, after.split(" ")[0]
    return kind if kind in _NETWORK or kind.startswith("fuse.") else None


class Termination:
    """Notes a SIGTERM instead of dying of it, until `go_on`. For the main thread only.

    What handled the signal before still hears of it, at once. Outside the main thread, where
    Python takes no handlers, this does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None
        self._installed = False
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
            self._installed = True

    def stop(self) -> None:
        """Put back what handled the signal before, unless somebody else has taken its place."""
        if self._installed and signal.getsignal(signal.SIGTERM) == self._note:
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)
                self._installed = False

    def go_on(self) -> None:
        """Let the signal do what it would have done; for one that is handled that is done."""
        self.stop()
        if self._before in (None, signal.SIG_DFL):
            os.kill(os.getpid(), signal.SIGTERM)

    def _note(self, number: int, frame: Any) -> None:
        self.asked = True
        if callable(self._before):
            self._before(number, frame)


def pending_exception() -> BaseException | None:
    """The exception that is ending the interpreter, or None.

    The interpreter leaves it in `sys.last_value` (`last_exc` from 3.12 on) when it prints the
    traceback, before `atexit` runs. A `SystemExit` is not left there.
    """
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


_disablers: list[weakref.WeakMethod[Callable[[], None]]] = []
_registered = False


def on_fork(disable: Callable[[], None]) -> None:
    """Have a bound method called in every forked child, for as long as its object lives."""
    global _registered  # noqa: PLW0603 - os.register_at_fork has no counterpart to undo it
    _disablers.append(weakref.WeakMethod(disable))
    if not _registered:
        _registered = True
        os.register_at_fork(after_in_child=_disable_all)


def _disable_all() -> None:
    for reference in _disablers:
        disable = reference()
        if disable is not None:
            disable()
