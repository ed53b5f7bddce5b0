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
from watchstep.checkpoint.collective_check import CollectiveCheck
from watchstep.checkpoint.durable import (
    HashedFile,
)
from watchstep.checkpoint.earlier import EarlierAttempt
from watchstep.checkpoint.finite import Finiteness, inspect
from watchstep.checkpoint.folder import Folder
from watchstep.checkpoint.plain import plain, rng_state, set_rng_state
from watchstep.checkpoint.publish import publish
from watchstep.checkpoint.ranks import Ranks
from watchstep.checkpoint.reading import read_kept
from watchstep.checkpoint.record import (
    ARRAYS_SUFFIX,
    SHARDED_SUFFIX,
    SUFFIX,
    Checkpoint,
)
from watchstep.checkpoint.sharded_save import restore_together, save_together
from watchstep.checkpoint.shards import is_sharded
from watchstep.checkpoint.snapshot import HostBuffers
from watchstep.checkpoint.targets import load_all
from watchstep.checkpoint.torch_file import save_into
from watchstep.errors import CheckpointError


class CheckpointKeeper:
    """Saves, pins and restores the state of one training run in one directory.

    A save that returned is on the disk, whole and finite; one that was killed leaves earlier
    ones untouched. The newest `keep` are kept, and besides them the pin: the newest finite
    checkpoint after which `good_after` healthy updates were seen with no alert open. Last
    finite is not last good, which is why a save alone never moves the pin.

    What an earlier attempt left in the directory, its pin and the checkpoints next to it, stays
    until this one has a better pin: one of a step as far, or any after it was restored from.

    State without torch (JAX's pytrees, numpy's arrays) is kept as it is, and torch is not needed.

    Several processes may save into one directory without harming each other's files, though
    retention then counts all of them together. State that is sharded over the processes of one
    training (DTensors) is one checkpoint of all of them: each calls `save` and `restore` at the
    same point, on a folder that all see; such a save is never asynchronous.

    Attributes:
        directory: Where the files are.
        refused: States that were not finite and so not saved.
        skipped_saves: Asynchronous saves not begun because one was still in flight.
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
                and a thread writes it: costs the memory of one copy.
            exempt: Glob patterns of dotted tensor names, such as `model.*.mask`, which hold
                infinities on purpose.
            attempt: Alike in all processes of one training; None invents one.
        """
        if keep < 1 or good_after < 1:
            raise ValueError(f"keep and good_after must be at least 1, not {keep}, {good_after}")
        self.directory = Path(directory)
        self.refused = self.skipped_saves = self.failures = self.quarantined = 0
        self.last_error: Exception | None = None
        self._folder = Folder(self.directory)
        self._folder.sweep()
        self._attempt = attempt or secrets.token_hex(4)
        self._earlier = EarlierAttempt.in_folder(self._folder, keep, self._attempt)
        self._keep = keep
        self._good_after = good_after
        self._asynchronous = asynchronous
        self._exempt = tuple(exempt)
        self._buffers = HostBuffers()
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._pending: list[_Pending] = []
        self._alert_open = False
        self._finished: list[Checkpoint] = []
        self._writer: threading.Thread | None = None
        self._ranks: Ranks | None = None
        self._restores = 0

    def __enter__(self) -> CheckpointKeeper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pinned(self) -> Checkpoint | None:
        """The last good checkpoint of this attempt, or else of an earlier one; None without."""
        return self._folder.pinned(self._attempt) or self._folder.pinned()

    def resume_hint(self) -> str | None:
        """One sentence about what an earlier attempt left and how to go on; None if nothing."""
        return None if self._earlier is None else self._earlier.hint(self.directory)

    def list(self) -> list[Checkpoint]:
        """Every complete checkpoint, newest first; files are not read, only manifests."""
        return self._folder.checkpoints()

    def save(
        self, state: Mapping[str, Any], *, step: int, update: int = 0, wait: bool = False
    ) -> Checkpoint | None:
        """Save a state if all its numbers are finite.

        The states of the global random generators are saved too; reading them moves none.

        Args:
            state: Name to module, optimizer, scheduler, scaler, anything else with
                `state_dict()`, random generator, or plain values.
            step: The trainer's own step counter.
            update: The update it belongs to; only later updates can prove it good.
            wait: Asynchronous only: wait for a save in flight instead of skipping this one.

        Returns:
            The checkpoint, durable; with `finite=False` and nothing written if the state is
            not finite. None if it is being looked at and written in the background (see
            `finished`), or was skipped because one is.

        Raises:
            CheckpointError: If something in the state cannot be kept, the disk refuses, or of
                several processes one holds it whole and another one shards of it; earlier
                checkpoints are untouched.
        """
        self._own_process()
        call = CollectiveCheck(self.directory, "save", step)
        if is_sharded(state):
            return self._save_sharded(state, self._draft(step, update, SHARDED_SUFFIX), call)
        call.whole()
        if self._asynchronous and not self._ready_for_another(wait=wait):
            self.skipped_saves += 1
            return None
        if is_of_arrays(state):
            return self._save_arrays(state, self._draft(step, update, ARRAYS_SUFFIX))
        content = {name: plain(value, name) for name, value in state.items()}
        draft = self._draft(step, update, SUFFIX)
        whole = {"step": step, "update": update, "state": content, "rng": rng_state()}
        if self._asynchronous:
            # Also the look at the numbers is the thread's: it reads the copy, whose bytes are
            # the ones that are written.
            whole = self._buffers.copy(whole)
        return self._kept(
            draft,
            lambda stream: save_into(stream, whole),
            lambda: inspect(whole["state"], self._exempt),
        )

    def _save_arrays(self, state: Mapping[str, Any], draft: Checkpoint) -> Checkpoint | None:
        arrays = copied_arrays(state)
        return self._kept(
            draft,
            lambda stream: write_arrays(stream, arrays, step=draft.step, update=draft.update),
            lambda: inspect_arrays(arrays, self._exempt),
        )

    def _kept(
        self,
        draft: Checkpoint,
        fill: Callable[[HashedFile], object],
        inspected: Callable[[], Finiteness],
    ) -> Checkpoint | None:
        """Write what was copied: at once, or in the background."""

        def look() -> Checkpoint:
            finiteness = inspected()
            return dataclasses.replace(
                draft,
                finite=finiteness.bad_tensor is None,
                bad_tensor=finiteness.bad_tensor,
                nonfinite=finiteness.nonfinite,
                tensors=finiteness.tensors,
            )

        if self._asynchronous:
            self._start_writing(fill, look)
            return None
        return self._write(fill, look)

    def _save_sharded(
        self, state: Mapping[str, Any], draft: Checkpoint, call: CollectiveCheck
    ) -> Checkpoint:
        ranks = self._all_ranks(call)
        try:
            checkpoint = save_together(state, draft, self._folder, ranks)
        except OSError as error:
            raise self._not_saved(error) from error
        if not checkpoint.finite:
            self.refused += 1
        elif ranks.leads:
            self._keep_or_suspect(checkpoint)
        return checkpoint

    def _draft(self, step: int, update: int, suffix: str) -> Checkpoint:
        """What is known of a checkpoint before anybody has looked at its numbers."""
        return Checkpoint(
            path=self.directory / f"step-{step:012d}-{secrets.token_hex(4)}{suffix}",
            step=step,
            update=update,
            created=time.time(),
            suspect=self._alert_open,
            unchecked=self._exempt,
            attempt=self._attempt,
        )

    def _all_ranks(self, call: CollectiveCheck) -> Ranks:
        """All processes, once they have come to a save or restore with shards."""
        call.sharded()
        if self._ranks is None:
            call.wait(call.meeting())
            self._ranks = Ranks()
        else:
            call.wait(self._ranks.all_here())
        return self._ranks

    def observe(self, *, healthy: bool, update: int, settled: bool = True) -> Checkpoint | None:
        """Tell what an update showed of the state that was saved before it; may move the pin.

        A checkpoint saved while an alert is open or pending, or before one opens that it was not
        yet proven against, is never pinned: its numbers are finite, but may be spoilt already.

        Args:
            healthy: Whether no alert is open after this update.
            update: Number of the update; calls must come in order.
            settled: Whether none is pending either. Until it is known what becomes of it,
                nothing is proven.

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
                return None
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
        if is_sharded(targets):
            ranks = self._all_ranks(call)
            restored = self._restore_sharded(targets, candidates, ranks, step, rng=rng)
        else:
            call.whole()
            restored = self._restore_whole(targets, candidates, step, rng=rng)
        if self._earlier is not None and restored.attempt != self._attempt:
            self._earlier.restored(restored)
        return restored

    def _restore_whole(
        self,
        targets: Mapping[str, Any],
        candidates: Sequence[Checkpoint],
        step: int | None,
        *,
        rng: bool,
    ) -> Checkpoint:
        reasons: list[str] = []
        for candidate in candidates:
            try:
                _, content = read_kept(candidate.path)
            except OSError as error:
                # Says nothing about the file's bytes: it may have been pruned meanwhile.
                reasons.append(f"{candidate.path}: cannot be read: {error.strerror or error}")
                continue
            except CheckpointError as error:
                reasons.append(str(error))
                self._set_aside(candidate)
                continue
            if candidate.path.name.endswith(ARRAYS_SUFFIX):
                refilled(targets, content["state"])
                return candidate
            load_all(targets, content["state"])
            if rng:
                set_rng_state(content["rng"])
            return candidate
        raise CheckpointError(self._folder.why_none(step, reasons))

    def _restore_sharded(
        self,
        targets: Mapping[str, Any],
        candidates: Sequence[Checkpoint],
        ranks: Ranks,
        step: int | None,
        *,
        rng: bool,
    ) -> Checkpoint:
        restored, passed = restore_together(targets, candidates, ranks, rng=rng)
        for candidate, _, damaged in passed:
            if damaged and ranks.leads:
                self._set_aside(candidate)
        if restored is None:
            raise CheckpointError(self._folder.why_none(step, [reason for _, reason, _ in passed]))
        return restored

    def finished(self) -> Sequence[Checkpoint]:
        """What became of saves in the background since the last call: durable, or refused."""
        with self._lock:
            finished, self._finished = self._finished, []
        return finished

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait for the save in flight; returns whether none is any more."""
        writer = self._writer
        if writer is not None and writer.is_alive():
            writer.join(timeout_s)
        return not self._in_flight()

    def close(self, timeout_s: float | None = None) -> bool:
        """Wait for the save in flight and release its buffers; saving again is allowed."""
        flushed = self.flush(timeout_s)
        if flushed:
            self._buffers = HostBuffers()
        return flushed

    def _own_process(self) -> None:
        """In a forked child: leave to the parent what is the parent's."""
        if os.getpid() == self._process:
            return
        self._process = os.getpid()
        # A thread that is not here may hold the lock there was, and the writer is not here.
        self._lock = threading.RLock()
        self._writer = self._ranks = None
        self._buffers = HostBuffers()
        self._pending, self._finished = [], []

    def _in_flight(self) -> bool:
        # After a fork the thread is not alive in the child, so nothing waits for it there.
        return self._writer is not None and self._writer.is_alive()

    def _ready_for_another(self, *, wait: bool) -> bool:
        if wait:
            self.flush()
        return not self._in_flight()

    def _start_writing(
        self, fill: Callable[[HashedFile], object], look: Callable[[], Checkpoint]
    ) -> None:
        def write() -> None:
            try:
                checkpoint = self._write(fill, look)
            except Exception as error:
                self.failures += 1
                self.last_error = error
                return
            with self._lock:
                self._finished.append(checkpoint)

        self._writer = threading.Thread(target=write, name="watchstep-checkpoint", daemon=True)
        self._writer.start()

    def _write(
        self, fill: Callable[[HashedFile], object], look: Callable[[], Checkpoint]
    ) -> Checkpoint:
        try:
            durable = publish(self._folder, fill, look)
        except OSError as error:
            raise self._not_saved(error) from error
        if durable.finite:
            self._keep_or_suspect(durable)
        else:
            self.refused += 1
        return durable

    def _not_saved(self, error: OSError) -> CheckpointError:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return CheckpointError(f"{self.directory}: not saved: {reason}")

    def _keep_or_suspect(self, durable: Checkpoint) -> None:
        with self._lock:
            if durable.suspect or self._alert_open:
                self._folder.suspect(durable)
            else:
                self._pending.append(_Pending(durable))
        self._prune()

    def _prune(self) -> None:
        with self._lock:
            # The oldest candidate is the next pin: were it pruned whenever saves come faster
            # than proofs, there would never be one.
            protected = {self._pending[0].checkpoint.path.name} if self._pending else set()
            with contextlib.suppress(OSError):
                apart = set() if self._earlier is None else self._earlier.names
                self._folder.prune(self._keep, protected, apart)
            self._pending = [c for c in self._pending if c.checkpoint.path.exists()]

    def _advance_pin(self) -> Checkpoint | None:
        good = [c for c in self._pending if c.healthy_updates >= self._good_after]
        for candidate in reversed(good):
            self._pending = [c for c in self._pending if c.serial > candidate.serial]
            if self._earlier is not None and self._earlier.is_surpassed(candidate.checkpoint):
                self._earlier = None
            try:
                return self._folder.pin(
                    candidate.checkpoint, "" if self._earlier is None else self._earlier.best
                )
            except OSError as error:
                # Another process may have pruned it; anything else is worth knowing.
                if error.errno != errno.ENOENT:
                    self.failures += 1
                    self.last_error = error
        return None

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
    healthy_updates: int = 0

    @property
    def serial(self) -> int:
        return self.checkpoint.serial
