"""One self-contained page about one run or many: opens offline, holds no script."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files

from watchstep.core.diagnosis import NOT_ENOUGH
from watchstep.core.rules import Bands
from watchstep.postmortem.charts import Mark, chart, frame_of
from watchstep.postmortem.downsampled_series import DownsampledSeries
from watchstep.postmortem.examination import Examination
from watchstep.postmortem.headline import headline
from watchstep.postmortem.report import number
from watchstep.postmortem.verdict import VERDICTS, WELL

MOST_CHARTS = 10
MOST_MARKS = 12
FEW = 3
"""Runs up to which each has its section, healthy or not."""
_MOST_NOTES = 20
_LONG_FACT = 60


def render(runs: Sequence[Examination], verdicts: Mapping[str, int]) -> str:
    """The page.

    Args:
        runs: Those to show, worst first; charts are drawn of those that were sketched.
        verdicts: How many runs there were of each verdict, also of those not shown.
    """
    style = files("watchstep.postmortem").joinpath("page.css").read_text(encoding="utf-8")
    title = f"Post-mortem: {runs[0].run}" if len(runs) == 1 else f"Post-mortem of {len(runs)} runs"
    told = (
        list(runs) if len(runs) <= FEW else [found for found in runs if _is_worth_a_section(found)]
    )
    body = [*(_fleet(runs, told, verdicts) if len(runs) > 1 else ())]
    for at, found in enumerate(told):
        body.extend(_run(found, at))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        # Belt and braces: even if a name slipped through unescaped, nothing could run.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"{''.join(body)}"
        "<footer>Made by watchstep from the log alone. Update numbers are the log's own.</footer>"
        "</main></body></html>"
    )


def _is_worth_a_section(found: Examination) -> bool:
    return found.downsampled is not None and found.verdict not in WELL


def _fleet(
    runs: Sequence[Examination], told: Sequence[Examination], verdicts: Mapping[str, int]
) -> Iterator[str]:
    total = sum(verdicts.values())
    yield f"<h1>{total} runs</h1><ul class='counts'>"
    for word in VERDICTS:
        if verdicts.get(word):
            yield f"<li class='{word}'><b>{verdicts[word]}</b> {word}</li>"
    yield "</ul>"
    linked = {id(found): at for at, found in enumerate(told)}
    rows = []
    for found in runs:
        name = escape(found.run)
        if id(found) in linked:
            name = f'<a href="#run{linked[id(found)]}">{name}</a>'
        cells = (
            *(found.updates, found.first_bad_update),
            *(found.last_good_update, found.halt_update),
        )
        rows.append([_badge(found.verdict), name, *map(_cell, cells), escape(found.why())])
    yield _table(
        ("verdict", "run", "updates", "first bad", "last good", "would halt at", "why"), rows
    )
    if len(runs) < total:
        yield f"<p class='quiet'>{total - len(runs)} more, none of them worse.</p>"


def _run(found: Examination, at: int) -> Iterator[str]:
    yield (
        f'<section id="run{at}"><header class="{found.verdict}"><h2>{_badge(found.verdict)} '
        f"{escape(found.run)}</h2><p>{escape(VERDICTS[found.verdict])}.</p>"
        + "".join(f"<p><b>{escape(sentence)}</b></p>" for sentence in headline(found))
        + f'<p class="quiet path">{escape(found.path)}</p></header>'
    )
    yield _facts(found)
    yield from _stage_list(found)
    if found.downsampled is not None and found.downsampled.chosen(1):
        yield from _charts(found, found.downsampled)
    yield from _alerts(found)
    yield from _causes(found)
    yield from _checklist(found)
    yield from _checkpoint(found)
    yield from _list("Not checked", found.not_checked)
    yield from _list("About the log", found.notes)
    yield "</section>"


def _facts(found: Examination) -> str:
    facts = [
        ("updates", str(found.updates) + (" (partial)" if found.partial else "")),
        ("first bad update", _cell(found.first_bad_update)),
        ("last good update", _cell(found.last_good_update)),
        ("would halt at", _cell(found.halt_update)),
        ("updates after the first bad one", str(found.wasted_updates)),
        ("format", escape(found.format)),
        ("numbers count", escape(f"{found.unit}s")),
        ("rules", escape(", ".join(found.packs))),
    ]
    if found.trigger:
        facts.append(("trigger condition", escape(found.trigger)))
    if found.failure:
        facts.append(("the trainer said", escape(found.failure[:300])))
    return "<dl>" + "".join(_fact(name, value) for name, value in facts) + "</dl>"


def _fact(name: str, value: str) -> str:
    wide = ' class="wide"' if len(value) > _LONG_FACT else ""
    return f"<div{wide}><dt>{name}</dt><dd>{value}</dd></div>"


def _stage_list(found: Examination) -> Iterator[str]:
    if not found.stages:
        return
    yield "<h3>Timeline</h3><ol class='stages'>"
    for stage in found.stages:
        span = str(stage.first_update)
        if stage.last_update != stage.first_update:
            span += f" to {stage.last_update}"
        yield f"<li class='{stage.stage.split()[0]}'><b>{stage.stage}</b> {span}</li>"
    yield "</ol>"


def _charts(found: Examination, downsampled: DownsampledSeries) -> Iterator[str]:
    marks = list(_marks(found))
    yield "<h3>Readings over time</h3><div class='charts'>"
    chosen = downsampled.chosen(MOST_CHARTS)
    frame = frame_of(chosen.values())
    for metric, series in chosen.items():
        drawn = chart(metric, series, _bands(found, metric, downsampled), frame, marks)
        yield f"<figure><figcaption>{escape(metric)}</figcaption>{drawn}</figure>"
    yield "</div><p class='quiet legend'>Shaded: <i class='watch'></i>watch "
    yield "<i class='warning'></i>warning <i class='danger'></i>danger "
    yield "<i class='explosion'></i>explosion. Lines: alerts, the first bad update (solid), the "
    yield "halt that would have been (dashed). Crosses: readings that were not finite.</p>"


def _marks(found: Examination) -> Iterator[Mark]:
    if found.first_bad_update is not None:
        text = f"first bad update {found.first_bad_update}"
        yield Mark(found.first_bad_update, text, "bad")
    if found.halt_update is not None:
        yield Mark(found.halt_update, f"would halt at {found.halt_update}", "halt")
    serious = [alert for alert in found.alerts if alert.severity != "info"]
    for alert in serious[:MOST_MARKS]:
        yield Mark(alert.first_update, f"{alert.rule} at {alert.first_update}", alert.severity)


def _bands(found: Examination, metric: str, downsampled: DownsampledSeries) -> Bands | None:
    """A metric's zones in its own scale."""
    bands = found.rule_set.bands.get(metric) if found.rule_set else None
    if bands is None:
        return None
    beside = downsampled.scales.get(bands.beside, bands.fallback)
    if bands.of == "bound" and beside >= 2:
        bound = math.sqrt(beside - 1.0)
        return dataclasses.replace(bands, edges=tuple(e * bound / 100.0 for e in bands.edges))
    if bands.of == "knee" and beside == beside:
        edges = (beside, *(max(edge, beside) for edge in bands.edges[1:]))
        return dataclasses.replace(bands, edges=edges)
    return bands


