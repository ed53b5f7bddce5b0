"""One fold over a log: what fired when, and the readings around the worst moment."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from watchstep.core.diagnosis.levels import leaps_at
from watchstep.core.diagnosis.steps import LEAPT, LEAPT_WITHIN
from watchstep.core.engine import RuleSet, State, judge, step
from watchstep.core.error_texts import (
    SAYS_LOSS_LOST,
    SAYS_NONFINITE,
    SAYS_TIME_LIMIT,
    failure_rank,
)
from watchstep.core.health import JUDGED_ROLES, REPORTS_TO_JUDGE, Health, HealthTracker
from watchstep.core.roles import is_core
from watchstep.core.stages import NONFINITE, PASSING, STANDSTILL, Mark, onset
from watchstep.core.updates import Action, Severity, Transition, Update
from watchstep.postmortem.readers import endings

HISTORY = 300
"""Updates before the worst moment that a diagnosis looks back on."""
AFTERMATH = 100
"""Updates after it that are kept for the story."""
MOST_EPISODES = 5_000
"""Firings remembered of one log; a rule that flickers all the time needs no more."""

GOES_ON = 5
"""Updates after words of a stop that a trainer may still need for it; after more it went on."""
FEW = 5
"""Rows that tell what a loss was like before its very last reading."""
ENOUGH_GRADIENTS = 3
MOST_NAMES = 10_000
MOST_CHECKPOINTS = 200
HANG = "RunLost"
"""The rule that tells of a run without updates; where its trainer saw it hang, so is that told."""
DEATHS = frozenset({"TrainerFailed", HANG, "RunStalled"})
"""Critical rules that tell of the end of a run, and not of a reason."""

EndWord = Literal["finished", "failed", "halted", "preempted", ""]
"""How a run ended; "" where the log does not say."""

Observer = Callable[[int, Update, State], None]


@dataclass(frozen=True, slots=True)
class AlertSpan:
    """All that one rule did in a log; update numbers as the log prints them.

    Attributes:
        first_update: First update at which the condition held that went on to fire.
        last_update: Last update at which it held.
        lead_updates: Updates with readings between its holding and the damage: the first core
            reading that was lost, the death, or the first critical alert. Negative when it came
            afterwards; None where there was no damage in the last attempt.
        times: How often it began to fire.
        metric: The metric that the rule holds for; "" for a rule about a whole run.
        attempt: The last one in which it fired.
    """

    rule: str
    severity: Severity
    action: str
    first_update: int
    last_update: int
    reason: str
    lead_updates: int | None = None
    times: int = 1
    metric: str = ""
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Episode:
    """One critical rule beginning to fire in the present attempt.

    Attributes:
        row: Position among the log's updates with readings, from 1.
        explodes: Unless it says that nothing is learnt, or tells of a number that may come back.
    """

    rule: str
    action: Action
    row: int
    explodes: bool = True


@dataclass
class LogSummary:
    """What one fold over a log remembers; bounded, however long the log is.

    What went wrong is of the last attempt; only `spans` tells of all of them.

    Attributes:
        tracker: Health, first bad update and leads, as the service keeps them.
        count: Updates with readings.
        before: Those of earlier attempts.
        was_ruined: Whether the attempt before this one had failed or its numbers were lost.
        around: Updates before and after the first critical alert, else the first warning.
        saved: Path and step of the newest checkpoints that the log itself tells of.
        failure: What the trainer said when it died, None when it said nothing, or was resumed.
        ended, ended_words: How the run ended by the trainer's or the scheduler's words, and the
            words.
        hung: How long, and where, the trainer had stood still when the last event came; "" where
            it had not.
        ended_row: `count` when it was said; the newest failure's as well.
        said_lost: Row and update at which it last said in words that the loss is not finite.
        stride: By how much the last two numbers differed.
        reports: Reports in the last attempt of each metric that a run can be judged by, while
            none of them has enough.
        looked_at: How many of `fired` were looked at for `captured`.
        names: Metrics of the last updates with readings, at most some thousands.
        rules: Those that judged, as they were expanded for the run's metrics.
    """

    tracker: HealthTracker
    rules: RuleSet
    count: int = 0
    before: int = 0
    attempts: int = 0
    was_ruined: bool = False
    first: int | None = None
    last: int | None = None
    last_time: float = 0.0
    first_time: float | None = None
    fired: list[Transition] = field(default_factory=list)
    critical: list[Episode] = field(default_factory=list)
    spans: dict[tuple[str, str], AlertSpan] = field(default_factory=dict)
    halt: tuple[int, int] | None = None
    failure: str | None = None
    said_lost: tuple[int, int] | None = None
    stride: int = 1
    reports: dict[str, int] = field(default_factory=dict)
    finished: bool = False
    hung: str = ""
    ended: EndWord = ""
    ended_words: str = ""
    ended_row: int = 0
    names: set[str] = field(default_factory=set)
    saved: dict[str, int] = field(default_factory=dict)
    history: deque[tuple[int, Update]] = field(default_factory=lambda: deque(maxlen=HISTORY))
    around: list[tuple[int, Update]] = field(default_factory=list)
    kept_after: int = 0
    captured: str = ""
    looked_at: int = 0
    began: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def window(self) -> Sequence[tuple[int, Update]]:
        """Row and update around what went wrong; the newest where nothing did."""
        return self.around or list(self.history)

    @property
    def health(self) -> Health:
        """What the last attempt's numbers were at its end."""
        return self.tracker.health

    @property
    def family(self) -> str:
        """The kind of training whose rules judged it, see `watchstep.core.families`."""
        return self.rules.family

    def known_names(self) -> list[str]:
        rules = self.rules
        return [name for name in self.names if name in rules.metrics or rules.targets(name)]

    def warned(self) -> bool:
        """Whether the last attempt had an alert about a reading that did not merely pass.

        What had not been learnt for long, and then was, has passed as well.
        """
        return bool(self.warnings())

    def warnings(self) -> list[AlertSpan]:
        """Those alerts, in the order in which they fired."""
        return [span for span in self._warnings() if not self._has_passed(span.rule)]

    def passed(self) -> list[AlertSpan]:
        """Such alerts that did, in the order in which they fired."""
        return [span for span in self._warnings() if self._has_passed(span.rule)]

    def _warnings(self) -> Iterator[AlertSpan]:
        for span in self.spans.values():
            warns = span.severity != "info" and span.rule not in DEATHS
            if warns and span.attempt == self.attempts:
                yield span

    def _has_passed(self, rule: str) -> bool:
        may_pass = self.rules.stage_label(rule) in (PASSING, "unlearnt")
        return may_pass and not self.tracker.fires(rule)

    def first_bad(self) -> Mark | None:
        """The first sign of what came, by `core`; a death is none in the readings before it."""
        bad = self.tracker.first_bad
        critical = any(episode.rule not in DEATHS for episode in self.critical)
        if bad is not None and (self.warned() or critical or self.health == "diverged"):
            return bad
        leap = self.leap()
        return leap[1] if leap else self.never_finite()

    def never_finite(self) -> Mark | None:
        """The first update, where no core reading was ever finite: too few to ask for patience.

        A log without any is judged by its gradient norms, if they are more than a scaler's first.
        """
        rows, rules = self._latest(), self.rules
        core = {name for name in self.names if is_core(rules.canonical(name), rules.role(name))}
        looked_at = core or {name for name in self.names if rules.role(name) == "grad_norm"}
        least = 1 if core else ENOUGH_GRADIENTS
        readings = [row.readings[name] for row in rows for name in looked_at & set(row.readings)]
        if len(readings) < least or any(map(math.isfinite, readings)) or len(rows) >= HISTORY:
            return None
        return Mark(1, rows[0].seq, rows[0].step)

    def leap(self) -> tuple[str, Mark] | None:
        """The training loss that leaves all that it was a hundredfold behind, and where it does.

        Where the trainer says that the numbers were lost right after it, tenfold is enough.

        Rules want a longer history, since a run that goes on shows what comes of it. Not an agent's
        loss, which follows rewards that may be seldom.
        """
        rows = self._latest()
        if self.family not in ("", "supervised"):
            return None
        for name in {n for n in self.names if self.rules.canonical(n) == "train/loss"}:
            series = [
                (at, row.readings[name]) for at, row in enumerate(rows) if name in row.readings
            ]
            values = [value for _, value in series]
            lost = self.said_lost is not None or SAYS_NONFINITE.search(self.failure or "")
            place = leaps_at(values, 1 if lost else FEW)
            if place is None and lost:
                place = _ran_away_at(values)
            if place is not None:
                at = series[place][0]
                update, before = rows[at], rows[at - 1]
                row = self.count - self.before - len(rows) + at + 1
                return name, Mark(row, update.seq, update.step, before.seq, before.step)
        return None

    def _latest(self) -> list[Update]:
        """The newest updates with readings of the last attempt."""
        return [update for row, update in self.history if row > self.before and update.readings]

    def damage_row(self) -> int | None:
        """The row of the first update whose core readings were lost, or at which the run died."""
        damage = self.tracker.damage
        return None if damage is None else self.before + max(damage.row, 1)

    def lost_at(self) -> int | None:
        """The update at which the numbers were lost by the trainer's own words, None without.

        What kills a trainer is in the update that it never comes to print: only its words can
        name it.
        """
        if self.failure is not None and SAYS_NONFINITE.search(self.failure):
            match = endings.NAMES_UPDATE.search(self.failure)
            return int(match.group(1)) if match else None
        return self.said_lost[1] if self.said_lost else None


