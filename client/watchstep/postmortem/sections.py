"""What a post-mortem shows of a run, for the terminal and the page alike: text, not yet drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from watchstep.core.diagnosis import NOT_ENOUGH
from watchstep.core.error_texts import SAYS_TIME_LIMIT
from watchstep.postmortem.examination import Examination
from watchstep.postmortem.verdict import WELL

_NOT_LOGGED = " was not logged"
_LONGEST = 300
_MOST_ALERTS = 30
_MOST_CAUSES = 3
_MOST_LINES = 20
_SEVERITIES = ("critical", "warning", "info")
FLEET_HEADS = ("verdict", "run", "reports", "first bad", "last good", "would halt at", "why")


class Cell(NamedTuple):
    """Text in a table.

    Attributes:
        style: A verdict, a severity, an answer of the checklist, "strong", "quiet", "good" or
            "bad"; "" for plain text.
    """

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the table under it; one without heads is a list."""

    title: str
    rows: Sequence[Sequence[Cell]]
    heads: tuple[str, ...] = ()
    note: str = ""


def headline(examination: Examination) -> Iterator[str]:
    """What a reader must know first: since when, why, where to go back to, what is missing."""
    unit = "row" if examination.unit == "row" else "update"
    if examination.verdict not in WELL:
        yield _since(examination, unit)
        why = examination.why()
        if examination.is_explained or examination.verdict == "died" or not examination.alerts:
            yield from [f"Why: {cut(why)}"] if why else []
        else:
            yield "Why: no cause can be told from what was logged"
            if why.rstrip(".") not in examination.verdict_because:
                yield f"It fired: {cut(why)}"
        yield f"Go back to: {_back_to(examination)}"
    # Of a hang that killed the run the verdict says what ended it.
    died_hanging = examination.verdict == "died" and examination.hung and not examination.failure
    if examination.ended == "preempted" and not died_hanging:
        by_time = SAYS_TIME_LIMIT.search(examination.ended_words)
        how = "was ended by its time limit" if by_time else "was preempted"
        yield f"The run {how}: {cut(examination.ended_words)}"
    elif examination.ended == "halted":
        yield f"The run was stopped: {cut(examination.ended_words)}"
    elif not examination.ended and examination.verdict in WELL and examination.last_update:
        at = f"{unit} {examination.last_update}"
        yield f"The log ends at {at} without saying that the run finished"
    if examination.unjudged_because and examination.verdict in (*WELL, "died"):
        yield f"Not judged: {examination.unjudged_because}"
    missing = [text.split()[0] for text in examination.not_checked if text.endswith(_NOT_LOGGED)]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        yield f"Not judged, since not logged: {', '.join(missing[:3])}{more}"


def _since(examination: Examination, unit: str) -> str:
    bad, good = examination.first_bad_update, examination.last_good_update
    if bad is None:
        if not examination.updates or (examination.verdict == "died" and good is None):
            return "Since: its end; no reading was printed before it"
        if examination.verdict == "died":
            if examination.readings_tell:
                return f"Since: its end; no rule fired up to {unit} {good}"
            return f"Since: its end; the numbers up to {unit} {good} show no reason"
        if good is not None:
            return f"Since: after {unit} {good}; what comes then carries no number"
        return "Since: unknown, for the rows carry no number"
    before = "no good one before it" if good is None else f"the last good one is {good}"
    return f"Since: {unit} {bad}; {before}"


def _back_to(examination: Examination) -> str:
    best = examination.checkpoints.best
    if best is not None:
        at = "" if best.step is None else f", saved at {best.step}"
        return f"{best.path} (intact and finite{at})"
    if not examination.updates:
        return "the newest checkpoint that verifies: the log holds no reading"
    unit = "row" if examination.unit == "row" else "update"
    if examination.last_good_update is not None:
        return f"any checkpoint saved up to {unit} {examination.last_good_update}"
    first = examination.first_update or 0
    where = "the beginning, with the fault mended"
    if unit == "update" and first > 1:
        where = f"a checkpoint from before update {first}, where this log begins"
    return f"{where}: no update of this log was good"


