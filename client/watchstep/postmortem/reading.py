"""What the commands about old logs share: their paths, their rules, their exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watchstep.errors import LogUnreadableError, RuleError

if TYPE_CHECKING:
    from rich.console import Console

    from watchstep.postmortem.examination import Examination

READ, REACHED, UNREADABLE, NOTHING = 0, 1, 2, 3
"""Exit codes: all read; an alert reached --fail-on; usage or unreadable; nothing in it."""
PIPED_WIDTH = 120

Paths = Annotated[list[Path], typer.Argument(help="Log files, or folders of runs.")]
Rules = Annotated[
    list[str] | None,
    typer.Option(help="Pack or rule file, may be given again. Default: chosen by the log."),
]


def check_rules(rules: Sequence[str] | None) -> None:
    """Refuse wrong rule files before any log is read: one line, exit code 2."""
    from watchstep.rules import load

    if not rules:
        return
    try:
        load(rules)
    except RuleError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(UNREADABLE) from None


@dataclass
class Reading:
    """Paths on their way to becoming examinations.

    Attributes:
        refused: Given paths that could not be read, with the reason.
    """

    paths: Sequence[Path]
    rules: Sequence[str] | None = None
    draw: bool = False
    refused: dict[Path, LogUnreadableError] = field(default_factory=dict)

    def examinations(self) -> Iterator[Examination]:
        """Each run as it is read; what cannot be read is one line on stderr."""
        from watchstep.postmortem.examination import examine
        from watchstep.postmortem.readers import open_logs

        for log in open_logs(self.paths, unreadable=self.refuse):
            try:
                yield examine(log, self.rules, draw=self.draw)
            except (LogUnreadableError, OSError) as error:
                self.refuse(log.path, LogUnreadableError(f"{log.path}: {error}"))

    def refuse(self, path: Path, error: LogUnreadableError) -> None:
        """Say in one line why a path cannot be read."""
        typer.echo(f"watchstep: {error}", err=True)
        if path in self.paths:
            self.refused[path] = error

    def exit_code(self, runs: int, reached: bool = False) -> int:
        from watchstep.postmortem.readers import NothingReadableError

        if reached:
            return REACHED
        if runs and not self.refused:
            return READ
        empty = all(isinstance(error, NothingReadableError) for error in self.refused.values())
        return NOTHING if empty and not runs else UNREADABLE


def console() -> Console:
    """Standard output; wide enough for tables where nobody looks."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)