def _ran_away_at(values: Sequence[float]) -> int | None:
    """From where on a loss had left its level, if its last few are tenfold all that it was."""
    sizes = [abs(value) for value in values]
    for few in range(LEAPT_WITHIN, FEW + 1):
        if max(sizes[-few:], default=0.0) > LEAPT * max(sizes[:-few], default=math.inf):
            return onset(sizes, is_loss=True)
    return None


def fold(
    rules: RuleSet, updates: Iterable[Update], observers: Sequence[Observer] = ()
) -> LogSummary:
    """Run the engine over updates, as the trainer and the service do.

    Args:
        rules: Already chosen for the run's tags.
        updates: Used up.
        observers: Called after each update with readings: its row from 1, itself, the state.
    """
    state = State(rules)
    summary = LogSummary(_tracker(rules), rules)
    for update in updates:
        if update.attempt > summary.attempts:
            _begin_attempt(summary, update.attempt)
        if _starts_over(summary, update):
            state, summary.tracker = State(rules), _tracker(rules)
            summary.history.clear()
        state, transitions = step(rules, state, update)
        _count(summary, update)
        summary.tracker.update(update, transitions)
        _count_reports(summary, rules, update)
        for transition in transitions:
            _note(summary, transition, update)
        if state.busy and state.firing():
            _extend(summary, state, update)
        if summary.halt is None and summary.spans and judge(rules, state).action >= Action.HALT:
            summary.halt = (summary.count, update.step)
        _capture(summary, update)
        if update.readings:
            for observe in observers:
                observe(summary.count, update, state)
    stopped = ("halted", "preempted", "finished")
    if summary.ended in stopped and summary.count - summary.ended_row > GOES_ON:
        summary.finished = False  # It was only warned of its end, or what was finished was a part.
        _note_end(summary, "", "")
    summary.rules = state.rules
    _add_leads(summary)
    return summary


