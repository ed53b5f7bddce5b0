"""The fold: a rule set, the state of one run, and one event make transitions.

`step` is the whole of live judgement, of the service's and of the post-mortem's. It reads
no clock and does no input or output, so the same stream gives the same transitions in one
go, in any split, and from any snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence

from watchstep.core.evaluator import Judged
from watchstep.core.nodes import YES
from watchstep.core.ruleset import RuleSet
from watchstep.core.state import FIRING, IDLE, PENDING, Life, State, names_of
from watchstep.core.updates import ANEW, Action, Change, Tick, Transition, Update, Verdict

__all__ = ["RuleSet", "State", "judge", "step"]

_HEALTHY = Verdict()


def step(rules: RuleSet, state: State, event: Update | Tick) -> tuple[State, Sequence[Transition]]:
    """Advance one run by one event.

    Args:
        rules: The set that `state` was made for.
        state: Advanced in place and returned; the caller gives it up. It has the rules with
            `each` for the metrics that the run has reported.
        event: The run's next update, in order of (attempt, seq), or a tick of the service's
            clock, which concerns only rules that use `silence()`.

    Returns:
        The state, and the transitions of this event in the order of the rules. Readings that a
        rule cannot judge (missing, NaN) leave it as it is.
    """
    if isinstance(event, Tick):
        return state, _tick(rules, state, event)
    if event.attempt != state.attempt:
        state.begin_attempt(event.attempt, resumes=not (event.event or {}).get(ANEW))
    state.take(event)
    judged = state.evaluator.advance(state, state.schedule)
    named = _named_by_guard(state)
    if named:
        places = [at for at, each in enumerate(state.rules.instances) if each.rule.name == named]
        judged = [each for each in judged if each[0] not in places[:1]]
        judged += [(at, True, True) for at in places[:1]]
    if not judged and not state.busy:
        return state, ()
    return state, _transitions(state, judged)


def _named_by_guard(state: State) -> str:
    """The rule by which the guard halted in the middle of an update; "" at all other updates.

    It was judged by single steps, of which no update tells: that it fires is the event's word.
    """
    event = state.event
    return str(event.get("rule", "")) if event is not None and state.has_event("guard") else ""


def _tick(rules: RuleSet, state: State, tick: Tick) -> Sequence[Transition]:
    transitions: list[Transition] = []
    state.silence = tick.now - tick.last_heard
    state.stalled = state.silence > tick.timeout_s
    for index in rules.clocked:
        at = state.rules.places[rules.rules[index].name, ""]
        condition = state.evaluator.rules[at].condition.value(state) == YES
        if condition or state.active[at]:
            time, state.time = state.time, tick.now
            state.forget_readings()
            transitions.extend(_transitions(state, [(at, condition, True)]))
            state.time = time
    state.silence, state.stalled = 0.0, False
    return transitions


def _transitions(state: State, judged: list[Judged]) -> list[Transition]:
    transitions: list[Transition] = []
    for at, condition, clear in judged:
        change = _advance_life(state, at, condition, clear)
        transitions.extend(_transition(state, at, word) for word in change)
    for at, status in enumerate(state.active):
        if status == FIRING:
            state.lives[at].firing_age = state.age
    state.busy = any(state.active)
    return transitions


def _advance_life(
    state: State, at: int, condition: bool | None, clear: bool | None
) -> tuple[Change, ...]:
    """Move one rule through idle, pending and firing; returns what changed."""
    if condition is None:
        return ()
    if condition:
        return _held(state, at)
    rule, status = state.rules.instances[at].rule, state.active[at]
    if status == IDLE:
        return ()
    life = state.lives[at]
    if status == PENDING:
        state.active[at] = IDLE
        life.streak = 0
        return ("cancelled",)
    if rule.keep.seconds is not None:
        over = state.time - life.held_time >= rule.keep.seconds
    else:
        # A tick ends a silence at the very age at which it last held.
        age = state.evaluator.rules[at].age(state)
        over = not rule.keep.updates or age - life.held_age > rule.keep.updates
    if not over or (rule.clear is not None and clear is not True):
        return ()
    state.active[at] = IDLE
    life.streak = 0
    return ("resolved",)


def _held(state: State, at: int) -> tuple[Change, ...]:
    rule, status = state.rules.instances[at].rule, state.active[at]
    life = state.lives.get(at)
    if life is None:
        life = state.lives[at] = Life()
    life.held_age = state.evaluator.rules[at].age(state)
    life.held_seq, life.held_time = state.seq, state.time
    if status == FIRING:
        return ()
    if status == IDLE:
        life.streak, life.since_time, life.first_seq = 0, state.time, state.seq
    life.streak += 1
    if _named_by_guard(state) == rule.name:
        ripe = True
    elif rule.hold.seconds is not None:
        ripe = state.time - life.since_time >= rule.hold.seconds
    else:
        ripe = life.streak >= (rule.hold.updates or 1)
    if ripe:
        state.active[at] = FIRING
        life.reason = state.evidence(at)[2]
        return ("firing",)
    state.active[at] = PENDING
    return ("pending",) if status == IDLE else ()


def _transition(state: State, at: int, change: Change) -> Transition:
    rule, subject = state.rules.instances[at]
    metric, reading, reason = state.evidence(at)
    return Transition(
        rule=rule.name,
        change=change,
        attempt=state.attempt,
        seq=state.seq,
        step=state.training_step,
        time=state.time,
        metric=metric,
        reading=reading,
        reason=reason,
        severity=rule.severity,
        action=rule.action,
        subject=subject,
    )


def judge(rules: RuleSet, state: State, *, most: Action = Action.ROLLBACK) -> Verdict:  # noqa: ARG001 - of the same shape as `step`
    """What the rules ask of the trainer after the last update.

    Only rules that fire and whose condition held at that very update ask for anything: a rule
    kept firing by `keep_firing_for` has already been obeyed.

    Args:
        rules: The set that `state` was made for.
        most: Stronger actions are not considered, whoever asks for them.
    """
    if not state.busy:
        return _HEALTHY
    instances = state.rules.instances
    held = set(state.held_now())
    asking = [
        at
        for at, status in enumerate(state.active)
        if status == FIRING and at in held and Action.NONE < instances[at].rule.action <= most
    ]
    action = max((instances[at].rule.action for at in asking), default=Action.NONE)
    strongest = [at for at in asking if instances[at].rule.action == action]
    subjects = [instances[at].subject for at in strongest if instances[at].subject]
    return Verdict(
        action=action,
        rules=names_of(instances[at] for at in strongest),
        reason=state.lives[strongest[0]].reason if strongest else "",
        firing=state.firing(),
        subjects=tuple(dict.fromkeys(subjects)),
    )
