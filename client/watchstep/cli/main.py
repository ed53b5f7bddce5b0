"""The one command: gathers the sub-commands that every part offers by entry point.

The service and the post-mortem add theirs through the group `watchstep.commands`, so that
nothing here imports them. An entry point is a `Typer` (a group of that name), a function
`register(app)`, or, with a name such as `rules.backtest`, one command of a group.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer

import watchstep
from watchstep.errors import SettingsError, WatchstepError

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

# By its version, typer brings the class itself or takes click's.
_UsageError: Any = typer.BadParameter.__mro__[1]


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
        _run(app or build())
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


def _run(app: typer.Typer) -> None:
    """Run a command, and exit with its code; wrong usage is a `SettingsError`."""
    try:
        code = app(standalone_mode=False)
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            raise SystemExit(2) from None
        path = "watchstep" if error.ctx is None else error.ctx.command_path
        message = error.format_message().rstrip(".")
        raise SettingsError(f"{message}; see `{path} --help`") from None
    except typer.Abort:
        sys.stderr.write("Aborted.\n")
        raise SystemExit(1) from None
    raise SystemExit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    sys.stderr.write(f"watchstep: {' '.join(message.split())}\n")
    raise SystemExit(2)
