"""One self-contained page about one run or many: opens offline, holds no script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files

from watchstep.core.thresholds import zones
from watchstep.postmortem.charts import Mark, chart, frame_of
from watchstep.postmortem.downsampled_series import DownsampledSeries
from watchstep.postmortem.examination import Examination
from watchstep.postmortem.report import STYLES
from watchstep.postmortem.sections import FLEET_HEADS, Cell, fleet_row, headline, sections
from watchstep.postmortem.verdict import VERDICTS, WELL

MOST_CHARTS = 10
MOST_MARKS = 12
FEW = 3
"""Runs up to which each has its section, healthy or not."""
_LONG_FACT = 60
_PLAIN = frozenset(("strong", "quiet", "good", "bad", ""))
"""Styles of text; the others are badges."""


def render(runs: Sequence[Examination], verdicts: Mapping[str, int]) -> str:
    """The page.

    Args:
        runs: Those to show, worst first; charts are drawn of those that were sketched.
        verdicts: How many runs there were of each verdict, also of those not shown.
    """
    style = files("watchstep.postmortem").joinpath("page.css").read_text(encoding="utf-8")
    title = f"Post-mortem: {runs[0].run}" if len(runs) == 1 else f"Post-mortem of {len(runs)} runs"
    shown = (
        list(runs)
        if len(runs) <= FEW
        else [examination for examination in runs if _is_worth_a_section(examination)]
    )
    body = [*(_fleet(runs, shown, verdicts) if len(runs) > 1 else ())]
    for at, examination in enumerate(shown):
        body.extend(_run(examination, at))
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


def _is_worth_a_section(examination: Examination) -> bool:
    return examination.downsampled is not None and examination.verdict not in WELL


def _fleet(
    runs: Sequence[Examination], shown: Sequence[Examination], verdicts: Mapping[str, int]
) -> Iterator[str]:
    total = sum(verdicts.values())
    yield f"<h1>{total} runs</h1><ul class='counts'>"
    for word in VERDICTS:
        if verdicts.get(word):
            yield f"<li class='{word}'><b>{verdicts[word]}</b> {word}</li>"
    yield "</ul>"
    linked = {id(examination): at for at, examination in enumerate(shown)}
    rows = []
    for examination in runs:
        row = list(map(_drawn, fleet_row(examination)))
        if id(examination) in linked:
            row[1] = f'<a href="#run{linked[id(examination)]}">{row[1]}</a>'
        rows.append(row)
    yield _table(FLEET_HEADS, rows)
    if len(runs) < total:
        yield f"<p class='quiet'>{total - len(runs)} more, none of them worse.</p>"


def _run(examination: Examination, at: int) -> Iterator[str]:
    badge = _drawn(Cell(examination.verdict, examination.verdict))
    yield (
        f'<section id="run{at}"><header class="{examination.verdict}"><h2>{badge} '
        f"{escape(examination.run)}</h2><p>{escape(examination.verdict_because)}.</p>"
        + "".join(f"<p><b>{escape(sentence)}</b></p>" for sentence in headline(examination))
        + f'<p class="quiet path">{escape(examination.path)}</p></header>'
    )
    yield _facts(examination)
    if examination.downsampled is not None and examination.downsampled.chosen(1):
        yield from _charts(examination, examination.downsampled)
    for section in sections(examination):
        yield f"<h3>{section.title}</h3>"
        yield _table(section.heads, [map(_drawn, row) for row in section.rows])
        if section.note:
            yield f"<p class='quiet'>{section.note}</p>"
    yield "</section>"


def _facts(examination: Examination) -> str:
    facts = [
        ("reports", str(examination.updates) + (" (partial)" if examination.partial else "")),
        ("first bad update", _cell(examination.first_bad_update)),
        ("last good update", _cell(examination.last_good_update)),
        ("would halt at", _cell(examination.halt_update)),
        ("reports after the first bad one", str(examination.wasted_updates)),
        ("format", escape(examination.format)),
        ("numbers count", escape(f"{examination.unit}s")),
        ("rules", escape(", ".join(examination.packs))),
    ]
    if examination.trigger:
        facts.append(("trigger condition", escape(examination.trigger)))
    if examination.failure:
        facts.append(("the trainer said", escape(examination.failure[:300])))
    return "<dl>" + "".join(_fact(name, value) for name, value in facts) + "</dl>"


def _fact(name: str, value: str) -> str:
    wide = ' class="wide"' if len(value) > _LONG_FACT else ""
    return f"<div{wide}><dt>{name}</dt><dd>{value}</dd></div>"


def _charts(examination: Examination, downsampled: DownsampledSeries) -> Iterator[str]:
    marks = list(_marks(examination))
    yield "<h3>Readings over time</h3><div class='charts'>"
    chosen = downsampled.chosen(MOST_CHARTS)
    frame = frame_of(chosen.values())
    rules = examination.rule_set
    for metric, series in chosen.items():
        thresholds = rules.thresholds(metric, downsampled.scales) if rules else []
        drawn = chart(metric, series, zones(thresholds), frame, marks)
        yield f"<figure><figcaption>{escape(metric)}</figcaption>{drawn}</figure>"
    yield "</div><p class='quiet legend'>Shaded, where a rule fires: <i class='info'></i>info "
    yield "<i class='warning'></i>warning <i class='critical'></i>critical. Lines: alerts, "
    yield "the first bad update (solid), the halt that would have been (dashed). "
    yield "Crosses: readings that were not finite.</p>"


def _marks(examination: Examination) -> Iterator[Mark]:
    if examination.first_bad_update is not None:
        text = f"first bad update {examination.first_bad_update}"
        yield Mark(examination.first_bad_update, text, "bad")
    if examination.halt_update is not None:
        yield Mark(examination.halt_update, f"would halt at {examination.halt_update}", "halt")
    serious = [alert for alert in examination.alerts if alert.severity != "info"]
    for alert in serious[:MOST_MARKS]:
        yield Mark(alert.first_update, f"{alert.rule} at {alert.first_update}", alert.severity)


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """A table that scrolls by itself on a narrow screen; cells are HTML already."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    head = f"<thead><tr>{head}</tr></thead>" if heads else ""
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _drawn(cell: Cell) -> str:
    kind = cell.style.replace(" ", "-")
    badge = cell.style in STYLES and cell.style not in _PLAIN
    classes = f"badge {kind}" if badge else kind
    return f'<span class="{classes}">{escape(cell.text)}</span>' if kind else escape(cell.text)


def _cell(value: int | None) -> str:
    return "-" if value is None else str(value)
