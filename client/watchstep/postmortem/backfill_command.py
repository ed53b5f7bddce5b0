"""`watchstep import`: old runs into the service, so that pages and dashboards show history."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from watchstep.errors import SettingsError, UnreachableError
from watchstep.postmortem.reading import Paths, Reading

REFUSED, USAGE, UNREACHABLE = 1, 2, 3


def import_logs(
    paths: Paths,
    url: Annotated[str, typer.Option(envvar="WATCHSTEP_URL")] = "http://127.0.0.1:8420",
    token: Annotated[str | None, typer.Option(envvar="WATCHSTEP_TOKEN")] = None,
    project: Annotated[str, typer.Option(envvar="WATCHSTEP_PROJECT")] = "default",
    prefix: Annotated[str, typer.Option(help="Put before every run's name.")] = "",
    notify: Annotated[
        bool, typer.Option("--notify", help="Let alerts of the old runs be told to people.")
    ] = False,
) -> None:
    """Send old logs into the service. Doing it twice has no second effect.

    Alerts of the imported runs are silenced meanwhile, which takes a token with scope admin;
    --notify leaves that out. Exit 1 when the service refused something, 3 when it does not
    answer or there was nothing to send. One JSON object a run on stdout.
    """
    from watchstep.postmortem.backfill import Importer
    from watchstep.postmortem.readers import open_logs

    reading = Reading(paths)
    runs, refused = 0, False
    try:
        importer = Importer(url, token, project, prefix, quiet=not notify)
    except SettingsError as error:
        typer.echo(f"watchstep: {error}", err=True)
        raise typer.Exit(USAGE) from None
    try:
        for log in open_logs(paths, unreadable=reading.refuse):
            result = importer.send(log)
            runs += 1
            refused |= bool(result.failure or result.rejected)
            typer.echo(json.dumps(dataclasses.asdict(result)))
            if result.failure:
                typer.echo(f"watchstep: {result.path}: {result.failure}", err=True)
    except UnreachableError as error:
        typer.echo(f"watchstep: {error}", err=True)
        raise typer.Exit(UNREACHABLE) from None
    finally:
        importer.close()
    raise typer.Exit(REFUSED if refused else reading.exit_code(runs))
