"""Tables for people: they fit the window, and are plain where nobody looks at colours."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Column = str | Callable[[Any], object]
"""The field of an item that a column shows, or what makes its cell of the item."""

PIPED_WIDTH = 200
"""Columns where there is no window, so that one row stays one line for grep."""

LEAST_FOR_SENTENCES = 80
"""Columns below which a column of sentences becomes a column of syllables."""

_COLOURS = {
    "critical": "bold red",
    "diverged": "bold red",
    "failed": "bold red",
    "explosion": "bold red",
    "dead": "bold red",
    "BAD": "bold red",
    "danger": "red",
    "halted": "yellow",
    "warning": "yellow",
    "stalled": "yellow",
    "lost": "bold red",
    "preempted": "cyan",
    "exploded": "bold red",
    "suspicious": "yellow",
    "waiting": "yellow",
    "running": "green",
    "finished": "green",
    "delivered": "green",
    "ok": "green",
}


def width() -> int:
    """Columns of the window, or what a pipe is given instead."""
    if not sys.stdout.isatty():
        return PIPED_WIDTH
    from rich.console import Console

    return Console(file=sys.stdout).width


def print_table(heads: Sequence[str], rows: Sequence[Sequence[object]], *, wide: str = "") -> None:
    """Print a table.

    Args:
        heads: Of the columns; all of them "" for none, and then every column gives way.
        rows: Cells are shown as text, whatever they are.
        wide: Heads, a comma between two, of the columns that give way in a narrow window;
            others keep each cell on one line.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Rich itself leaves colours off for a pipe, a dumb terminal and NO_COLOR.
    console = Console(file=sys.stdout, width=width())
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(heads))
    for head in heads:
        table.add_column(head, overflow="fold", no_wrap=head not in wide.split(","))
    for row in rows:
        # As Text, so that brackets in names are not taken for markup.
        table.add_row(*(Text(str(cell), style=_COLOURS.get(str(cell), "")) for cell in row))
    console.print(table)


def print_page(
    page: Mapping[str, Any], columns: Mapping[str, Column], *, as_json: bool, wide: str = ""
) -> None:
    """Print a page of a list as JSON, or as a table with these columns by their heads."""
    if as_json:
        print_json(page)
        return
    rows = [
        [item[column] if isinstance(column, str) else column(item) for column in columns.values()]
        for item in page["items"]
    ]
    print_table(tuple(columns), rows, wide=wide)


def print_json(document: object) -> None:
    sys.stdout.write(f"{json.dumps(document, indent=2)}\n")


def ago(moment: str | None) -> str:
    """How long a moment of the API's lies back, such as "3 min"; "" for none."""
    if not moment:
        return ""
    seconds = int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{max(0, seconds)} s"


def moment(text: str | None) -> str:
    """A moment of the API's to the second, UTC."""
    return "" if not text else f"{text[:10]} {text[11:19]}Z"
