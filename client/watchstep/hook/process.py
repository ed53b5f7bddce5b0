"""What the hook asks of the process it is a guest in."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable


def is_reporting_rank() -> bool:
    """Whether this process reports: rank 0 of a distributed job, or the only one."""
    # Looked up, not imported: whoever has not imported torch is in no process group.
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return bool(distributed.get_rank() == 0)
    return os.environ.get("RANK", "0") == "0" and os.environ.get("SLURM_PROCID", "0") == "0"


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
