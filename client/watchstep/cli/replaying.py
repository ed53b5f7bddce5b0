"""`watchstep replay`: send what dead trainers left unsent."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command("replay")(_replay)


def _replay(
    spool: Annotated[Path, typer.Argument(help="The spool folder, such as .watchstep.")],
    url: Annotated[str, typer.Option(envvar="WATCHSTEP_URL")] = "http://127.0.0.1:8420",
    token: Annotated[str | None, typer.Option(envvar="WATCHSTEP_TOKEN")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Send every update that a spool still holds. Sending twice has no second effect."""
    from watchstep.sender.replay import replay

    if not spool.is_dir():
        typer.echo(f"watchstep: no spool folder {spool}", err=True)
        raise typer.Exit(2)
    result = replay(spool, url=url, token=token)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(result)))
    else:
        typer.echo(f"{result.sessions} sessions with {result.updates} updates are with the service")
        for why, count in result.lost.items():
            typer.echo(f"{count} updates were lost: {why}")
        for session, why in result.refused.items():
            typer.echo(f"refused, and kept: {session}: {why}")
    if result.failure is not None:
        typer.echo(f"watchstep: replaying ended early: {result.failure}", err=True)
        raise typer.Exit(3)
    raise typer.Exit(1 if result.refused or result.unreadable else 0)
