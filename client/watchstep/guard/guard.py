"""A guard before an optimizer: judges each step's gradients before a weight is touched."""

from __future__ import annotations

import dataclasses
import logging
import math
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from watchstep.boundary import Boundary
from watchstep.core.updates import Action, Verdict
from watchstep.errors import GuardRefusedError, TrainingHalted
from watchstep.guard.device import Arrived, CudaCopies, DeviceLane, HostCopies, skips_on_device
from watchstep.guard.distributed import Agreement, agreement_of
from watchstep.guard.learning_rate import hold_factor
from watchstep.guard.measure import (
    EARLY_STEPS,
    Measured,
    begin_step,
    frozen_parameters,
    largest_learning_rate,
    largest_weight,
    measure,
    measure_share,
    not_trained,
    without_gradient,
    zero_gradients,
)
from watchstep.guard.optimizers import (
    gradients_of,
    hookable,
    is_flattened,
    mesh_of,
    parameters_of,
    passes_over_missing_gradients,
)
from watchstep.guard.skipping import Snapshot, WithheldGradients, ZeroedGradients, refusal
from watchstep.guard.tally import (
    FROZEN,
    LARGEST_WEIGHT,
    NONFINITE,
    NORM,
    SKIPPED,
    STEPS,
    UPDATE_RATIO,
    WEIGHT_NORM,
    ZERO,
    Tally,
)
from watchstep.guard.zeroing import ZeroingCheck

Judge = Callable[[Mapping[str, float]], Verdict]

SUDDEN, LOOK_AGAIN = 10.0, 20
"""A gradient norm so many times the last one is reason to look at the weights, which costs as much
as the norm did; but no more often than after so many steps."""

log = logging.getLogger("watchstep.guard")

# Weak on both sides: a guard refers to its optimizer, and would keep it alive here.
_guarded: weakref.WeakKeyDictionary[torch.optim.Optimizer, weakref.ref[Guard]] = (
    weakref.WeakKeyDictionary()
)


