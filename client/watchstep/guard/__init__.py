"""The guard: judges gradients before `optimizer.step()` touches a weight.

Importing this package does not import torch; using it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from watchstep.guard.bits import bit_hash
    from watchstep.guard.clipping import observe_clipping
    from watchstep.guard.distributed import Agreement, agreement_of
    from watchstep.guard.guard import Guard
    from watchstep.guard.learning_rate import factor_of, set_factor
    from watchstep.guard.tally import merged
    from watchstep.guard.units import Units

_HOMES = {
    "Agreement": "distributed",
    "Guard": "guard",
    "Units": "units",
    "agreement_of": "distributed",
    "bit_hash": "bits",
    "factor_of": "learning_rate",
    "merged": "tally",
    "observe_clipping": "clipping",
    "set_factor": "learning_rate",
}

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


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    # From now on without this function, which each step of an optimizer would call.
    globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return globals()[name]
