"""The checkpoints of one watch."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from watchstep.boundary import text_of
from watchstep.core.updates import Verdict
from watchstep.errors import CheckpointError, warn
from watchstep.hook.context import Context
from watchstep.hook.events import checkpoint_event

if TYPE_CHECKING:
    from watchstep.checkpoint import Checkpoint, CheckpointKeeper


class WatchCheckpoints:
    """Saves and restores for a watch, and tells its stream what became of it.

    Attributes:
        targets: What was saved last, which is where a restore goes by default.
        writes: Whether this process writes checkpoints that every process could write.
    """

    def __init__(self, context: Context, *, writes: bool) -> None:
        self.targets: Mapping[str, Any] | None = None
        self.writes = writes
        self._options, self._stream, self._ranks, self._boundary = context
        self._keeper: CheckpointKeeper | None = None
        self._failures = 0
        self._unsaved: int | None = None
        self._complained = self._said_passed_over = False
        self._refused: list[Checkpoint] = []

    @property
    def wanted(self) -> bool:
        return self._options.checkpoints is not None

    @property
    def keeper(self) -> CheckpointKeeper:
        """The keeper, made when it is first needed: it needs torch.

        Raises:
            CheckpointError: Without a folder.
        """
        if self._keeper is None:
            if self._options.checkpoints is None:
                raise CheckpointError("no folder of checkpoints was given to init(checkpoints=...)")
            from watchstep.checkpoint import CheckpointKeeper

            self._keeper = CheckpointKeeper(
                self._options.checkpoints,
                keep=self._options.keep,
                good_after=self._options.good_after,
                asynchronous=self._options.async_checkpoints,
                attempt=self._ranks.shared("attempt", secrets.token_hex(4)),
            )
        return self._keeper

    @property
    def pinned(self) -> Checkpoint | None:
        """The pin; None before anything was saved or restored."""
        return None if self._keeper is None else self._keeper.pinned

    def save(self, state: Mapping[str, Any], step: int) -> Checkpoint | None:
        from watchstep.checkpoint import CollectiveCheck, is_of_arrays, is_sharded

        # A loop on JAX's arrays has them in variables of its own, which nobody else can replace.
        self.targets = None if is_of_arrays(state) else state
        if not self.writes and not is_sharded(state):
            assert self._options.checkpoints is not None
            CollectiveCheck(self._options.checkpoints, "save", step).whole()
            return None
        from watchstep.checkpoint.record import LossLevel

        level = self._boundary.survive(self._stream.judgement.loss_level)
        loss = None if level is None else LossLevel(*level)
        try:
            saved = self.keeper.save(state, step=step, update=self._stream.seq, loss=loss)
        except Exception as error:
            self._failed(error)
            raise
        if saved is not None:
            self._saved()
            if saved.finite:
                self._stream.events.checkpoint(saved)
        return saved

    def _failed(self, error: Exception) -> None:
        """The next updates say how many saves in a row have failed, and the first says why."""
        self._unsaved = (self._unsaved or 0) + 1
        why = f"a checkpoint was not saved: {type(error).__name__}: {text_of(error.__str__)}"
        self._stream.events.captured.hear("error", why)

    def _saved(self) -> None:
        if self._unsaved is not None:
            self._unsaved = 0

    def readings(self) -> Mapping[str, float]:
        """What is worth a reading, each from the first such on.

        `checkpoint/failed`: saves in a row that failed; `checkpoint/passed_over`: saves in all
        that a newer one took the place of before they were written.
        """
        readings = {} if self._unsaved is None else {"checkpoint/failed": float(self._unsaved)}
        passed_over = 0 if self._keeper is None else self._keeper.passed_over
        return readings | ({"checkpoint/passed_over": float(passed_over)} if passed_over else {})

    def restore(
        self, targets: Mapping[str, Any] | None, step: int | None, *, own: bool = False
    ) -> Checkpoint:
        targets = self.targets if targets is None else targets
        if targets is None:
            raise CheckpointError("restore() needs targets: nothing was saved by this watch yet")
        try:
            return self.keeper.restore(targets, step=step, own=own)
        except CheckpointError:
            raise
        except Exception as error:
            # Whoever has no way back must be able to catch that by one name.
            reason = text_of(error.__str__)
            raise CheckpointError(f"cannot restore: {type(error).__name__}: {reason}") from error

    def resume_hint(self) -> str | None:
        """What an earlier start left in the folder and how to go on, in one sentence, or None."""
        folder = self._options.checkpoints
        # A keeper makes its folder, which nobody has asked for yet.
        return self.keeper.resume_hint() if folder is not None and folder.is_dir() else None

    def observe(self) -> None:
        """After an update: move the pin if it may move, and tell what became durable."""
        if self._keeper is None:
            return
        judgement = self._stream.judgement
        pinned = self._keeper.observe(
            healthy=not judgement.open_alerts(),
            settled=judgement.is_settled(),
            update=self._stream.seq,
            first_bad=judgement.take_first_bad(),
        )
        # Saves in the background that were refused are an update of their own.
        self._refused.extend(self.finished())
        if pinned is not None:
            self._stream.events.checkpoint(self._keeper.pinned or pinned)
            hint = None if self._complained else self._keeper.forgotten_hint()
            if hint is not None:
                self._complained = True
                self._stream.alert(hint)

    def event_of_update(self) -> Mapping[str, Any] | None:
        """As `observe`; what the update itself can tell of it."""
        self.observe()
        return self._stream.events.next_checkpoint()

    def take_refused(self) -> Sequence[Checkpoint]:
        refused, self._refused = self._refused, []
        return refused

    def finished(self) -> Sequence[Checkpoint]:
        """Tell what became of saves in the background; returns those that were refused."""
        if self._keeper is None:
            return ()
        finished = self._keeper.finished()
        if finished:
            self._saved()
        if self._keeper.passed_over and not self._said_passed_over:
            self._said_passed_over = True
            warn(
                "watchstep passes over saves that come faster than they are written, and keeps"
                " the newest (reading checkpoint/passed_over); save less often to keep each",
            )
        for saved in finished:
            if saved.finite:
                self._stream.events.checkpoint(saved)
        if self._keeper.failures > self._failures and self._keeper.last_error is not None:
            self._failures = self._keeper.failures
            self._boundary.count(self._keeper.last_error)
            self._failed(self._keeper.last_error)
        return [saved for saved in finished if not saved.finite]

    def tell_refused(self, refused: Checkpoint) -> Verdict:
        """Tell of a state that is not finite; what the rules make of it."""
        readings = {"checkpoint/nonfinite_tensors": float(max(refused.bad_tensors, 1))}
        return self._stream.put(readings, checkpoint_event(refused), refused.step)

    def flush(self, timeout_s: float) -> bool:
        return self._keeper is None or self._keeper.flush(timeout_s)
