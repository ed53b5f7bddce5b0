"""`watchstep frequency`: how often zones and rules are entered over a fleet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from watchstep.postmortem.reading import Paths, Reading, Rules, check_rules, console

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
    runs_per_year: Annotated[
        float, typer.Option(min=0.0, help="For the risk of a year.")
    ] = RUNS_PER_YEAR,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count over a fleet how often each zone and rule is entered: by phase and by tag."""
    from watchstep.study.frequency import Risk

    check_rules(rules)
    reading = Reading(paths, rules)
    census = take_census(reading, by or ())
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
        _show(census, risks)
        for line in _assumptions(runs_per_year):
            typer.echo(f"- {line}")
    raise typer.Exit(reading.exit_code(census.runs["all"]))


def take_census(reading: Reading, by: list[str] | tuple[str, ...] = ()) -> Census:
    """Read a fleet once, run after run."""
    from watchstep.postmortem.examination import chosen_rules, examine
    from watchstep.postmortem.readers import open_logs
    from watchstep.study.frequency import Census, Entries

    census = Census(by)
    for log in open_logs(reading.paths, unreadable=reading.refuse):
        entries = Entries(chosen_rules(log, reading.rules)[1])
        found = examine(log, reading.rules, observers=[entries.observe], explain=False)
        census.add(found, entries)
    return census


def _assumptions(runs_per_year: float) -> list[str]:
    from watchstep.study.frequency import PHASES

    phases = ", ".join(f"{name} {low:.0%} to {high:.0%}" for name, low, high in PHASES)
    return [
        f"phases by share of the run's own updates: {phases}; a cut-off run is taken for whole",
        "intervals: Wilson, 95%; those over runs take runs for independent",
        "those over updates are too narrow, since the updates of one run are alike",
        f"a failure is a run that exploded, diverged or died; {runs_per_year:g} runs a year",
    ]


def _show(census: Census, risks: dict[str, Risk]) -> None:
    from rich.table import Table
    from rich.text import Text

    from watchstep.study.frequency import PHASES

    screen = console()
    screen.print(f"{census.runs['all']} runs, {census.updates['all', 'all']:,} updates\n")
    phases = [name for name, _, _ in PHASES]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("entered", no_wrap=True)
    for head in ("runs", *(f"{name} updates" for name in phases)):
        table.add_column(head, overflow="fold")
    rates = {(rate.kind, rate.name, rate.phase, rate.group): rate for rate in census.rates()}
    for kind, name in dict.fromkeys((kind, name) for kind, name, _, _ in rates):
        whole = rates[kind, name, "all", "all"]
        cells = [_update_share(rates[kind, name, phase, "all"]) for phase in phases]
        table.add_row(Text(name), f"{whole.runs} of {whole.of_runs}", *cells)
    screen.print(table)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("runs", "failed", "risk per run", "failures a year", "at least one a year"):
        table.add_column(head, overflow="fold")
    for group, risk in risks.items():
        run, year, any_ = risk.per_run, risk.per_year, risk.at_least_one
        table.add_row(
            Text(group),
            f"{risk.failures} of {risk.runs}",
            f"{run.low:.1%} to {run.high:.1%}",
            f"{year.low:.1f} to {year.high:.1f}",
            f"{any_.low:.1%} to {any_.high:.1%}",
        )
    screen.print()
    screen.print(table)
    screen.print()


def _update_share(rate: Rate) -> str:
    if not rate.of_updates:
        return "-"
    between = rate.per_update
    share = rate.updates / rate.of_updates
    return f"{share:.2%} ({between.low:.2%} to {between.high:.2%})"
