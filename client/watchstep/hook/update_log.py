"""From what a trainer logs to a judged update on its way."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from watchstep.boundary import of_stranger, text_of
from watchstep.core.updates import Verdict
from watchstep.errors import warn
from watchstep.hook.batches import Batches
from watchstep.hook.context import Context
from watchstep.hook.events import sendable
from watchstep.hook.readings import MOST_READINGS, Arrivals, Coercer, read_now
from watchstep.hook.service_rules import ServiceRules
from watchstep.hook.verdict_actions import VerdictActions
from watchstep.hook.vitals import Vitals
from watchstep.wire.names import legal_metric_name

if TYPE_CHECKING:
    from watchstep.guard import Units
    from watchstep.machine.sampler import Sampler

_HEALTHY = Verdict()
_LAST_STEP = 2**63 - 1
_MOST_PHASES = 32
_SPOILT_ROLES = frozenset({"loss", "signed_loss", "grad_norm"})


class UpdateLog:
    """Makes one update of each `log`, has it judged and acts on the verdict.

    Attributes:
        units: Observed models, whose readings each update takes.
        vitals: How the hook itself is doing.
        batches: Ids of the data that the next update trains on.
        phases_ns: Time spent in each marked phase since the last update.
        last_verdict: Of the last update.
        sampler: Whose samples of the machine ride on the updates; None for none.
    """

    def __init__(self, context: Context, actions: VerdictActions, rules: ServiceRules) -> None:
        self._options, self._stream, _, self._boundary = context
        folder = self._options.directory / "bad_batches"
        self.units: list[Units] = []
        self.vitals = Vitals()
        self.batches = Batches(folder / f"{self._options.run}.jsonl")
        self.phases_ns: dict[str, int] = {}
        self.last_verdict = _HEALTHY
        self.sampler: Sampler | None = None
        self._checkpoints = actions.checkpoints
        self._actions = actions
        self._rules = rules
        self._coercer = Coercer(self._stream.judgement.looks_at)
        self._arrivals = Arrivals(self._boundary)
        self._last_ns = time.monotonic_ns()

    def log(self, metrics: Any, step: Any, event: Any) -> Verdict:
        stream = self._stream
        self._actions.act_if_due()
        if self._rules.compiled is not None:
            self._boundary.survive(self._adopt_rules)
        readings, waiting = self._coercer.readings(metrics)
        if type(step) is int and 0 <= step <= _LAST_STEP:
            stream.step = step
        else:
            stream.step = self._next_step(step)
        if event is not None:
            event = self._sendable(event)
        if self._coercer.notices:
            self._warn_of_metrics()
        self._add_own(readings, waiting)
        if waiting and self._options.strict:
            readings.update(self._boundary.survive(read_now, waiting) or {})
        elif waiting or self._arrivals:
            self._arrivals.push(readings, waiting, stream.step, event)
            verdict = _HEALTHY
            for arrived in self._arrivals.arrived():
                verdict = self._judge(*arrived)
            return verdict
        return self._judge(readings, stream.step, event)

    def _add_own(self, readings: dict[str, float], waiting: dict[str, Any]) -> None:
        """Add what the hook itself has measured since the last update."""
        for units in self.units:
            numbers, later = self._coercer.readings(self._boundary.survive(units.readings))
            readings.update(numbers)
            waiting.update(later)
        if self._actions.guards:
            readings.update(self._boundary.survive(self._actions.readings) or {})
        if self.phases_ns:
            readings.update(self._phase_shares())
        readings.update(self._actions.ranks.readings())
        readings.update(self._checkpoints.readings())
        if self.sampler is not None:
            readings.update(self.sampler.take())

    def flush(self) -> None:
        """Tell what is still behind a device; nothing is acted on any more."""
        for readings, step, event in self._arrivals.arrived(all_of_them=True):
            self._stream.put(self._coercer.fitting(readings), event, step)

    def mark_phase(self, name: str, took_ns: int) -> None:
        """Add time that was spent in a phase of the present step."""
        if name in self.phases_ns or len(self.phases_ns) < _MOST_PHASES:
            self.phases_ns[name] = self.phases_ns.get(name, 0) + took_ns

    def vital_readings(self) -> dict[str, float]:
        return self.vitals.readings(self._stream.outbound, self.losses(), self.errors())

    def losses(self) -> dict[str, int]:
        outbound = self._stream.outbound
        lost = dict(outbound.losses()) if outbound is not None else {}
        return lost | {f"reading refused: {why}": n for why, n in self._coercer.counts.items()}

    def errors(self) -> dict[str, int]:
        guards = self._actions.guards
        failed = {f"guard {guard.name}": guard.errors for guard in guards if guard.errors}
        return self._boundary.errors | failed

    def _judge(
        self, readings: dict[str, float], step: int, event: Mapping[str, Any] | None
    ) -> Verdict:
        if time.monotonic() >= self.vitals.due:
            readings.update(self._boundary.survive(self.vital_readings) or {})
        if len(readings) > MOST_READINGS:
            readings = self._coercer.fitting(readings)
            self._warn_of_metrics()
        event = event or self._stream.events.next()
        if self.batches.waiting:
            event = self._boundary.survive(self._with_batch, readings, step, event) or event
        verdict = self._stream.put(readings, event, step, self._checkpoints.event_of_update)
        self.last_verdict = verdict
        if event is not None:
            self._checkpoints.observe()
        for refused in self._checkpoints.take_refused():
            self._actions.on_refused(refused)
        if self._actions.commands:
            self._actions.obey()
        return self._actions.on_update(verdict)

    def _with_batch(
        self, readings: Mapping[str, float], step: int, event: Mapping[str, Any] | None
    ) -> Mapping[str, Any] | None:
        """The event with the ids of this update's data, where they spoilt it."""
        reason = ""
        if readings.get("guard/skipped", 0.0) > 0:
            reason = "step skipped"
        elif not math.isfinite(sum(readings.values())):
            role = self._stream.judgement.rules.role
            spoilt = (
                name
                for name, value in readings.items()
                if not math.isfinite(value) and role(name) in _SPOILT_ROLES
            )
            name = next(spoilt, None)
            reason = "" if name is None else f"{name} is not finite"
        batch = self.batches.end(step=step, reason=reason)
        if not batch:
            return event
        warning = {"kind": "log", "level": "warning", "text": f"bad batch: {reason}"}
        return {**(event or warning), **batch}

    def _phase_shares(self) -> dict[str, float]:
        now_ns = time.monotonic_ns()
        whole_ns = max(now_ns - self._last_ns, 1)
        self._last_ns = now_ns
        shares = {
            legal_metric_name(f"phase/{name}_share"): min(took_ns / whole_ns, 1.0)
            for name, took_ns in self.phases_ns.items()
        }
        for name in self.phases_ns:
            self.phases_ns[name] = 0
        return shares

    def _adopt_rules(self) -> None:
        rules = self._rules.take()
        if rules is not None:
            self._stream.judgement.adopt(rules)

    def _next_step(self, step: Any) -> int:
        """The step that a trainer's counter means; one more than the last where it means none."""
        if step is None:
            return self._stream.step + 1
        number = of_stranger(lambda: int(step), None)
        if number is not None and 0 <= number <= _LAST_STEP:
            return number
        shown = text_of(step.__repr__)[:80]
        text = f"watchstep counts by itself: step must be an integer from 0 on, not {shown}"
        self._boundary.complain("step", text)
        return self._stream.step + 1

    def _sendable(self, event: Any) -> Mapping[str, Any] | None:
        made = self._boundary.survive(sendable, event)
        if made is None:
            return None
        usable, complaint = made
        if complaint:
            self._boundary.complain(f"event: {complaint[:40]}", f"watchstep: {complaint}")
        return usable

    def _warn_of_metrics(self) -> None:
        notices = self._coercer.take_notices()
        if notices:
            warn(f"watchstep {'; '.join(notices)}")
