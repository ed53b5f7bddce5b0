"""`watchstep frequency`: how often zones and rules are entered over a fleet."""

from __future__ import annotations

import csv
import fnmatch
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watchstep.postmortem.reading import (
    UNREADABLE,
    Paths,
    Reading,
    Rules,
    check_rules,
    console,
)

if TYPE_CHECKING:
    from watchstep.study.frequency import Census, Rate, Risk

RUNS_PER_YEAR = 520.0
"""Ten a week, as in the seed document's estimate of the damage."""


def frequency(
    paths: Paths,
    rules: Rules = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Group runs by this tag, such as env; repeatable.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            help='Tags of logs: "GLOB name=value", or a CSV with a column `path`; repeatable.'
        ),
    ] = None,
    runs_per_year: Annotated[
        float, typer.Option(min=0.0, help="For the risk of a year.")
    ] = RUNS_PER_YEAR,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count over a fleet how often each zone and rule is entered: by phase and by tag."""
    from watchstep.study.frequency import Risk

    check_rules(rules)
    reading = Reading(paths, rules)
    try:
        census = take_census(reading, by or (), _labelled(tag or ()))
    except ValueError as error:
        raise _refused(str(error)) from None
    unknown = sorted({*(by or ())} - census.tags)
    if unknown and census.runs:
        raise _refused(f"--by {unknown[0]}: no run has it; there are {sorted(census.tags)}")
    risks = {
        group: Risk(census.failures[group], runs, runs_per_year)
        for group, runs in census.runs.items()
    }
    if as_json:
        shown = {
            "runs": census.runs["all"],
            "updates": census.updates["all", "all"],
            "rates": [rate.as_json() for rate in census.rates()],
            "risk": {group: risk.as_json() for group, risk in risks.items()},
            "assumptions": _assumptions(runs_per_year),
        }
        typer.echo(json.dumps(shown, allow_nan=False))
    elif census.runs:
        _show(census, risks, groups=["all", *census.runs] if by else ["all"])
        for line in _assumptions(runs_per_year):
            typer.echo(f"- {line}")
    raise typer.Exit(reading.exit_code(census.runs["all"]))


def _refused(reason: str) -> typer.Exit:
    typer.echo(f"watchstep: {reason}", err=True)
    return typer.Exit(UNREADABLE)


Labels = Sequence[tuple[str, dict[str, str]]]
"""Globs of paths, and the tags of the logs there."""


def _labelled(options: Sequence[str]) -> Labels:
    """The tags that the user gives to logs.

    Raises:
        ValueError: One cannot be read; says which.
    """
    labels: list[tuple[str, dict[str, str]]] = []
    for option in options:
        glob, _, pair = option.rpartition(" ")
        name, equals, value = pair.partition("=")
        if glob and name and equals:
            labels.append((glob.strip(), {name: value}))
        elif option.lower().endswith(".csv"):
            labels.extend(_table(Path(option)))
        else:
            raise ValueError(f'--tag {option!r}: expected "FILE_OR_GLOB name=value" or a CSV file')
    return labels


def _table(path: Path) -> Labels:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"--tag {path}: {error}") from None
    if not rows or not rows[0].get("path"):
        raise ValueError(f"--tag {path}: has no column `path`")
    filled = [{name: value for name, value in row.items() if name and value} for row in rows]
    return [(tags.pop("path", ""), tags) for tags in filled]


def _tags_of(path: Path, labels: Labels) -> dict[str, str]:
    """What the labels say of a log: by its path, its name, or a folder above it."""
    names = [str(path), path.name, *map(str, path.parents)]
    tags: dict[str, str] = {}
    for glob, labelled in labels:
        if any(fnmatch.fnmatchcase(name, glob) for name in names):
            tags.update(labelled)
    return tags


def take_census(reading: Reading, by: Sequence[str] = (), labels: Labels = ()) -> Census:
    """Read a fleet once, run after run."""
    from watchstep.postmortem.examination import chosen_rules, examine
    from watchstep.postmortem.readers import open_logs
    from watchstep.study.frequency import Census, Entries

    census = Census(by)
    for log in open_logs(reading.paths, unreadable=reading.refuse):
        log.tags.update(_tags_of(log.path, labels))
        entries = Entries(chosen_rules(log, reading.rules)[1])
        examination = examine(log, reading.rules, observers=[entries.observe], explain=False)
        census.add(examination, entries)
    return census


def _assumptions(runs_per_year: float) -> list[str]:
    from watchstep.study.frequency import PHASES, RISKS

    risks = ", ".join(f"{word} to {most:.2%}" for most, word in RISKS)
    phases = ", ".join(f"{name} {low:.0%} to {high:.0%}" for name, low, high in PHASES)
    return [
        f"phases by share of the run's own updates: {phases}; a cut-off run is taken for whole",
        "intervals: Wilson, 95%; those over runs take runs for independent",
        f"risk by share of updates: {risks}; more is critical; over the whole interval",
        "those over updates are too narrow, since the updates of one run are alike",
        f"a failure is a run that exploded, diverged or died; {runs_per_year:g} runs a year",
    ]


def _show(census: Census, risks: dict[str, Risk], groups: Sequence[str]) -> None:
    from watchstep.postmortem.report import table_of
    from watchstep.postmortem.sections import Cell
    from watchstep.study.frequency import PHASES

    screen = console()
    screen.print(f"{census.runs['all']} runs, {census.updates['all', 'all']:,} updates\n")
    phases = [name for name, _, _ in PHASES]
    rows = []
    rates = {(rate.kind, rate.name, rate.phase, rate.group): rate for rate in census.rates()}
    for kind, name in dict.fromkeys((kind, name) for kind, name, _, _ in rates):
        for group in dict.fromkeys(groups):
            whole = rates[kind, name, "all", group]
            shares = [_update_share(rates[kind, name, phase, group]) for phase in phases]
            if whole.runs:
                shown = name if group == "all" else ""
                cells = (shown, group, f"{whole.runs} of {whole.of_runs}", *shares)
                rows.append([*map(Cell, cells)])
    table = table_of(("entered", "of", "runs", *(f"{name} updates" for name in phases)), rows)
    table.columns[0].no_wrap = True
    screen.print(table)
    rows = []
    for group, risk in risks.items():
        run, year, any_ = risk.per_run, risk.per_year, risk.at_least_one
        cells = (
            group,
            f"{risk.failures} of {risk.runs}",
            f"{run.low:.1%} to {run.high:.1%}",
            f"{year.low:.1f} to {year.high:.1f}",
            f"{any_.low:.1%} to {any_.high:.1%}",
        )
        rows.append([*map(Cell, cells)])
    heads = ("runs", "failed", "risk per run", "failures a year", "at least one a year")
    screen.print()
    screen.print(table_of(heads, rows))
    screen.print()


def _update_share(rate: Rate) -> str:
    if not rate.of_updates:
        return "-"
    between = rate.per_update
    share = rate.updates / rate.of_updates
    return f"{share:.2%} ({between.low:.2%} to {between.high:.2%}), {rate.risk}"
