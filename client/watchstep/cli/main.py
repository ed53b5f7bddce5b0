"""The one command: gathers the sub-commands that every part offers by entry point.

The service and the post-mortem add theirs through the group `watchstep.commands`, so that
nothing here imports them. An entry point is a `Typer` (a group of that name), a function
`register(app)`, or, with a name such as `rules.backtest`, one command of a group.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Annotated

import typer

import watchstep
from watchstep.errors import WatchstepError

GROUP = "watchstep.commands"
EXTRAS = {
    "fastapi": "server",
    "uvicorn": "server",
    "pydantic": "server",
    "prometheus_client": "server",
    "sqlalchemy": "server",
    "alembic": "server",
    "psycopg": "server",
    "jinja2": "server",
    "standardwebhooks": "server",
    "torch": "torch",
    "safetensors": "torch",
    "stable_baselines3": "sb3",
    "gymnasium": "sb3",
    "mcp": "mcp",
    "mcp_types": "mcp",
    "numpy": "torch",
}
"""Which extra brings a package that is missing."""


def build() -> typer.Typer:
    """The application with every sub-command that is installed."""
    app = typer.Typer(
        name="watchstep",
        help="Watches training runs: judges every update, stops poisoned steps, tells you.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    groups: dict[str, typer.Typer] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        part = entry.load()
        group, _, command = entry.name.partition(".")
        if isinstance(part, typer.Typer):
            groups[group] = part
            app.add_typer(part, name=group)
        elif command:
            groups[group].command(command)(part)
        else:
            part(app)
    return app


def _show_version(is_asked_for: bool) -> None:
    if is_asked_for:
        typer.echo(watchstep.__version__)
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Watches training runs: judges every update, stops poisoned steps, tells you."""


def main(app: typer.Typer | None = None) -> None:
    """Run the command line; mistakes of the user are one line on stderr and exit code 2."""
    try:
        (app or build())()
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in EXTRAS:
            raise
        extra = EXTRAS[missing]
        _fail(f"this command needs {missing}; install it with: pip install 'watchstep[{extra}]'")
    except SystemExit:
        raise  # A halt is one, and a WatchstepError too.
    except WatchstepError as error:
        _fail(str(error))


def _fail(message: str) -> None:
    sys.stderr.write(f"watchstep: {' '.join(message.split())}\n")
    raise SystemExit(2)
