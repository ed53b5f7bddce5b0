"""`watchstep rules backtest`: rules over folders of old logs, with labels where there are any."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watchstep.cli.calling import answers
from watchstep.errors import LogUnreadableError, RuleError

if TYPE_CHECKING:
    from watchstep.postmortem.readers import Log
    from watchstep.rules.backtest import Label, LabelledRun, Report

MANIFEST = "manifest.json"


def backtest_logs(
    logs: Annotated[
        list[Path] | None, typer.Argument(help="Log files and folders; none with --url alone.")
    ] = None,
    *,
    rules: Annotated[
        list[str] | None, typer.Option(help="Pack or rule file, may be given again.")
    ] = None,
    url: Annotated[
        str, typer.Option(help="A service: what people answered its alerts is counted too.")
    ] = "",
    token: Annotated[str, typer.Option(help="Bearer token; default WATCHSTEP_TOKEN.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a rule.")] = False,
) -> None:
    """Count what rules catch and what they raise for nothing.

    Labels come from a manifest.json beside or above a log. Without one every run is unlabelled
    and only firings are counted.
    """
    from watchstep.postmortem.readers import open_logs
    from watchstep.rules import AUTO, load
    from watchstep.rules.backtest import backtest

    try:
        chosen = load(rules or [AUTO])
    except RuleError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None

    def note(path: Path, error: LogUnreadableError) -> None:
        typer.echo(f"{path}: {error}", err=True)

    report = backtest(chosen, labelled(open_logs(logs or [], unreadable=note)))
    if url:
        report.answers = _answers(url, token)
    if as_json:
        typer.echo(json.dumps(report.rows(), indent=2))
    else:
        _print(report)
    if not report.runs and not (url and not logs):
        raise typer.Exit(2)


def _answers(url: str, token: str) -> Mapping[str, tuple[int, int]]:
    with answers(url, token) as service:
        items = service.get("/answers")["items"]
    return {item["rule"]: (item["right"], item["false_alarms"]) for item in items}


def labelled(logs: Iterable[Log]) -> Iterator[LabelledRun]:
    """Logs with what a manifest says about them."""
    from watchstep.rules.backtest import LabelledRun

    manifests: dict[Path, dict[str, Any]] = {}
    for log in logs:
        record = _record(log, manifests)
        fault = record.get("fault_active_from_update") or record.get("first_bad_update")
        yield LabelledRun(
            run=str(record.get("id", log.run)),
            updates=log.updates,
            label=_label(record.get("label")),
            fault_from=fault if isinstance(fault, int) else None,
            first_bad=record.get("first_bad_update"),
            # A manifest counts updates; a log that prints steps is counted by position.
            by_step=log.unit == "iteration" or bool(record.get("numbers") == "step"),
            tags={"kind": log.kind, **log.tags},
        )


def _label(word: object) -> Label:
    from watchstep.rules.backtest import HARMLESS_LABELS

    if word is None:
        return "unlabelled"
    if word in HARMLESS_LABELS:
        return "healthy"
    return "transient" if word == "transient" else "faulty"


def _record(log: Log, manifests: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    """The record of the manifest, in one of the three folders above, that lists the log."""
    files = [path.resolve() for path in log.files or [log.path]]
    for folder in list(files[0].parents)[:3]:
        if folder not in manifests:
            manifests[folder] = _manifest(folder / MANIFEST)
        for path in files:
            record = manifests[folder].get(path.relative_to(folder).as_posix())
            if record:
                return dict(record)
    return {}


def _manifest(path: Path) -> dict[str, Any]:
    """Records by each of their files; empty where there is no manifest that can be read."""
    try:
        runs = json.loads(path.read_text())["runs"]
        return {file: record for record in runs for file in record["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _print(report: Report) -> None:
    runs = ", ".join(f"{count} {label}" for label, count in sorted(report.runs.items()))
    typer.echo(f"{runs or 'no'} runs, {report.healthy_updates} healthy updates")
    people = "" if report.answers is None else f" {'right':>6} {'wrong':>6}"
    typer.echo(
        f"{'rule':<32} {'severity':<9} {'firings':>7} {'caught':>7} {'lag':>5} "
        f"{'false':>6} {'/1000':>7} {'/run':>6}{people}"
    )
    for row in report.rows():
        lag = row["median_lag_updates"]
        per_1000 = row["false_alarms_per_1000_healthy_updates"]
        per_run = row["false_alarms_per_healthy_run"]
        if people:
            people = f" {row['answered_right']:>6} {row['answered_false']:>6}"
        typer.echo(
            f"{row['rule']:<32} {row['severity']:<9} {row['firings']:>7} {row['caught']:>7} "
            f"{'-' if lag is None else lag:>5} {row['false_alarms']:>6} "
            f"{'-' if per_1000 is None else per_1000:>7} {'-' if per_run is None else per_run:>6}"
            f"{people}"
        )
    faulty = report.runs.get("faulty", 0)
    if faulty:
        typer.echo(f"{report.critical} of {faulty} faulty runs raised a critical alert")
    for run, label, update in report.halted:
        typer.echo(f"would halt {run} ({label}) at update {update}")