def _tracker(rules: RuleSet) -> HealthTracker:
    return HealthTracker(rules.role, rules.canonical, rules.stage_label)


def _starts_over(summary: LogSummary, update: Update) -> bool:
    """Whether a run was begun anew from its first number, and not resumed.

    What it was like before then is no measure of it. Where numbers do not begin at 0 or 1, or at
    the first report, the first one may be that of a checkpoint.
    """
    # An attempt may begin with events, which have no number.
    opens = bool(update.readings) and summary.count == summary.before
    if not opens or summary.first is None or update.step > summary.first:
        return False
    if update.step <= max(summary.stride, 1):
        return True
    return summary.was_ruined


def _begin_attempt(summary: LogSummary, attempt: int) -> None:
    """What went wrong in an attempt that was resumed is history."""
    summary.was_ruined = summary.failure is not None or summary.health in ("exploded", "diverged")
    summary.attempts = attempt
    summary.before = summary.count
    summary.fired, summary.critical, summary.around = [], [], []
    summary.reports = {}
    summary.halt = summary.failure = summary.said_lost = None
    summary.captured, summary.kept_after, summary.looked_at = "", 0, 0
    summary.finished, summary.hung = False, ""
    _note_end(summary, "", "")
    summary.began.clear()


def _count_reports(summary: LogSummary, rules: RuleSet, update: Update) -> None:
    enough = max(summary.reports.values(), default=0) >= REPORTS_TO_JUDGE
    for name in () if enough else update.readings:
        if rules.role(name) in JUDGED_ROLES:
            summary.reports[name] = summary.reports.get(name, 0) + 1


