"""State that is sharded over the processes of a training (DTensors), as one checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any


def is_sharded(state: Any) -> bool:
    """Whether a state holds DTensors, of which each process has its own part."""
    # Looked up, not imported: without it nobody can have made one.
    tensors = sys.modules.get("torch.distributed.tensor")
    return tensors is not None and _holds(state, tensors.DTensor)


def _holds(value: Any, kind: type) -> bool:
    if isinstance(value, kind):
        return True
    if hasattr(value, "state_dict"):
        return _holds(value.state_dict(), kind)
    if isinstance(value, Mapping):
        return any(_holds(entry, kind) for entry in value.values())
    return isinstance(value, (list, tuple)) and any(_holds(entry, kind) for entry in value)
