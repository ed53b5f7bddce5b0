"""`watchstep cost`: what failures cost, with every assumption beside its figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watchstep.errors import RuleError
from watchstep.postmortem.reading import UNREADABLE, Reading, Rules, check_rules, console

if TYPE_CHECKING:
    from watchstep.study.cost import Assumptions, Figure, Measured


def cost(
    logs: Annotated[
        list[Path] | None, typer.Argument(help="Logs to measure frequencies on; may be left out.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with the assumptions.")
    ] = None,
    rules: Rules = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put a price on failed runs: compute, money and people's time, per failure and year.

    Without a file the assumptions are the seed document's; with logs the share of failed runs
    and of lost updates is measured on them.
    """
    from watchstep.study.cost import assumptions_json, bill

    check_rules(rules)
    assumed = _given(config)
    measured, code = None, 0
    if logs:
        reading = Reading(logs, rules)
        measured = measure(reading)
        code = reading.exit_code(measured.runs)
        if not measured.runs:
            raise typer.Exit(code)
    figures = bill(assumed, measured)
    if as_json:
        shown = {
            "figures": [figure.as_json() for figure in figures],
            "assumptions": assumptions_json(assumed),
            "assumed_by_default": config is None,
        }
        typer.echo(json.dumps(shown, allow_nan=False))
    else:
        _show(figures)
    raise typer.Exit(code)


def measure(reading: Reading) -> Measured:
    """How often runs fail, and what they had done by then."""
    from watchstep.study.cost import Measured
    from watchstep.study.frequency import FAILED_VERDICTS

    runs = failures = failed = wasted = saved = 0
    for examination in reading.examinations():
        runs += 1
        if examination.verdict in FAILED_VERDICTS:
            failures += 1
            failed += examination.updates
            wasted += min(examination.wasted_updates, examination.updates)
            saved += examination.saved_updates
    return Measured(
        runs=runs,
        failures=failures,
        failed_updates=failed,
        wasted_updates=wasted,
        saved_updates=saved,
        good_updates=failed - wasted,
    )


def _given(config: Path | None) -> Assumptions:
    from watchstep.study.cost import Assumptions, read_assumptions

    if config is None:
        return Assumptions()
    try:
        return read_assumptions(config)
    except RuleError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(UNREADABLE) from None


def _show(figures: list[Figure]) -> None:
    from watchstep.postmortem.report import table_of
    from watchstep.postmortem.sections import Cell

    rows = [
        [
            Cell(figure.name),
            *(Cell(f"{end:,.4g}") for end in figure.value.ends),
            Cell(figure.unit, "quiet"),
            Cell(figure.because, "quiet"),
        ]
        for figure in figures
    ]
    table = table_of(("", "from", "to", "", "because"), rows)
    for column in table.columns[1:3]:
        column.justify = "right"
    console().print(table)