def cut(text: str) -> str:
    """A text, between two words where it is too long for a line or two, and marked so."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rsplit(' ', 1)[0]} …"


def fleet_row(examination: Examination) -> list[Cell]:
    """A run's line in a list of many, under `FLEET_HEADS`."""
    numbers = (examination.first_bad_update, examination.last_good_update, examination.halt_update)
    partial = " (partial)" if examination.partial else ""
    return [
        Cell(examination.verdict, examination.verdict),
        Cell(examination.run + partial),
        Cell(str(examination.updates)),
        *(Cell("" if number is None else str(number)) for number in numbers),
        Cell(examination.why(), "quiet"),
    ]


def sections(examination: Examination) -> Iterator[Section]:
    """All that is known beyond the headline, the most telling first; none is empty."""
    checkpoints = _checkpoints(examination) if examination.verdict not in WELL else ()
    for section in (
        Section("Timeline", list(_timeline(examination))),
        _alerts(examination),
        Section("Likely causes", list(_causes(examination))),
        Section("Trigger condition", _lines([examination.trigger] if examination.trigger else [])),
        Section("The checklist for old logs", list(_checklist(examination))),
        Section("Where to go back to", list(checkpoints)),
        Section("Not checked", _lines(examination.not_checked)),
        Section("About the log", _lines(examination.notes)),
    ):
        if section.rows:
            yield section


def _lines(sentences: Sequence[str]) -> list[list[Cell]]:
    return [[Cell(f"- {sentence}", "quiet")] for sentence in sentences[:_MOST_LINES]]


def _timeline(examination: Examination) -> Iterator[list[Cell]]:
    styles = {"early signs": "warning", "explosion": "critical", "divergence": "critical"}
    for stage in examination.stages:
        span = f"{stage.first_update}"
        if stage.last_update != stage.first_update:
            span += f" to {stage.last_update}"
        began = [a.rule for a in examination.alerts if a.first_update == stage.first_update]
        style = styles.get(stage.stage, "info")
        yield [Cell(stage.stage, style), Cell(span), Cell(", ".join(began), "quiet")]


def _alerts(examination: Examination) -> Section:
    alerts = sorted(
        examination.alerts, key=lambda a: (_SEVERITIES.index(a.severity), a.first_update)
    )
    rows = [
        [
            Cell(alert.rule, "strong"),
            Cell(alert.severity, alert.severity),
            Cell(str(alert.first_update)),
            Cell(str(alert.last_update)),
            Cell(_lead(alert.lead_updates)),
            Cell(alert.reason, "quiet"),
        ]
        for alert in alerts[:_MOST_ALERTS]
    ]
    more = len(alerts) - len(rows)
    note = "lead: reports before the damage (minus: after it)"
    heads = ("rule", "severity", "first", "last", "lead", "why")
    return Section("Alerts", rows, heads, f"and {more} more; {note}" if more else note)


def _lead(lead: int | None) -> str:
    if lead is None:
        return ""
    return "at once" if lead == 0 else f"{lead:+d}"


def _causes(examination: Examination) -> Iterator[list[Cell]]:
    for cause in examination.causes[:_MOST_CAUSES]:
        # How sure it is that nothing is sure helps nobody.
        share = "" if cause.name == NOT_ENOUGH else f"{cause.confidence:.0%}"
        yield [Cell(share, "strong"), Cell(cause.title, "strong")]
        yield from _signed("+", "good", cause.evidence)
        yield from _signed("-", "bad", cause.against)


def _signed(sign: str, style: str, sentences: Iterable[str]) -> Iterator[list[Cell]]:
    for sentence in sentences:
        yield [Cell(sign, style), Cell(sentence, "quiet")]


def _checklist(examination: Examination) -> Iterator[list[Cell]]:
    for item in examination.items:
        value = "" if item.update is None else f"  ({item.found:.4g} at update {item.update})"
        yield [Cell(item.answer, item.answer), Cell(item.question + value, "strong")]
        if item.answer == "yes":
            yield [Cell(""), Cell(f"claimed: {item.claim}", "quiet")]
        if item.answer != "not logged":
            yield [Cell(""), Cell(f"measured: {item.measured}", "quiet")]


def _checkpoints(examination: Examination) -> Iterator[list[Cell]]:
    beside = examination.checkpoints
    yield [Cell(_back_to(examination), "good" if beside.best else "")]
    for refused in beside.refused:
        yield [Cell(f"not {refused.path}: {refused.reason}", "warning")]
    if beside.note:
        yield [Cell(beside.note, "quiet")]
