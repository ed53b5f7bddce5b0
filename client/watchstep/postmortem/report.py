"""The terminal report on one run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from watchstep.postmortem.downsampled_series import Series
from watchstep.postmortem.examination import Examination
from watchstep.postmortem.sections import Cell, cut, headline, sections

STYLES = {
    "unjudged": "cyan",
    "healthy": "green",
    "suspicious": "yellow",
    "exploded": "red",
    "diverged": "bold red",
    "died": "magenta",
    "info": "cyan",
    "warning": "yellow",
    "critical": "bold red",
    "yes": "yellow",
    "no": "green",
    "not logged": "dim",
    "strong": "bold",
    "quiet": "dim",
    "good": "green",
    "bad": "red",
}
"""How the terminal shows the styles of `sections.Cell`."""

_SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 40
_MOST_SPARKS = 6


def show(examination: Examination, console: Console) -> None:
    """Print everything that is known about one run."""
    console.print(_verdict(examination))
    if examination.downsampled is not None and examination.downsampled.series:
        _print_section(console, "Readings over time", _sparks(examination))
    for section in sections(examination):
        table = table_of(section.heads, section.rows)
        if section.note:
            table.caption, table.caption_justify = section.note, "left"
        _print_section(console, section.title, table)
    console.print()


def _print_section(console: Console, title: str, body: RenderableType) -> None:
    console.print(Text(f"\n{title}", style="bold"))
    console.print(Padding(body, (0, 0, 0, 2)))


def table_of(heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Table:
    """A table without lines; a list where it has no heads."""
    rows = list(rows)
    table = Table(box=None, pad_edge=False, header_style="dim", show_header=bool(heads))
    for head in heads or [""] * len(rows[0]):
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell.text, style=STYLES.get(cell.style, "")) for cell in row))
    return table


def _verdict(examination: Examination) -> RenderableType:
    style = STYLES[examination.verdict]
    head = Text()
    head.append(f"{examination.verdict.upper()}", style=f"reverse {style}")
    head.append(f"  {examination.run}", style="bold")
    head.append(f"   {examination.path}", style="dim")
    lines = [head, Text(f"{examination.verdict_because}.", style=style)]
    lines += [Text(sentence, style="bold") for sentence in headline(examination)]
    lines += _facts(examination)
    return Panel(Group(*lines), border_style=style)


def _facts(examination: Examination) -> Iterator[Text]:
    last = (
        ""
        if examination.last_update is None
        else f", up to {examination.unit} {examination.last_update}"
    )
    partial = ", PARTIAL: part of the log could not be read" if examination.partial else ""
    resumed = f", {examination.attempts} attempts" if examination.attempts > 1 else ""
    reports = "report" if examination.updates == 1 else "reports"
    yield Text(
        f"{examination.updates} {reports}{last}{resumed}, {examination.format}, "
        f"rules: {', '.join(examination.packs)}{partial}"
    )
    if examination.halt_update is not None:
        unit = "row" if examination.unit == "row" else "update"
        rest = (
            f"; the log goes on to {examination.last_update}" if examination.saved_updates else ""
        )
        yield Text(
            f'on_critical="halt" would have stopped it at {unit} {examination.halt_update}{rest}'
        )
    if examination.failure:
        yield Text(f"the trainer said: {cut(examination.failure)}", style="magenta")


def _sparks(examination: Examination) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    assert examination.downsampled is not None
    for metric, series in examination.downsampled.chosen(_MOST_SPARKS).items():
        low, high = _limits(series)
        lost = sum(bucket.lost for bucket in series.buckets)
        table.add_row(
            Text(metric, style="dim"),
            _spark(series),
            Text("none finite" if math.isnan(low) else f"{low:.4g} .. {high:.4g}"),
            Text(f"{lost} not finite" if lost else "", style="red"),
        )
    return table


def _limits(series: Series) -> tuple[float, float]:
    """Least and largest finite reading; NaN where there is none."""
    lows = [bucket.low for bucket in series.buckets if math.isfinite(bucket.low)]
    highs = [bucket.high for bucket in series.buckets if math.isfinite(bucket.high)]
    return (min(lows), max(highs)) if lows else (math.nan, math.nan)


def _spark(series: Series) -> Text:
    """A line of blocks, a cross where a reading was not finite; logarithmic where wide."""
    low, high = _limits(series)
    text = Text()
    buckets = series.buckets
    for at in range(min(_SPARK_WIDTH, len(buckets))):
        begin = at * len(buckets) // min(_SPARK_WIDTH, len(buckets))
        end = max((at + 1) * len(buckets) // min(_SPARK_WIDTH, len(buckets)), begin + 1)
        part = buckets[begin]
        for other in buckets[begin + 1 : end]:
            part = part.merged(other)
        if part.lost:
            text.append("x", style="bold red")
        else:
            text.append(_SPARKS[_height(part.high, low, high)], style="cyan")
    return text


def _height(value: float, low: float, high: float) -> int:
    if not high > low or not math.isfinite(value):
        return 0
    if low > 0 and high > 100 * low:
        value, low, high = math.log(value), math.log(low), math.log(high)
    # Halves first: the difference of two huge floats of opposite sign overflows.
    share = (value / 2 - low / 2) / (high / 2 - low / 2)
    return min(max(int(share * len(_SPARKS)), 0), len(_SPARKS) - 1)
