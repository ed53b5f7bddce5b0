"""One fold over a log: what fired when, and the readings around the worst moment."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from watchstep.core.diagnosis.columns import CORE
from watchstep.core.engine import RuleSet, State, judge, step
from watchstep.core.error_texts import SAYS_NONFINITE
from watchstep.core.updates import Action, Severity, Transition, Update
from watchstep.postmortem.readers import endings

HISTORY = 300
"""Updates before the worst moment that a diagnosis looks back on."""
AFTERMATH = 100
"""Updates after it that are kept for the story."""
LEAD_UPDATES = 100
"""A warning further ahead of the first critical alert than this is not counted as its sign."""
MOST_EPISODES = 5_000
"""Firings remembered of one log; a rule that flickers all the time needs no more."""

MOST_CHECKPOINTS = 200
DEATHS = frozenset({"TrainerFailed", "RunStalled"})
"""Critical rules that tell of the end of a run, and not of a reason."""

Observer = Callable[[int, Update, State], None]


@dataclass(frozen=True, slots=True)
class AlertSpan:
    """All that one rule did in a log; update numbers as the log prints them.

    Attributes:
        first_update: First update at which the condition held that went on to fire.
        last_update: Last update at which it held.
        lead_updates: Updates with readings between its holding and the damage: the first
            core reading that is not finite, the death, or the first critical alert. Negative
            when it came afterwards; None where there was no damage.
        times: How often it began to fire.
    """

    rule: str
    severity: Severity
    action: str
    first_update: int
    last_update: int
    reason: str
    lead_updates: int | None = None
    times: int = 1


@dataclass(frozen=True, slots=True)
class Episode:
    """One rule beginning to hold, and then to fire.

    Attributes:
        row: Position among the updates with readings, from 1.
        previous: Number of the update with readings before it; None at the first.
        seq: Of the update at which it fired.
    """

    rule: str
    severity: Severity
    action: Action
    row: int
    update: int
    previous: int | None
    seq: int


@dataclass
class LogSummary:
    """What one fold over a log remembers; bounded, however long the log is.

    Attributes:
        count: Updates with readings.
        around: Updates before and after the first critical alert, else the first warning.
        saved: Path and step of the newest checkpoints that the log itself tells of.
        failure: What the trainer said when it died, None when it said nothing, or was resumed.
        said_lost: Row and update at which it last said in words that the loss is not finite.
        stride: By how much the last two numbers differed.
        core_nonfinite: Whether a core reading was not finite while a critical alert fired.
        held_at_end: Rules whose condition held at the last update.
    """

    count: int = 0
    attempts: int = 0
    last: int | None = None
    previous: int | None = None
    last_time: float = 0.0
    first_time: float | None = None
    fired: list[Transition] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)
    spans: dict[str, AlertSpan] = field(default_factory=dict)
    halt: tuple[int, int] | None = None
    failure: str | None = None
    said_lost: tuple[int, int] | None = None
    stride: int = 1
    failed_attempt: int = 0
    finished: bool = False
    core_nonfinite: bool = False
    damage_row: int | None = None
    held_at_end: tuple[str, ...] = ()
    saved: dict[str, int] = field(default_factory=dict)
    history: deque[tuple[int, Update]] = field(default_factory=lambda: deque(maxlen=HISTORY))
    around: list[tuple[int, Update]] = field(default_factory=list)
    kept_after: int = 0
    captured: str = ""
    began: dict[str, tuple[int, int, int | None]] = field(default_factory=dict)

    @property
    def window(self) -> Sequence[tuple[int, Update]]:
        """Row and update around what went wrong; the newest where nothing did."""
        return self.around or list(self.history)

    def critical(self) -> list[Episode]:
        """Firings of critical rules."""
        return [one for one in self.episodes if one.severity == "critical"]

    def first_bad(self) -> Episode | None:
        """The earliest sign of the first critical alert; without one, the first warning."""
        critical = self.critical()
        # A death is no sign in the readings before it; see `lost_at`.
        serious = [
            one for one in self.episodes if one.severity != "info" and one.rule not in DEATHS
        ]
        if critical:
            worst = min(one.row for one in critical)
            serious = [one for one in serious if 0 <= worst - one.row <= LEAD_UPDATES]
        return min(serious, key=lambda one: one.row, default=None)

    def lost_at(self) -> int | None:
        """The update at which the numbers were lost by the trainer's own words, None without.

        It is the number that the words name, else the next one that would have been printed:
        what kills a trainer is in the update that it never comes to print.
        """
        if self.failure is not None and SAYS_NONFINITE.search(self.failure):
            named = endings.NAMES_UPDATE.search(self.failure)
            if named:
                return int(named.group(1))
            return None if self.last is None else self.last + self.stride
        return self.said_lost[1] if self.said_lost else None


def fold(
    rules: RuleSet, updates: Iterable[Update], observers: Sequence[Observer] = ()
) -> LogSummary:
    """Run the engine over updates, as the trainer and the service do.

    Args:
        rules: Already chosen for the run's tags.
        updates: Used up.
        observers: Called after each update with readings: its row from 1, itself, the state.
    """
    state, summary = State(rules), LogSummary()
    for update in updates:
        state, transitions = step(rules, state, update)
        _count(summary, update)
        for transition in transitions:
            _note(summary, transition, update)
        if state.firing():
            _extend(summary, state, update)
        if summary.halt is None and summary.spans and judge(rules, state).action >= Action.HALT:
            summary.halt = (summary.count, update.step)
        _capture(summary, update)
        if summary.captured == "critical":
            _look_for_damage(summary, rules, update)
        if update.readings:
            summary.previous = update.step
            for observe in observers:
                observe(summary.count, update, state)
    summary.held_at_end = state.held()
    return _with_leads(summary)


def _count(summary: LogSummary, update: Update) -> None:
    summary.attempts = max(summary.attempts, update.attempt)
    if update.readings:
        summary.count += 1
        if summary.last is not None and update.step > summary.last:
            summary.stride = update.step - summary.last
        if update.attempt > summary.failed_attempt:
            # It was resumed, and whatever killed it is behind it.
            summary.failure = None
        summary.last = update.step
        summary.last_time = update.time
        if summary.first_time is None:
            summary.first_time = update.time
    kind = (update.event or {}).get("kind")
    if kind == "failed":
        summary.failure = str((update.event or {}).get("error", ""))
        summary.failed_attempt = update.attempt
    elif kind == "log" and endings.SAYS_LOSS_LOST.search(str((update.event or {}).get("text", ""))):
        summary.said_lost = (summary.count, update.step)
    elif kind == "checkpoint":
        _note_checkpoint(summary, update)
    elif kind in ("finished", "halted"):
        summary.finished = True
    elif kind == "started":
        summary.finished = False


def _note_checkpoint(summary: LogSummary, update: Update) -> None:
    event = update.event or {}
    path, number = event.get("path"), event.get("step", update.step)
    # Readers of JSON give every number as a float.
    saved_at = int(number) if isinstance(number, int | float) and math.isfinite(number) else None
    if isinstance(path, str) and path and "\0" not in path and saved_at is not None:
        summary.saved.pop(path, None)
        summary.saved[path] = saved_at
        if len(summary.saved) > MOST_CHECKPOINTS:
            del summary.saved[next(iter(summary.saved))]


def _note(summary: LogSummary, transition: Transition, update: Update) -> None:
    name = transition.rule
    if transition.change in ("pending", "firing"):
        summary.began.setdefault(name, (max(summary.count, 1), update.step, summary.previous))
    if transition.change in ("cancelled", "resolved"):
        summary.began.pop(name, None)
    if transition.change != "firing":
        return
    row, first, previous = summary.began[name]
    if len(summary.episodes) < MOST_EPISODES or name not in summary.spans:
        summary.fired.append(transition)
        summary.episodes.append(
            Episode(
                rule=name,
                severity=transition.severity,
                action=transition.action,
                row=row,
                update=first,
                previous=previous,
                seq=transition.seq,
            )
        )
    span = summary.spans.get(name)
    if span is not None:
        summary.spans[name] = replace(span, last_update=update.step, times=span.times + 1)
        return
    summary.spans[name] = AlertSpan(
        rule=name,
        severity=transition.severity,
        action=transition.action.word,
        first_update=first,
        last_update=update.step,
        reason=transition.reason,
    )


def _extend(summary: LogSummary, state: State, update: Update) -> None:
    for name in state.held():
        span = summary.spans.get(name)
        if span is not None and span.last_update != update.step:
            summary.spans[name] = replace(span, last_update=update.step)


def _capture(summary: LogSummary, update: Update) -> None:
    """Keep the updates around the first warning, or better, the first critical alert."""
    summary.history.append((summary.count, update))
    grade = summary.captured
    if grade != "critical" and summary.spans:
        severities = {span.severity for span in summary.spans.values()}
        found = next((one for one in ("critical", "warning") if one in severities), "")
        if found and found != grade:
            summary.around = list(summary.history)
            summary.captured, summary.kept_after = found, 0
            return
    if grade and summary.kept_after < AFTERMATH:
        summary.around.append((summary.count, update))
        summary.kept_after += 1


def _look_for_damage(summary: LogSummary, rules: RuleSet, update: Update) -> None:
    if summary.damage_row is not None:
        return
    for name, value in update.readings.items():
        if value - value != 0.0 and rules.canonical(name) in CORE:
            summary.core_nonfinite = True
    died = (update.event or {}).get("kind") == "failed"
    if summary.core_nonfinite or died:
        summary.damage_row = max(summary.count, 1)


def _with_leads(summary: LogSummary) -> LogSummary:
    critical = summary.critical()
    damage = summary.damage_row
    if damage is None:
        damage = min((one.row for one in critical), default=None)
    if damage is None:
        return summary
    for name, episodes in itertools.groupby(
        sorted(summary.episodes, key=lambda one: (one.rule, one.row)), key=lambda one: one.rule
    ):
        lead = damage - min((one.row for one in episodes), key=lambda row: (abs(damage - row), row))
        summary.spans[name] = replace(summary.spans[name], lead_updates=lead)
    return summary
