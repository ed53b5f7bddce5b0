"""The verdict on one old log, from the same engine and rules as live."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from watchstep.core.diagnosis import Cause, diagnose
from watchstep.core.engine import RuleSet, State, judge, step
from watchstep.core.updates import Action, Severity, Transition, Update
from watchstep.postmortem.readers import Log
from watchstep.rules import load

VerdictWord = Literal["healthy", "suspicious", "exploded", "diverged", "died"]

HISTORY = 300
"""Updates that a diagnosis looks back on."""

PACKS: Mapping[str, tuple[str, ...]] = {
    "pretrain": ("pretrain", "generic"),
    "sft": ("pretrain", "generic"),
    "grpo": ("grpo", "generic"),
    "dpo": ("grpo", "generic"),
}
"""Packs by the kind of trainer that a log's metric names tell; the default packs otherwise."""

DEFAULT_PACKS = ("ppo", "generic")

EXPECTED: Mapping[str, tuple[str, ...]] = {
    "pretrain": ("train/loss", "train/grad_norm"),
    "grpo": ("train/grad_norm", "train/advantages_std_raw", "train/approx_kl"),
    "ppo": (
        "train/policy_loss",
        "train/value_loss",
        "train/approx_kl",
        "train/grad_norm",
        "train/advantages_std_raw",
        "train/advantages_norm_max_abs",
        "train/advantages_count",
    ),
}
"""Readings without which some rules of a kind cannot tell."""

_DIVERGED_RULES = frozenset({"GradientStaysNonFinite", "ZeroLossHidesNaN", "LossMissing"})


@dataclass(frozen=True)
class AlertSpan:
    """One rule's alert in a log; numbers as the log prints them."""

    rule: str
    severity: Severity
    action: str
    first_update: int
    last_update: int
    reason: str


@dataclass
class Examination:
    """What a log shows.

    Attributes:
        first_bad_update: Number of the first update at which a rule of severity warning or
            critical that went on to fire held; None when none did.
        last_good_update: Number of the last update before it; None when there is none.
        halt_update: Number of the update at which `on_critical="halt"` would have stopped the
            run; None when it would not have.
        partial: Whether part of the log could not be read.
    """

    path: str
    format: str
    run: str
    unit: str
    partial: bool = False
    updates: int = 0
    verdict: VerdictWord = "healthy"
    halt_update: int | None = None
    first_bad_update: int | None = None
    last_good_update: int | None = None
    last_update: int | None = None
    alerts: list[AlertSpan] = field(default_factory=list)
    causes: Sequence[Cause] = ()
    not_checked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    packs: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The contract's object for one run."""
        return {
            "path": self.path,
            "format": self.format,
            "run": self.run,
            "unit": self.unit,
            "partial": self.partial,
            "updates": self.updates,
            "verdict": self.verdict,
            "halt": self.halt_update is not None,
            "halt_update": self.halt_update,
            "first_bad_update": self.first_bad_update,
            "last_good_update": self.last_good_update,
            "alerts": [dataclasses.asdict(alert) for alert in self.alerts],
            "causes": [
                {
                    "cause": cause.name,
                    "title": cause.title,
                    "confidence": cause.confidence,
                    "evidence": list(cause.evidence),
                    "against": list(cause.against),
                }
                for cause in self.causes
            ],
            "not_checked": self.not_checked,
            "notes": self.notes,
            "rules": list(self.packs),
        }


class _Course:
    """What one fold over a log remembers."""

    def __init__(self) -> None:
        self.history: deque[Update] = deque(maxlen=HISTORY)
        self.at_first_alert: list[Update] = []
        self.fired: list[Transition] = []
        self.began: dict[str, tuple[int, int | None]] = {}
        self.spans: dict[str, AlertSpan] = {}
        self.held: dict[str, int] = {}
        self.halt_update: int | None = None
        self.previous: int | None = None
        self.failed = False
        self.count = 0
        self.last: int | None = None

    @property
    def first_bad(self) -> int | None:
        return min(self._serious())[0] if self._serious() else None

    @property
    def last_good(self) -> int | None:
        """The update before the first bad one; the last of all where none is bad."""
        return min(self._serious())[1] if self._serious() else self.last

    def _serious(self) -> list[tuple[int, int | None]]:
        """Number of the first update of each serious alert, and of the one before it."""
        return [self.began[name] for name, span in self.spans.items() if span.severity != "info"]


