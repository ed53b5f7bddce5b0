"""The commands of this room, as the one command takes them."""

from __future__ import annotations

import typer

from watchstep.study.compare_command import compare
from watchstep.study.cost_command import cost
from watchstep.study.frequency_command import frequency


def register(app: typer.Typer) -> None:
    """Add the commands to the one command."""
    app.command("compare")(compare)
    app.command("frequency")(frequency)
    app.command("cost")(cost)