def _count(summary: LogSummary, update: Update) -> None:
    if update.readings:
        summary.hung = ""
        summary.count += 1
        if len(summary.names) < MOST_NAMES:
            summary.names.update(update.readings)
        if summary.last is not None and update.step > summary.last:
            summary.stride = update.step - summary.last
        summary.last = update.step
        if summary.first is None:
            summary.first = update.step
        summary.last_time = update.time
        if summary.first_time is None:
            summary.first_time = update.time
    if update.event is not None:
        _count_event(summary, update, update.event)


def _count_event(summary: LogSummary, update: Update, event: Mapping[str, Any]) -> None:
    kind = event.get("kind")
    if kind == "failed":
        _note_failure(summary, str(event.get("error", "")))
    elif kind == "log" and SAYS_LOSS_LOST.search(str(event.get("text", ""))):
        summary.said_lost = (summary.count, update.step)
    elif kind == "checkpoint":
        _note_checkpoint(summary, update, event)
    elif kind == "finished":
        # Words of success end a run well, whatever came before them.
        summary.finished, summary.failure, summary.hung = True, None, ""
        _note_end(summary, "finished", "")
    elif kind == "hung":
        _note_hang(summary, update, event)
    elif kind == "halted":
        summary.finished = True
        _note_end(summary, "halted", str(event.get("reason", "")))
    elif kind == "preempted" and not _just_failed(summary):
        summary.finished = True
        words = str(event.get("reason") or event.get("signal") or "")
        if not (summary.ended == "preempted" and SAYS_TIME_LIMIT.search(summary.ended_words)):
            _note_end(summary, "preempted", words)
    elif kind == "started":
        summary.finished = False
        _note_end(summary, "", "")


def _note_hang(summary: LogSummary, update: Update, event: Mapping[str, Any]) -> None:
    seconds, place = event.get("since_s", 0), str(event.get("innermost", ""))
    words = f"no update for {seconds} s" + (f", in {place}" if place else "")
    if not event.get("moving"):
        summary.hung = words
    before = summary.spans.get((HANG, ""))
    severities = {event.get("severity"), before.severity if before is not None else ""}
    severity: Severity = "critical" if "critical" in severities else "warning"
    first, times = (update.step, 1) if before is None else (before.first_update, before.times + 1)
    summary.spans[HANG, ""] = AlertSpan(
        *(HANG, severity, "none", first, update.step, words), times=times, attempt=update.attempt
    )