def examine(log: Log, rules: Sequence[str] | None = None) -> Examination:
    """Fold a log through the rules and say what happened.

    Args:
        log: As `open_logs` gives it; its updates are used up.
        rules: Packs and rule files; None chooses the packs by what the log's metrics tell.
    """
    packs = tuple(rules) if rules else PACKS.get(log.kind, DEFAULT_PACKS)
    kind = "pretrain" if log.kind == "sft" else log.kind
    compiled = load(packs).for_tags({"kind": kind, **log.tags})
    course = fold(compiled, log.updates)
    found = Examination(str(log.path), log.format, log.run, log.unit, packs=packs)
    found.partial, found.notes = log.partial, log.notes
    found.updates, found.last_update = course.count, course.last
    found.alerts = sorted(course.spans.values(), key=lambda span: span.first_update)
    found.halt_update = course.halt_update
    found.first_bad_update = course.first_bad
    found.last_good_update = course.last_good
    found.verdict = _verdict(course)
    if course.fired:
        history = course.at_first_alert or list(course.history)
        found.causes = diagnose(compiled, history, course.fired)
    found.not_checked = not_checked(compiled, log.names, kind or "ppo")
    return found


def fold(rules: RuleSet, updates: Iterable[Update]) -> _Course:
    """Run the engine over updates, as the trainer and the service do."""
    state, course = State(rules), _Course()
    for update in updates:
        state, transitions = step(rules, state, update)
        course.history.append(update)
        course.count += bool(update.readings)
        course.last = update.step if update.readings else course.last
        course.failed |= (update.event or {}).get("kind") == "failed"
        for transition in transitions:
            _note(course, transition, update)
        if state.firing():
            _extend(course, state, update)
        if course.halt_update is None and judge(rules, state).action >= Action.HALT:
            course.halt_update = update.step
        _look_back(course, update)
    return course


def _note(course: _Course, transition: Transition, update: Update) -> None:
    if transition.change in {"pending", "firing"}:
        course.began.setdefault(transition.rule, (update.step, course.previous))
    if transition.change == "cancelled" and transition.rule not in course.spans:
        course.began.pop(transition.rule, None)
    if transition.change == "firing":
        course.fired.append(transition)
        if transition.rule not in course.spans:
            course.spans[transition.rule] = AlertSpan(
                rule=transition.rule,
                severity=transition.severity,
                action=transition.action.word,
                first_update=course.began[transition.rule][0],
                last_update=update.step,
                reason=transition.reason,
            )


def _extend(course: _Course, state: State, update: Update) -> None:
    for name in state.held():
        if name in course.spans:
            course.spans[name] = dataclasses.replace(course.spans[name], last_update=update.step)


def _look_back(course: _Course, update: Update) -> None:
    """Keep the history from before the first alert to a little after it."""
    if course.first_bad is not None and len(course.at_first_alert) < HISTORY:
        course.at_first_alert = course.at_first_alert or list(course.history)[:-1]
        course.at_first_alert.append(update)
    course.previous = update.step if update.readings else course.previous


def _verdict(course: _Course) -> VerdictWord:
    names = set(course.spans)
    critical = {span.rule for span in course.spans.values() if span.severity == "critical"}
    halting = {
        span.rule
        for span in course.spans.values()
        if span.severity == "critical" and span.action in {"halt", "rollback"}
    } - {"AdvantagesBeyondBound"}
    if halting or names & _DIVERGED_RULES:
        return "diverged"
    if course.failed:
        return "died"
    if critical:
        return "exploded"
    serious = any(span.severity == "warning" for span in course.spans.values())
    return "suspicious" if serious else "healthy"


def not_checked(rules: RuleSet, names: Iterable[str], kind: str) -> list[str]:
    """What could not be checked because the log does not hold it."""
    present = {rules.canonical(name) for name in names} | set(names)
    expected = EXPECTED.get(kind, EXPECTED["ppo"])
    return [f"{name} was not logged" for name in expected if name not in present]
