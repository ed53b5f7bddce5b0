"""The tables, in Markdown and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.judgement import calibration, scoring
from benchmarks.judgement.scoring import Score, Summary

HEAD = (
    "| {} | harmful faults told | critical where lost | in time | within 20 | lag, updates "
    "| cause right | no cause named | Brier | harmless faults told |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


_KEYS: Mapping[str, Callable[[Score], str]] = {
    "all": lambda _: "all",
    "family": lambda score: score.truth.family,
    "trainer": lambda score: score.truth.trainer,
    "fault": lambda score: score.truth.fault or "",
}


def lines(scores: Sequence[Score]) -> list[str]:
    """Everything, for a page or a terminal."""
    tables = [line for name in _KEYS for line in (*_table(name, scores, _KEYS[name]), "")]
    return [*_alarms(scores), "", *tables, *_limits(scores), "", *_causes(scores)]


def page(by_log: Sequence[Score], by_hook: Sequence[Score]) -> list[str]:
    """What a page of the documentation quotes.

    Args:
        by_log: Of what the trainers logged.
        by_hook: Of the same runs with what watchstep's hook adds.
    """
    return [
        "With the readings of the hook's guard:",
        "",
        *_judged(by_hook),
        "",
        "By the log alone, as the post-mortem of a training without the hook has it:",
        "",
        *_judged(by_log),
    ]


def _judged(scores: Sequence[Score]) -> list[str]:
    return [
        *_shares(scores),
        "",
        *_table("all", scores, _KEYS["all"]),
        *_table("family", scores, _KEYS["family"])[1:],
        "",
        *_table("fault", scores, _KEYS["fault"]),
        "",
        *_limits(scores),
    ]


def _limits(scores: Sequence[Score]) -> list[str]:
    return [*_reliability(scores), "", *_left_out(scores), "", _strict(scores)]


def _strict(scores: Sequence[Score]) -> str:
    """How often the cause was the one that was made, where a log cannot tell it from another."""
    harmed = [score for score in _harmed(scores) if score.truth.cause]
    same = scoring.Share(sum(score.cause == score.truth.cause for score in harmed), len(harmed))
    return f"The very cause that was made, and no other that leaves the same log: {same}."


def document(scores: Sequence[Score]) -> dict[str, Any]:
    """The same as data."""
    return {
        "runs": len(scores),
        "false_alarms": {
            name: {"hits": share.hits, "total": share.total, "interval": share.interval()}
            for name, share in scoring.false_alarms(scores).items()
            if share.total
        },
        **{
            word: {name: asdict(scoring.summary(mine)) for name, mine in _grouped(scores, group)}
            for word, group in _KEYS.items()
        },
        "reliability": scoring.reliability(_harmed(scores)),
        "leave_one_fault_out": calibration.left_out(_harmed(scores), _KEYS["fault"]),
        "leave_one_trainer_out": calibration.left_out(_harmed(scores), _KEYS["trainer"]),
        "scores": [_row(score) for score in scores],
    }


def _harmed(scores: Sequence[Score]) -> list[Score]:
    return [score for score in scores if score.truth.harm]


def _row(score: Score) -> dict[str, Any]:
    return {
        "run": score.name,
        "fault": score.truth.fault,
        "harm": score.truth.harm,
        "lost": score.truth.lost,
        "told": score.told,
        "critical": score.critical,
        "in_time": score.in_time,
        "soon": score.soon,
        "evidence": score.evidence,
        "cause": score.cause,
        "right_cause": score.truth.cause,
        "confidence": score.confidence,
        "verdict": score.answer.verdict,
        "pack": score.answer.pack,
        "alerts": [asdict(alert) for alert in score.answer.alerts],
    }


def _grouped(
    scores: Sequence[Score], group: Callable[[Score], str]
) -> list[tuple[str, list[Score]]]:
    faulty = [score for score in scores if score.truth.fault is not None]
    names = sorted({group(score) for score in faulty})
    return [(name, [score for score in faulty if group(score) == name]) for name in names]


def _table(word: str, scores: Sequence[Score], group: Callable[[Score], str]) -> list[str]:
    rows = [HEAD.format(word)]
    rows += [_cells(name, scoring.summary(mine)) for name, mine in _grouped(scores, group)]
    return rows


def _cells(name: str, figures: Summary) -> str:
    lag = "-" if figures.lag is None else f"{figures.lag:g}"
    brier = "-" if figures.brier is None else f"{figures.brier:.3f}"
    return (
        f"| {name} | {figures.told} | {figures.lost_critical} | {figures.in_time} | {figures.soon} "
        f"| {lag} | {figures.cause_right} | {figures.abstained} | {brier} | {figures.harmless} |"
    )


def _shares(scores: Sequence[Score]) -> list[str]:
    rows = ["| healthy runs with | share | 95 % interval |", "|---|---|---|"]
    for name, share in scoring.false_alarms(scores).items():
        if share.total:
            low, high = share.interval()
            rows.append(f"| {name} | {share} | {100 * low:.2f} to {100 * high:.2f} % |")
    return rows


def _alarms(scores: Sequence[Score]) -> list[str]:
    healthy = [score for score in scores if score.truth.fault is None]
    raised = Counter(
        (alert.severity, alert.rule, alert.metric, score.truth.trainer)
        for score in healthy
        for alert in {(a.rule, a.metric, a.severity): a for a in score.answer.alerts}.values()
        if alert.severity in scoring.LOUD
    )
    rows = [*_shares(scores), "", "| false alarm | metric | trainer | runs |", "|---|---|---|---|"]
    rows += [
        f"| {severity} {rule} | {metric} | {trainer} | {count} |"
        for (severity, rule, metric, trainer), count in raised.most_common()
    ]
    return rows


def _reliability(scores: Sequence[Score]) -> list[str]:
    rows = ["| confidence | causes named | mean confidence | right |", "|---|---|---|---|"]
    rows += [
        f"| {low:.1f} to {high:.1f} | {count} | {mean:.2f} | {right:.2f} |"
        for low, high, count, mean, right in scoring.reliability(_harmed(scores))
    ]
    return rows


def _left_out(scores: Sequence[Score]) -> list[str]:
    harmed = _harmed(scores)
    slope, offset = calibration.fitted(calibration.pairs_of(harmed))
    best = f"logits times {slope:.2f}, plus {offset:.2f}"
    rows = [f"The confidences would fit these runs best with their {best}."]
    groups: tuple[tuple[str, Callable[[Score], str]], ...] = (
        ("fault", lambda score: score.truth.fault or ""),
        ("trainer", lambda score: score.truth.trainer),
    )
    for word, group in groups:
        whole, parts = calibration.left_out(harmed, group)
        if whole is not None:
            worst = max(parts, key=lambda name: parts[name])
            rows.append(
                f"Brier with each {word} calibrated on the others: {whole:.3f} "
                f"(worst: {worst}, {parts[worst]:.3f})."
            )
    return rows


def _causes(scores: Sequence[Score]) -> list[str]:
    rows = ["| fault | right cause | first causes named |", "|---|---|---|"]
    for name, mine in _grouped(_harmed(scores), lambda score: score.truth.fault or ""):
        named = Counter(score.cause or "none" for score in mine)
        words = ", ".join(f"{cause} {count}" for cause, count in named.most_common())
        rows.append(f"| {name} | {mine[0].truth.cause or '(no log can tell)'} | {words} |")
    return rows
