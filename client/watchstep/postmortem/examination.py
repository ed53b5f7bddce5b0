"""The verdict on one old log, from the same engine and rules as live."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from watchstep.core.diagnosis import CONDITIONS, NOT_ENOUGH, Cause, conditions, diagnose
from watchstep.core.engine import RuleSet
from watchstep.core.error_texts import failure_title
from watchstep.core.stages import Mark, Story, story
from watchstep.core.updates import Transition, Update
from watchstep.masking import masked_event
from watchstep.postmortem.checklist import Item, checklist
from watchstep.postmortem.checkpoints import Good, Search, search
from watchstep.postmortem.downsampled_series import DownsampledSeries
from watchstep.postmortem.log_summary import DEATHS, AlertSpan, EndWord, LogSummary, Observer, fold
from watchstep.postmortem.readers import Log
from watchstep.postmortem.verdict import (
    VERDICTS,
    WELL,
    VerdictWord,
    in_words,
    not_checked,
    unjudged_because,
    verdict_of,
)
from watchstep.rules import AUTO, PACKS_TAG, judging, loaded, packs_for, packs_named
from watchstep.wire.text import number_to_json

__all__ = ["AlertSpan", "Examination", "Stretch", "chosen_rules", "examine"]

_STEP_COUNTERS = ("time/total_timesteps", "total_timesteps", "global_step", "step", "Step")


@dataclass(frozen=True, slots=True)
class Stretch:
    """One stage of the story, in the log's own numbers."""

    stage: str
    first_update: int
    last_update: int


@dataclass
class Examination:
    """What a log shows.

    Attributes:
        partial: Whether part of the log could not be read.
        halt_update: Number of the update at which `on_critical="halt"` would have stopped the
            run; None when it would not have.
        unjudged_because: What is missing before the run can be called healthy.
        first_bad_update: Number of the first sign of the first critical alert, or of the
            first warning; None when there was neither.
        last_good_update: Number of the last update before it, the log's last when nothing
            was bad; None when there is none.
        wasted_updates: Updates with readings from the first bad one to the end.
        saved_updates: Of these, how many a halt would have spared.
        trigger: Under which condition it began, as far as can be told; "" otherwise.
        ended, ended_words: How the run ended and what the log says of it; "" where it does not.
        verdict_because: Which of the verdict's meanings holds, a sentence without its full stop.
        seconds: Length of the log on the trainer's clock; NaN when it has none.
        downsampled: The metrics' summary, where it was asked for.
        rule_set: The rules that judged.
    """

    path: str
    format: str
    run: str
    unit: str
    kind: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    partial: bool = False
    updates: int = 0
    attempts: int = 1
    verdict: VerdictWord = "healthy"
    halt_update: int | None = None
    first_bad_update: int | None = None
    last_good_update: int | None = None
    first_update: int | None = None
    last_update: int | None = None
    wasted_updates: int = 0
    saved_updates: int = 0
    alerts: list[AlertSpan] = field(default_factory=list)
    causes: Sequence[Cause] = ()
    stages: Sequence[Stretch] = ()
    items: Sequence[Item] = ()
    trigger: str = ""
    failure: str | None = None
    ended: EndWord = ""
    ended_words: str = ""
    hung: str = ""
    verdict_because: str = ""
    checkpoints: Search = field(default_factory=Search)
    not_checked: list[str] = field(default_factory=list)
    unjudged_because: str = ""
    notes: list[str] = field(default_factory=list)
    packs: tuple[str, ...] = ()
    seconds: float = math.nan
    downsampled: DownsampledSeries | None = None
    rule_set: RuleSet | None = None

    @property
    def is_explained(self) -> bool:
        """Whether a cause is named."""
        return bool(self.causes) and self.causes[0].name != NOT_ENOUGH

    @property
    def readings_tell(self) -> bool:
        """Whether the cause shows in the readings, and not in the end alone."""
        return self.is_explained and self.causes[0].name != "silent-death"

    def why(self) -> str:
        """In a few words the likeliest cause, else the first critical alert, else what was said.

        Of a death the error tells more than any statistics.
        """
        if self.verdict == "died" and (title := failure_title(self.failure or "")):
            return title
        if self.is_explained:
            return f"{self.causes[0].title} ({self.causes[0].confidence:.0%})"
        for severity in ("critical", "warning"):
            for alert in self.alerts:
                is_present = alert.severity == severity and alert.attempt == self.attempts
                if is_present and alert.rule not in DEATHS:
                    return in_words(alert, self.rule_set)
        return self.failure or ""

    def as_json(self) -> dict[str, Any]:
        """The contract's object for one run, and more."""
        best = self.checkpoints.best
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "tags": dict(self.tags),
            "why": self.why(),
            "halt": self.halt_update is not None,
            "alerts": [dataclasses.asdict(alert) for alert in self.alerts],
            "causes": [_cause_json(cause) for cause in self.causes],
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
            "checklist": [_item_json(item) for item in self.items],
            "checkpoint": best.as_json() if best else None,
            "checkpoints_refused": [refused.as_json() for refused in self.checkpoints.refused],
            "rules": list(self.packs),
        }


