"""`python -m watchstep_monitor`: the service's commands without the rest of `watchstep`."""

from __future__ import annotations

import typer

from watchstep.cli.main import main
from watchstep_monitor.commands import register

app = typer.Typer(name="watchstep", no_args_is_help=True, pretty_exceptions_enable=False)
register(app)

if __name__ == "__main__":
    main(app)
