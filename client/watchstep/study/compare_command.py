"""`watchstep compare`: whether the fix holds."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watchstep.postmortem.reading import Reading, check_rules, console

if TYPE_CHECKING:
    from watchstep.study import comparison


def compare(
    old: Annotated[Path, typer.Argument(help="A log or a folder of runs, before.")],
    new: Annotated[Path, typer.Argument(help="The same, after.")],
    rules: Annotated[list[str] | None, typer.Option(help="Pack or rule file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two runs or two fleets, and say "cannot tell" where that is so."""
    from watchstep.study import comparison

    check_rules(rules)
    sides = {"old": Reading([old], rules), "new": Reading([new], rules)}
    figures = {side: _figures(reading) for side, reading in sides.items()}
    codes = [reading.exit_code(len(figures[side])) for side, reading in sides.items()]
    if not all(figures.values()):
        raise typer.Exit(max(codes))
    lines = comparison.compared(figures["old"], figures["new"])
    if as_json:
        typer.echo(json.dumps(comparison.as_json(lines, figures), allow_nan=False))
    else:
        _show(lines, figures["old"], figures["new"])
    raise typer.Exit(max(codes))


def _figures(reading: Reading) -> list[comparison.RunFigures]:
    from watchstep.postmortem.examination import chosen_rules, examine
    from watchstep.postmortem.readers import open_logs
    from watchstep.study import comparison

    figures = []
    for log in open_logs(reading.paths, unreadable=reading.refuse):
        gauge = comparison.Gauge(chosen_rules(log, reading.rules)[1])
        examination = examine(log, reading.rules, observers=[gauge.observe])
        figures.append(gauge.closed(examination))
    return figures


_STYLES = {"better": "good", "worse": "critical", "cannot tell": "quiet", "differs": "warning"}


def _show(
    lines: Sequence[comparison.Line],
    old: Sequence[comparison.RunFigures],
    new: Sequence[comparison.RunFigures],
) -> None:
    from rich.text import Text

    from watchstep.postmortem.report import table_of
    from watchstep.postmortem.sections import Cell
    from watchstep.study import comparison
    from watchstep.study.statistics import LEAST_RUNS

    screen = console()
    heads = ("", f"old ({len(old)})", f"new ({len(new)})", "change", "95% of the difference", "")
    rows = []
    for line in lines:
        form = "{:.1%}" if line.share else "{:.4g}"
        between = line.interval
        interval = "too few runs"
        if between is not None:
            interval = f"{form.format(between.low)} to {form.format(between.high)}"
        figures = (_figure(form, line.old), _figure(form, line.new), comparison.times_better(line))
        judgement = Cell(line.judgement, _STYLES.get(line.judgement, ""))
        rows.append([Cell(line.name), *map(Cell, figures), Cell(interval, "quiet"), judgement])
    screen.print(table_of(heads, rows))
    inside = [sum(run.window_updates for run in side) for side in (old, new)]
    screen.print(
        Text(
            f"Medians over runs. Intervals: bootstrap over runs with a fixed seed, from "
            f"{LEAST_RUNS} runs a side on; shares by Newcombe. Updates with the raw deviation "
            f"in [1e-8, 1e-4]: {inside[0]} old, {inside[1]} new.",
            style="dim",
        )
    )


def _figure(form: str, value: float) -> str:
    """A side's figure; nothing was there to measure where it is NaN."""
    return "-" if math.isnan(value) else form.format(value)
