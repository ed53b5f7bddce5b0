"""What the hook asks of the process it is a guest in."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

from watchstep.peers import process_group

_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs",
     "beegfs", "panfs", "ncpfs", "virtiofs"}
)  # fmt: skip


def is_reporting_rank() -> bool:
    """Whether this process reports: rank 0 of a distributed job, or the only one."""
    group = process_group()
    if group is not None:
        return group.rank == 0
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
    global _registered
    _disablers.append(weakref.WeakMethod(disable))
    if not _registered:
        _registered = True
        os.register_at_fork(after_in_child=_disable_all)


def _disable_all() -> None:
    for reference in _disablers:
        disable = reference()
        if disable is not None:
            disable()
