"""Rules against labelled logs: what they catch, how soon, and what they raise for nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from watchstep.core.engine import RuleSet, State, judge, step
from watchstep.core.updates import Action, Update

Label = Literal["healthy", "transient", "faulty", "unlabelled"]

HARMLESS_LABELS = frozenset({"healthy", "benign_fault"})
"""Labels of a manifest under which every alert is a false one."""


@dataclass(frozen=True, slots=True)
class LabelledRun:
    """One log and what is known about it.

    Attributes:
        run: Its name in reports.
        updates: Read once.
        label: "healthy" (any alert is false), "transient" (recovers by itself: a warning is
            right, a critical alert or a halt is false), "faulty", or "unlabelled".
        fault_from: For a faulty run the number of the update from which the fault is there,
            None for all along: what fires before counts as false.
        first_bad: The update whose readings first show it, where known, for the lag.
        by_step: Whether these numbers are the trainer's steps as printed, rather than
            positions in the log.
        tags: For rules with `where`.
    """

    run: str
    updates: Iterable[Update]
    label: Label = "unlabelled"
    fault_from: int | None = None
    first_bad: int | None = None
    by_step: bool = True
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Score:
    """How one rule, or all of them together, did over many runs.

    Attributes:
        firings: Times it began to fire, over all runs.
        caught: Faulty runs in which it fired once the fault was there.
        lags: For every caught run with a known first bad update, updates from there to the
            alert; negative is a lead.
        false_alarms: Times it began to fire in healthy runs, in transient ones if critical,
            and before the fault in faulty ones.
        alarmed_healthy_runs: Healthy runs with at least one of these.
    """

    rule: str
    severity: str
    firings: int = 0
    caught: int = 0
    lags: list[int] = field(default_factory=list)
    false_alarms: int = 0
    alarmed_healthy_runs: int = 0


@dataclass(slots=True)
class Report:
    """The whole backtest.

    Attributes:
        scores: One a rule, in the order of the rules.
        runs: Runs by label.
        healthy_updates: Updates of healthy runs.
        halted: Runs that some rule would have halted: run, label, update.
        critical: Faulty runs with a critical alert once the fault was there.
        answers: By rule, how many of its alerts people called right and how many false; None
            where nobody was asked.
    """

    scores: list[Score]
    runs: dict[str, int] = field(default_factory=dict)
    healthy_updates: int = 0
    halted: list[tuple[str, str, int]] = field(default_factory=list)
    critical: int = 0
    answers: Mapping[str, tuple[int, int]] | None = None

    def rows(self) -> list[dict[str, Any]]:
        """One plain mapping a rule; rates are None where there is nothing to divide by."""
        healthy, faulty = self.runs.get("healthy", 0), self.runs.get("faulty", 0)
        return [
            {
                "rule": score.rule,
                "severity": score.severity,
                "firings": score.firings,
                "faulty_runs": faulty,
                "caught": score.caught,
                "median_lag_updates": median(score.lags) if score.lags else None,
                "false_alarms": score.false_alarms,
                "false_alarms_per_1000_healthy_updates": _rate(
                    1000 * score.false_alarms, self.healthy_updates
                ),
                "healthy_runs": healthy,
                "alarmed_healthy_runs": score.alarmed_healthy_runs,
                "false_alarms_per_healthy_run": _rate(score.false_alarms, healthy),
            }
            | self._answered(score.rule)
            for score in self.scores
        ]

    def _answered(self, rule: str) -> dict[str, int]:
        if self.answers is None:
            return {}
        right, false = self.answers.get(rule, (0, 0))
        return {"answered_right": right, "answered_false": false}


def backtest(rules: RuleSet, runs: Iterable[LabelledRun]) -> Report:
    """Fold every run through the rules and count.

    Args:
        rules: The whole set; `where` is applied to each run's tags.
        runs: Read one after the other.
    """
    report = Report([Score(rule.name, rule.severity) for rule in rules.rules])
    for run in runs:
        report.runs[run.label] = report.runs.get(run.label, 0) + 1
        _judge_run(rules, run, report)
    return report


def _judge_run(rules: RuleSet, run: LabelledRun, report: Report) -> None:
    chosen = rules.for_tags(run.tags)
    state = State(chosen)
    fired: dict[str, list[int]] = {}
    halted = False
    for number, update in enumerate(run.updates, start=1):
        state, transitions = step(chosen, state, update)
        shown = update.step if run.by_step else number
        for transition in transitions:
            if transition.change == "firing":
                fired.setdefault(transition.rule, []).append(shown)
        if not halted and judge(chosen, state).action >= Action.HALT:
            halted = True
            report.halted.append((run.run, run.label, shown))
        report.healthy_updates += run.label == "healthy"
    scores = {score.rule: score for score in report.scores}
    caught = [_count(scores[rule], run, at) for rule, at in fired.items()]
    report.critical += "critical" in caught


def _count(score: Score, run: LabelledRun, at: Sequence[int]) -> str:
    """Add one run's firings to a rule's score; its severity where they caught a fault."""
    score.firings += len(at)
    if run.label == "healthy":
        score.false_alarms += len(at)
        score.alarmed_healthy_runs += 1
    elif run.label == "transient" and score.severity == "critical":
        score.false_alarms += len(at)
    if run.label != "faulty":
        return ""
    right = [number for number in at if run.fault_from is None or number >= run.fault_from]
    score.false_alarms += len(at) - len(right)
    if not right:
        return ""
    score.caught += 1
    if run.first_bad is not None:
        score.lags.append(right[0] - run.first_bad)
    return score.severity


def _rate(count: int, of: int) -> float | None:
    return round(count / of, 4) if of else None
