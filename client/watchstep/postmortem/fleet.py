"""Many runs at once: a line for each that needs a look, and a summary; memory stays flat."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from watchstep.postmortem.report import table_of
from watchstep.postmortem.sections import FLEET_HEADS, Cell, fleet_row
from watchstep.postmortem.verdict import VERDICTS, WELL

if TYPE_CHECKING:
    from watchstep.postmortem.examination import Examination

MOST_ALERTS = 8
MOST_LINES = 60
"""Runs listed one by one, worst first; beyond that the summary has to do."""


class Fleet:
    """What a report on many runs needs of each."""

    def __init__(self, *, drawn: int = 0) -> None:
        """Keep the charts of the `drawn` worst runs."""
        self._drawn = drawn
        self.verdicts: Counter[str] = Counter()
        self.rules: Counter[tuple[str, str]] = Counter()
        self.causes: Counter[str] = Counter()
        self.updates = 0
        self.wasted = 0
        self.saved = 0
        self.lines: list[tuple[int, Examination]] = []

    @property
    def runs(self) -> int:
        return sum(self.verdicts.values())

    def add(self, examination: Examination) -> None:
        self.verdicts[examination.verdict] += 1
        self.rules.update((alert.rule, alert.severity) for alert in examination.alerts)
        if examination.causes and examination.verdict not in WELL:
            self.causes[examination.causes[0].name] += 1
        self.updates += examination.updates
        self.wasted += examination.wasted_updates
        self.saved += examination.saved_updates
        self.lines.append((list(VERDICTS).index(examination.verdict), examination))
        if len(self.lines) > 2 * MOST_LINES or self.runs % (2 * self._drawn or 1) == 0:
            self._forget_the_mildest()

    def worst(self) -> list[Examination]:
        self._forget_the_mildest()
        return [examination for _, examination in self.lines]

    def _forget_the_mildest(self) -> None:
        self.lines.sort(key=lambda line: -line[0])
        del self.lines[MOST_LINES:]
        for _, examination in self.lines[self._drawn :]:
            examination.downsampled = None


def show(fleet: Fleet, console: Console) -> None:
    console.print(table_of(FLEET_HEADS, map(fleet_row, _listed(fleet))))
    more = fleet.runs - len(_listed(fleet))
    if more > 0:
        console.print(Text(f"and {more} more, none of them worse", style="dim"))
    console.print(_sums(fleet))
    if fleet.rules:
        console.print(_frequent(fleet))
    console.print(
        Text(
            f"{fleet.updates:,} reports; {fleet.wasted:,} after the first sign of trouble, "
            f'of which on_critical="halt" would have spared {fleet.saved:,}'
        )
    )


def _listed(fleet: Fleet) -> list[Examination]:
    """The runs to list; of a large fleet only those that need a look."""
    worst = fleet.worst()
    if fleet.runs <= MOST_LINES:
        return worst
    return [examination for examination in worst if examination.verdict not in WELL]


def _sums(fleet: Fleet) -> Table:
    rows = [
        [Cell(word, word), Cell(str(count)), Cell(f"{count / fleet.runs:.1%}")]
        for word in VERDICTS
        if (count := fleet.verdicts[word])
    ]
    table = table_of(("verdict", "runs", "share"), rows)
    table.title, table.title_justify = f"{fleet.runs} runs", "left"
    return table


def _frequent(fleet: Fleet) -> Table:
    """The alerts of most runs, so that a fault which all share is seen at once."""
    serious = [entry for entry in fleet.rules.most_common() if entry[0][1] != "info"]
    rows = [
        [Cell(rule), Cell(severity), Cell(str(count)), Cell(f"{count / fleet.runs:.1%}")]
        for (rule, severity), count in serious[:MOST_ALERTS]
    ]
    return table_of(("alert", "severity", "runs", "share"), rows)


@contextmanager
def progress(*, enabled: bool) -> Iterator[Progress | None]:
    """A progress bar on stderr, where somebody looks at it."""
    console = Console(file=sys.stderr)
    if not enabled or not console.is_terminal:
        yield None
        return
    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield bar


def counted(
    examinations: Iterable[Examination], bar: Progress | None, total: int | None
) -> Iterator[Examination]:
    """The same runs, shown on a bar as they pass."""
    task = bar.add_task("reading logs", total=total) if bar else None
    for examination in examinations:
        if bar is not None and task is not None:
            bar.advance(task)
        yield examination
