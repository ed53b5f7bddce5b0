"""One word for what a log shows, and what it cannot show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from watchstep.core.error_texts import SAYS_NONFINITE, failure_title
from watchstep.core.health import REPORTS_TO_JUDGE
from watchstep.core.rules import filled
from watchstep.core.ruleset import RuleSet
from watchstep.core.stages import NONFINITE
from watchstep.core.updates import Action, Severity
from watchstep.postmortem.log_summary import DEATHS, AlertSpan, Episode, LogSummary

VerdictWord = Literal["unjudged", "healthy", "suspicious", "exploded", "diverged", "died"]

VERDICTS: Mapping[VerdictWord, str] = {
    "unjudged": "no warning fired, and too little was logged to call the run healthy",
    "healthy": "no rule of severity warning or critical fired",
    "suspicious": "warnings, or a run that learns nothing; no number that has exploded",
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
        *("train/policy_loss", "train/value_loss", "train/approx_kl", "train/grad_norm"),
        *("train/advantages_std_raw", "train/advantages_norm_max_abs", "train/advantages_count"),
    ),
}
"""Readings without which some rules of a kind cannot tell, by `Log.kind`."""

_BY_ROLE = frozenset({"signed_loss", "loss", "kl", "grad_norm"})
"""Roles of which one metric says what the expected one of that role would; the sum of a policy's
losses is none of its parts."""

_KIND_OF_FAMILY = {"on_policy": "ppo", "grpo": "grpo", "off_policy": "sac"}
_OF_GRADIENTS = re.compile(
    r"grad|(?:^|[^a-z])lr(?:$|[^a-z])|learning_?rate|momentum|loss_?scale", re.I
)
"""Names that only a trainer has that descends along a gradient; trees are boosted without one."""

_ENDS_WITHIN = 5
"""Updates after a demand to halt within which a log that ends has ended of it; as many as the
story takes from explosion to aftermath."""
_LONGEST = 200


def verdict_of(summary: LogSummary, unit: str = "update") -> tuple[VerdictWord, str]:
    """The verdict on a fold, and which of its meanings holds; first of all how its process died.

    Args:
        summary: Of the log.
        unit: What the log's numbers count, for people.
    """
    word, because = _judged(summary, unit)
    title = failure_title(summary.failure or "")
    if not title:
        return word, because
    if because == VERDICTS["died"]:
        return word, f"{title}; the readings before it were in order"
    return word, f"{title}; before that, {because}" if word != "died" else because


def _judged(summary: LogSummary, unit: str) -> tuple[VerdictWord, str]:
    """The verdict by the numbers, else by the end.

    It is the health of the last attempt, and how it ended. A critical alert counts also when it
    ceased, for the run has exploded and went on; unless its rule says when its level has come
    back. The numbers are lost too when the log breaks off within a few updates of the demand to
    halt, or when the trainer says so in words.
    """
    lost = _lost_because(summary, unit)
    if lost:
        return "diverged", lost
    critical = [episode for episode in summary.critical if episode.rule not in DEATHS]
    lasting = (each for each in critical if each.explodes and not _came_back(each, summary))
    exploding = next((episode.rule for episode in lasting), "")
    if exploding:
        return (
            "exploded",
            f"{exploding} fired, a critical alert, and the run went on{_with_numbers(summary)}",
        )
    if summary.failure is not None or summary.hung:
        hung = f"the trainer hung: {summary.hung}"
        if summary.ended == "preempted":
            hung += f", until {summary.ended_words or 'a signal'} ended it"
        return "died", hung if summary.failure is None else VERDICTS["died"]
    if critical:
        return "suspicious", _not_exploded(critical[0], summary, unit)
    suspicion = _suspicious_because(summary, unit)
    if suspicion:
        return "suspicious", suspicion
    word = summary.health
    if word == "healthy" and summary.names and not summary.known_names():
        word = "unjudged"
    passed = summary.passed() if word == "healthy" else []
    fired = [f"{each.rule} at {unit} {each.first_update} ({each.reason})" for each in passed[:2]]
    if len(passed) > len(fired):
        fired.append(f"{len(passed) - len(fired)} more")
    return word, f"{'; '.join(fired)} fired, and passed without harm" if fired else VERDICTS[word]


def _with_numbers(summary: LogSummary) -> str:
    """Words for finite numbers, "" where an alert of the last attempt says otherwise."""
    mine = (span.rule for span in summary.spans.values() if span.attempt == summary.attempts)
    return "" if any("NonFinite" in rule for rule in mine) else " with finite numbers"


def _came_back(episode: Episode, summary: LogSummary) -> bool:
    """Whether the level that a rule is about is what it was before, by the rule's own word."""
    rule = summary.rules.rules[summary.rules.index[episode.rule]]
    return bool(rule.clear) and not summary.tracker.fires(episode.rule)


