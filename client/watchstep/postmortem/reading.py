"""What the commands about old logs share: their paths, their rules, their exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watchstep.errors import LogUnreadableError, RuleError

if TYPE_CHECKING:
    from rich.console import Console

    from watchstep.core.updates import Update
    from watchstep.postmortem.examination import Examination
    from watchstep.postmortem.readers import Log

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

        for log in with_attempts(open_logs(self.paths, unreadable=self.refuse)):
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


def with_attempts(logs: Iterator[Log]) -> Iterator[Log]:
    """Logs, of which sessions of one spool that follow each other under one name are one run."""
    ahead: list[Log] = []
    while (log := ahead.pop() if ahead else next(logs, None)) is not None:
        if log.format == "watchstep_spool":
            log.updates = _with_later_sessions(log, log.updates, logs, ahead)
        yield log


def _with_later_sessions(
    log: Log, updates: Iterator[Update], logs: Iterator[Log], ahead: list[Log]
) -> Iterator[Update]:
    """A session's updates, and those of the sessions after it, each as the next attempt."""
    place, attempt, newest = log.path.parent, 1, 0.0
    while True:
        for update in updates:
            newest = update.time
            yield update._replace(attempt=attempt)
        later = next(logs, None)
        if later is None:
            return
        first = next(later.updates)  # What has none is no log.
        updates = later.updates = chain([first], later.updates)
        same = (later.format, later.run, later.path.parent) == (log.format, log.run, place)
        if not same or first.time < newest:
            # Another run, or another process of that name at the same time.
            ahead.append(later)
            return
        log.path = place
        log.names |= later.names
        attempt += 1


def console() -> Console:
    """Standard output; wide enough for tables where nobody looks."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)
