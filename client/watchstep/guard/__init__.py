"""The guard: judges gradients before `optimizer.step()` touches a weight.

Importing this package imports torch; the hook does so when something is guarded.
"""

from __future__ import annotations

from watchstep.guard.bits import bit_hash
from watchstep.guard.clipping import observe_clipping
from watchstep.guard.distributed import Agreement, agreement_of
from watchstep.guard.guard import Guard
from watchstep.guard.learning_rate import factor_of, set_factor
from watchstep.guard.tally import merged
from watchstep.guard.units import Units

__all__ = [
    "Agreement",
    "Guard",
    "Units",
    "agreement_of",
    "bit_hash",
    "factor_of",
    "merged",
    "observe_clipping",
    "set_factor",
]
