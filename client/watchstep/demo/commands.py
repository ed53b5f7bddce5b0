"""`watchstep demo`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command("demo")(_demo)


def _demo(
    replay_seed: Annotated[
        bool, typer.Option(help="Replay the seed document's timeline instead; needs no torch.")
    ] = False,
    wait: Annotated[
        bool | None,
        typer.Option(help="Keep the service until Enter is pressed. Default: in a terminal."),
    ] = None,
) -> None:
    """The main job, end to end: a real run goes wrong, and is caught."""
    from watchstep.demo.telling import Teller

    interactive = sys.stdin.isatty() if wait is None else wait
    if replay_seed:
        from watchstep.demo.seed import replay

        replay(Teller())
    else:
        from watchstep.demo.story import tell

        tell(Teller(), wait=interactive)
