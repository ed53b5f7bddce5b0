"""A batch as it arrived, against what is stored already."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import lt
from typing import TYPE_CHECKING, Any

from watchstep.core.roles import is_core
from watchstep.core.updates import Update
from watchstep_monitor.service.errors import ConflictError, InvalidError
from watchstep_monitor.service.run_state.records import AttemptRecord, CommandRecord, RunRecord
from watchstep_monitor.service.run_state.run_cache import LiveRun

if TYPE_CHECKING:
    from watchstep_monitor.store.transaction import SqlTransaction

MOST_JUMP = 1_000
"""Attempts that a trainer may have made without a word of them here."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An update of a batch that was not stored.

    Attributes:
        index: Its place in the batch.
        loc, kind, reason: What was wrong, where.
    """

    index: int
    loc: tuple[str | int, ...]
    kind: str
    reason: str

    @property
    def errors(self) -> tuple[Rejected]:
        """All that was wrong with it, as answers list it: what is found first."""
        return (self,)


@dataclass(frozen=True, slots=True)
class Batch:
    """Updates of one attempt as they arrived.

    Attributes:
        updates: With their places in the request.
        rejected: Those that were no updates at all.
        projects: Projects that the caller may write to; None for all.
        left_out: Readings that were too many and are not among them.
    """

    run: str
    attempt: int
    updates: Sequence[tuple[int, Update]]
    rejected: tuple[Rejected, ...] = ()
    projects: tuple[str, ...] | None = None
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a batch, durably.

    Attributes:
        rules: Fingerprint of the rules that judge the run now.
        left_out: Readings that were too many.
        last_seq: The newest number of the training.
        last_seqs: The newest of each other source.
        attempt: The run's newest; updates of an earlier one are stored and not judged.
    """

    accepted: int
    duplicates: int
    rejected: tuple[Rejected, ...]
    last_seq: int
    commands: tuple[CommandRecord, ...]
    rules: str
    attempt: int
    left_out: int = 0
    last_seqs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begun:
    """What a trainer's announcement came to.

    Attributes:
        record: The run's row, at the attempt that was begun or resumed.
        last_seqs: The newest number of each other source than the training in it.
    """

    record: RunRecord
    last_seqs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Beginning:
    """A trainer's announcement; see `PUT /runs/{run}`.

    Attributes:
        attempt: The number that the trainer asks for, or None.
        session: What the trainer calls this start of itself, or None.
    """

    run: str
    project: str | None = None
    tags: Mapping[str, str] | None = None
    config: Mapping[str, Any] | None = None
    trainer: str | None = None
    attempt: int | None = None
    session: str | None = None
    projects: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class RunEdit:
    """What a person changes of a run; None leaves it.

    Attributes:
        closed_by: Who has done with its incident.
    """

    notes: str | None = None
    tags: Mapping[str, str] | None = None
    archived: bool | None = None
    closed_by: str | None = None


@dataclass(slots=True)
class SortedBatch:
    """A batch against what is stored already; new updates of each source that has some in it."""

    fresh: dict[str, list[Update]] = field(default_factory=dict)
    duplicates: int = 0
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        return sum(map(len, self.fresh.values()))


def within_names(live: LiveRun, batch: Batch, most: int) -> Batch:
    """The batch without readings under names that are too many for the run.

    Names that are known stay, so that the same batch is cut in the same way again.
    """
    reported = live.readings().keys()
    if all(update.readings.keys() <= reported for _, update in batch.updates):
        return batch
    new = dict.fromkeys(
        name for _, update in batch.updates for name in update.readings if name not in reported
    )
    if len(reported) + len(new) <= most:
        return batch
    # Names without which there is no training first.
    ordered = sorted(new, key=lambda name: not is_core(name, live.rules.role(name)))
    names = reported | set(ordered[: max(0, most - len(reported))])
    updates = [
        (
            at,
            update._replace(
                readings={name: v for name, v in update.readings.items() if name in names}
            ),
        )
        for at, update in batch.updates
    ]
    gone = sum(len(each.readings) for _, each in batch.updates)
    gone -= sum(len(each.readings) for _, each in updates)
    return replace(batch, updates=updates, left_out=batch.left_out + gone)


