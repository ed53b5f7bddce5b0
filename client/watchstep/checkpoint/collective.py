"""What several processes must do together to keep or restore one checkpoint between them.

A process with a whole state waits for nobody: under plain DDP one may well save alone. One with
shards waits for all others, and would until gloo gives up if one never comes because what it
holds is whole. So each writes what it holds into the store over which the processes met, and
those who wait look there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from watchstep.errors import CheckpointError
from watchstep.peers import Peers, peers

T = TypeVar("T")

_FIRST_LOOK_S, _LONGEST_PAUSE_S = 0.005, 0.25
"""A thousand processes that wait for one ask the store a few thousand times a second."""


def is_sharded(state: Any) -> bool:
    """Whether a state holds DTensors, of which each process has its own part."""
    # Looked up, not imported: without it nobody can have made one.
    tensors = sys.modules.get("torch.distributed.tensor")
    if tensors is None:
        return False
    from watchstep.checkpoint.finite import named_tensors

    return any(isinstance(tensor, tensors.DTensor) for _, tensor in named_tensors(state))


@dataclasses.dataclass(frozen=True, slots=True)
class CollectiveCheck:
    """One save or restore, as one process comes to it: with a whole state, or with shards.

    Attributes:
        number: Which one: the step of a save, the count of restores in this process.
    """

    folder: Path
    kind: str
    number: int

    def whole(self) -> None:
        """Announce that this process holds the state whole; refuse where another has shards."""
        others = peers()
        if others is None:
            return
        # Where the store is gone, so is the training: a whole state can still be kept.
        with contextlib.suppress(RuntimeError):
            self._announce(others, "whole")
            entry = self._entry_of(others, "sharded")
            if entry is not None and entry[:2] == (self.kind, self.number):
                raise self._refusal(others, entry[2], "sharded", "whole")

    def sharded(self, ranks: Ranks | None) -> Ranks:
        """All processes, once they have come with shards; those of the call before, if there was.

        Raises:
            CheckpointError: One of them has come, or went on, with a whole state; or, before
                they have a group of their own, is not here after half an hour.
        """
        others, pause_s = peers(), _FIRST_LOOK_S
        if others is not None:
            self._announce(others, "sharded")
            self._refuse_whole(others)
        all_here = ranks.all_here() if ranks is not None else self._first_meeting(others)
        while not all_here():
            if others is not None:
                self._refuse_whole(others)
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
        return ranks or Ranks()

    def _first_meeting(self, others: Peers | None) -> Callable[[], bool]:
        """Count this process in; what is returned tells whether all have been counted."""
        if others is None:
            return lambda: True
        dist, begun = sys.modules["torch.distributed"], time.monotonic()
        patience_s = dist.distributed_c10d.default_pg_timeout.total_seconds()
        key = self._key(f"{self.kind}/{self.number}")
        others.store.add(key, 1)

        def all_here() -> bool:
            if time.monotonic() - begun > patience_s:
                raise CheckpointError(f"{self.folder}: {self.kind}: not all processes came to it")
            return bool(others.store.add(key, 0) >= others.world)

        return all_here

    def _refuse_whole(self, others: Peers) -> None:
        refused, entry = self._key("refused"), self._entry_of(others, "whole")
        if others.store.check([refused]):
            raise self._refusal(others, others.store.get(refused).decode(), "whole", "sharded")
        if entry is not None and entry[0] == self.kind and entry[1] >= self.number:
            # Whoever comes later must know too: by then the other may be further on.
            others.store.set(refused, entry[2])
            raise self._refusal(others, entry[2], "whole", "sharded")

    def _announce(self, others: Peers, held: str) -> None:
        others.store.set(self._key(held), f"{self.kind} {self.number} {others.rank}")

    def _entry_of(self, others: Peers, held: str) -> tuple[str, int, str] | None:
        """Kind, number and rank of the process that announced last that it holds this."""
        if not others.store.check([self._key(held)]):
            return None
        kind, number, rank = others.store.get(self._key(held)).decode().split()
        return kind, int(number), rank

    def _refusal(self, others: Peers, rank: str, theirs: str, ours: str) -> CheckpointError:
        return CheckpointError(
            f"{self.folder}: no {self.kind}: rank {rank} holds the state {theirs}, rank"
            f" {others.rank} {ours}; all processes must come with the same kind of state"
        )

    def _key(self, name: str) -> str:
        return f"watchstep/{self.folder.resolve()}/{name}"


class TogetherError(CheckpointError):
    """At least one process could not do its part; every process raises this.

    Attributes:
        damaged: Whether a file was found damaged, not only unreadable for the moment.
    """

    def __init__(self, message: str, *, damaged: bool) -> None:
        super().__init__(message)
        self.damaged = damaged


@dataclasses.dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    damaged: bool


class Ranks:
    """All processes of a distributed training, speaking over a gloo group of their own.

    Every process makes one and calls the same methods in the same order.

    Attributes:
        leads: Whether this is the process that renames, pins and prunes.
    """

    def __init__(self) -> None:
        import torch.distributed as dist

        if not dist.is_available() or not dist.is_initialized():
            raise CheckpointError("sharded state needs torch.distributed, which is not initialised")
        self.rank = dist.get_rank()
        self.world = dist.get_world_size()
        self.leads = self.rank == 0
        self.group: Any = dist.new_group(backend="gloo")

    def all_here(self) -> Callable[[], bool]:
        """Come to the next meeting; what is returned tells whether all have, or raises."""
        import torch.distributed as dist

        arrival: Any = dist.barrier(group=self.group, async_op=True)

        def arrived() -> bool:
            if not arrival.is_completed():
                return False
            with _peers():
                arrival.wait()
            return True

        return arrived

    def agreed(self, work: Callable[[], T]) -> list[T]:
        """Do something in every process; what each got, by rank.

        Raises:
            TogetherError: In all of them, if one failed or died.
        """
        import torch.distributed as dist

        own: T | _Failure
        try:
            own = work()
        except Exception as error:
            own = _Failure(str(error) or type(error).__name__, isinstance(error, CheckpointError))
        results: list[Any] = [None] * self.world
        with _peers():
            dist.all_gather_object(results, own, group=self.group)
        failures = {rank: r for rank, r in enumerate(results) if isinstance(r, _Failure)}
        if failures:
            rank, first = next(iter(failures.items()))
            damaged = all(failure.damaged for failure in failures.values())
            raise TogetherError(f"rank {rank}: {first.reason}", damaged=damaged)
        return results

    def led(self, work: Callable[[], T]) -> T:
        """Do something in the leading process alone; what it got, in all of them.

        Raises:
            TogetherError: In all of them, if it failed or one died.
        """
        result: T | None = self.agreed(lambda: work() if self.leads else None)[0]
        return result  # type: ignore[return-value]  # the leading process is the first


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # torch.distributed tells of dead peers and of timeouts by RuntimeErrors.
        raise TogetherError(f"another process is gone: {error}", damaged=False) from error
