"""Whether all processes come to a save or restore alike: with a whole state, or each its shards.

A process with a whole state waits for nobody: under plain DDP one may well save alone. One with
shards waits for all others, and would until gloo gives up if one never comes because what it
holds is whole. So each says what it holds in the store over which the processes found each other,
and those who wait look there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from watchstep.errors import CheckpointError
from watchstep.peers import Peers, peers

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
        others = peers()
        if others is None:
            return
        # Where the store is gone, so is the training: a whole state can still be kept.
        with contextlib.suppress(RuntimeError):
            others.store.set(self._key("whole"), self._words(others))
            entry = self._entry(others, "sharded")
            if entry is not None and entry[:2] == (self.kind, self.number):
                raise self._refusal(others, entry[2], "sharded", "whole")

    def sharded(self) -> None:
        """Say that this process holds shards.

        Raises:
            CheckpointError: Another one has come, or went on, with a whole state.
        """
        others = peers()
        if others is not None:
            others.store.set(self._key("sharded"), self._words(others))
            self._refuse_whole(others)

    def wait(self, all_here: Callable[[], bool]) -> None:
        """Wait with shards for the others.

        Raises:
            CheckpointError: One of them has come, or went on, with a whole state.
        """
        others, pause_s = peers(), _FIRST_LOOK_S
        while not all_here():
            if others is not None:
                self._refuse_whole(others)
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def meeting(self) -> Callable[[], bool]:
        """Count this process in; what is returned tells whether all have been counted.

        For processes that have no group of their own yet, which takes all of them to make.

        Raises:
            CheckpointError: Out of what is returned: they are not here after half an hour.
        """
        others, begun = peers(), time.monotonic()
        if others is None:
            return lambda: True
        key = self._key(f"{self.kind}/{self.number}")
        others.store.add(key, 1)

        def all_here() -> bool:
            if time.monotonic() - begun > _patience_s():
                raise CheckpointError(f"{self.folder}: {self.kind}: not all processes came to it")
            return bool(others.store.add(key, 0) >= others.world)

        return all_here

    def _refuse_whole(self, others: Peers) -> None:
        refused = self._key("refused")
        if others.store.check([refused]):
            raise self._refusal(others, *others.store.get(refused).decode().split())
        entry = self._entry(others, "whole")
        if entry is not None and entry[0] == self.kind and entry[1] >= self.number:
            # Whoever comes later must know too: by then the other may be further on.
            others.store.set(refused, f"{entry[2]} whole sharded")
            raise self._refusal(others, entry[2], "whole", "sharded")

    def _refusal(self, others: Peers, rank: str, theirs: str, ours: str) -> CheckpointError:
        return CheckpointError(
            f"{self.folder}: no {self.kind}: rank {rank} holds the state {theirs}, rank"
            f" {others.rank} {ours}; all processes must come with the same kind of state"
        )

    def _words(self, others: Peers) -> str:
        return f"{self.kind} {self.number} {others.rank}"

    def _entry(self, others: Peers, held: str) -> tuple[str, int, str] | None:
        key = self._key(held)
        if not others.store.check([key]):
            return None
        kind, number, rank = others.store.get(key).decode().split()
        return kind, int(number), rank

    def _key(self, what: str) -> str:
        return f"watchstep/{self.folder.resolve()}/{what}"


def _patience_s() -> float:
    import torch.distributed as dist

    return float(dist.distributed_c10d.default_pg_timeout.total_seconds())