def _not_exploded(episode: Episode, summary: LogSummary, unit: str) -> str:
    """What a critical alert says that is no explosion: nothing is learnt, or a number came back."""
    rule = summary.rules.rules[summary.rules.index[episode.rule]]
    spans = [span for span in summary.spans.values() if span.rule == episode.rule]
    began = f"at {unit} {spans[0].first_update} ({spans[0].reason}) " if spans else ""
    if rule.labels.get("stage") == NONFINITE:
        return f"a core reading was not finite {began}and is finite again"
    if episode.explodes:
        return f"{episode.rule} fired {began}and the level has come back since"
    return in_words(spans[0], summary.rules) if spans else f"{episode.rule} fired"


def _suspicious_because(summary: LogSummary, unit: str) -> str:
    """Why a run that nothing ruined is not well, "" where it is."""
    if summary.said_lost is not None:
        return "the trainer said that the loss was not finite, and went on"
    leap = summary.leap()
    if leap is not None:
        return f"{leap[0]} leaps at {unit} {leap[1].step} to over a hundred times all that it was"
    # What still holds at the end says more than what came first.
    lasting = (span for span in summary.warnings() if summary.tracker.fires(span.rule))
    span = next(lasting, None) or next(iter(summary.warnings()), None)
    return "" if span is None else in_words(span, summary.rules)


def _lost_because(summary: LogSummary, unit: str) -> str:
    """Why the numbers count as lost, "" where they do not."""
    if summary.failure is not None and SAYS_NONFINITE.search(summary.failure):
        return f"the trainer said: {summary.failure[:_LONGEST].rstrip('.!')}"
    if summary.health == "diverged" or summary.never_finite() is not None:
        return _numbers_lost(summary, unit)
    halting = _ended_of_it(summary)
    if halting is not None:
        return (
            f"{halting.rule} asked for a halt, and the log ends within {_ENDS_WITHIN} reports of it"
        )
    critical = any(episode.rule not in DEATHS for episode in summary.critical)
    if summary.said_lost is None or summary.finished or critical or summary.failure is not None:
        return ""
    # Words without a reading count for as much as what came after them leaves standing.
    if summary.count - summary.said_lost[0] >= _ENDS_WITHIN:
        return ""
    return "the trainer said that the loss is not finite, and the log ends there"


def _lost_first(summary: LogSummary, name: str) -> Iterator[int]:
    """Where alerts of the last attempt about a reading that was not finite began."""
    for span in summary.spans.values():
        nonfinite = "NonFinite" in span.rule and f"{name} = " in span.reason
        if nonfinite and span.attempt == summary.attempts:
            yield span.first_update


def _numbers_lost(summary: LogSummary, unit: str) -> str:
    for name, mark in summary.tracker.lost_since.items():
        began = min(_lost_first(summary, name), default=mark.step)
        if began < mark.step:
            again = f"and again from {unit} {mark.step} on"
            return f"{name} was first not finite at {unit} {began}, {again}"
        return f"{name} has not been finite since {unit} {mark.step}"
    rule = summary.tracker.diverging_rule
    for span in (span for span in summary.spans.values() if span.rule == rule):
        return in_words(span, summary.rules)
    never = summary.never_finite() is not None
    return "no gradient norm was finite in this log" if never else VERDICTS["diverged"]


