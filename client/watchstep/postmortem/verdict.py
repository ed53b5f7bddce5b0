"""One word for what a log shows, and what it cannot show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from watchstep.core.engine import RuleSet
from watchstep.core.error_texts import SAYS_NONFINITE
from watchstep.core.updates import Action, Severity
from watchstep.postmortem.log_summary import DEATHS, LogSummary

VerdictWord = Literal["healthy", "suspicious", "exploded", "diverged", "died"]

VERDICTS: Mapping[VerdictWord, str] = {
    "healthy": "no rule of severity warning or critical fired",
    "suspicious": "warnings, and nothing that proves harm",
    "exploded": "a critical alert while every number stayed finite",
    "diverged": "the numbers are lost: not finite, hidden, or the log ends in ruin",
    "died": "the trainer failed, and the readings before it show no reason",
}
"""What each word means, mildest first."""

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

_LOST = frozenset(
    {
        "LossNonFinite",
        "LossesStayNonFinite",
        "GradientStaysNonFinite",
        "ZeroLossHidesNaN",
        "LossMissing",
        "LossDoubled",
        "ParametersNonFinite",
    }
)
"""Shipped rules that say that the numbers are lost, also where no core reading shows it."""
_ENDS_WITHIN = 5
"""Updates after a demand to halt within which a log that ends has ended of it; as many as the
story takes from explosion to aftermath."""


def verdict_of(summary: LogSummary) -> VerdictWord:
    """The verdict on a fold.

    A run whose numbers explode and which goes on with finite ones has exploded. It has
    diverged when core readings stop being finite, when a shipped rule proves that NaN is
    hidden, when the loss never comes back, when the log breaks off within a few updates of
    the demand to halt, or when the trainer says in words that its numbers are lost.
    """
    critical = [one for one in summary.critical() if one.rule not in DEATHS]
    if any(one.rule in _LOST for one in critical) or (critical and summary.core_nonfinite):
        return "diverged"
    if critical and _ended_of_it(summary):
        return "diverged"
    if summary.failure is not None:
        said = SAYS_NONFINITE.search(summary.failure)
        return "diverged" if said else "exploded" if critical else "died"
    if critical:
        return "exploded"
    if summary.said_lost is not None:
        # Words without a reading count for as much as what came after them leaves standing.
        ended = not summary.finished and summary.count - summary.said_lost[0] < _ENDS_WITHIN
        return "diverged" if ended else "suspicious"
    # Critical here is only a death from which the run was resumed.
    serious = any(span.severity != "info" for span in summary.spans.values())
    return "suspicious" if serious else "healthy"


def _ended_of_it(summary: LogSummary) -> bool:
    halting = [
        one.row
        for one in summary.critical()
        # A proof of a bug in the code demands a halt, but is no ruin by itself.
        if one.action >= Action.HALT and "BeyondBound" not in one.rule
    ]
    if not halting or summary.finished:
        return False
    return summary.count - min(halting) < _ENDS_WITHIN


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