def _alerts(found: Examination) -> Iterator[str]:
    if not found.alerts:
        return
    yield "<h3>Alerts</h3>"
    order = {"critical": 0, "warning": 1, "info": 2}
    rows = [
        [
            f"<b>{escape(alert.rule)}</b>",
            f'<span class="badge {alert.severity}">{alert.severity}</span>',
            str(alert.first_update),
            str(alert.last_update),
            _lead(alert.lead_updates),
            escape(alert.reason),
        ]
        for alert in sorted(found.alerts, key=lambda one: (order[one.severity], one.first_update))
    ]
    yield _table(("rule", "severity", "first", "last", "lead", "why"), rows)
    yield "<p class='quiet'>Lead: updates before the damage; minus: after it.</p>"


def _lead(lead: int | None) -> str:
    if lead is None:
        return ""
    return "at once" if lead == 0 else f"{lead:+d}"


def _causes(found: Examination) -> Iterator[str]:
    if not found.causes:
        return
    yield "<h3>Likely causes</h3>"
    for cause in found.causes[:4]:
        if cause.name == NOT_ENOUGH:
            yield f'<div class="cause"><p>{escape(cause.title)}</p><ul>'
            yield "".join(f"<li>{escape(said)}</li>" for said in cause.evidence) + "</ul></div>"
            continue
        share = f"{cause.confidence:.0%}"
        yield (
            f'<div class="cause"><p><span class="bar"><i style="width:{share}"></i></span> '
            f"<b>{share}</b> {escape(cause.title)}</p><ul>"
        )
        yield "".join(f"<li class='for'>{escape(said)}</li>" for said in cause.evidence)
        yield "".join(f"<li class='against'>{escape(said)}</li>" for said in cause.against)
        yield "</ul></div>"


def _checklist(found: Examination) -> Iterator[str]:
    if not found.items:
        return
    yield "<h3>The checklist for old logs</h3>"
    rows = []
    for item in found.items:
        value = "" if item.update is None else f"{number(item.found)} at {item.update}"
        css = item.answer.replace(" ", "-")
        rows.append(
            [
                f'<span class="badge {css}">{item.answer}</span>',
                escape(item.question),
                escape(value),
                f"{escape(item.claim)}<br><span class='quiet'>{escape(item.measured)}</span>",
            ]
        )
    yield _table(("", "question", "found", "what it was said to mean, and what was measured"), rows)


def _checkpoint(found: Examination) -> Iterator[str]:
    if found.verdict in WELL:
        return
    search = found.checkpoints
    yield "<h3>Where to go back to</h3>"
    if search.best is not None:
        at = "" if search.best.step is None else f", saved at {search.best.step}"
        yield f"<p class='good'>{escape(str(search.best.path))}: intact and finite{at}</p>"
    elif found.last_good_update is None:
        yield "<p>No update of this log was good: begin anew with the fault mended.</p>"
    else:
        yield f"<p>Anything saved up to update {found.last_good_update}.</p>"
    refused = [f"not {one.path}: {one.reason}" for one in search.refused]
    notes = [*refused, *([search.note] if search.note else [])]
    yield "".join(f"<p class='quiet'>{escape(said)}</p>" for said in notes)


def _list(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"<h3>{title}</h3><ul class='quiet'>"
        yield "".join(f"<li>{escape(line)}</li>" for line in lines[:_MOST_NOTES])
        yield "</ul>"


def _table(heads: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls by itself on a narrow screen; cells are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def _badge(verdict: str) -> str:
    return f'<span class="badge {verdict}">{verdict}</span>'


def _cell(value: int | None) -> str:
    return "-" if value is None else str(value)
