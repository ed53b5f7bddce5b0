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

from watchstep.postmortem.report import COLOURS
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
        """How many runs were taken in."""
        return sum(self.verdicts.values())

    def add(self, found: Examination) -> None:
        """Take in one run."""
        self.verdicts[found.verdict] += 1
        self.rules.update((alert.rule, alert.severity) for alert in found.alerts)
        if found.causes and found.verdict not in WELL:
            self.causes[found.causes[0].name] += 1
        self.updates += found.updates
        self.wasted += found.wasted_updates
        self.saved += found.saved_updates
        self.lines.append((list(VERDICTS).index(found.verdict), found))
        if len(self.lines) > 2 * MOST_LINES or self.runs % (2 * self._drawn or 1) == 0:
            self._forget_the_mildest()

    def worst(self) -> list[Examination]:
        """The runs to list, worst first."""
        self._forget_the_mildest()
        return [found for _, found in self.lines]

    def _forget_the_mildest(self) -> None:
        self.lines.sort(key=lambda line: -line[0])
        del self.lines[MOST_LINES:]
        for _, found in self.lines[self._drawn :]:
            found.downsampled = None


def show(fleet: Fleet, console: Console) -> None:
    """Print the runs worst first, then the sums."""
    console.print(_runs(fleet))
    more = fleet.runs - len(_listed(fleet))
    if more > 0:
        console.print(Text(f"and {more} more, none of them worse", style="dim"))
    console.print(_sums(fleet))
    if fleet.rules:
        console.print(_frequent(fleet))
    console.print(
        Text(
            f"{fleet.updates:,} updates; {fleet.wasted:,} after the first sign of trouble, "
            f'of which on_critical="halt" would have spared {fleet.saved:,}'
        )
    )


def _listed(fleet: Fleet) -> list[Examination]:
    """The runs to list; of a large fleet only those that need a look."""
    worst = fleet.worst()
    if fleet.runs <= MOST_LINES:
        return worst
    return [found for found in worst if found.verdict not in WELL]


def _runs(fleet: Fleet) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("verdict", "run", "updates", "first bad", "last good", "halt", "why"):
        table.add_column(head, overflow="fold")
    for found in _listed(fleet):
        cells = (found.first_bad_update, found.last_good_update, found.halt_update)
        table.add_row(
            Text(found.verdict, style=COLOURS[found.verdict]),
            Text(found.run + (" (partial)" if found.partial else "")),
            str(found.updates),
            *("" if cell is None else str(cell) for cell in cells),
            Text(found.why(), style="dim"),
        )
    return table


def _sums(fleet: Fleet) -> Table:
    table = Table(title=f"{fleet.runs} runs", box=None, pad_edge=False, header_style="dim")
    table.title_justify = "left"
    for head in ("verdict", "runs", "share"):
        table.add_column(head)
    for word in VERDICTS:
        count = fleet.verdicts[word]
        if count:
            share = f"{count / fleet.runs:.1%}"
            table.add_row(Text(word, style=COLOURS[word]), str(count), share)
    return table


def _frequent(fleet: Fleet) -> Table:
    """The alerts of most runs, so that a fault which all share is seen at once."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("alert", "severity", "runs", "share"):
        table.add_column(head)
    serious = [one for one in fleet.rules.most_common() if one[0][1] != "info"]
    for (rule, severity), count in serious[:MOST_ALERTS]:
        table.add_row(rule, severity, str(count), f"{count / fleet.runs:.1%}")
    return table


@contextmanager
def progress(*, wanted: bool) -> Iterator[Progress | None]:
    """A progress bar on stderr, where somebody looks at it."""
    console = Console(file=sys.stderr)
    if not wanted or not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield bar


def counted(
    found: Iterable[Examination], bar: Progress | None, total: int | None
) -> Iterator[Examination]:
    """The same runs, shown on a bar as they pass."""
    task = bar.add_task("reading logs", total=total) if bar else None
    for one in found:
        if bar is not None and task is not None:
            bar.advance(task)
        yield one
