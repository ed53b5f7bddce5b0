"""The memory half of an `Outbound`: recent updates in order, and an account of what is lost."""

from __future__ import annotations

import bisect
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter

from watchstep.wire.packed import Record


@dataclass(frozen=True, slots=True)
class Lost:
    """A stretch of sequence numbers that will never be sent, ends included."""

    first: int
    last: int
    reason: str


class Losses:
    """Counts what is lost by reason, and remembers where, until it is acknowledged.

    Thread-safe. Adjoining stretches with one reason are kept as one, so a flood costs no
    memory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._stretches: deque[Lost] = deque()

    def count(self, reason: str, updates: int = 1) -> None:
        """Count updates whose place in the stream is filled or needs no filling."""
        with self._lock:
            self._counts[reason] += updates

    def add(self, first: int, last: int, reason: str) -> None:
        with self._lock:
            self._counts[reason] += last - first + 1
            tail = self._stretches[-1] if self._stretches else None
            if tail is not None and tail.reason == reason and tail.last + 1 == first:
                self._stretches[-1] = replace(tail, last=last)
            else:
                self._stretches.append(Lost(first, last, reason))

    def reason_for(self, seq: int) -> str | None:
        """Why an update is lost; None when it is not known to be."""
        with self._lock:
            return next(
                (
                    stretch.reason
                    for stretch in self._stretches
                    if stretch.first <= seq <= stretch.last
                ),
                None,
            )

    def settle(self, seq: int, explained: Collection[int]) -> None:
        """Forget where updates up to `seq` were lost, for the service has the stream so far.

        Args:
            explained: The numbers that were sent as placeholders. Others up to `seq` were
                given up but arrived after all, and are counted no longer.
        """
        with self._lock:
            open_still: deque[Lost] = deque()
            for stretch in self._stretches:
                arrived = max(min(stretch.last, seq) - stretch.first + 1, 0)
                arrived -= sum(
                    stretch.first <= lost <= min(stretch.last, seq) for lost in explained
                )
                self._counts[stretch.reason] -= arrived
                if stretch.last > seq:
                    open_still.append(replace(stretch, first=max(stretch.first, seq + 1)))
            self._stretches = open_still

    def totals(self) -> Mapping[str, int]:
        with self._lock:
            return {reason: count for reason, count in self._counts.items() if count}


class Backlog:
    """A bounded queue from the trainer's thread to the sender's.

    The trainer's usual path is one append to a deque, without a lock. The lock is taken by
    the sender while it moves references, and by the trainer only when the queue is full.

    Args:
        room: Records held at most, not counting those in the sender's hand.
        is_safe: Whether the update with this sequence number can be had elsewhere.
        on_drop: Told each sequence number that is dropped.
    """

    def __init__(
        self,
        room: int,
        *,
        is_safe: Callable[[int], bool],
        on_drop: Callable[[int], None],
    ) -> None:
        self._room = max(room, 2)
        self._precedence_room = max(self._room // 8, 1)
        self._is_safe = is_safe
        self._on_drop = on_drop
        self._queue: deque[Record] = deque()
        self._precedence: deque[Record] = deque()
        self._in_hand: list[Record] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._queue) + len(self._precedence) + len(self._in_hand)

    def append(self, record: Record) -> None:
        """Add the newest record, making room if there is none."""
        self._queue.append(record)
        if len(self._queue) > self._room:
            with self._lock:
                while len(self._queue) > self._room:
                    self._make_room(self._queue.popleft())

    def take(self, limit: int) -> list[Record]:
        """The oldest records, in order; the same ones again until `settle` covers them."""
        with self._lock:
            for source in (self._precedence, self._queue):
                # The trainer appends without the lock, and only at the other end.
                count = min(limit - len(self._in_hand), len(source))
                self._in_hand += [source.popleft() for _ in range(count)]
            return self._in_hand[:limit]

    def settle(self, seq: int) -> None:
        with self._lock:
            del self._in_hand[: bisect.bisect_right(self._in_hand, seq, key=itemgetter(0))]
            for source in (self._precedence, self._queue):
                while source and source[0].seq <= seq:
                    source.popleft()

    def _make_room(self, oldest: Record) -> None:
        if self._is_safe(oldest.seq):
            return
        if not oldest.keep_when_full:
            self._on_drop(oldest.seq)
            return
        self._precedence.append(oldest)
        if len(self._precedence) > self._precedence_room:
            # The run's first update goes last: it says what the run began as.
            second = len(self._precedence) > 1 and self._precedence[0].seq == 1
            victim = self._precedence[1] if second else self._precedence[0]
            self._precedence.remove(victim)
            self._on_drop(victim.seq)
