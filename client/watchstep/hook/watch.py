"""`Watch`: what a training loop talks to."""

from __future__ import annotations

import atexit
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from watchstep.boundary import Boundary, text_of
from watchstep.core.engine import RuleSet
from watchstep.core.updates import Action, Verdict
from watchstep.errors import TrainingHalted, warn
from watchstep.hook import captured_logs
from watchstep.hook.events import checkpoint_event
from watchstep.hook.judgement import Judgement
from watchstep.hook.options import Options
from watchstep.hook.process import (
    Termination,
    is_reporting_rank,
    network_file_system,
    on_fork,
    pending_exception,
)
from watchstep.hook.readings import Arrivals, Coercer
from watchstep.hook.stream import Stream
from watchstep.hook.verdict_actions import VerdictActions
from watchstep.hook.vitals import Vitals
from watchstep.hook.watch_checkpoints import WatchCheckpoints

if TYPE_CHECKING:
    from watchstep.checkpoint import Checkpoint, CheckpointKeeper
    from watchstep.core.updates import Transition
    from watchstep.guard import Guard, Units

_HEALTHY = Verdict()
# Of `exit_s`, what a hung disk must leave for telling the service of the end.
_SENDERS_SHARE = 0.25


class Watch:
    """One watched run. Made by `watchstep.init`; a context manager that ends with `finish`.

    Apart from `TrainingHalted`, which the user asks for, and `CheckpointError` from `restore`,
    no method raises: what fails inside is counted in `errors` and warned of once per kind. All
    methods may be called from any thread; in a forked child they do nothing, and a pickled or
    deep-copied watch comes back disabled.

    Attributes:
        run: The run's name.
        last_verdict: Of the last `log`.
    """

    def __init__(self, options: Options, rules: RuleSet) -> None:
        self.options = options
        self.run = options.run
        self.last_verdict = _HEALTHY
        self._disabled = options.mode == "disabled"
        self._boundary = Boundary()
        most = Action.SKIP if options.on_critical == "alert" else Action.ROLLBACK
        self._stream = Stream(Judgement(rules, most=most))
        reports = is_reporting_rank() if options.report is None else options.report
        self._checkpoints = WatchCheckpoints(options, self._stream, self._boundary, writes=reports)
        self._actions = VerdictActions(
            options, self._stream, self._checkpoints, self._boundary, self._end
        )
        self._coercer = Coercer()
        self._arrivals = Arrivals()
        self._vitals = Vitals()
        self._units: list[Units] = []
        self._command: Mapping[str, Any] | None = None
        self._termination: Termination | None = None
        self._logging = False
        if not self._disabled:
            self._boundary.survive(self._begin, reports=reports)

    def _begin(self, *, reports: bool) -> None:
        on_fork(self._disable)
        if self.options.capture_text:
            captured_logs.listen(self._stream.events.captured)
        if reports:
            self._report()
        if self.options.catch_sigterm:
            self._termination = Termination()
        atexit.register(self._at_exit)

    def _report(self) -> None:
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
        self._stream.outbound = Outbound(config, on_command=self._on_command)
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
        begun = time.perf_counter_ns()
        verdict = self._boundary.survive(self._log, metrics or {}, step, event)
        self._vitals.took_ns.append(time.perf_counter_ns() - begun)
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
        return self._boundary.survive(self._actions.guard, optimizer, choices)

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
            (`checkpoints=`), while one is being written in the background, where another
            process writes it, or when disabled.
        """
        if self._disabled or not self._checkpoints.wanted:
            return None
        where = self._stream.step if step is None else step
        return self._boundary.survive(self._save, state, where)

    def restore(
        self, targets: Mapping[str, Any] | None = None, *, step: int | None = None
    ) -> Checkpoint:
        """Load the newest intact, finite and good checkpoint into `targets`, or nothing at all.

        Args:
            targets: As in `save`; default: the state that was saved last. Sharded ones may be
                sharded over another number of processes than at the save; each of them calls.
            step: A certain checkpoint instead of the newest good one.

        Raises:
            CheckpointError: There is none, or it does not fit the targets; nothing else raises.
        """
        found = self._checkpoints.restore(targets, step)
        with self._boundary, self._stream.lock:
            self._stream.judgement.forget_steps()
            if not self._disabled and not self._stream.ended:
                self._stream.tell(f"restored the checkpoint of step {found.step}")
        return found

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until saves are on disk and updates are acknowledged, or the time is over."""
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
            self._boundary.survive(self._end)

    def losses(self) -> Mapping[str, int]:
        """Updates and readings that were lost, by reason; empty when none were."""
        outbound = self._stream.outbound
        lost = dict(outbound.losses()) if outbound is not None else {}
        return lost | {f"reading refused: {why}": n for why, n in self._coercer.counts.items()}

    @property
    def errors(self) -> Mapping[str, int]:
        """What failed inside, by kind of exception, or "guard NAME"; each was warned of once."""
        guards = {f"guard {one.name}": one.errors for one in self._actions.guards if one.errors}
        return self._boundary.errors | guards

    @property
    def guards(self) -> Sequence[Guard]:
        """The guards of this watch, in the order of the calls."""
        return self._actions.guards

    @property
    def transitions(self) -> Sequence[Transition]:
        """The newest changes of rules, of this process, oldest first."""
        return self._stream.transitions

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

    def _log(
        self, metrics: Mapping[str, Any], step: int | None, event: Mapping[str, Any] | None
    ) -> Verdict:
        with self._stream.lock:
            if self._stream.ended or self._disabled:
                return _HEALTHY
            if self._logging:
                raise RuntimeError("log() was called out of log() itself")
            self._logging = True
            try:
                return self._log_one(metrics, step, event)
            finally:
                self._logging = False

    def _observe(self, model: Any, every: int) -> Units:
        from watchstep.guard import Units

        units = Units(model, every=every, survive=self._boundary.survive)
        self._units.append(units)
        return units

    def _log_one(
        self, metrics: Mapping[str, Any], step: int | None, event: Mapping[str, Any] | None
    ) -> Verdict:
        stream = self._stream
        for units in self._units:
            metrics = {**metrics, **units.readings()}
        readings, waiting = self._coercer.readings(metrics)
        stream.step = stream.step + 1 if step is None else int(step)
        if self._coercer.news:
            self._warn_of_refused()
        if self._actions.guards:
            readings.update(self._actions.readings())
        if waiting and self.options.strict:
            readings.update({name: float(tensor) for name, tensor in waiting.items()})
        elif waiting or self._arrivals:
            self._arrivals.push(readings, waiting, stream.step, event)
            verdict = _HEALTHY
            for one in self._arrivals.arrived():
                verdict = self._judge(*one)
            return verdict
        return self._judge(readings, stream.step, event)

    def _judge(
        self, readings: dict[str, float], step: int, event: Mapping[str, Any] | None
    ) -> Verdict:
        stream = self._stream
        if time.monotonic() >= self._vitals.due:
            readings.update(self._vitals.readings(stream.outbound, self.losses(), self.errors))
        verdict = stream.put(readings, event or stream.events.next(), step)
        self.last_verdict = verdict
        for refused in self._checkpoints.observe():
            self._refuse(refused)
        if self._command is not None:
            self._obey()
        if self._termination is not None and self._termination.asked:
            self._terminate()
        return self._actions.on_update(verdict)

    def _save(self, state: Mapping[str, Any], step: int) -> Checkpoint | None:
        found = self._checkpoints.save(state, step)
        if found is not None and not found.finite:
            with self._stream.lock:
                self._refuse(found)
        return found

    def _refuse(self, found: Checkpoint) -> None:
        """Tell of a state that is not finite, and act on what the rules say to it."""
        verdict = self._tell_refused(found)
        if verdict.action >= Action.HALT:
            self._actions.together(verdict)

    def _tell_refused(self, found: Checkpoint) -> Verdict:
        readings = {"checkpoint/nonfinite_tensors": float(max(found.nonfinite, 1))}
        return self._stream.put(readings, checkpoint_event(found), found.step)

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
        self._stream.put({}, told)
        if kind == "halt":
            verdict = Verdict(Action.HALT, (), f"halted by command: {reason}", self.firing)
            raise self._actions.halted(verdict)
        if self._checkpoints.targets is not None and self._checkpoints.wanted:
            self._save(self._checkpoints.targets, self._stream.step)

    def _terminate(self) -> None:
        """Say that the process was told to end, and let it end as it would have."""
        assert self._termination is not None
        self._stream.put({}, {"kind": "failed", "error": "terminated by SIGTERM"})
        self._end()
        self._termination.go_on()

    def _finish(self, error: BaseException | None) -> None:
        stream = self._stream
        with stream.lock:
            for numbers, step, event in self._arrivals.arrived(all_of_them=True):
                stream.put(numbers, event, step)
            deadline = time.monotonic() + self.options.exit_s
            self._boundary.survive(self._last_save, deadline)
            while (waiting := stream.events.next()) is not None:
                stream.put({}, waiting)
            if error is None or (isinstance(error, SystemExit) and not error.code):
                hook = self._vitals.readings(stream.outbound, self.losses(), self.errors)
                stream.put({}, {"kind": "finished", "hook": hook})
            elif not isinstance(error, TrainingHalted):
                kind = type(error).__name__
                text = text_of(lambda: f"{kind}: {error}", kind)[:2_000]
                stream.put({}, {"kind": "failed", "error": text})
            self._end(deadline)

    def _last_save(self, deadline: float) -> None:
        """Wait for the save in the background, so that the run's end tells what became of it."""
        if not self._await_save(deadline):
            text = "the run ended before its last save was on disk"
            self._stream.put({}, {"kind": "log", "level": "warning", "text": text})
        for refused in self._checkpoints.finished():
            self._tell_refused(refused)

    def _await_save(self, deadline: float) -> bool:
        """Whether the save in the background was done in time to tell the service the rest."""
        begun = time.monotonic()
        reserve_s = 0.0 if self.options.url is None else self.options.exit_s * _SENDERS_SHARE
        if self._checkpoints.flush(max(deadline - reserve_s - begun, 0.0)):
            return True
        self._boundary.complain(
            "checkpoint",
            "watchstep leaves a save unfinished that took more than"
            f" {time.monotonic() - begun:.2g} s; call flush() with a longer time before the end",
        )
        return False

    def _end(self, deadline: float | None = None) -> None:
        """Let go of everything; what is unsent stays in the spool.

        Args:
            deadline: On the monotonic clock, of an end that has waited for its save; default:
                `exit_s` from now, for all of it.
        """
        self._stream.ended = True
        captured_logs.stop(self._stream.events.captured)
        for guard in self._actions.guards:
            guard.detach()
        for units in self._units:
            units.detach()
        atexit.unregister(self._at_exit)
        if self._termination is not None:
            self._termination.stop()
        if deadline is None:
            deadline = time.monotonic() + self.options.exit_s
            self._boundary.survive(self._await_save, deadline)
        if self._stream.outbound is not None:
            left_s = max(deadline - time.monotonic(), 0.0)
            self._boundary.survive(self._stream.outbound.close, left_s)

    def _at_exit(self) -> None:
        self.finish(pending_exception())

    def _disable(self) -> None:
        """In a forked child: this run belongs to the parent."""
        self._disabled = True
        self._stream.outbound = None
        self._stream.ended = True

    def _warn_of_refused(self) -> None:
        for why, name in self._coercer.take_news().items():
            self._boundary.complain(
                f"reading refused: {why}", f"watchstep leaves out the metric {name!r}: bad {why}"
            )


def _disabled(run: str) -> Watch:
    from watchstep.rules import load

    return Watch(Options(run=run, mode="disabled"), load([]))
