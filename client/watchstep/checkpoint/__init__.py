"""The checkpoint keeper: saves only what is finite, restores only what is intact.

Importing this package does not import torch; using it does.
"""

from __future__ import annotations

from watchstep.checkpoint.arrays import is_of_arrays
from watchstep.checkpoint.collective import CollectiveCheck
from watchstep.checkpoint.finite import all_finite, first_nonfinite
from watchstep.checkpoint.keeper import CheckpointKeeper
from watchstep.checkpoint.reading import verify
from watchstep.checkpoint.record import Checkpoint
from watchstep.checkpoint.shards import is_sharded

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