class Guard:
    """Judges every `optimizer.step()` before it happens, by the verdict of a rule set.

    What a verdict does to the step:

    - NONE, PIN: it happens as it would have.
    - SKIP: parameters and optimizer state, step counters included, stay bit-identical.
      Gradients are the same tensors after the step as before it.
    - HALT: `TrainingHalted` is raised out of `optimizer.step()`, weights untouched.
    - ROLLBACK: the judge has put weights back, and the step is skipped.

    The guard has no opinion of its own: with a judge that answers NONE to non-finite
    gradients they reach the weights. Any error inside the guard or the judge is counted in
    `errors`, warned of once per kind, and the step happens: only a halt leaves the guard.

    A step with a closure is judged after each evaluation of the closure. LBFGS, and classes
    that are not torch's own, are copied before such a step so that it can be undone exactly:
    that costs their parameters and state in memory once more. What a class keeps in attributes of
    its own is copied and undone too; one that keeps there what cannot be, is refused.

    Parameters that several processes share (DTensors, FSDP1's) take a step everywhere or nowhere:
    all of these processes must guard, and the worst verdict of any decides for all.

    Judged late: on CUDA, and wherever `strict=False`, nothing waits for the device. The
    judge is asked about a step when its numbers have arrived, as a rule one step later.
    Non-finite gradients are skipped all the same, on the device, by torch's fused optimizers
    (`fused=True`; the first step, which creates their state, is judged at once). Other
    optimizers cannot be stopped there: a non-finite step reaches the weights before the
    verdict, and a halt or rollback follows; `strict=True` prevents it. A late SKIP of finite
    gradients comes too late and does nothing; a late HALT or ROLLBACK stops the next step.

    Gradient accumulation needs nothing: only what is there at `step()` counts. Under an AMP
    `GradScaler` a step that the scaler itself skips is not judged: either it never happens,
    or, for fused optimizers, it is counted in `scaler_skipped` only. Steps replayed by a CUDA
    graph cannot be seen.

    Attributes:
        steps: Calls of `optimizer.step()` seen.
        skipped: Steps of these that the guard skipped.
        nonfinite: Steps whose gradients were not all finite.
        scaler_skipped: Steps that an AMP loss scaler skipped inside a fused optimizer.
        last_norm: Pre-clip L2 gradient norm of the last judged step; NaN before the first.
    """

    def __init__(  # noqa: PLR0913 - each is a choice of its own, all have defaults
        self,
        optimizer: torch.optim.Optimizer,
        judge: Judge,
        *,
        skip_budget: int | None = 25,
        strict: bool | None = None,
        name: str = "",
        demanded: Callable[[], Verdict] | None = None,
        on_halt: Callable[[Verdict], TrainingHalted] | None = None,
        slow_every: int = 200,
        skip_on_device: bool = True,
        agreement: Agreement | None = None,
    ) -> None:
        """Hook into `optimizer`; `detach` undoes it.

        Args:
            optimizer: A torch optimizer, or a wrapper that holds one as `.optimizer`.
            judge: Called once per step with `train/grad_norm` (before clipping, if
                `observe_clipping` is on), `guard/nonfinite_gradients` (tensors) and whatever
                `note` was told since the last step. Must not keep the mapping.
            skip_budget: Skipped steps in a row after which the next one halts; None for no end.
            strict: Whether a step is judged before it happens, for one host synchronisation. None:
                everywhere but on CUDA, where it would cost time; see "Judged late" above.
            name: Used in messages when a loop has several optimizers.
            demanded: Called before each step: a verdict that holds whatever is judged, such as
                one that all processes have agreed on. May raise `TrainingHalted`.
            on_halt: Told of a halt that the guard itself decides; returns what it raises.
            slow_every: Steps between looks at frozen parameters and update ratio.
            skip_on_device: Whether a step that is judged late skips itself on the device if
                its gradients are not finite, whatever the judge will say of it then.
            agreement: Of processes whose judge votes with those of the others; the norm is then
                that of all shards together. None: where parameters are shared, this guard makes
                one and votes itself. A guard with an agreement is strict.

        An optimizer has one guard: a newer one takes the place of an older one, which is
        detached, as when a cell of a notebook is run again.

        Raises:
            GuardRefusedError: The optimizer has no step hooks, or what a step of it changes cannot
                be undone, or other processes share its parameters and do not guard them.
        """
        if skip_budget is not None and skip_budget < 0:
            raise ValueError(f"skip_budget must be at least 0, not {skip_budget}")
        if slow_every < 1:
            raise ValueError(f"slow_every must be at least 1, not {slow_every}")
        self.optimizer = hookable(optimizer)
        reason = refusal(self.optimizer)
        if reason is not None:
            raise GuardRefusedError(reason)
        self.name = name or type(self.optimizer).__name__
        self.steps = self.skipped = self.nonfinite = self.scaler_skipped = 0
        self.last_norm = math.nan
        self._judge = judge
        self._demanded = demanded
        self._on_halt = on_halt
        self._skip_budget = skip_budget
        self._own_vote = agreement_of(None, self.optimizer) if agreement is None else None
        agreement = agreement or self._own_vote
        # A verdict that comes later comes at another step in each process.
        self._strict = strict if agreement is None else True
        self._slow_every = slow_every
        self._tally = Tally()
        self._boundary = Boundary(f"watchstep's guard of {self.name}")
        self._notes: dict[str, float] = {}
        self._skipped_in_a_row = self._most_gradients = self._weighs_next = self._skipped_there = 0
        self._unclipped: Measured | None = None
        self._clipped: set[int] = set()
        self._skip_on_device = skip_on_device
        self._flattened = is_flattened(self.optimizer)
        sharded = any(mesh_of(p) is not None for p in parameters_of(self.optimizer))
        self._agreement = agreement if self._flattened or sharded else None
        self._lane: DeviceLane | None = None
        self._late: deque[tuple[Arrived, dict[str, float]]] = deque()
        self._forget_step()
        self._zeroing = ZeroingCheck(self._tally, self._boundary)
        self._hooks = [
            self.optimizer.register_step_pre_hook(self._before_step),
            self.optimizer.register_step_post_hook(self._after_step),
        ]
        before = _guard_of(self.optimizer)
        if before is not None:
            before.detach()
            log.warning("an optimizer has a new guard, the one before is detached")
        _guarded[self.optimizer] = weakref.ref(self)

    def detach(self) -> None:
        """Remove every hook; the optimizer is as it was. Doing it twice is harmless."""
        self._zeroing.remove()
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if _guard_of(self.optimizer) is self:
            del _guarded[self.optimizer]

    @property
    def errors(self) -> int:
        """Errors inside the guard or its judge that training survived."""
        return sum(self._boundary.errors.values())

    def note(self, name: str, value: float) -> None:
        """Give the judge one more reading for the next step, then it is forgotten."""
        self._notes[name] = value

    def readings(self) -> dict[str, float]:
        """What happened since the last call, as readings for one update; begins anew.

        `guard/steps`, `guard/skipped`, `guard/nonfinite_gradients` (tensors, summed over steps); if
        a step was judged, `train/grad_norm` (mean of pre-clip norms; not finite if one was) and
        `train/grad_norm_max`; `guard/learning_rate` (the largest of the groups); every `slow_every`
        steps, and at steps 1, 10, 20, 50, 100 and 150, `guard/frozen_parameters` (elements whose
        second moment is infinite), `guard/zero_gradients` (share of gradient tensors that are zero
        throughout, 0 to 1), `guard/largest_weight` (magnitude, before the step; also where the
        gradient is suddenly ten times as large or not finite), `guard/weight_norm` (of a sample of
        each tensor, before the step) and, but at step 1, `guard/update_ratio` (size of the step
        over it). From its first time on: `guard/parameters_without_gradient` (share of the trained
        parameters that no step of the update found with one, 0 to 1), at those steps
        `guard/parameters_not_trained` (share of the optimizer's parameters that are frozen),
        `guard/gradients_kept` (1 where gradients were not cleared before the step) and
        `guard/scaler_skipped` (steps that an AMP scaler skipped).
        """
        return self._tally.take()

    @property
    def weight_norm(self) -> float | None:
        """The newest `guard/weight_norm` of all updates; None before the first."""
        return self._tally.weight_norm

    def before_clipping(self, parameters: Sequence[torch.Tensor]) -> None:
        """Measure now if these parameters, which are about to be clipped, are the guard's."""
        with self._boundary:
            clipped = {id(p) for p in parameters} & set(map(id, parameters_of(self.optimizer)))
            if not clipped:
                return
            # Groups may be clipped one after the other: the first call saw all of them whole. What
            # is clipped again belongs to another step: a loss scaler skipped the one before.
            if self._clipped and not clipped & self._clipped:
                self._clipped |= clipped
                return
            self._clipped = clipped
            gradients = gradients_of(self.optimizer)
            lane = self._lane_for(gradients)
            if lane is not None:
                lane.before_clipping(gradients)
            else:
                self._unclipped = self._measure(gradients)

    def _before_step(
        self, _: torch.optim.Optimizer, args: Any, kwargs: Any
    ) -> tuple[Any, Any] | None:
        self._forget_step()
        self.steps += 1
        self._tally.count(STEPS)
        with self._boundary:
            self._zeroing.before_step()
            hold_factor(self.optimizer)
            verdict = Verdict() if self._demanded is None else self._demanded()
            if verdict.action >= Action.SKIP:
                self._act(verdict)
                return None
            closure = args[1] if len(args) > 1 else kwargs.get("closure")
            if closure is not None:
                return self._with_judged_closure(closure, args, kwargs)
            self._decide()
            return None
        # It failed: the step happens as it would have.
        self._boundary.survive(self._release)
        return None

    def _after_step(self, *_: Any) -> None:
        with self._boundary:
            self._release()
            self._zeroing.after_step(self.optimizer)
            sizes = None if self._step_size is None or self._skipping else self._step_size()
            if sizes is not None:
                self._report_slowly(WEIGHT_NORM, sizes[0])
                if self.steps > 1:  # Weights may begin at zero, which has no ratio.
                    self._report_slowly(UPDATE_RATIO, sizes[1])
        self._forget_step()

    def _forget_step(self) -> None:
        """Drop what an earlier step left, also one that never came to its end."""
        if self._lane is not None:
            self._lane.release(self.optimizer)
        self._skipping = False
        self._withheld: WithheldGradients | None = None
        self._snapshot: Snapshot | None = None
        self._step_size: Callable[[], tuple[torch.Tensor, torch.Tensor] | None] | None = None

    def _release(self) -> None:
        if self._snapshot is not None and self._skipping:
            self._snapshot.restore()
        if self._withheld is not None:
            self._withheld.give_back()
        self._snapshot = self._withheld = None

    def _with_judged_closure(
        self, closure: Callable[[], Any], args: Any, kwargs: Any
    ) -> tuple[Any, Any]:
        """Arguments for a step whose closure is judged after each evaluation."""
        if not passes_over_missing_gradients(self.optimizer):
            self._snapshot = Snapshot(self.optimizer)
        passed: list[Any] = []

        def judged_closure() -> Any:
            # The step is undone at its end, so what the optimizer tries until then is idle.
            loss = None if self._skipping else closure()
            if not self._skipping:
                self._decide_in_closure()
            if self._skipping and passed:
                # A NaN loss would break torch's line search (an IndexError in strong_wolfe).
                return passed[-1]
            passed[:] = [loss]
            return loss

        if len(args) > 1:
            return (args[0], judged_closure, *args[2:]), kwargs
        return args, {**kwargs, "closure": judged_closure}

    def _decide_in_closure(self) -> None:
        try:
            self._boundary.survive(self._decide)
        except TrainingHalted:
            # LBFGS may have moved since the step began.
            self._skipping = True
            self._release()
            raise

    def _decide(self) -> None:
        gradients = gradients_of(self.optimizer)
        self._most_gradients = max(self._most_gradients, len(gradients))
        self._tally.optimizer(
            without_gradient(parameters_of(self.optimizer), len(gradients), self._most_gradients),
            largest_learning_rate(self.optimizer),
        )
        self._clipped.clear()
        unclipped, self._unclipped = self._unclipped, None
        lane = self._lane_for(gradients)
        if lane is not None:
            self._decide_later(lane, gradients)
            return
        if self._skipped_by_scaler():
            self._count_scaler_skip()
            return
        measured = self._measured(gradients, unclipped)
        self._look_slowly(gradients)
        self._act(self._verdict(measured, self._take_notes()))

    def _count_scaler_skip(self) -> None:
        self.scaler_skipped += 1
        self._tally.scaler_skip()

    def _decide_later(self, lane: DeviceLane, gradients: Sequence[torch.Tensor]) -> None:
        """Act on what has arrived of earlier steps, and send this one's numbers on their way."""
        lane.copies.deliver()
        while self._late and not self._skipping:
            arrived, notes = self._late.popleft()
            skipped_there = arrived.skipped - self._skipped_there
            self._skipped_there = arrived.skipped
            self.skipped += skipped_there
            self._tally.count(SKIPPED, skipped_there)
            if arrived.by_scaler:
                self._count_scaler_skip()
                continue
            verdict = self._verdict(Measured(arrived.norm, arrived.nonfinite), notes)
            self._act_late(verdict, arrived)
        if self._skipping:
            return
        notes = self._take_notes()
        lane.watch(self.optimizer, gradients, lambda arrived: self._late.append((arrived, notes)))
        self._look_slowly(gradients)

    def _act_late(self, verdict: Verdict, arrived: Arrived) -> None:
        budget = self._skip_budget
        if budget is not None and arrived.skipped_in_a_row > budget:
            raise self._halt(f"{arrived.skipped_in_a_row} steps skipped in a row", verdict)
        if verdict.action in {Action.HALT, Action.ROLLBACK}:
            self._act(verdict)

    def _lane_for(self, gradients: Sequence[torch.Tensor]) -> DeviceLane | None:
        """Where this step is judged late; None if it is judged at once."""
        if self._strict or not gradients:
            return None
        on_cuda = gradients[0].is_cuda
        if self._strict is None and not on_cuda:
            return None
        fused = getattr(self.optimizer, "_step_supports_amp_scaling", False)
        if fused and self._skip_on_device and not skips_on_device(self.optimizer):
            return None
        if self._lane is None:
            copies = CudaCopies() if on_cuda else HostCopies()
            self._lane = DeviceLane(copies, skip=self._skip_on_device)
        return self._lane

    def _skipped_by_scaler(self) -> bool:
        overflown = getattr(self.optimizer, "found_inf", None)
        return overflown is not None and bool(overflown.item() > 0)

    def _measured(self, gradients: Sequence[torch.Tensor], unclipped: Measured | None) -> Measured:
        """This step's gradients: unscaled, before clipping, and none clean that is not."""
        now = self._measure(gradients)
        # A GradScaler leaves gradients scaled for fused optimizers and tells them the scale.
        scale = getattr(self.optimizer, "grad_scale", None)
        if scale is not None:
            now = Measured(now.norm / float(scale.item()), now.nonfinite)
        clean_before = unclipped is not None and now.nonfinite > unclipped.nonfinite == 0
        whole = now if unclipped is None or clean_before else unclipped
        return whole if self._agreement is None else self._agreement.whole(whole)

    def _measure(self, gradients: Sequence[torch.Tensor]) -> Measured:
        # Of FSDP1's parameters each process has a part that no other has.
        if self._agreement is None or self._flattened:
            return measure(gradients)
        return measure_share(gradients, self._agreement.processes)

    def _verdict(self, measured: Measured, notes: Mapping[str, float]) -> Verdict:
        if self.steps > 1 and not measured.norm <= SUDDEN * self.last_norm:
            self._weigh_again()
        self.last_norm = measured.norm
        self.nonfinite += measured.nonfinite > 0
        self._tally.norm(measured.norm, measured.nonfinite)
        readings = {NORM: measured.norm, NONFINITE: float(measured.nonfinite), **notes}
        verdict = self._judge(readings)
        return verdict if self._own_vote is None else self._own_vote.verdict(verdict)

    def _take_notes(self) -> dict[str, float]:
        notes, self._notes = self._notes, {}
        return notes

    def _act(self, verdict: Verdict) -> None:
        if verdict.action < Action.SKIP:
            self._skipped_in_a_row = 0
            return
        if verdict.action is Action.HALT:
            raise self._halt(verdict.reason or "a rule demanded a halt", verdict)
        if verdict.action is Action.ROLLBACK:
            # What is still to arrive was measured on weights that are no more.
            self._late.clear()
        self._skip(verdict)

    def _halt(self, reason: str, verdict: Verdict) -> TrainingHalted:
        rule = verdict.rules[0] if verdict.rules else None
        text = f"{self.name}, step {self.steps}: {reason}"
        if self._on_halt is not None:
            return self._on_halt(dataclasses.replace(verdict, action=Action.HALT, reason=text))
        return TrainingHalted(text, rule=rule)

    def _skip(self, verdict: Verdict) -> None:
        if self._skip_budget is not None and self._skipped_in_a_row >= self._skip_budget:
            why = f"; last reason: {verdict.reason}" if verdict.reason else ""
            raise self._halt(f"{self._skipped_in_a_row} steps skipped in a row{why}", verdict)
        self._skipping = True
        if passes_over_missing_gradients(self.optimizer):
            self._withheld = WithheldGradients(self.optimizer)
        else:
            # After a rollback the restored state is what the step must not change.
            if self._snapshot is None or verdict.action is Action.ROLLBACK:
                self._snapshot = Snapshot(self.optimizer)
                self._complain_of_left_out(self._snapshot)
            self._withheld = ZeroedGradients(self.optimizer)
        self._skipped_in_a_row += 1
        self.skipped += 1
        self._tally.count(SKIPPED)

    def _complain_of_left_out(self, snapshot: Snapshot) -> None:
        """What was not there yet when the guard was made, and cannot be put back."""
        for name, kind in snapshot.left_out.items():
            self._boundary.complain(
                f"attribute {name}",
                f"{self.name} keeps a {kind} in its attribute {name!r}, which a skipped step"
                " does not put back",
            )

    def _look_slowly(self, gradients: Sequence[torch.Tensor]) -> None:
        due = self.steps % self._slow_every == 0 or self.steps in EARLY_STEPS
        if not due or self._step_size is not None:
            return
        self._tally.not_trained(not_trained(parameters_of(self.optimizer)))
        self._report_slowly(FROZEN, frozen_parameters(self.optimizer))
        self._report_slowly(ZERO, zero_gradients(gradients))
        self._weigh()
        self._step_size = begin_step(self.optimizer)

    def _weigh(self) -> None:
        self._report_slowly(LARGEST_WEIGHT, largest_weight(parameters_of(self.optimizer)))

    def _weigh_again(self) -> None:
        """Where a gradient is suddenly large: it may be so because of one weight."""
        if self.steps >= self._weighs_next:
            self._weighs_next = self.steps + LOOK_AGAIN
            self._weigh()

    def _report_slowly(self, name: str, value: torch.Tensor | None) -> None:
        if value is None:
            return
        if self._lane is None:
            self._tally.slow(name, float(value.item()))
            return
        self._lane.copies.send(
            value.double().reshape(1), lambda values: self._tally.slow(name, values[0])
        )


def _guard_of(optimizer: torch.optim.Optimizer) -> Guard | None:
    reference = _guarded.get(optimizer)
    return None if reference is None else reference()
