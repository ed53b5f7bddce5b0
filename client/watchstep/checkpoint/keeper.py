"""Keeps the last checkpoints that are provably finite, and the last one proven good."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from watchstep.checkpoint.arrays import (
    copied_arrays,
    inspect_arrays,
    is_of_arrays,
    refilled,
    write_arrays,
)
from watchstep.checkpoint.background import BackgroundWriter
from watchstep.checkpoint.collective import CollectiveCheck, Ranks, is_sharded
from watchstep.checkpoint.durable import HashedFile
from watchstep.checkpoint.folder import EarlierAttempt, Folder
from watchstep.checkpoint.reading import read_kept
from watchstep.checkpoint.record import (
    ARRAYS_SUFFIX,
    SHARDED_SUFFIX,
    SUFFIX,
    Checkpoint,
    Finiteness,
    LossLevel,
    PassedOver,
)
from watchstep.errors import CheckpointError

# What needs torch is imported where it is used: state of arrays is kept without it.
RISE_UPDATES = 100
"""As far back as a warning counts as a sign of what came (`watchstep.core.stages`)."""


class CheckpointKeeper:
    """Saves, pins and restores the state of one training run in one directory.

    A save that returned is on the disk, whole and finite; one that was killed leaves earlier
    ones untouched. The newest `keep` are kept, and besides them the pin: the newest finite
    checkpoint after which `good_after` healthy updates were seen with no alert open, and whose
    loss had not risen in the `RISE_UPDATES` before it. Last finite is not last good, which is
    why a save alone never moves the pin.

    What an earlier attempt left in the directory, its pin and the checkpoints next to it, stays
    until this one has a better pin: one of a step as far, or any after it was restored from,
    and with a loss that shows that the weights were not lost on the way.

    State without torch (JAX's pytrees, numpy's arrays) is kept as it is, and torch is not needed.

    Several processes may save into one directory without harming each other's files, though
    retention then counts all of them together. State that is sharded over the processes of one
    training (DTensors) is one checkpoint of all of them: each calls `save` and `restore` at the
    same point, on a folder that all see; such a save is never asynchronous.

    Attributes:
        refused: States that were not finite and so not saved.
        passed_over: Asynchronous saves that a newer one took the place of while they waited.
        failures: Asynchronous saves that failed; see `last_error`.
        last_error: The newest failure of an asynchronous save, or None.
        quarantined: Bad files set aside by `restore`.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep: int = 3,
        good_after: int = 1,
        asynchronous: bool = False,
        exempt: Sequence[str] = (),
        attempt: str | None = None,
    ) -> None:
        """Open or create a directory, and sweep what dead processes left in it.

        Args:
            directory: Created if it does not exist.
            keep: Newest checkpoints that retention leaves, at least 1; the pin is extra.
            good_after: Healthy updates that must follow a save before it may be pinned.
            asynchronous: Whether `save` returns once the state is copied to host memory,
                and a thread writes it: costs the memory of one copy, of two where saves come
                faster than they are written. Then the newest waits, and older ones that wait
                are passed over.
            exempt: Glob patterns of dotted tensor names, such as `model.*.mask`, which hold
                infinities on purpose.
            attempt: Alike in all processes of one training; None invents one.
        """
        if keep < 1 or good_after < 1:
            raise ValueError(f"keep and good_after must be at least 1, not {keep}, {good_after}")
        self.directory = Path(directory)
        self.refused = self.failures = self.quarantined = 0
        self.last_error: Exception | None = None
        self._folder = Folder(self.directory)
        self._folder.sweep()
        self._attempt = attempt or secrets.token_hex(4)
        self._earlier = EarlierAttempt.in_folder(self._folder, keep, self._attempt)
        self._keep = keep
        self._good_after = good_after
        self._asynchronous = asynchronous
        self._exempt = tuple(exempt)
        self._background = BackgroundWriter()
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._pending: list[_Pending] = []
        self._losses: list[tuple[int, LossLevel]] = []
        self._alert_open = False
        self._finished: list[Checkpoint] = []
        self._ranks: Ranks | None = None
        self._restores = 0

    def __enter__(self) -> CheckpointKeeper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pinned(self) -> Checkpoint | None:
        """The last good one of this attempt; of an earlier one without, or where this forgot it."""
        if self._earlier is not None and self._earlier.is_lower:
            return self._folder.pinned()
        return self._folder.pinned(self._attempt) or self._folder.pinned()

    def forgotten_hint(self) -> str | None:
        """One sentence where this attempt's pin has lost what an earlier one had learnt."""
        pin = self._folder.pinned(self._attempt)
        if self._earlier is None or not self._earlier.is_lower or pin is None or not pin.loss:
            return None
        return self._earlier.complaint(pin)

    def resume_hint(self) -> str | None:
        """One sentence about what an earlier attempt left and how to go on; None if nothing."""
        return None if self._earlier is None else self._earlier.hint(self.directory)

    def list(self) -> list[Checkpoint]:
        """Every complete checkpoint, newest first; files are not read, only manifests."""
        return self._folder.checkpoints()

    def save(
        self,
        state: Mapping[str, Any],
        *,
        step: int,
        update: int = 0,
        wait: bool = False,
        loss: LossLevel | None = None,
    ) -> Checkpoint | None:
        """Save a state if all its numbers are finite.

        The states of the global random generators are saved too; reading them moves none.

        Args:
            state: Name to module, optimizer, scheduler, scaler, anything else with
                `state_dict()`, random generator, or plain values.
            update: The update it belongs to; only later updates can prove it good.
            wait: Asynchronous only: wait for saves in flight first.

        Returns:
            The checkpoint, durable; with `finite=False` and nothing written if the state is
            not finite. None if it is being looked at and written in the background (see
            `finished`).

        Raises:
            CheckpointError: If something in the state cannot be kept, the disk refuses, or of
                several processes one holds it whole and another one shards of it; earlier
                checkpoints are untouched.
        """
        self._own_process()
        call = CollectiveCheck(self.directory, "save", step)
        if is_sharded(state):
            from watchstep.checkpoint.shards import save_together

            ranks = self._ranks = call.sharded(self._ranks)
            draft = self._draft(step, update, SHARDED_SUFFIX, loss)
            return self._concluded(
                lambda: save_together(state, draft, self._folder, ranks), leads=ranks.leads
            )
        call.whole()
        if wait:
            self.flush()
        if is_of_arrays(state):
            arrays = copied_arrays(state)
            return self._write(
                self._draft(step, update, ARRAYS_SUFFIX, loss),
                lambda stream: write_arrays(stream, arrays, step=step, update=update),
                lambda: inspect_arrays(arrays, self._exempt),
            )
        from watchstep.checkpoint import finite, plain

        content = {name: plain.plain(value, name) for name, value in state.items()}
        whole = {"step": step, "update": update, "state": content, "rng": plain.rng_state()}
        draft = self._draft(step, update, SUFFIX, loss)
        if self._asynchronous:
            # Also the look at the numbers is the thread's: it reads the copy, whose bytes are
            # the ones that are written.
            whole = self._background.copied(whole)
        return self._write(
            draft,
            lambda stream: plain.save_into(stream, whole),
            lambda: finite.inspect(whole["state"], self._exempt),
        )

    def _write(
        self,
        draft: Checkpoint,
        fill: Callable[[HashedFile], object],
        look: Callable[[], Finiteness],
    ) -> Checkpoint | None:
        """Write what was copied: at once, or in the background."""

        def write_now() -> Checkpoint:
            return self._concluded(lambda: self._folder.write(fill, lambda: draft.judged(look())))

        def write() -> None:
            try:
                checkpoint = write_now()
            except Exception as error:
                self.failures += 1
                self.last_error = error
                return
            with self._lock:
                self._finished.append(checkpoint)

        if not self._asynchronous:
            return write_now()
        self._background.write(write)
        return None

    def _concluded(self, write: Callable[[], Checkpoint], *, leads: bool = True) -> Checkpoint:
        """Write, and remember what became of it."""
        try:
            checkpoint = write()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise CheckpointError(f"{self.directory}: not saved: {reason}") from error
        if not checkpoint.finite:
            self.refused += 1
        elif leads:
            with self._lock:
                if checkpoint.suspect or self._alert_open:
                    self._folder.suspect(checkpoint)
                else:
                    self._pending.append(_Pending(checkpoint, self._is_risen(checkpoint)))
                self._prune()
        return checkpoint

    def _draft(self, step: int, update: int, suffix: str, loss: LossLevel | None) -> Checkpoint:
        """What is known of a checkpoint before anybody has looked at its numbers."""
        return Checkpoint(
            path=self.directory / f"step-{step:012d}-{secrets.token_hex(4)}{suffix}",
            step=step,
            update=update,
            created=time.time(),
            suspect=self._alert_open,
            unchecked=self._exempt,
            attempt=self._attempt,
            loss=loss,
        )

    def observe(
        self, *, healthy: bool, update: int, settled: bool = True, first_bad: int | None = None
    ) -> Checkpoint | None:
        """Tell what an update showed of the state that was saved before it; may move the pin.

        A checkpoint saved while an alert is open or pending, or before one opens that it was not
        yet proven against, is never pinned: its numbers are finite, but may be spoilt already.

        Args:
            healthy: Whether no alert is open after this update.
            update: Number of the update; calls must come in order.
            settled: Whether none is pending either. Until it is known what becomes of it,
                nothing is proven.
            first_bad: Where a critical alert has begun, the update from which on it is bad: what
                was saved from then on is no good, and the pin goes back before it if it can.

        Returns:
            The newly pinned checkpoint, or None if the pin stays.
        """
        self._own_process()
        with self._lock:
            self._alert_open = not (healthy and settled)
            if not healthy:
                for candidate in self._pending:
                    self._folder.suspect(candidate.checkpoint)
                self._pending.clear()
                return None if first_bad is None else self._retreat(first_bad)
            if not settled:
                return None
            for candidate in self._pending:
                candidate.healthy_updates += update > candidate.checkpoint.update
            return self._advance_pin()

    def restore(
        self,
        targets: Mapping[str, Any],
        *,
        step: int | None = None,
        rng: bool = False,
        unproven: bool = False,
        own: bool = False,
    ) -> Checkpoint:
        """Load the newest intact, complete, finite and good checkpoint into live objects.

        Good is the pin, then what is older than it and never was under an alert. Without a
        pin it is the newest that never was. Bad files met on the way are set aside in
        `quarantine/`, not deleted. Nothing in a file is executed.

        Args:
            targets: Name to object, as for `save`; a part of what was saved may be asked for.
                What cannot be changed in place, such as JAX's arrays, is replaced in this
                mapping, which must then be one that can be written to.
                Sharded ones also take what was saved whole: each process reads all of it.
            step: Only checkpoints of this step, good or not.
            rng: Whether to put the global random generators back too.
            unproven: Whether checkpoints newer than the pin count, unless under an alert:
                right after a crash that no rule foretold.
            own: Whether only this attempt's count, and those that it was restored from: what an
                earlier one left is no way back for one that began anew.

        Raises:
            CheckpointError: If there is none, or it does not fit; no target was changed then.
        """
        self._own_process()
        candidates = self._candidates(step, unproven=unproven, own=own)
        self._restores += 1
        call = CollectiveCheck(self.directory, "restore", self._restores)
        ranks: Ranks | None = None
        passed: list[PassedOver] = []
        try:
            if is_sharded(targets):
                from watchstep.checkpoint.shards import restore_together

                ranks = self._ranks = call.sharded(self._ranks)
                restored = restore_together(targets, candidates, ranks, passed, rng=rng)
            else:
                call.whole()
                restored = _restore_alone(targets, candidates, passed, rng=rng)
        finally:
            for candidate, _, damaged in passed:
                if damaged and (ranks is None or ranks.leads):
                    self._set_aside(candidate)
        if restored is None:
            raise CheckpointError(self._folder.why_none(step, [reason for _, reason, _ in passed]))
        if self._earlier is not None and restored.attempt != self._attempt:
            self._earlier.is_resumed |= restored.serial >= self._earlier.reference.serial
        return restored

    def finished(self) -> Sequence[Checkpoint]:
        """What became of saves in the background since the last call: durable, or refused."""
        with self._lock:
            finished, self._finished = self._finished, []
        return finished

    @property
    def passed_over(self) -> int:
        return self._background.passed_over

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait for the save in flight and one that waits; returns whether none is left."""
        return self._background.flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> bool:
        """As `flush`, and release the buffers; saving again is allowed."""
        flushed = self.flush(timeout_s)
        if flushed:
            self._background.release()
        return flushed

    def _own_process(self) -> None:
        """In a forked child: leave to the parent what is the parent's."""
        if os.getpid() == self._process:
            return
        self._process = os.getpid()
        # A thread that is not here may hold the lock there was, and the writer is not here.
        self._lock = threading.RLock()
        self._background, self._ranks = BackgroundWriter(), None
        self._pending, self._finished = [], []

    def _prune(self) -> None:
        # The oldest candidate is the next pin: were it pruned whenever saves come faster
        # than proofs, there would never be one.
        names = {c.checkpoint.path.name: c.is_risen for c in self._pending}
        risen = {name for name, is_risen in names.items() if is_risen}
        protected = set([name for name in names if name not in risen][:1])
        apart = set() if self._earlier is None else self._earlier.names
        with contextlib.suppress(OSError):
            self._folder.prune(self._keep, protected, apart, risen)
        self._pending = [c for c in self._pending if c.checkpoint.path.exists()]

    def _advance_pin(self) -> Checkpoint | None:
        proven = [c for c in self._pending if c.healthy_updates >= self._good_after]
        good = [c for c in proven if not c.is_risen]
        for candidate in reversed(good):
            serial = candidate.checkpoint.serial
            self._pending = [c for c in self._pending if c.checkpoint.serial > serial]
            if self._earlier is not None and self._earlier.is_surpassed(candidate.checkpoint):
                self._earlier = None
            if (pinned := self._pin(candidate.checkpoint)) is not None:
                return pinned
        return None

    def _pin(self, checkpoint: Checkpoint) -> Checkpoint | None:
        best = "" if self._earlier is None else self._earlier.reference.path.name
        try:
            return self._folder.pin(checkpoint, best)
        except OSError as error:
            # Another process may have pruned it; anything else is worth knowing.
            if error.errno != errno.ENOENT:
                self.failures += 1
                self.last_error = error
        return None

    def _retreat(self, first_bad: int) -> Checkpoint | None:
        """Mark what was saved from an update on, and pin the newest from before it."""
        ours = [c for c in self._folder.checkpoints() if c.attempt == self._attempt]
        for checkpoint in ours:
            if checkpoint.update >= first_bad:
                self._folder.suspect(checkpoint)
        pin = self._folder.pinned(self._attempt)
        before = [c for c in ours if c.update < first_bad and not c.suspect]
        if pin is None or pin.update < first_bad:
            return None
        if not before:
            self._folder.suspect(pin)
            return None
        return self._pin(before[0])

    def _is_risen(self, checkpoint: Checkpoint) -> bool:
        """Whether the loss is above what it was shortly before; it is remembered for the next."""
        loss, update = checkpoint.loss, checkpoint.update
        if loss is None:
            return False
        near = [pair for pair in self._losses if pair[0] >= update - RISE_UPDATES]
        near = near or self._losses[-1:]
        self._losses = [*near, (update, loss)]
        return any(loss.is_risen_from(before) for _, before in near)

    def _candidates(self, step: int | None, *, unproven: bool, own: bool) -> Sequence[Checkpoint]:
        if step is not None:
            return [c for c in self._folder.checkpoints() if c.step == step]
        ours = self._folder.good(self._attempt, unproven=unproven)
        if own and (self._earlier is None or not self._earlier.is_resumed):
            return ours
        everything = self._folder.good(unproven=unproven)
        if self._folder.pinned(self._attempt) is None:
            return everything
        return [*ours, *(c for c in everything if c not in ours)]

    def _set_aside(self, candidate: Checkpoint) -> None:
        name = candidate.path.name
        there = [p for p in (candidate.path, self.directory / name) if p.exists()]
        for path in dict.fromkeys(there):
            self._folder.quarantine(path)
        self.quarantined += bool(there)


@dataclasses.dataclass(slots=True)
class _Pending:
    """A checkpoint waiting to be proven good."""

    checkpoint: Checkpoint
    is_risen: bool
    healthy_updates: int = 0


def _restore_alone(
    targets: Mapping[str, Any],
    candidates: Sequence[Checkpoint],
    passed: list[PassedOver],
    *,
    rng: bool,
) -> Checkpoint | None:
    """As `restore_together`, where no other process has a part."""
    for candidate in candidates:
        try:
            _, content = read_kept(candidate.path)
        except OSError as error:
            # Says nothing about the file's bytes: it may have been pruned meanwhile.
            reason = f"{candidate.path}: cannot be read: {error.strerror or error}"
            passed.append((candidate, reason, False))
            continue
        except CheckpointError as error:
            passed.append((candidate, str(error), True))
            continue
        if candidate.path.name.endswith(ARRAYS_SUFFIX):
            refilled(targets, content["state"])
            return candidate
        from watchstep.checkpoint.plain import set_rng_state
        from watchstep.checkpoint.targets import load_all

        load_all(targets, content["state"])
        if rng:
            set_rng_state(content["rng"])
        return candidate
    return None
