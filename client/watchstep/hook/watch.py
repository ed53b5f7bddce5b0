"""`Watch`: what a training loop talks to."""

from __future__ import annotations

import atexit
import dataclasses
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from watchstep.core.engine import RuleSet
from watchstep.core.updates import Action, Transition, Update, Verdict
from watchstep.errors import CheckpointError, TrainingHalted
from watchstep.hook import texts
from watchstep.hook.events import PendingEvents, checkpoint_event
from watchstep.hook.judgement import Judgement
from watchstep.hook.options import Options
from watchstep.hook.process import is_reporting_rank, on_fork, pending_exception
from watchstep.hook.readings import Coercer, DeviceReadings

if TYPE_CHECKING:
    from watchstep.checkpoint import Checkpoint, CheckpointKeeper
    from watchstep.guard import Agreement, Guard
    from watchstep.sender import Outbound

P = ParamSpec("P")
R = TypeVar("R")

_HEALTHY = Verdict()
MOST_UPDATES_BEHIND = 2
"""Updates whose device readings may be under way before the oldest is waited for."""


class Watch:
    """One watched run. Made by `watchstep.init`; a context manager that ends with `finish`.

    Apart from `TrainingHalted`, which the user asks for, and `CheckpointError` from `restore`,
    no method raises: what fails inside is counted in `errors` and warned of once per kind. All
    methods may be called from any thread; in a forked child they do nothing.

    Attributes:
        run: The run's name.
        errors: What failed inside, by kind of exception.
        last_verdict: Of the last `log`.
    """

    def __init__(self, options: Options, rules: RuleSet) -> None:
        self.options = options
        self.run = options.run
        self.errors: dict[str, int] = {}
        self.last_verdict = _HEALTHY
        self.transitions: deque[Transition] = deque(maxlen=256)
        self._disabled = options.mode == "disabled"
        most = Action.SKIP if options.on_critical == "alert" else Action.ROLLBACK
        self._judgement = Judgement(rules, most=most)
        self._coercer = Coercer()
        self._lock = threading.RLock()
        self._guards: list[Guard] = []
        self._agreement: Agreement | None = None
        self._vote: Verdict | None = None
        self._pending: deque[tuple[dict[str, float], DeviceReadings | None, int]] = deque()
        self._seq = 0
        self._step = 0
        self._rollbacks = 0
        self._rolled_back = False
        self._targets: Mapping[str, Any] | None = None
        self._command: Mapping[str, Any] | None = None
        self._events = PendingEvents()
        self._outbound: Outbound | None = None
        self._keeper: CheckpointKeeper | None = None
        self._ended = False
        if not self._disabled:
            self._survive(self._begin)

    def _begin(self) -> None:
        on_fork(self._disable)
        if self.options.capture_text:
            texts.listen(self._events.overheard)
        if is_reporting_rank():
            from watchstep.sender import Outbound, OutboundConfig

            options = self.options
            config = OutboundConfig(
                run=options.run,
                url=options.url,
                token=options.token,
                project=options.project,
                tags=options.tags,
                config=options.config,
                trainer=options.trainer,
                directory=options.directory,
                mode="offline" if options.mode == "offline" else "online",
                exit_s=options.exit_s,
            )
            self._outbound = Outbound(config, on_command=self._on_command)
        atexit.register(self._at_exit)

    # What a training loop calls

    def log(
        self,
        metrics: Mapping[str, Any] | None = None,
        step: int | None = None,
        *,
        event: Mapping[str, Any] | None = None,
    ) -> Verdict:
        """Judge one update and send it on its way.

        Args:
            metrics: Name to number: int, float, or a tensor or array of one element. Device
                tensors are read without synchronisation and judged one or two updates later.
            step: The trainer's own step counter; default: one more than the last.
            event: A mapping with a "kind" (see `watchstep.core.updates.EVENT_KINDS`).

        Returns:
            What the rules make of it, and what was done: `action` is never stronger than
            `on_critical` allows.

        Raises:
            TrainingHalted: A rule or a person demands a halt, and the user asked for halts.
        """
        if self._disabled:
            return _HEALTHY
        verdict = self._survive(self._log, metrics or {}, step, event)
        return verdict if verdict is not None else _HEALTHY

    def guard(self, optimizer: Any, **choices: Any) -> Guard | None:
        """Judge the gradients of an optimizer before each `step()` touches anything.

        Args:
            optimizer: A torch optimizer.
            choices: `skip_budget`, `strict`, `name`, `slow_every` of `watchstep.guard.Guard`;
                and `group`: a torch.distributed process group, or True for all processes there
                are, whose worst verdict decides for all of them in the same step. Every process
                of it must guard so. Implies `strict` where there are several.

        Returns:
            The guard, or None where the optimizer cannot be guarded (warned of) or
            watchstep is disabled.
        """
        return None if self._disabled else self._survive(self._guard, optimizer, choices)

    def save(self, state: Mapping[str, Any], step: int | None = None) -> Checkpoint | None:
        """Keep a checkpoint if every number in it is finite. Durable when it returns.

        Args:
            state: Name to module, optimizer, scheduler, scaler, anything with `state_dict()`,
                or plain data that `torch.load(weights_only=True)` takes.
            step: Default: that of the last `log`.

        Returns:
            The checkpoint; with `finite` False if it was refused; None without a folder
            (`checkpoints=`), while one is being written in the background, or when disabled.
        """
        if self._disabled or self.options.checkpoints is None:
            return None
        return self._survive(self._save, state, self._step if step is None else step)

    def restore(
        self, targets: Mapping[str, Any] | None = None, *, step: int | None = None
    ) -> Checkpoint:
        """Load the newest intact, finite and good checkpoint into `targets`, or nothing at all.

        Args:
            targets: As in `save`; default: the state that was saved last.
            step: A certain checkpoint instead of the newest good one.

        Raises:
            CheckpointError: There is none, or it does not fit the targets.
        """
        targets = self._targets if targets is None else targets
        if targets is None:
            raise CheckpointError("restore() needs targets: nothing was saved by this watch yet")
        keeper = self._keep()
        if keeper is None:
            raise CheckpointError("no folder of checkpoints was given to init(checkpoints=...)")
        found: Checkpoint = keeper.restore(targets, step=step)
        with self._lock:
            self._judgement.forget_steps()
            if not self._disabled:
                text = f"restored the checkpoint of step {found.step}"
                self._put({}, {"kind": "log", "level": "info", "text": text})
        return found

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until saves are on disk and updates are acknowledged, or the time is over."""
        keeper = self._keeper
        saved = keeper is None or bool(self._survive(keeper.flush, timeout_s))
        outbound = self._outbound
        return saved and (outbound is None or bool(self._survive(outbound.flush, timeout_s)))

    def finish(self, error: BaseException | None = None) -> None:
        """End the run: `finished`, or `failed` with the error's text. Twice is harmless."""
        if not self._disabled and not self._ended:
            self._survive(self._finish, error)

    def losses(self) -> Mapping[str, int]:
        """Updates and readings that were lost, by reason; empty when none were."""
        lost = dict(self._outbound.losses()) if self._outbound else {}
        return lost | {f"reading refused: {why}": 1 for why in self._coercer.refused}

    @property
    def firing(self) -> tuple[str, ...]:
        """Names of the rules that fire now."""
        return self._judgement.firing()

    @property
    def pinned(self) -> Checkpoint | None:
        """The last checkpoint proven good, safe from retention."""
        return None if self._keeper is None else self._keeper.pinned

    @property
    def keeper(self) -> CheckpointKeeper | None:
        """The checkpoint keeper, or None without `checkpoints=`."""
        return None if self._disabled else self._keep()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        self.finish(error)

    # How it works

    def _log(
        self, metrics: Mapping[str, Any], step: int | None, event: Mapping[str, Any] | None
    ) -> Verdict:
        with self._lock:
            if self._ended:
                return _HEALTHY
            readings, waiting = self._coercer.readings(metrics)
            self._step = self._step + 1 if step is None else int(step)
            if self._coercer.refused:
                self._warn_of_refused()
            if self._guards:
                readings.update(self._guard_readings())
            if waiting and self.options.strict:
                readings.update({name: float(tensor) for name, tensor in waiting.items()})
            elif waiting or self._pending:
                return self._log_later(readings, waiting, event)
            return self._judge(readings, self._step, event)

    def _log_later(
        self, readings: dict[str, float], waiting: Mapping[str, Any], event: Any
    ) -> Verdict:
        """Queue an update behind the device; judge the ones whose numbers have arrived."""
        device = DeviceReadings(waiting) if waiting else None
        self._pending.append((readings, device, self._step))
        verdict = _HEALTHY
        while self._pending:
            numbers, arriving, step = self._pending[0]
            late = len(self._pending) > MOST_UPDATES_BEHIND
            if arriving is not None and not late and not arriving.ready():
                break
            self._pending.popleft()
            if arriving is not None:
                numbers |= arriving.wait()
            verdict = self._judge(numbers, step, event)
        return verdict

    def _judge(
        self, readings: dict[str, float], step: int, event: Mapping[str, Any] | None
    ) -> Verdict:
        verdict = self._put(readings, event or self._events.next(), step)
        self.last_verdict = verdict
        if self._keeper is not None:
            healthy = not self._judgement.open_alerts()
            pinned = self._keeper.observe(healthy=healthy, update=self._seq)
            if pinned is not None:
                self._events.checkpoint(pinned)
        if self._command is not None:
            self._obey()
        rolled_back, self._rolled_back = self._rolled_back, False
        if verdict.action >= Action.HALT and rolled_back:
            # What this update shows was done before the rollback that it has already led to.
            return dataclasses.replace(verdict, action=Action.ROLLBACK)
        if verdict.action >= Action.HALT:
            verdict = self._act_together(verdict)
            self._rolled_back = False
        return verdict

    def _put(
        self,
        readings: Mapping[str, float],
        event: Mapping[str, Any] | None,
        step: int | None = None,
    ) -> Verdict:
        """Give an update its place in the stream, judge it and hand it to the sender."""
        self._seq += 1
        where = self._step if step is None else step
        update = Update(self._seq, where, time.time(), readings, event)
        verdict, transitions = self._judgement.update(update)
        self.transitions.extend(transitions)
        if self._outbound is not None:
            self._outbound.put(update)
        return verdict

    def _act_together(self, verdict: Verdict) -> Verdict:
        """Act on a verdict of `log`, or bring it to the vote on the next optimizer step.

        A process that stopped by itself would leave the others waiting for it in their next
        collective.
        """
        if self._agreement is None or not self._agreement.open:
            return self._act(verdict)
        self._vote = verdict
        return verdict

    def _act(self, verdict: Verdict) -> Verdict:
        wants_rollback = verdict.action is Action.ROLLBACK or self.options.on_critical == "rollback"
        if wants_rollback and self._roll_back(verdict):
            return dataclasses.replace(verdict, action=Action.ROLLBACK)
        raise self._halted(verdict)

    def _halted(self, verdict: Verdict) -> TrainingHalted:
        """Report a halt and wait a moment for it to be heard."""
        rule = verdict.rules[0] if verdict.rules else None
        why = f"{rule}: {verdict.reason}" if rule else verdict.reason
        pin = self.pinned
        event = {"kind": "halted", "rule": rule or "", "reason": why}
        if pin is not None:
            event["checkpoint"] = str(pin.path)
        self._put({}, event)
        self._end()
        text = f"watchstep halted training at step {self._step}: {why}"
        if pin is not None:
            text += f" (good checkpoint: {pin.path.name}, step {pin.step})"
        print(text, file=sys.stderr)  # noqa: T201 - a halt is silent where nobody catches it
        return TrainingHalted(text, rule=rule, update=self._seq)

    def _roll_back(self, verdict: Verdict) -> bool:
        """Restore the pin; False where that cannot be, and a halt is all that is left."""
        if self._targets is None or self._rollbacks >= self.options.max_rollbacks:
            return False
        self._rollbacks += 1
        try:
            found = self._keep_or_raise().restore(self._targets)
        except CheckpointError as error:
            self._count(error)
            return False
        self._rolled_back = True
        self._judgement.forget_steps()
        for guard in self._guards:
            for group in guard.optimizer.param_groups:
                group["lr"] = group["lr"] * self.options.rollback_lr_factor
        reason = f"rolled back to the checkpoint of step {found.step}: {verdict.reason}"
        self._put({}, {"kind": "guard", "verdict": "rollback", "reason": reason})
        return True

    # Guards

    def _guard(self, optimizer: Any, choices: Mapping[str, Any]) -> Guard:
        from watchstep.guard import Guard, agreement_of

        name = str(choices.get("name") or f"optimizer{len(self._guards)}")
        choices = {**choices, "name": name}
        agreement = agreement_of(choices.pop("group", None))
        if agreement is not None:
            # A verdict that comes later comes at another step in each process.
            choices["strict"] = True
            self._agreement = agreement
        guard = Guard(
            optimizer,
            lambda readings: self._judge_step(name, readings, agreement),
            on_rollback=lambda: None,
            **choices,
        )
        self._guards.append(guard)
        return guard

    def _judge_step(
        self, guard: str, readings: Mapping[str, float], agreement: Agreement | None = None
    ) -> Verdict:
        """Judge one optimizer step, on the guard's behalf."""
        if self._disabled or self._ended:
            return _HEALTHY
        with self._lock:
            verdict = self._judgement.optimizer_step(guard, readings, time.time())
            vote, self._vote = self._vote, None
        if vote is not None and vote.action > verdict.action:
            verdict = vote
        if agreement is not None:
            verdict = agreement.verdict(verdict)
        with self._lock:
            if verdict.action >= Action.SKIP:
                told = "skip" if verdict.action is Action.SKIP else self.options.on_critical
                why = f"{', '.join(verdict.rules)}: {verdict.reason}"
                self._put(dict(readings), {"kind": "guard", "verdict": told, "reason": why})
            if verdict.action >= Action.HALT and self._rolled_back:
                # The rest of a poisoned rollout: one rollback an update is enough.
                return dataclasses.replace(verdict, action=Action.SKIP)
            if verdict.action >= Action.HALT:
                return self._act(verdict)
            return verdict

    def _guard_readings(self) -> dict[str, float]:
        from watchstep.guard import merged

        return merged([guard.readings() for guard in self._guards])

    # Checkpoints

    def _keep(self) -> CheckpointKeeper | None:
        if self._keeper is None and self.options.checkpoints is not None:
            from watchstep.checkpoint import CheckpointKeeper

            self._keeper = CheckpointKeeper(
                self.options.checkpoints,
                keep=self.options.keep,
                good_after=self.options.good_after,
                asynchronous=self.options.async_checkpoints,
            )
        return self._keeper

    def _keep_or_raise(self) -> CheckpointKeeper:
        keeper = self._keep()
        if keeper is None:
            raise CheckpointError("no folder of checkpoints")
        return keeper

    def _save(self, state: Mapping[str, Any], step: int) -> Checkpoint | None:
        self._targets = state
        found = self._keep_or_raise().save(state, step=step, update=self._seq)
        if found is None or found.finite:
            if found is not None:
                self._events.checkpoint(found)
            return found
        readings = {"checkpoint/nonfinite_tensors": float(max(found.nonfinite, 1))}
        with self._lock:
            verdict = self._put(readings, checkpoint_event(found), step)
            if verdict.action >= Action.HALT:
                self._act(verdict)
        return found

    # Commands, ends and errors

    def _on_command(self, command: Mapping[str, Any]) -> None:
        """Called by the sender's thread; obeyed at the next `log`."""
        if self.options.obey_commands and command.get("kind") in {"halt", "checkpoint"}:
            self._command = command

    def _obey(self) -> None:
        command, self._command = self._command, None
        if command is None:
            return
        kind, reason = str(command["kind"]), str(command.get("reason") or "no reason given")
        told = {"kind": "command", "id": str(command.get("id", "")), "command": kind}
        self._put({}, told)
        if kind == "halt":
            verdict = Verdict(Action.HALT, (), f"halted by command: {reason}", self.firing)
            raise self._halted(verdict)
        if self._targets is not None and self.options.checkpoints is not None:
            self._save(self._targets, self._step)

    def _finish(self, error: BaseException | None) -> None:
        with self._lock:
            while self._pending:
                numbers, device, step = self._pending.popleft()
                self._put(numbers | (device.wait() if device else {}), None, step)
            while (event := self._events.next()) is not None:
                self._put({}, event)
            if error is None or (isinstance(error, SystemExit) and not error.code):
                self._put({}, {"kind": "finished"})
            elif not isinstance(error, TrainingHalted):
                text = f"{type(error).__name__}: {error}"[:2_000]
                self._put({}, {"kind": "failed", "error": text})
            self._end()

    def _end(self) -> None:
        """Let go of everything; what is unsent stays in the spool."""
        self._ended = True
        texts.stop(self._events.overheard)
        for guard in self._guards:
            guard.detach()
        atexit.unregister(self._at_exit)
        if self._keeper is not None:
            self._survive(self._keeper.flush, self.options.exit_s)
        if self._outbound is not None:
            self._survive(self._outbound.close, self.options.exit_s)

    def _at_exit(self) -> None:
        self.finish(pending_exception())

    def _disable(self) -> None:
        """In a forked child: this run belongs to the parent."""
        self._disabled = True
        self._outbound = None

    def _survive(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """Call our own code on behalf of a training loop that must go on."""
        try:
            return function(*args, **kwargs)
        except TrainingHalted:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary to the training loop
            self._count(error)
            return None

    def _count(self, error: Exception) -> None:
        kind = type(error).__name__
        self.errors[kind] = self.errors.get(kind, 0) + 1
        if self.errors[kind] == 1:
            warnings.warn(f"watchstep goes on after {kind}: {error}", stacklevel=4)

    def _warn_of_refused(self) -> None:
        for why, name in self._coercer.refused.items():
            kind = f"reading refused: {why}"
            self.errors[kind] = self.errors.get(kind, 0) + 1
            if self.errors[kind] == 1:
                warnings.warn(f"watchstep leaves out the metric {name!r}: bad {why}", stacklevel=5)
