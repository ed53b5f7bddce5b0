"""`Watch`: what a training loop talks to."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from watchstep.boundary import Boundary, text_of
from watchstep.core.engine import RuleSet
from watchstep.core.updates import Action, Verdict
from watchstep.errors import TrainingHalted, say, warn
from watchstep.hook import captured_logs
from watchstep.hook.context import Context
from watchstep.hook.environment import environment
from watchstep.hook.failure import failed_event
from watchstep.hook.judgement import Judgement
from watchstep.hook.options import Options
from watchstep.hook.other_ranks import OtherRanks
from watchstep.hook.process import (
    is_reporting_rank,
    network_file_system,
    on_fork,
    pending_exception,
)
from watchstep.hook.progress import Progress
from watchstep.hook.run_end import RunEnd
from watchstep.hook.service_rules import ServiceRules
from watchstep.hook.stream import Stream
from watchstep.hook.termination import Termination
from watchstep.hook.update_log import UpdateLog
from watchstep.hook.verdict_actions import VerdictActions
from watchstep.hook.watch_checkpoints import WatchCheckpoints
from watchstep.hook.watchdog import Watchdog

if TYPE_CHECKING:
    from watchstep.checkpoint import Checkpoint, CheckpointKeeper
    from watchstep.core.updates import Transition
    from watchstep.guard import Guard, Units

_HEALTHY = Verdict()
_begun: weakref.WeakSet[Watch] = weakref.WeakSet()
_LONGEST_REASON = 64


class Watch:
    """One watched run. Made by `watchstep.init`; a context manager that ends with `finish`.

    Apart from `TrainingHalted`, which the user asks for, and `CheckpointError` from `restore`,
    no method raises: what fails inside is counted in `errors` and warned of once per kind. All
    methods may be called from any thread; in a forked child they do nothing, and a pickled or
    deep-copied watch comes back disabled.

    Attributes:
        run: The run's name.
    """

    def __init__(self, options: Options, rules: RuleSet) -> None:
        self.options = options
        self.run = options.run
        self._disabled = options.mode == "disabled"
        self._boundary = Boundary()
        most = Action.SKIP if options.on_critical == "alert" else Action.ROLLBACK
        reports = is_reporting_rank() if options.report is None else options.report
        self._stream = Stream(Judgement(rules, most=most), terminal=options.terminal)
        self._ranks = OtherRanks(self._boundary)
        context = Context(options, self._stream, self._ranks, self._boundary)
        self._checkpoints = WatchCheckpoints(context, writes=reports)
        self._run_end = RunEnd(context, self._checkpoints)
        self._actions = VerdictActions(context, self._checkpoints, self._run_end)
        self._service_rules = ServiceRules(options, self._boundary)
        self._updates = UpdateLog(context, self._actions, self._service_rules)
        self._progress = Progress(time.monotonic(), first_s=options.first_update_s)
        self._termination = Termination() if options.catch_sigterm else None
        if self._termination is not None:
            self._ranks.on_terminated = self._termination.forward
        self._watchdog = Watchdog(
            self._stream,
            self._progress,
            self._termination,
            self._run_end,
            self._ranks.elsewhere,
        )
        self._logging = False
        if not self._disabled:
            self._boundary.survive(self._begin, reports=reports)

    def _begin(self, *, reports: bool) -> None:
        _begun.add(self)
        on_fork(self._disable)
        if self.options.capture_text:
            captured_logs.listen(self._stream.events.captured)
        self._boundary.survive(self._service_rules.remember)
        if reports:
            self._report()
            hint = self._boundary.survive(self._checkpoints.resume_hint)
            if hint is not None:
                say(hint)
        self._run_end.let_go += [self._watchdog.stop, self._ranks.stop]
        atexit.register(self._at_exit)
        self._run_end.let_go.append(lambda: atexit.unregister(self._at_exit))

    def _report(self) -> None:
        from watchstep.sender import Outbound, OutboundConfig

        options = self.options
        config = OutboundConfig(
            run=options.run,
            url=options.url,
            token=options.token,
            project=options.project,
            tags=options.tags,
            config={"environment": self._boundary.survive(environment) or {}, **options.config},
            trainer=options.trainer,
            directory=options.directory,
            mode="offline" if options.mode == "offline" else "online",
            exit_s=options.exit_s,
            terminal=options.terminal,
        )
        self._stream.outbound = Outbound(
            config, on_command=self._on_command, on_rules=self._service_rules.receive
        )
        if options.system:
            from watchstep.machine.sampler import Sampler

            # The disk that checkpoints go to.
            self._updates.sampler = Sampler(options.checkpoints or Path.cwd(), inside=True)
            self._run_end.let_go.append(self._updates.sampler.stop)
        if options.outside is not None:
            self._stream.outbound.introduce(options.outside, options.checkpoints)
        remote = network_file_system(options.directory)
        if remote is not None:
            warn(
                f"watchstep's spool is on {remote}, which can hold training up where it hangs;"
                " name a local folder by WATCHSTEP_DIR"
            )

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
            metrics: Name to number: anything that `float` takes, or a tensor or array of one
                element. What is on a device is read without synchronisation and judged one or
                two updates later. What is no number is left out; a name that is not
                `[A-Za-z0-9_./:-]{1,128}` is mapped to one; each is warned of once.
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
        begun = time.monotonic_ns()
        self._progress.calls_ns.append(begun)
        verdict = self._boundary.survive(self._log, metrics, step, event)
        self._updates.vitals.took_ns.append(time.monotonic_ns() - begun)
        return verdict if verdict is not None else _HEALTHY

    def guard(self, optimizer: Any, **choices: Any) -> Guard | None:
        """Judge the gradients of an optimizer before each `step()` touches anything.

        Args:
            optimizer: A torch optimizer.
            choices: `skip_budget`, `strict`, `name`, `slow_every` of `watchstep.guard.Guard`,
                where `skip_budget` is None by default if `on_critical` is "alert": nobody asked
                for a halt; and `group`: a torch.distributed process group, or True for all
                processes there are, whose worst verdict decides for all of them in the same
                step. Every process of it must guard so. Implies `strict` where there are several.

        Returns:
            The guard, or None where the optimizer cannot be guarded (warned of) or
            watchstep is disabled.
        """
        if self._disabled:
            return None
        self._boundary.survive(self._start)
        return self._boundary.survive(self._actions.guard, optimizer, choices)

    @contextmanager
    def pause(self, reason: str) -> Iterator[None]:
        """Mark what is no update and may take its time: an evaluation, a save, a compilation.

        Meanwhile nobody is told that no update comes, unless it takes much longer than such a
        phase used to: the first two may take `first_update_s`, later ones ten times their
        median, twice the longest, and two minutes at least.

        Args:
            reason: What it is, such as "evaluating"; one word for one kind of phase.
        """
        if self._disabled:
            yield
            return
        self._boundary.survive(self._enter, reason)
        try:
            yield
        finally:
            self._boundary.survive(self._leave)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Mark a part of a step: the next update has its share of the time as a reading.

        Shares are named `phase/NAME_share`, from 0 to 1 of the time between two updates.
        """
        begun = time.monotonic_ns()
        try:
            yield
        finally:
            took = time.monotonic_ns() - begun
            self._boundary.survive(lambda: self._updates.mark_phase(str(name), took))

    def batch(self, ids: Any) -> None:
        """Say what data the next update trains on.

        Where its step is skipped or its loss is not finite, the update's event has the ids, and
        `is_bad` knows them from then on.

        Args:
            ids: One id, or a list, array or tensor of them.
        """
        if not self._disabled:
            self._boundary.survive(self._updates.batches.begin, ids)

    def is_bad(self, ids: Any) -> bool:
        """Whether any of these ids was in a batch that spoilt a step, in this start or before.

        For a loader that is resumed and should leave them out. Remembered by run, beside the
        spool.
        """
        if self._disabled:
            return False
        return bool(self._boundary.survive(self._updates.batches.is_bad, ids))

    def note(self, readings: Mapping[str, Any]) -> None:
        """Tell every guard what stands in the loss, for its verdict on the next step.

        Args:
            readings: Name to number, such as `standardize_advantages` returns. Read at once: a
                device's tensor costs a synchronisation.
        """
        if not self._disabled:
            self._boundary.survive(self._actions.note, readings)

    def observe(self, model: Any, *, every: int = 50) -> Units | None:
        """Measure now and then which units of a model carry nothing; see `guard.units.Units`.

        Args:
            model: A torch module with `nn.ReLU`, `nn.ReLU6`, `nn.Tanh` or `nn.Sigmoid` in it.
            every: Forward passes between measurements, each of which reads every activation
                once; the update after it has `guard/dead_units` and `guard/saturated_units`.

        Returns:
            What `detach` ends; None where there is nothing to observe (warned of) or
            watchstep is disabled.
        """
        if self._disabled:
            return None
        return self._boundary.survive(self._observe, model, every)

    def save(self, state: Mapping[str, Any], step: int | None = None) -> Checkpoint | None:
        """Keep a checkpoint if every number in it is finite. Durable when it returns.

        In a distributed training every process calls it. State that all of them hold alike is
        written by the reporting process; state that is sharded over them (DTensors, as FSDP2
        makes them) is written by all together, into one checkpoint.

        Args:
            state: Name to module, optimizer, scheduler, scaler, anything with `state_dict()`,
                or plain data that `torch.load(weights_only=True)` takes.
            step: Default: that of the last `log`.

        Returns:
            The checkpoint; with `finite` False if it was refused; None without a folder
            (`checkpoints=`), where it is written in the background, where another
            process writes it, or when disabled.
        """
        if self._disabled or not self._checkpoints.wanted:
            return None
        where = self._stream.step if step is None else step
        with self.pause("saving"):
            return self._boundary.survive(self._actions.save, state, where)

    def restore(
        self, targets: Mapping[str, Any] | None = None, *, step: int | None = None
    ) -> Checkpoint | None:
        """Load the newest intact, finite and good checkpoint into `targets`, or nothing at all.

        Args:
            targets: As in `save`; default: the state that was saved last. Sharded ones may be
                sharded over another number of processes than at the save; each of them calls.
            step: A certain checkpoint instead of the newest good one.

        Returns:
            The checkpoint; None, and nothing done, in the mode "disabled".

        Raises:
            CheckpointError: There is none, or it does not fit the targets; nothing else raises.
        """
        if self.options.mode == "disabled":
            return None
        restored = self._checkpoints.restore(targets, step)
        with self._boundary, self._stream.lock:
            self._stream.judgement.forget_steps()
            if not self._disabled and not self._stream.ended:
                self._stream.tell(f"restored the checkpoint of step {restored.step}")
        return restored

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until saves are on disk and updates are acknowledged, or the time is over.

        Saves in the background are written, the one that waits too.

        Returns:
            Whether all of it was done in time. False where updates are still in the spool alone:
            at once without a service, and at the end of the time where it does not answer.
        """
        deadline = time.monotonic() + timeout_s
        saved = bool(self._boundary.survive(self._checkpoints.flush, timeout_s))
        outbound = self._stream.outbound
        left_s = max(deadline - time.monotonic(), 0.0)
        return saved and (outbound is None or bool(self._boundary.survive(outbound.flush, left_s)))

    def finish(self, error: BaseException | None = None) -> None:
        """End the run: `finished`, or `failed` with the error's text. Twice is harmless.

        Takes `exit_s` at most, whatever the service and the disk do; what is unsent stays in
        the spool. A save in the background has three quarters of it, or all without a service;
        one that is not done by then is abandoned (see `flush`), which a warning and an event
        tell.
        """
        if not self._disabled and not self._stream.ended:
            self._boundary.survive(self._finish, error)
        if not self._disabled and not self._stream.ended:
            self._boundary.survive(self._run_end.close)

    def losses(self) -> Mapping[str, int]:
        """Updates and readings that were lost, by reason; empty when none were."""
        return self._updates.losses()

    @property
    def errors(self) -> Mapping[str, int]:
        """What failed inside, by kind of exception, or "guard NAME"; each was warned of once."""
        return self._updates.errors()

    @property
    def last_verdict(self) -> Verdict:
        """Of the last update that was judged."""
        return self._updates.last_verdict

    @property
    def guards(self) -> Sequence[Guard]:
        """The guards of this watch, in the order of the calls."""
        return self._actions.guards

    @property
    def transitions(self) -> Sequence[Transition]:
        """The newest changes of rules, of this process, oldest first."""
        return self._stream.transitions

    @property
    def ended(self) -> bool:
        """Whether the run is over for this process."""
        return self._stream.ended

    @property
    def firing(self) -> tuple[str, ...]:
        """Names of the rules that fire now."""
        return self._stream.judgement.firing()

    @property
    def pinned(self) -> Checkpoint | None:
        """The last checkpoint proven good, safe from retention."""
        return self._boundary.survive(lambda: self._checkpoints.pinned)

    @property
    def keeper(self) -> CheckpointKeeper | None:
        """The checkpoint keeper, or None without `checkpoints=`."""
        if self._disabled or not self._checkpoints.wanted:
            return None
        return self._boundary.survive(lambda: self._checkpoints.keeper)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        self.finish(error)

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy in another process must not speak for this one.
        return _disabled, (self.run,)

    # How it works

    def _log(self, metrics: Any, step: Any, event: Any) -> Verdict:
        with self._stream.lock:
            if self._stream.ended or self._disabled:
                return _HEALTHY
            if not self._watchdog.started:
                self._boundary.survive(self._start)
            if self._logging:
                raise RuntimeError("log() was called out of log() itself")
            self._logging = True
            try:
                return self._updates.log(metrics, step, event)
            finally:
                self._logging = False

    def _observe(self, model: Any, every: int) -> Units:
        from watchstep.guard import Units

        units = Units(model, every=every, survive=self._boundary.survive)
        self._updates.units.append(units)
        self._run_end.let_go.append(units.detach)
        return units

    def _start(self) -> None:
        """Start the threads that only look; twice is harmless."""
        self._watchdog.start()
        self._ranks.join()
        if self._updates.sampler is not None:
            self._updates.sampler.start()

    def _enter(self, reason: Any) -> None:
        self._start()
        self._progress.enter(text_of(lambda: str(reason))[:_LONGEST_REASON], time.monotonic())

    def _leave(self) -> None:
        self._progress.leave(time.monotonic())

    def _on_command(self, command: Mapping[str, Any]) -> None:
        """Called by the sender's thread; obeyed at the next `log`."""
        self._actions.receive(command)

    def _finish(self, error: BaseException | None) -> None:
        with self._stream.lock:
            self._updates.flush()
            self._run_end.finished(self._last_events(error))
        if self._termination is not None and self._termination.pending:
            self._termination.go_on()

    def _last_events(self, error: BaseException | None) -> list[dict[str, Any]]:
        """What the run's end is told as; nothing after a halt, which was told."""
        if isinstance(error, TrainingHalted):
            return []
        if self._termination is not None:
            if error is not None:
                self._boundary.survive(self._ranks.look_for_signal)
            if self._termination.is_recent():
                return [self._termination.event()]
        if error is None or (isinstance(error, SystemExit) and not error.code):
            return [{"kind": "finished", "hook": self._updates.vital_readings()}]
        if isinstance(error, KeyboardInterrupt):
            return [{"kind": "halted", "rule": "", "reason": "stopped by a person (Ctrl-C)"}]
        return [failed_event(error, self._stream.events.captured.newest)]

    def _at_exit(self) -> None:
        self.finish(pending_exception())

    def _disable(self) -> None:
        """In a forked child: this run belongs to the parent."""
        self._disabled = True
        # A thread that is not here may hold the one there was.
        self._stream.lock = threading.RLock()
        self._stream.outbound = None
        self._stream.ended = True
        if self._termination is not None:
            self._termination.forget_in_child()


def is_watched() -> bool:
    """Whether a training of this process is being watched."""
    return any(not watch.ended for watch in list(_begun))


def _disabled(run: str) -> Watch:
    from watchstep.rules import load

    return Watch(Options(run=run, mode="disabled"), load([]))