_PLAIN = (
    *("path", "format", "run", "unit", "kind", "partial", "updates", "verdict", "verdict_because"),
    *("halt_update", "first_bad_update", "last_good_update", "last_update", "wasted_updates"),
    *("saved_updates", "ended", "ended_words", "failure", "trigger", "unjudged_because"),
    *("not_checked", "notes"),
)
"""Attributes of an examination that are plain JSON as they are."""


def examine(
    log: Log,
    rules: Sequence[str] | None = None,
    *,
    draw: bool = False,
    explain: bool = True,
    look_beside: bool = True,
    observers: Sequence[Observer] = (),
) -> Examination:
    """Fold a log through the rules and say what happened.

    Args:
        log: As `open_logs` gives it; its updates are used up.
        rules: Packs and rule files; None chooses those that the trainer did,
            or else the packs by what the log's metrics tell.
        draw: Whether to keep what a chart needs.
        explain: Whether to look for causes, and for checkpoints.
        look_beside: Whether the log's own machine is this one. If not, no file is looked for:
            neither beside the log nor where a stranger's log says that there are checkpoints.

    Raises:
        RuleError: A rule file is wrong.
    """
    packs, compiled = chosen_rules(log, rules)
    downsampled = DownsampledSeries(compiled) if draw else None
    watching = [*observers, *([downsampled.observe] if downsampled else [])]
    summary = fold(compiled, map(_masked, log.updates), watching)
    bad = summary.first_bad()
    lost_at = None if bad else summary.lost_at()
    # Where the row carries no number, which update it was is unknown: none beats a wrong one.
    unnumbered = log.unnumbered | set(log.unnumbered_first)
    numbered = bad is None or summary.before + bad.row not in unnumbered
    verdict, because = verdict_of(summary, log.unit)
    examination = Examination(
        path=str(log.path),
        format=log.format,
        run=log.run,
        unit=log.unit,
        kind=log.kind,
        tags=dict(log.tags),
        partial=log.partial,
        updates=summary.count,
        attempts=summary.attempts,
        verdict=verdict,
        verdict_because=because,
        halt_update=summary.halt[1] if summary.halt else None,
        first_bad_update=(bad.step if numbered else None) if bad else lost_at,
        last_good_update=_last_good(summary, bad, lost_at, log),
        first_update=summary.first,
        last_update=summary.last,
        wasted_updates=summary.count - summary.before - bad.row + 1 if bad else 0,
        saved_updates=summary.count - summary.halt[0] if summary.halt else 0,
        alerts=sorted(summary.spans.values(), key=lambda span: (span.first_update, span.rule)),
        stages=_stages(summary, _story(compiled, summary)),
        failure=summary.failure,
        ended=summary.ended,
        ended_words=summary.ended_words,
        hung=summary.hung,
        not_checked=not_checked(log.names, log.kind, summary),
        unjudged_because=unjudged_because(summary),
        notes=log.notes,
        packs=packs_for(summary.family) if packs == (AUTO,) else packs,
        seconds=_seconds(summary),
        downsampled=downsampled,
        rule_set=compiled,
    )
    if explain and examination.verdict not in WELL:
        _explain(examination, compiled, summary)
    if explain:
        examination.trigger = _trigger(examination.causes, compiled, summary)
    if explain and look_beside and examination.verdict not in WELL:
        examination.checkpoints = search(log.path, _good(summary, examination), summary.saved)
    return examination


def _masked(update: Update) -> Update:
    # The report is passed on; what the program printed was not meant for that.
    return update._replace(event=masked_event(update.event)) if update.event else update


