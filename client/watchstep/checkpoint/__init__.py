"""The checkpoint keeper: saves only what is finite, restores only what is intact.

Importing this package does not import torch; using it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from watchstep.checkpoint.arrays import is_of_arrays
from watchstep.checkpoint.collective import CollectiveCheck, is_sharded
from watchstep.checkpoint.keeper import CheckpointKeeper
from watchstep.checkpoint.reading import verify
from watchstep.checkpoint.record import Checkpoint

if TYPE_CHECKING:
    from watchstep.checkpoint.finite import all_finite, first_nonfinite

__all__ = [
    "Checkpoint",
    "CheckpointKeeper",
    "CollectiveCheck",
    "all_finite",
    "first_nonfinite",
    "is_of_arrays",
    "is_sharded",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Load what needs torch when it is first asked for."""
    if name not in ("all_finite", "first_nonfinite"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.finite"), name)
