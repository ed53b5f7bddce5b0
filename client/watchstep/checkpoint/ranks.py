"""What several processes must do together to keep one checkpoint between them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from watchstep.errors import CheckpointError

T = TypeVar("T")


class TogetherError(CheckpointError):
    """At least one process could not do its part; every process raises this.

    Attributes:
        damaged: Whether a file was found damaged, not only unreadable for the moment.
    """

    def __init__(self, message: str, *, damaged: bool) -> None:
        super().__init__(message)
        self.damaged = damaged


@dataclasses.dataclass(frozen=True, slots=True)
class _Failed:
    reason: str
    damaged: bool


class Ranks:
    """All processes of a distributed training, speaking over a gloo group of their own.

    Every process makes one and calls the same methods in the same order.

    Attributes:
        rank: This one's place.
        world: How many there are.
    """

    def __init__(self) -> None:
        import torch.distributed as dist

        if not dist.is_available() or not dist.is_initialized():
            raise CheckpointError("sharded state needs torch.distributed, which is not initialised")
        self.rank = dist.get_rank()
        self.world = dist.get_world_size()
        self.group: Any = dist.new_group(backend="gloo")

    @property
    def leads(self) -> bool:
        """Whether this is the process that renames, pins and prunes."""
        return self.rank == 0

    def all_here(self) -> Callable[[], bool]:
        """Come to the next meeting; what is returned tells whether all have.

        Raises:
            TogetherError: Out of what is returned: one died.
        """
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
        try:
            own: T | _Failed = work()
        except Exception as error:
            damaged = isinstance(error, CheckpointError)
            own = _Failed(str(error) or type(error).__name__, damaged)
        results = self._gathered(own)
        failed = [(rank, part) for rank, part in enumerate(results) if isinstance(part, _Failed)]
        if failed:
            rank, first = failed[0]
            damaged = all(part.damaged for _, part in failed)
            raise TogetherError(f"rank {rank}: {first.reason}", damaged=damaged)
        return [part for part in results if not isinstance(part, _Failed)]

    def led(self, work: Callable[[], T]) -> T:
        """Do something in the leading process alone; what it got, in all of them.

        Raises:
            TogetherError: In all of them, if it failed or one died.
        """
        result: T | None = self.agreed(lambda: work() if self.leads else None)[0]
        return result  # type: ignore[return-value]  # the leading process is the first

    def _gathered(self, own: T | _Failed) -> list[T | _Failed]:
        import torch.distributed as dist

        gathered: list[Any] = [None] * self.world
        with _peers():
            dist.all_gather_object(gathered, own, group=self.group)
        return gathered


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # torch.distributed tells of dead peers and of timeouts by RuntimeErrors.
        raise TogetherError(f"another process is gone: {error}", damaged=False) from error