def in_words(alert: AlertSpan, rules: RuleSet | None) -> str:
    """What a rule says of itself, else its name, with the values that it compared."""
    at = None if rules is None else rules.index.get(alert.rule)
    says = "" if rules is None or at is None else rules.rules[at].annotations.get("summary", "")
    if not says:
        return f"{alert.rule}: {alert.reason}"
    value = alert.reason.partition(" = ")[2].partition(",")[0]
    return f"{filled(says, alert.metric, value).rstrip('.')} ({alert.rule}: {alert.reason})"


def _ended_of_it(summary: LogSummary) -> Episode | None:
    """The first alert that demanded a halt, where the log ends soon after it."""
    halting = [
        episode
        for episode in summary.critical
        # A proof of a bug in the code demands a halt, but is no ruin by itself.
        if episode.action >= Action.HALT
        and episode.explodes
        and "BeyondBound" not in episode.rule
        and episode.rule not in DEATHS
    ]
    if not halting or summary.finished:
        return None
    first = min(halting, key=lambda episode: episode.row)
    return first if summary.count - first.row < _ENDS_WITHIN else None


def unjudged_because(summary: LogSummary) -> str:
    """What is missing before the last attempt can be called healthy; "" when nothing is."""
    if summary.health != "unjudged":
        return "" if summary.known_names() or not summary.names else _unknown(summary.names)
    if summary.tracker.unmoved_metric:
        return f"{summary.tracker.unmoved_metric} has not moved beyond its own noise yet"
    if not summary.reports:
        unknown = [name for name in summary.names if summary.rules.role(name) == "unknown"]
        return "no loss, reward, value, KL or entropy was logged" + (
            f"; what {unknown[0]} is, no word of its name says: `roles: {{{unknown[0]}: loss}}` in "
            "a file makes it a loss, with --rules auto --rules FILE"
            if len(unknown) == 1
            else ""
        )
    name = max(summary.reports, key=lambda metric: summary.reports[metric])
    times = f"{summary.reports[name]} times" if summary.reports[name] > 1 else "once"
    return (
        f"the log is too short: {name} was reported {times}, and "
        f"{REPORTS_TO_JUDGE} reports are needed before a run is called healthy"
    )


def not_checked(names: Iterable[str], kind: str, summary: LogSummary) -> list[str]:
    """What could not be checked, a sentence each, because the log does not hold it.

    Args:
        kind: See `Log.kind`; where it is "", only the family of the rules tells what is missing.
    """
    names = set(names)
    rules = summary.rules
    present = {rules.canonical(name) for name in names} | names
    expected = EXPECTED.get(kind or _KIND_OF_FAMILY.get(summary.family, ""), ())
    if not any(_OF_GRADIENTS.search(name) for name in names) and kind == "pretrain":
        expected = ()
    # A policy gradient's own names, which no table knows, are judged by their roles.
    own = {
        rules.role(name)
        for name in names
        if kind != "grpo" and (rules.canonical(name) != "train/loss" or rules.role(name) == "loss")
    }
    missing = [
        f"{name} was not logged"
        for name in expected
        if name not in present and (rules.role(name) not in own & _BY_ROLE or name == "train/loss")
    ]
    if names and not summary.known_names():
        missing.insert(0, _unknown(names))
    if ends_without_a_word(summary):
        missing.append(
            f"the log ends at update {summary.last} without saying that the run finished: "
            "a crash or a kill after it would not show"
        )
    return missing


def ends_without_a_word(summary: LogSummary) -> bool:
    """Whether a log with readings does not say how its run ended."""
    return not summary.finished and summary.failure is None and summary.last is not None


def _unknown(names: Iterable[str]) -> str:
    return f"no rule knows any of the log's readings ({', '.join(sorted(names)[:5])})"
