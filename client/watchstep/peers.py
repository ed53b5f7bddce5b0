"""The other processes of a torch.distributed training, and the store over which they met."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Peers:
    """All processes of the default process group, this one among them.

    Attributes:
        rank: This one's place.
        world: How many there are.
        store: Key-value store that all of them reach; a call blocks for one round trip.
    """

    rank: int
    world: int
    store: Any


def process_group() -> Peers | None:
    """The default process group, which may be this process alone; None without one."""
    # Looked up, not imported: whoever has not imported torch is in no process group.
    dist = sys.modules.get("torch.distributed")
    if dist is None or not dist.is_available() or not dist.is_initialized():
        return None
    # torch has no public way to the store.
    store = dist.distributed_c10d._get_default_store()
    return Peers(dist.get_rank(), dist.get_world_size(), store)


def peers() -> Peers | None:
    """The processes of this training; None where there are no others."""
    group = process_group()
    return None if group is None or group.world == 1 else group