def _last_good(summary: LogSummary, bad: Mark | None, lost_at: int | None, log: Log) -> int | None:
    first_bad: int | None = lost_at if bad is None else bad.step
    if first_bad is None:
        return summary.last
    if bad is not None and summary.before + bad.row - 1 in log.unnumbered_first:
        return None  # What stands before the first printed number was counted, and not by the log.
    # A row without a number was given that of the printed row before it.
    unnumbered = bad is not None and summary.before + bad.row in log.unnumbered
    if bad and bad.previous_step is not None and (unnumbered or bad.previous_step != first_bad):
        return bad.previous_step
    # Several rows may carry the number of the first bad one.
    steps = [update.step for _, update in summary.window if update.readings]
    # A trainer that names the update at which it gave up had looked at those before it.
    checked = first_bad > 0 and summary.failure is not None and summary.lost_at() == first_bad
    before = (step for step in reversed(steps) if step < first_bad)
    return next(before, first_bad - 1 if checked else None)


def chosen_rules(log: Log, rules: Sequence[str] | None) -> tuple[tuple[str, ...], RuleSet]:
    """Names of the packs and files that fit a log, and their rules for its tags.

    A log of the hook tells the packs that its trainer chose, as the service takes them.

    Raises:
        RuleError: A rule file is wrong.
    """
    named = packs_named(log.tags.get(PACKS_TAG, ""))
    packs = tuple(map(str, judging(rules or named or (AUTO,))))
    kind = "pretrain" if log.kind == "sft" else log.kind
    return packs, loaded(packs).for_tags({"kind": kind, **log.tags})


def _explain(examination: Examination, rules: RuleSet, summary: LogSummary) -> None:
    window = summary.window
    updates = [update for _, update in window]
    alerts = _alerts_within(summary)
    examination.causes = diagnose(rules, updates, alerts)
    if examination.verdict_because == VERDICTS["died"] and examination.readings_tell:
        examination.verdict_because = "the trainer failed, and the readings before it tell why"
    if summary.family == "on_policy":
        examination.items = checklist(rules, window, _crash_row(summary))


def _alerts_within(summary: LogSummary) -> list[Transition]:
    """Firings up to the end of what was kept around the damage."""
    if not summary.window:
        return []
    last = summary.window[-1][1]
    return [edge for edge in summary.fired if (edge.attempt, edge.seq) <= (last.attempt, last.seq)]


def _crash_row(summary: LogSummary) -> int:
    damage = summary.damage_row()
    if damage is not None:
        return damage
    return min((episode.row for episode in summary.critical), default=summary.count)


def _trigger(causes: Sequence[Cause], rules: RuleSet, summary: LogSummary) -> str:
    """The condition that the run was in before anything went wrong; of a healthy run, is in."""
    if causes and causes[0].name in CONDITIONS:
        return causes[0].title
    bad = summary.first_bad()
    before = [update for row, update in summary.window if bad is None or row < bad.row]
    condition = next(iter(conditions(rules, before)), None)
    return "" if condition is None else f"{condition.title}. {condition.watch}"


def _story(rules: RuleSet, summary: LogSummary) -> Story | None:
    if not summary.warned():
        return None
    return story(rules, _alerts_within(summary), [update for _, update in summary.window])


def _stages(summary: LogSummary, story_so_far: Story | None) -> list[Stretch]:
    """The story's phases in the log's numbers; the last goes on to the end of the log."""
    if story_so_far is None or summary.last is None:
        return []
    numbers = {
        update.seq: update.step
        for _, update in summary.window
        if update.attempt == story_so_far.attempt
    }
    stretches = [
        Stretch(
            phase.stage,
            numbers.get(phase.first_update, summary.last),
            numbers.get(phase.last_update, summary.last),
        )
        for phase in story_so_far.phases
    ]
    if stretches and story_so_far.attempt == summary.attempts:
        stretches[-1] = dataclasses.replace(stretches[-1], last_update=summary.last)
    return stretches


def _seconds(summary: LogSummary) -> float:
    if summary.first_time is None:
        return math.nan
    # A log without a clock has its rows counted as seconds since the epoch.
    return summary.last_time - summary.first_time if summary.first_time > 1e6 else math.nan


def _good(summary: LogSummary, examination: Examination) -> Good:
    """The last good update, as the log numbers it and as the trainer counts its steps."""
    steps = [
        int(update.readings[name])
        for _, update in summary.window
        if update.step == examination.last_good_update
        for name in _STEP_COUNTERS
        if math.isfinite(update.readings.get(name, math.nan))
    ]
    return Good(examination.last_good_update, examination.last_update, max(steps, default=None))


def _cause_json(cause: Cause) -> dict[str, Any]:
    return {
        "cause": cause.name,
        "title": cause.title,
        "confidence": cause.confidence,
        "evidence": list(cause.evidence),
        "against": list(cause.against),
    }


def _item_json(item: Item) -> dict[str, Any]:
    value = None if item.update is None else number_to_json(item.found)
    return {**dataclasses.asdict(item), "found": value}
