"""What a verdict leads to: a skip, a halt, a way back, alone or with the other processes."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from watchstep.core.updates import Action, Verdict
from watchstep.errors import CheckpointError, TrainingHalted
from watchstep.hook.context import Context
from watchstep.hook.run_end import RunEnd
from watchstep.hook.watch_checkpoints import WatchCheckpoints

if TYPE_CHECKING:
    from watchstep.checkpoint import Checkpoint
    from watchstep.guard import Agreement, Guard

_HEALTHY = Verdict()
_MOST_COMMANDS = 16
_EVERYWHERE = frozenset({"train/grad_norm", "guard/nonfinite_gradients"})
"""What the guard itself measures of a step."""


class VerdictActions:
    """Acts on verdicts about updates and about optimizer steps.

    Attributes:
        guards: The optimizers that are judged, in order.
        rollbacks: How often the pin was restored.
        checkpoints: Those that are saved and restored.
        ranks: The other processes of a distributed training.
        commands: What people ask of the run through the service, until the next update.
    """

    def __init__(self, context: Context, checkpoints: WatchCheckpoints, run_end: RunEnd) -> None:
        self.guards: list[Guard] = []
        self.rollbacks = 0
        self._options, self._stream, self.ranks, self._boundary = context
        self.checkpoints = checkpoints
        self.commands: deque[Mapping[str, Any]] = deque(maxlen=_MOST_COMMANDS)
        self._run_end = run_end
        self._agreement: Agreement | None = None
        self._vote: Verdict | None = None
        self._rolled_back = False

    def guard(self, optimizer: Any, choices: Mapping[str, Any]) -> Guard:
        from watchstep.guard import Guard, agreement_of

        name = str(choices.get("name") or f"optimizer{len(self.guards)}")
        choices = {**choices, "name": name}
        agreement = agreement_of(choices.pop("group", None), optimizer)
        if agreement is not None:
            self._agreement = agreement
        if self._options.on_critical == "alert":
            # Nobody asked for a halt: a run that skips without end is told by SkipsWithoutEnd.
            choices.setdefault("skip_budget", None)
        guard = Guard(
            optimizer,
            lambda readings: self.on_step(name, readings, agreement),
            demanded=self._demanded,
            on_halt=self._halted_by_guard,
            agreement=agreement,
            **choices,
        )
        # One that guarded the same optimizer before is detached by now.
        self.guards = [other for other in self.guards if other.optimizer is not guard.optimizer]
        self.guards.append(guard)
        self._run_end.let_go += [guard.detach, self.ranks.follow(guard.optimizer)]
        return guard

    def note(self, readings: Mapping[str, Any]) -> None:
        for name, value in readings.items():
            number = float(value)
            for guard in self.guards:
                guard.note(name, number)

    def readings(self) -> dict[str, float]:
        if len(self.guards) == 1:
            return self.guards[0].readings()
        from watchstep.guard import merged

        parts = [guard.readings() for guard in self.guards]
        return merged(parts, [guard.weight_norm for guard in self.guards])

    def on_update(self, verdict: Verdict) -> Verdict:
        """Act on the verdict about an update; what was done is in the verdict returned."""
        if verdict.action < Action.HALT:
            self._rolled_back = False
            return verdict
        if self._rolled_back:
            self._rolled_back = False
            # What this update shows was done before the rollback that it has already led to.
            return dataclasses.replace(verdict, action=Action.ROLLBACK)
        verdict = self.together(verdict)
        self._rolled_back = False
        return verdict

    def on_step(
        self, guard: str, readings: Mapping[str, float], agreement: Agreement | None = None
    ) -> Verdict:
        """Judge one optimizer step, and act on it, on a guard's behalf."""
        if self._stream.ended:
            return _HEALTHY
        with self._stream.lock:
            verdict = self._stream.judgement.optimizer_step(guard, readings, time.time())
            vote, self._vote = self._vote, None
        if vote is not None and vote.action > verdict.action:
            verdict = vote
        if agreement is not None:
            verdict = agreement.verdict(verdict)
        if verdict.action < Action.SKIP:
            return verdict
        reason = ": ".join(part for part in (", ".join(verdict.rules), verdict.reason) if part)
        with self._stream.lock:
            if verdict.action >= Action.HALT and self._rolled_back:
                # The rest of a poisoned rollout: one rollback an update is enough.
                verdict = dataclasses.replace(verdict, action=Action.SKIP)
            if verdict.action is Action.SKIP:
                # Its readings are in the update that `log` makes of this step: one step is one
                # update, for windows and for whatever is missing.
                self._stream.events.skipped(reason)
                return verdict
            event = {"kind": "guard", "verdict": self._options.on_critical, "reason": reason}
            event["rule"] = next(iter(verdict.rules), "")
            # Gradients are the same in all processes; what was noted is this one's own.
            is_own = agreement is None and not _EVERYWHERE.issuperset(readings)
            if is_own and self.ranks.request(verdict):
                self._stream.events.skipped(reason)
                return dataclasses.replace(verdict, action=Action.SKIP)
            return self.act(verdict, readings, event)

    def save(self, state: Mapping[str, Any], step: int) -> Checkpoint | None:
        saved = self.checkpoints.save(state, step)
        if saved is not None and not saved.finite:
            with self._stream.lock:
                self.on_refused(saved)
        return saved

    def on_refused(self, refused: Checkpoint) -> None:
        """Tell of a state that is not finite, and act on what the rules say to it."""
        verdict = self.checkpoints.tell_refused(refused)
        if verdict.action >= Action.HALT:
            self.together(verdict)

    def together(self, verdict: Verdict) -> Verdict:
        """Act on a verdict, or bring it to all processes, which act on it together.

        A process that stopped by itself would leave the others waiting for it in their next
        collective. Where they vote on each optimizer step, the next vote decides.
        """
        if self._agreement is not None and self._agreement.open:
            self._vote = verdict
            return verdict
        return verdict if self.ranks.request(verdict) else self.act(verdict)

    def act_if_due(self) -> None:
        """In `log`: act on what all processes have agreed to do at this call, if anything."""
        verdict = self.ranks.due(guarded=False)
        if verdict.action >= Action.HALT:
            self.act(verdict)

    def _demanded(self) -> Verdict:
        """The same before the step of an optimizer, which is skipped after a rollback."""
        verdict = self.ranks.due(guarded=True)
        if verdict.action < Action.HALT:
            return verdict
        with self._stream.lock:
            return self.act(verdict)

    def receive(self, command: Mapping[str, Any]) -> None:
        if self._options.obey_commands and command.get("kind") in ("halt", "checkpoint"):
            self.commands.append(command)

    def obey(self) -> None:
        """Carry out the commands that wait: a halt at once, or together with all processes."""
        while self.commands:
            command = self.commands.popleft()
            kind, reason = str(command["kind"]), str(command.get("reason") or "no reason given")
            event = {"kind": "command", "id": str(command.get("id", "")), "command": kind}
            self._stream.put({}, event)
            if kind == "halt":
                firing = self._stream.judgement.firing()
                self.together(Verdict(Action.HALT, (), f"halted by command: {reason}", firing))
            elif self.checkpoints.targets is not None and self.checkpoints.wanted:
                self.save(self.checkpoints.targets, self._stream.step)

    def act(
        self,
        verdict: Verdict,
        readings: Mapping[str, float] | None = None,
        event: Mapping[str, Any] | None = None,
    ) -> Verdict:
        """Roll back, where that is asked for and can be, else halt; a person's halt is a halt.

        Args:
            verdict: HALT or ROLLBACK.
            readings: Of a step that no `log` will speak of where this halts.

        Raises:
            TrainingHalted: It cannot be, or a halt is asked for.
        """
        requests = (verdict.action, self._options.on_critical)
        may_go_back = bool(verdict.rules) and (
            Action.ROLLBACK in requests or "rollback" in requests
        )
        if may_go_back and self._roll_back(verdict):
            return dataclasses.replace(verdict, action=Action.ROLLBACK)
        if event is not None:
            self._stream.put(dict(readings or {}), event)
        raise self._run_end.halted(verdict)

    def _halted_by_guard(self, verdict: Verdict) -> TrainingHalted:
        with self._stream.lock:
            return self._run_end.halted(verdict)

    def _roll_back(self, verdict: Verdict) -> bool:
        """Restore the pin; False where that cannot be, and a halt is all that is left."""
        if self.checkpoints.targets is None or self.rollbacks >= self._options.max_rollbacks:
            return False
        from watchstep.guard import factor_of, set_factor

        self.rollbacks += 1
        # A restore brings back the factor that the checkpoint was saved under.
        factors = [(guard.optimizer, factor_of(guard.optimizer)) for guard in self.guards]
        try:
            restored = self.checkpoints.restore(None, None, own=True)
        except CheckpointError as error:
            self._boundary.count(error)
            return False
        self._rolled_back = True
        self._stream.judgement.forget_steps()
        if self._options.rollback_lr_factor != 1.0:
            for optimizer, before in factors:
                set_factor(optimizer, before * self._options.rollback_lr_factor)
        reason = f"rolled back to the checkpoint of step {restored.step}: {verdict.reason}"
        self._stream.put({}, {"kind": "guard", "verdict": "rollback", "reason": reason})
        return True
