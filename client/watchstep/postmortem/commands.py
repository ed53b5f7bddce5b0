"""`watchstep postmortem` and its relatives: what old logs tell."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watchstep.postmortem.backfill_command import import_logs
from watchstep.postmortem.reading import UNREADABLE, Paths, Reading, Rules, check_rules, console

if TYPE_CHECKING:
    from watchstep.postmortem.examination import Examination
    from watchstep.postmortem.fleet import Fleet

MOST_FULL_REPORTS = 3
"""Runs up to which each gets a report of its own; more are a fleet."""
MOST_CHARTED = 12
"""Runs of a fleet whose charts a page holds, the worst ones."""


class FailOn(StrEnum):
    """Severity from which the command fails."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


def register(app: typer.Typer) -> None:
    """Add the commands to the one command."""
    app.command("postmortem")(postmortem)
    app.command("import")(import_logs)


def postmortem(
    paths: Paths,
    rules: Rules = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page.")] = None,
    fail_on: Annotated[FailOn | None, typer.Option(help="Exit 1 from this severity on.")] = None,
    each: Annotated[bool, typer.Option("--each", help="A full report for every run.")] = False,
) -> None:
    """Say what happened in old logs: since when, how sure, and where to go back to.

    Exit 0 when everything was read, 1 when a verdict or alert reached --fail-on, 2 for usage or an
    unreadable path, 3 when there was nothing to read.
    """
    from watchstep.postmortem import fleet as fleets
    from watchstep.postmortem.verdict import SEVERITY_OF

    check_rules(rules)
    reading = Reading(paths, rules, draw=True)
    fleet = fleets.Fleet(drawn=MOST_CHARTED)
    severities: set[str] = set()

    def noted() -> Iterator[Examination]:
        for examination in reading.examinations():
            severities.update(alert.severity for alert in examination.alerts)
            severities.update(filter(None, [SEVERITY_OF.get(examination.verdict)]))
            fleet.add(examination)
            # Beyond a few reports nothing is drawn but the page.
            reading.draw = html is not None or each or fleet.runs < MOST_FULL_REPORTS
            yield examination

    if as_json:
        _print_json(noted())
    else:
        _print_reports(noted(), fleet, Shown(each, paths))
    if html is not None and fleet.runs:
        _write_page(html, fleet)
    raise typer.Exit(reading.exit_code(fleet.runs, _reached(severities, fail_on)))


@dataclass(frozen=True)
class Shown:
    """How runs are to be shown.

    Attributes:
        each: Whether every run gets a report of its own.
    """

    each: bool
    paths: Sequence[Path]


def _print_json(examinations: Iterable[Examination]) -> None:
    """One object, written run by run, so that a fleet of any size fits in memory."""
    separator = ""
    typer.echo('{"runs": [', nl=False)
    for examination in examinations:
        typer.echo(separator + json.dumps(examination.as_json(), allow_nan=False), nl=False)
        separator = ",\n"
    typer.echo("]}")


def _print_reports(examinations: Iterator[Examination], fleet: Fleet, shown: Shown) -> None:
    from watchstep.postmortem import fleet as fleets
    from watchstep.postmortem import report

    screen = console()
    if shown.each:
        for examination in examinations:
            report.show(examination, screen)
        return
    with fleets.progress(enabled=_folders(shown.paths)) as bar:
        total = _runs_at_most(shown.paths) if bar else None
        passing = fleets.counted(examinations, bar, total)
        # Read on for a moment: three runs get full reports, four are a fleet.
        few = list(itertools.islice(passing, MOST_FULL_REPORTS + 1))
        if len(few) > MOST_FULL_REPORTS:
            del few
            for _ in passing:
                pass
    if fleet.runs > MOST_FULL_REPORTS:
        fleets.show(fleet, screen)
        return
    for examination in few:
        report.show(examination, screen)


def _folders(paths: Sequence[Path]) -> bool:
    return len(paths) > MOST_FULL_REPORTS or any(path.is_dir() for path in paths)


def _runs_at_most(paths: Sequence[Path]) -> int:
    """Folders with files in them, which is about the number of runs."""
    return sum(
        sum(bool(names) for _, _, names in os.walk(path)) if path.is_dir() else 1 for path in paths
    )


def _write_page(path: Path, fleet: Fleet) -> None:
    from watchstep.postmortem import page

    try:
        path.write_text(page.render(fleet.worst(), fleet.verdicts), encoding="utf-8")
    except OSError as error:
        typer.echo(f"watchstep: {path}: {error.strerror or error}", err=True)
        raise typer.Exit(UNREADABLE) from None


def _reached(severities: set[str], fail_on: FailOn | None) -> bool:
    if fail_on is None or not severities:
        return False
    order = list(FailOn)
    return max(order.index(FailOn(word)) for word in severities) >= order.index(fail_on)