def _note_failure(summary: LogSummary, error: str) -> None:
    # Of several in a row the one of a known kind tells most, and the launcher's last line least.
    if not _just_failed(summary) or failure_rank(error) < failure_rank(summary.failure or ""):
        summary.failure = error
    summary.finished = False
    _note_end(summary, "failed", summary.failure or "")


def _just_failed(summary: LogSummary) -> bool:
    return summary.failure is not None and summary.ended_row == summary.count


def _note_end(summary: LogSummary, word: EndWord, words: str) -> None:
    summary.ended, summary.ended_words, summary.ended_row = word, words, summary.count


def _note_checkpoint(summary: LogSummary, update: Update, event: Mapping[str, Any]) -> None:
    path, number = event.get("path"), event.get("step", update.step)
    # Readers of JSON give every number as a float.
    saved_at = int(number) if isinstance(number, int | float) and math.isfinite(number) else None
    if isinstance(path, str) and path and "\0" not in path and saved_at is not None:
        summary.saved.pop(path, None)
        summary.saved[path] = saved_at
        if len(summary.saved) > MOST_CHECKPOINTS:
            del summary.saved[next(iter(summary.saved))]


def _note(summary: LogSummary, transition: Transition, update: Update) -> None:
    key = (transition.rule, transition.subject)
    if transition.change in ("pending", "firing"):
        summary.began.setdefault(key, update.step)
    first = summary.began.get(key, update.step)
    if transition.change in ("cancelled", "resolved"):
        summary.began.pop(key, None)
    if transition.change != "firing":
        return
    if len(summary.fired) < MOST_EPISODES:
        summary.fired.append(transition)
        if transition.severity == "critical":
            stage = summary.rules.stage_label(transition.rule)
            explodes = stage not in STANDSTILL and stage != NONFINITE
            episode = Episode(transition.rule, transition.action, max(summary.count, 1), explodes)
            summary.critical.append(episode)
    span = summary.spans.get(key)
    if span is not None:
        summary.spans[key] = replace(
            span, last_update=update.step, times=span.times + 1, attempt=update.attempt
        )
        return
    summary.spans[key] = AlertSpan(
        rule=transition.rule,
        severity=transition.severity,
        action=transition.action.word,
        first_update=first,
        last_update=update.step,
        reason=transition.reason,
        metric=transition.subject,
        attempt=update.attempt,
    )


def _extend(summary: LogSummary, state: State, update: Update) -> None:
    held = set(state.held())
    for key, span in summary.spans.items():
        if span.rule in held and key in summary.began and span.last_update != update.step:
            summary.spans[key] = replace(span, last_update=update.step)


def _capture(summary: LogSummary, update: Update) -> None:
    """Keep the updates around the first warning, critical alert, or best, that of a ruin."""
    summary.history.append((summary.count, update))
    grade = summary.captured
    if grade != "ruin" and len(summary.fired) > summary.looked_at:
        summary.looked_at = len(summary.fired)
        grades = {_grade(transition, summary.rules) for transition in summary.fired}
        worst = next((word for word in ("ruin", "critical", "warning") if word in grades), "")
        if worst and worst != grade:
            summary.around = list(summary.history)
            summary.captured, summary.kept_after = worst, 0
            return
    if grade and summary.kept_after < AFTERMATH:
        summary.around.append((summary.count, update))
        summary.kept_after += 1


def _grade(transition: Transition, rules: RuleSet) -> str:
    """The severity; of what is critical and no mere standstill "ruin"."""
    is_ruin = transition.severity == "critical" and (
        rules.stage_label(transition.rule) not in STANDSTILL
    )
    return "ruin" if is_ruin else transition.severity


def _add_leads(summary: LogSummary) -> None:
    for lead in summary.tracker.leads():
        span = summary.spans.get((lead.rule, lead.metric))
        if span is not None:
            summary.spans[lead.rule, lead.metric] = replace(span, lead_updates=lead.updates)
