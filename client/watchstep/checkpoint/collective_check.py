"""Whether all processes come to a save or restore alike: with a whole state, or each its shards.

A process with a whole state waits for nobody: under plain DDP one may well save alone. One with
shards waits for all others, and would until gloo gives up if one never comes because what it
holds is whole. So each says what it holds in the store over which the processes found each other,
and those who wait look there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from watchstep.errors import CheckpointError

_FIRST_LOOK_S, _LONGEST_PAUSE_S = 0.005, 0.25
"""A thousand processes that wait for one ask the store a few thousand times a second."""


@dataclasses.dataclass(frozen=True, slots=True)
class CollectiveCheck:
    """One save or restore, as one process comes to it.

    Attributes:
        folder: Of the checkpoints.
        kind: "save" or "restore".
        number: Which one: the step of a save, the count of restores in this process.
    """

    folder: Path
    kind: str
    number: int

    def whole(self) -> None:
        """Say that this process holds the state whole.

        Raises:
            CheckpointError: Another one has come with shards of it.
        """
        store = _store()
        if store is None:
            return
        # Where the store is gone, so is the training: a whole state can still be kept.
        with contextlib.suppress(RuntimeError):
            store.set(self._key("whole"), self._words())
            entry = self._entry(store, "sharded")
            if entry is not None and entry[:2] == (self.kind, self.number):
                raise self._refusal(entry[2], "sharded", "whole")

    def sharded(self) -> None:
        """Say that this process holds shards.

        Raises:
            CheckpointError: Another one has come, or went on, with a whole state.
        """
        store = _store()
        if store is not None:
            store.set(self._key("sharded"), self._words())
            self._refuse_whole(store)

    def wait(self, all_here: Callable[[], bool]) -> None:
        """Wait with shards for the others.

        Raises:
            CheckpointError: One of them has come, or went on, with a whole state.
        """
        store, pause_s = _store(), _FIRST_LOOK_S
        while not all_here():
            if store is not None:
                self._refuse_whole(store)
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def meeting(self) -> Callable[[], bool]:
        """Count this process in; what is returned tells whether all have been counted.

        For processes that have no group of their own yet, which takes all of them to make.

        Raises:
            CheckpointError: Out of what is returned: they are not here after half an hour.
        """
        store, begun = _store(), time.monotonic()
        if store is None:
            return lambda: True
        key = self._key(f"{self.kind}/{self.number}")
        store.add(key, 1)

        def all_here() -> bool:
            if time.monotonic() - begun > _patience_s():
                raise CheckpointError(f"{self.folder}: {self.kind}: not all processes came to it")
            return bool(store.add(key, 0) >= _world())

        return all_here

    def _refuse_whole(self, store: Any) -> None:
        if store.check([self._key("refused")]):
            raise self._refusal(*store.get(self._key("refused")).decode().split())
        entry = self._entry(store, "whole")
        if entry is not None and entry[0] == self.kind and entry[1] >= self.number:
            # Whoever comes later must know too: by then the other may be further on.
            store.set(self._key("refused"), f"{entry[2]} whole sharded")
            raise self._refusal(entry[2], "whole", "sharded")

    def _refusal(self, rank: str, theirs: str, ours: str) -> CheckpointError:
        return CheckpointError(
            f"{self.folder}: no {self.kind}: rank {rank} holds the state {theirs}, rank {_rank()}"
            f" {ours}; all processes must come with the same kind of state"
        )

    def _words(self) -> str:
        return f"{self.kind} {self.number} {_rank()}"

    def _entry(self, store: Any, held: str) -> tuple[str, int, str] | None:
        key = self._key(held)
        if not store.check([key]):
            return None
        kind, number, rank = store.get(key).decode().split()
        return kind, int(number), rank

    def _key(self, what: str) -> str:
        return f"watchstep/{self.folder.resolve()}/{what}"


def _store() -> Any:
    """The store of the default process group; None where there are no other processes."""
    # Looked up, not imported: whoever has not imported torch is in no process group.
    dist = sys.modules.get("torch.distributed")
    if dist is None or not dist.is_available() or not dist.is_initialized() or _world() == 1:
        return None
    # torch has no public way to it.
    return dist.distributed_c10d._get_default_store()  # noqa: SLF001


def _world() -> int:
    import torch.distributed as dist

    return dist.get_world_size()


def _rank() -> int:
    import torch.distributed as dist

    return dist.get_rank()


def _patience_s() -> float:
    import torch.distributed as dist

    return float(dist.distributed_c10d.default_pg_timeout.total_seconds())
