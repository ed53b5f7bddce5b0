"""The terminal report on one run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from watchstep.core.diagnosis import NOT_ENOUGH
from watchstep.postmortem.downsampled_series import Series
from watchstep.postmortem.headline import headline
from watchstep.postmortem.verdict import VERDICTS, WELL

if TYPE_CHECKING:
    from watchstep.postmortem.examination import Examination

COLOURS = {
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
}
_SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 40
_MOST_SPARKS = 6
_MOST_ALERTS = 15
_MOST_CAUSES = 3


def show(found: Examination, console: Console) -> None:
    """Print everything that is known about one run."""
    for part in _parts(found):
        console.print(part)
    console.print()


def _parts(found: Examination) -> Iterator[RenderableType]:
    yield _verdict(found)
    if found.downsampled is not None and found.downsampled.series:
        yield from _section("Readings over time", _sparks(found))
    if found.stages:
        yield from _section("Timeline", _timeline(found))
    if found.alerts:
        yield from _section("Alerts", _alerts(found))
    if found.causes:
        yield from _section("Likely causes", _causes(found))
    if found.trigger:
        yield from _section("Trigger condition", Text(found.trigger))
    if found.items:
        yield from _section("The checklist for old logs", _checklist(found))
    if found.verdict not in WELL:
        yield from _section("Where to go back to", _checkpoint(found))
    if found.not_checked:
        yield from _section("Not checked", _lines(found.not_checked))
    if found.notes:
        yield from _section("About the log", _lines(found.notes))


def _section(title: str, body: RenderableType) -> Iterator[RenderableType]:
    yield Text(f"\n{title}", style="bold")
    yield Padding(body, (0, 0, 0, 2))


def _verdict(found: Examination) -> RenderableType:
    style = COLOURS[found.verdict]
    head = Text()
    head.append(f"{found.verdict.upper()}", style=f"reverse {style}")
    head.append(f"  {found.run}", style="bold")
    head.append(f"   {found.path}", style="dim")
    lines = [head, Text(f"{VERDICTS[found.verdict]}.", style=style)]
    lines += [Text(sentence, style="bold") for sentence in headline(found)]
    lines += _facts(found)
    return Panel(Group(*lines), border_style=style)


def _facts(found: Examination) -> Iterator[Text]:
    last = "" if found.last_update is None else f", up to {found.unit} {found.last_update}"
    partial = ", PARTIAL: part of the log could not be read" if found.partial else ""
    resumed = f", {found.attempts} attempts" if found.attempts > 1 else ""
    yield Text(
        f"{found.updates} updates{last}{resumed}, {found.format}, "
        f"rules: {', '.join(found.packs)}{partial}"
    )
    if found.halt_update is not None:
        yield Text(
            f'on_critical="halt" would have stopped it at update {found.halt_update}, '
            f"{found.saved_updates} updates before the end"
        )
    if found.failure:
        yield Text(f"the trainer said: {found.failure[:200]}", style="magenta")


def _sparks(found: Examination) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    assert found.downsampled is not None
    for metric, series in found.downsampled.chosen(_MOST_SPARKS).items():
        low, high = limits(series)
        lost = sum(bucket.lost for bucket in series.buckets)
        table.add_row(
            Text(metric, style="dim"),
            spark(series),
            Text(f"{number(low)} .. {number(high)}"),
            Text(f"{lost} not finite" if lost else "", style="red"),
        )
    return table


def limits(series: Series) -> tuple[float, float]:
    """Least and largest finite reading; NaN where there is none."""
    lows = [bucket.low for bucket in series.buckets if math.isfinite(bucket.low)]
    highs = [bucket.high for bucket in series.buckets if math.isfinite(bucket.high)]
    return (min(lows), max(highs)) if lows else (math.nan, math.nan)


def spark(series: Series) -> Text:
    """A line of blocks, a cross where a reading was not finite; logarithmic where wide."""
    low, high = limits(series)
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


def number(value: float | None) -> str:
    """A reading in few characters."""
    if value is None:
        return "-"
    return f"{value:.4g}"


def _timeline(found: Examination) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    styles = {"early signs": "yellow", "explosion": "red", "divergence": "bold red"}
    for stage in found.stages:
        span = f"{stage.first_update}"
        if stage.last_update != stage.first_update:
            span += f" to {stage.last_update}"
        began = [a.rule for a in found.alerts if a.first_update == stage.first_update]
        table.add_row(
            Text(stage.stage, style=styles.get(stage.stage, "dim")),
            Text(span),
            Text(", ".join(began), style="dim"),
        )
    return table


def _alerts(found: Examination) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("rule", "severity", "first", "last", "lead", "why"):
        table.add_column(head, overflow="fold", justify="right" if head == "lead" else "left")
    order = {"critical": 0, "warning": 1, "info": 2}
    alerts = sorted(found.alerts, key=lambda one: (order[one.severity], one.first_update))
    for alert in alerts[:_MOST_ALERTS]:
        lead = alert.lead_updates
        table.add_row(
            Text(alert.rule),
            Text(alert.severity, style=COLOURS[alert.severity]),
            str(alert.first_update),
            str(alert.last_update),
            "" if lead is None else "at once" if lead == 0 else f"{lead:+d}",
            Text(alert.reason, style="dim"),
        )
    if len(alerts) > _MOST_ALERTS:
        table.add_row(Text(f"and {len(alerts) - _MOST_ALERTS} more", style="dim"))
    if any(alert.lead_updates is not None for alert in alerts):
        table.caption = "lead: updates before the damage (minus: after it)"
        table.caption_justify = "left"
    return table


def _causes(found: Examination) -> RenderableType:
    blocks: list[RenderableType] = []
    for cause in found.causes[:_MOST_CAUSES]:
        if cause.name == NOT_ENOUGH:
            # How sure it is that nothing is sure helps nobody.
            blocks.append(Text(cause.title))
            blocks.extend(Padding(Text(said, style="dim"), (0, 0, 0, 4)) for said in cause.evidence)
            continue
        filled = round(cause.confidence * 10)
        line = Text("█" * filled + "░" * (10 - filled), style="cyan")
        line.append(f" {cause.confidence:4.0%}  ", style="bold")
        line.append(cause.title)
        blocks.append(line)
        blocks.extend(
            Padding(Text(f"+ {said}", style="green"), (0, 0, 0, 4)) for said in cause.evidence
        )
        blocks.extend(
            Padding(Text(f"- {said}", style="red"), (0, 0, 0, 4)) for said in cause.against
        )
    return Group(*blocks)


def _checklist(found: Examination) -> RenderableType:
    blocks: list[RenderableType] = []
    for item in found.items:
        line = Text(f"{item.answer:<11}", style=COLOURS[item.answer])
        line.append(item.question, style="bold")
        if item.update is not None:
            line.append(f"  ({number(item.found)} at update {item.update})")
        blocks.append(line)
        if item.answer == "yes":
            blocks.append(Padding(Text(f"claimed: {item.claim}", style="dim"), (0, 0, 0, 11)))
        if item.answer != "not logged":
            blocks.append(Padding(Text(f"measured: {item.measured}", style="dim"), (0, 0, 0, 11)))
    return Group(*blocks)


def _checkpoint(found: Examination) -> RenderableType:
    best = found.checkpoints.best
    lines: list[RenderableType] = []
    if best is not None:
        at = "" if best.step is None else f", saved at {best.step}"
        lines.append(Text(f"{best.path}: intact and finite{at}", style="green"))
    elif found.last_good_update is None:
        lines.append(Text("no update of this log was good: begin anew with the fault mended"))
    else:
        lines.append(Text(f"anything saved up to update {found.last_good_update}"))
    lines.extend(
        Text(f"not {one.path}: {one.reason}", style="yellow") for one in found.checkpoints.refused
    )
    if found.checkpoints.note:
        lines.append(Text(found.checkpoints.note, style="dim"))
    return Group(*lines)


def _lines(said: list[str]) -> RenderableType:
    return Group(*(Text(f"- {line}", style="dim") for line in said))
