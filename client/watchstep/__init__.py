"""A live training monitor: one hook in the trainer, one service beside it.

Importing this touches no network and pulls in neither torch, numpy, httpx nor pydantic.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from watchstep.errors import HALT_EXIT_CODE, TrainingHalted, WatchstepError

if TYPE_CHECKING:
    from watchstep.checkpoint import CheckpointKeeper
    from watchstep.core.updates import Action, Verdict
    from watchstep.hook import Watch, init

__version__ = "0.1.0"

__all__ = [
    "HALT_EXIT_CODE",
    "Action",
    "CheckpointKeeper",
    "TrainingHalted",
    "Verdict",
    "Watch",
    "WatchstepError",
    "init",
]

_HOMES = {
    "Action": "watchstep.core.updates",
    "CheckpointKeeper": "watchstep.checkpoint",
    "Verdict": "watchstep.core.updates",
    "Watch": "watchstep.hook",
    "init": "watchstep.hook",
}


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext watchstep`: cells that train are watched."""
    from watchstep.outside.notebook import load_extension

    load_extension(shell)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'watchstep' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


if os.environ.get("WATCHSTEP_MIRROR"):
    from watchstep.integrations.mirrors import mirror_named_in_environment

    mirror_named_in_environment()
