"""One word for what a log shows, and what it cannot show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from watchstep.core.engine import RuleSet
from watchstep.core.error_texts import SAYS_NONFINITE
from watchstep.core.health import REPORTS_TO_JUDGE
from watchstep.core.updates import Action, Severity
from watchstep.postmortem.log_summary import DEATHS, LogSummary

VerdictWord = Literal["unjudged", "healthy", "suspicious", "exploded", "diverged", "died"]

VERDICTS: Mapping[VerdictWord, str] = {
    "unjudged": "nothing fired, and too little was logged to call the run healthy",
    "healthy": "no rule of severity warning or critical fired",
    "suspicious": "warnings, and nothing that proves harm",
    "exploded": "a critical alert while every number stayed finite",
    "diverged": "core readings stay NaN or infinite, or an alert or the trainer says so",
    "died": "the trainer failed, and the readings before it show no reason",
}
"""What each word means, mildest first."""

WELL: frozenset[VerdictWord] = frozenset({"unjudged", "healthy"})
"""Verdicts on runs in which nothing went wrong that can be told."""

SEVERITY_OF: Mapping[VerdictWord, Severity] = {
    "suspicious": "warning",
    "exploded": "critical",
    "diverged": "critical",
    "died": "critical",
}
"""How severe a verdict is by itself: a death counts also under rules that do not know of it."""

EXPECTED: Mapping[str, tuple[str, ...]] = {
    "pretrain": ("train/loss", "train/grad_norm"),
    "grpo": ("train/grad_norm", "train/advantages_std_raw", "train/approx_kl"),
    "dqn": ("train/loss", "train/grad_norm"),
    "sac": ("train/grad_norm",),
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

_ENDS_WITHIN = 5
"""Updates after a demand to halt within which a log that ends has ended of it; as many as the
story takes from explosion to aftermath."""


def verdict_of(summary: LogSummary) -> VerdictWord:
    """The verdict on a fold: the health of the last attempt, and how it ended.

    A critical alert counts also when it ceased: the run has exploded and went on. The numbers are
    lost too when the log breaks off within a few updates of the demand to halt, or when the
    trainer says so in words.
    """
    if summary.health == "diverged" or _ended_of_it(summary):
        return "diverged"
    critical = any(episode.rule not in DEATHS for episode in summary.critical)
    if summary.failure is not None:
        if SAYS_NONFINITE.search(summary.failure):
            return "diverged"
        return "exploded" if critical else "died"
    if critical:
        return "exploded"
    if summary.said_lost is not None:
        # Words without a reading count for as much as what came after them leaves standing.
        ended = not summary.finished and summary.count - summary.said_lost[0] < _ENDS_WITHIN
        return "diverged" if ended else "suspicious"
    return "suspicious" if summary.warned() else summary.health


def _ended_of_it(summary: LogSummary) -> bool:
    halting = [
        episode.row
        for episode in summary.critical
        # A proof of a bug in the code demands a halt, but is no ruin by itself.
        if episode.action >= Action.HALT
        and "BeyondBound" not in episode.rule
        and episode.rule not in DEATHS
    ]
    if not halting or summary.finished:
        return False
    return summary.count - min(halting) < _ENDS_WITHIN


def unjudged_because(summary: LogSummary) -> str:
    """What is missing before the last attempt can be called healthy; "" when nothing is."""
    if summary.health != "unjudged":
        return ""
    if not summary.reports:
        return "no loss, reward, value, KL or entropy was logged"
    name = max(summary.reports, key=lambda metric: summary.reports[metric])
    return (
        f"the log is too short: {name} was reported {summary.reports[name]} times, and "
        f"{REPORTS_TO_JUDGE} reports are needed before a run is called healthy"
    )


def not_checked(rules: RuleSet, names: Iterable[str], kind: str, summary: LogSummary) -> list[str]:
    """What could not be checked, a sentence each, because the log does not hold it."""
    names = set(names)
    present = {rules.canonical(name) for name in names} | names
    expected = EXPECTED.get(kind, EXPECTED["ppo"])
    missing = [f"{name} was not logged" for name in expected if name not in present]
    if names and not any(rules.targets(name) for name in names):
        some = ", ".join(sorted(names)[:5])
        missing.insert(0, f"no rule knows any of the log's readings ({some})")
    if not summary.finished and summary.failure is None and summary.last is not None:
        missing.append(
            f"the log ends at update {summary.last} without saying that the run finished: "
            "a crash or a kill after it would not show"
        )
    return missing