def check_attempt(attempt: int, live: LiveRun) -> None:
    """Refuse a number that no trainer can have counted up to: it would shut out all real ones."""
    if attempt > live.record.attempt + MOST_JUMP:
        raise InvalidError(
            f"is more than {MOST_JUMP} beyond the run's last", loc=("attempt",), kind="range"
        )


def resumed(
    beginning: Beginning, attempts: Sequence[AttemptRecord], record: RunRecord
) -> AttemptRecord | None:
    """The attempt that this announcement continues, or None when it begins a new one."""
    by_number = {attempt.attempt: attempt for attempt in attempts}
    if beginning.attempt is not None:
        if beginning.attempt < record.attempt:
            raise ConflictError("that attempt is over", loc=("attempt",))
        return by_number.get(beginning.attempt)
    for attempt in attempts:
        if beginning.session is not None and attempt.session == beginning.session:
            return attempt
    newest = by_number.get(record.attempt)
    if newest is None or newest.session or record.last_seq or not newest.last_seqs:
        return None
    # Only other sources have spoken in it: it waits for its trainer.
    return newest


def sort_batch(
    transaction: SqlTransaction,
    batch: Batch,
    last_seqs: Mapping[str, int],
    newest: Update | None = None,
) -> SortedBatch:
    """Split a batch into new updates, duplicates and latecomers, each source by itself.

    Args:
        last_seqs: The newest number of each source in the batch's attempt.
        newest: The newest update of the training that is stored, if it is known: what is sent
            again is mostly that one, and then nothing needs to be read.

    Raises:
        ConflictError: One number, two contents.
    """
    sorted_ = SortedBatch()
    by_source: dict[str, list[tuple[int, Update]]] = {}
    for pair in batch.updates:
        by_source.setdefault(pair[1].source, []).append(pair)
    for source, updates in by_source.items():
        last_seq = last_seqs.get(source, 0)
        sorted_.fresh[source] = fresh = [update for _, update in updates]
        seqs = [last_seq, *(update.seq for update in fresh)]
        if not all(map(lt, seqs, islice(seqs, 1, None))):
            sorted_.fresh[source] = _sift(transaction, batch, updates, last_seq, sorted_, newest)
    return sorted_


def _sift(
    transaction: SqlTransaction,
    batch: Batch,
    updates: Sequence[tuple[int, Update]],
    last_seq: int,
    sorted_: SortedBatch,
    newest: Update | None,
) -> list[Update]:
    """The new ones among a source's updates, where some are not; counts the others."""
    first: dict[int, Update] = {}
    behind = [update.seq for _, update in updates if update.seq <= last_seq]
    source = updates[0][1].source
    stored: Mapping[int, Update] = {}
    if newest is not None and (newest.source, newest.attempt) == (source, batch.attempt):
        stored = {newest.seq: newest}
    if not stored.keys() >= set(behind):
        stored = transaction.stored(batch.run, source, batch.attempt, behind)
    for index, update in sorted(updates, key=lambda pair: pair[1].seq):
        seq = update.seq
        twin = stored.get(seq) if seq <= last_seq else first.get(seq)
        if twin is not None:
            if not same_update(twin, update):
                raise ConflictError(
                    "this number is stored with another content",
                    loc=("updates", index, "seq"),
                    last_seq=last_seq,
                )
            sorted_.duplicates += 1
        elif seq <= last_seq:
            sorted_.rejected.append(
                Rejected(index, ("seq",), "late", "arrived behind its successors")
            )
        else:
            first[seq] = update
    return list(first.values())


def same_update(a: Update, b: Update) -> bool:
    """Whether two updates say the same, NaN being equal to NaN."""
    if (a.seq, a.step, a.time, a.attempt) != (b.seq, b.step, b.time, b.attempt):
        return False
    if a.readings.keys() != b.readings.keys() or a.event != b.event:
        return False
    names = list(a.readings)
    packed = [
        struct.pack(f"<{len(names)}d", *(update.readings[name] for name in names))
        for update in (a, b)
    ]
    return packed[0] == packed[1]
