"""`watchstep postmortem`: the verdict on old logs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watchstep.errors import LogUnreadableError, RuleError

if TYPE_CHECKING:
    from watchstep.postmortem.examination import Examination

READ, REACHED, UNREADABLE, NOTHING = 0, 1, 2, 3
"""Exit codes: all read; a verdict reached --fail-on; usage or unreadable; nothing in it."""


class FailOn(StrEnum):
    """Severity from which the command fails."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("postmortem")(_postmortem)


def _postmortem(
    paths: Annotated[list[Path], typer.Argument(help="Log files, or folders of runs.")],
    rules: Annotated[list[str] | None, typer.Option(help="Pack or rule file; repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page.")] = None,
    fail_on: Annotated[FailOn | None, typer.Option(help="Exit 1 from this severity on.")] = None,
) -> None:
    """Say what happened in old logs: since when, how sure, and where to go back to."""
    from watchstep.postmortem import report

    found: list[Examination] = []
    try:
        for examination in _examinations(paths, rules):
            found.append(examination)
            if not as_json:
                report.show(examination)
    except (LogUnreadableError, RuleError) as error:
        typer.echo(f"watchstep: {error}", err=True)
        if as_json and found:
            typer.echo(json.dumps({"runs": [one.as_json() for one in found]}))
        raise typer.Exit(_code(error)) from None
    if as_json:
        typer.echo(json.dumps({"runs": [one.as_json() for one in found]}))
    if html is not None:
        from watchstep.postmortem import page

        html.write_text(page.render(found), encoding="utf-8")
    raise typer.Exit(_reached(found, fail_on))


def _examinations(paths: list[Path], rules: list[str] | None) -> Iterator[Examination]:
    from watchstep.postmortem.examination import examine
    from watchstep.postmortem.readers import open_logs

    for log in open_logs(paths):
        yield examine(log, rules)


def _code(error: Exception) -> int:
    from watchstep.postmortem.readers import NothingReadableError

    return NOTHING if isinstance(error, NothingReadableError) else UNREADABLE


def _reached(found: list[Examination], fail_on: FailOn | None) -> int:
    if not found:
        return NOTHING
    if fail_on is None:
        return READ
    order = list(FailOn)
    worst = [order.index(FailOn(alert.severity)) for one in found for alert in one.alerts]
    return REACHED if worst and max(worst) >= order.index(fail_on) else READ
