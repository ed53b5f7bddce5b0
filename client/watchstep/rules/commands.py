"""`watchstep rules list | check | test`; `backtest` joins them where logs can be read."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from watchstep.core.rules import Rule
from watchstep.errors import RuleError
from watchstep.rules.check import check
from watchstep.rules.files import AUTO, load, packs
from watchstep.rules.unit_tests import read_tests, run

app = typer.Typer(
    help="List, check, unit-test and backtest rules.", no_args_is_help=True, add_completion=False
)

WRONG_FILE = 2
"""Exit code for a file that cannot be used, as for any mistake on the command line."""


@app.command("list")
def list_rules(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Packs or rule files; the default packs if none.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """Show the rules of packs and files."""
    try:
        rules = load(sources or [AUTO]).rules
    except RuleError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(WRONG_FILE) from None
    if as_json:
        typer.echo(json.dumps([described(rule) for rule in rules], indent=2))
        return
    typer.echo(f"packs: {', '.join(packs())}")
    width = max((len(rule.name) for rule in rules), default=0)
    for rule in rules:
        summary = rule.annotations.get("summary", "")
        typer.echo(f"{rule.name:<{width}}  {rule.severity:<8}  {rule.action.word:<8}  {summary}")


@app.command("check")
def check_files(
    files: Annotated[list[str], typer.Argument(help="Rule files, or packs by name.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Tell every mistake, a line each as FILE:LINE: reason; exit 2 if there is one."""
    problems = check(files)
    if as_json:
        typer.echo(
            json.dumps(
                {"rules": len(problems.rules), "mistakes": list(map(str, problems.mistakes))}
            )
        )
    else:
        for mistake in problems.mistakes:
            typer.echo(_one_line(mistake))
        if not problems.mistakes:
            typer.echo(f"{len(problems.rules)} rules ok")
    if problems.mistakes:
        raise typer.Exit(WRONG_FILE)


@app.command("test")
def run_tests(
    files: Annotated[list[str], typer.Argument(help="Files of unit tests, see docs/rules.md.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Run unit tests of rules; exit 1 if one fails, 2 if a file is wrong."""
    tests, failures = 0, []
    for name in files:
        try:
            file = read_tests(name)
        except RuleError as error:
            typer.echo(_one_line(error), err=True)
            raise typer.Exit(WRONG_FILE) from None
        tests += len(file.tests)
        failures += run(file)
    if as_json:
        typer.echo(json.dumps({"tests": tests, "failures": list(map(str, failures))}))
    else:
        for failure in failures:
            typer.echo(str(failure))
        failed = len({(failure.source, failure.test) for failure in failures})
        typer.echo(f"{tests - failed} tests ok" + (f", {failed} failed" if failed else ""))
    if failures:
        raise typer.Exit(1)


def described(rule: Rule) -> dict[str, Any]:
    """A rule as plain JSON, with everything a file can say about it."""
    return {
        "rule": rule.name,
        "group": rule.group,
        "each": list(rule.each),
        "formerly": list(rule.formerly),
        "expr": rule.expr,
        "severity": rule.severity,
        "action": rule.action.word,
        "for": rule.hold.words,
        "keep_firing_for": rule.keep.words,
        "clear": rule.clear,
        "unless": rule.unless,
        "warmup": rule.warmup,
        "on_nan": rule.on_nan,
        "where": dict(rule.where),
        "inhibited_by": list(rule.inhibited_by),
        "labels": dict(rule.labels),
        "annotations": dict(rule.annotations),
        "source": rule.source,
        "line": rule.line,
    }


def _one_line(error: RuleError) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split()))
    return shown.encode("utf-8", "replace").decode()
