"""One verdict for all processes of a distributed training, in the same optimizer step."""

from __future__ import annotations

import collections
import dataclasses
import logging
import math
import time
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist

from watchstep.core.updates import Action, Verdict
from watchstep.errors import GuardRefusedError
from watchstep.guard.measure import Measured, joined_norm
from watchstep.guard.optimizers import hookable, ranks_of_shards
from watchstep.peers import peers

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

log = logging.getLogger("watchstep.guard")

T = TypeVar("T")

MEETING_S = 60.0
"""How long processes that share parameters wait for each other to guard them. They build the same
optimizer in the same program, so only seconds lie between them."""
_PAUSE_S = 0.02


class Agreement:
    """Lets the worst verdict of any process decide for all of them.

    Every process votes once per optimizer step, and none goes on before all have: so either all
    of them take a step or none does. That costs a round trip of a few bytes over gloo, on a
    group of its own that does not come between the collectives of the training.

    If a vote fails, because a process has died or not voted for half an hour,
    it is warned of, and each process decides by itself from then on.

    Args:
        group: The processes that vote, as a group or by their ranks; None for all of them. Every
            one of them must make its agreement, in the same order as its other groups.

    Attributes:
        processes: How many vote.
        open: Whether votes are still held.
    """

    def __init__(self, group: ProcessGroup | Sequence[int] | None = None) -> None:
        if isinstance(group, Sequence):
            self._ranks = list(group)
        else:
            self._ranks = dist.get_process_group_ranks(group or dist.group.WORLD)
        self._group: Any = dist.new_group(
            self._ranks,
            backend="gloo",
            # Whatever training itself would wait for, the vote waits for.
            timeout=dist.distributed_c10d.default_pg_timeout,
            # Only members of the group are here to create it.
            use_local_synchronization=True,
        )
        self._place = self._ranks.index(dist.get_rank())
        self.processes = len(self._ranks)
        self.open = self.processes > 1

    def whole(self, share: Measured) -> Measured:
        """The norm over all processes, from each one's share; blocks until each gave its own.

        Returns:
            `share` itself where this process's part is not finite, or where only another's is
            not: that one says so, and is named.
        """

        def joined() -> Measured:
            norm = joined_norm(self._gathered(share.norm))
            local = not math.isfinite(share.norm) or not math.isfinite(norm)
            return share if local else dataclasses.replace(share, norm=norm)

        return self._or_alone(joined, share)

    def verdict(self, own: Verdict) -> Verdict:
        """The verdict of all processes for this step; blocks until each has voted.

        Returns:
            `own` where nobody asks for more than a pin. Otherwise the strongest action, with
            rules and reason of the first process that asked for it, and its rank named.
        """
        return self._or_alone(lambda: self._voted(own), own)

    def _or_alone(self, together: Callable[[], T], own: T) -> T:
        """What all processes come to; this one's own where they are not there any more."""
        if not self.open:
            return own
        try:
            return together()
        except RuntimeError as error:
            # torch.distributed tells of dead peers and of timeouts by RuntimeErrors.
            self.open = False
            log.warning("vote failed, this process decides alone from now on", exc_info=error)
            return own

    def _gathered(self, own: float) -> list[float]:
        numbers = torch.zeros(self.processes, dtype=torch.float64)
        numbers[self._place] = own
        dist.all_reduce(numbers, group=self._group)
        return numbers.tolist()

    def _voted(self, own: Verdict) -> Verdict:
        actions = self._gathered(own.action)
        strongest = max(actions)
        if strongest < Action.SKIP:
            return own
        first = actions.index(strongest)
        strongest_case: list[Any] = [(own.rules, own.reason)]
        dist.broadcast_object_list(strongest_case, src=self._ranks[first], group=self._group)
        rules, reason = strongest_case[0]
        return dataclasses.replace(
            own,
            action=Action(int(strongest)),
            rules=tuple(rules),
            reason=f"rank {self._ranks[first]}: {reason}",
        )


def agreement_of(
    group: ProcessGroup | bool | None, optimizer: torch.optim.Optimizer | Any = None
) -> Agreement | None:
    """The agreement of the processes that must take each step together.

    Args:
        group: A group, or True for all processes there are. None: those that share the parameters
            of the optimizer, since a step that only some of them take is half a step.
        optimizer: Whose parameters may be shared: DTensors, as FSDP2 and tensor parallelism make
            them, or FSDP1's.

    Returns:
        None where this process decides alone.

    Raises:
        GuardRefusedError: Not all processes that share the parameters guard them.
    """
    if not dist.is_available() or not dist.is_initialized():
        return None
    if group:
        agreement = Agreement(None if group is True else group)
        return agreement if agreement.open else None
    ranks = [] if optimizer is None else ranks_of_shards(hookable(optimizer))
    if len(ranks) < 2:
        return None
    _meet(ranks)
    return Agreement(ranks)


_meetings: collections.Counter[str] = collections.Counter()


def _meet(ranks: Sequence[int]) -> None:
    """Return once every one of these processes has come here as often as this one.

    Raises:
        GuardRefusedError: In all that came, if one did not.
    """
    others = peers()
    assert others is not None
    store = others.store
    place = f"{len(ranks)}-{zlib.crc32(repr(list(ranks)).encode()):08x}"
    key = f"watchstep/guard/{place}/{_meetings[place]}"
    _meetings[place] += 1
    here, deadline = store.add(f"{key}/here", 1), time.monotonic() + MEETING_S
    while here < len(ranks) and time.monotonic() < deadline and not store.check([f"{key}/end"]):
        time.sleep(_PAUSE_S)
        here = store.add(f"{key}/here", 0)
    # The first to come to an end decides for all, so that nobody waits for those who have left.
    if store.add(f"{key}/ends", 1) == 1:
        store.set(f"{key}/end", str(here))
    came = int(store.get(f"{key}/end"))
    if came < len(ranks):
        raise GuardRefusedError(
            f"{came} of the {len(ranks)} processes that share the parameters guard the optimizer:"
            " all must, since a step that only some of them skip is half a step"
        )
