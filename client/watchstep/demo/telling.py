"""How the story looks in a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.rule import Rule

from watchstep.core.updates import Transition

_COLOURS = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
_BAR = 12


class Teller:
    """Prints the story as it happens."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)

    def chapter(self, title: str) -> None:
        self.console.print()
        self.console.print(Rule(f"[bold]{escape(title)}", align="left", style="dim"))

    def say(self, text: str, style: str = "") -> None:
        self.console.print(escape(text), style=style, soft_wrap=True)

    def fact(self, name: str, value: str, style: str = "") -> None:
        self.console.print(f"  [dim]{escape(name):<26}[/dim] {escape(value)}", style=style)

    def transition(self, transition: Transition) -> None:
        if transition.change not in {"firing", "resolved"}:
            return
        colour = _COLOURS[transition.severity] if transition.change == "firing" else "green"
        word = transition.severity if transition.change == "firing" else "resolved"
        named = f"[{colour}]{word:>8}  {escape(transition.rule)}[/]"
        self.console.print(f"      {named} [dim]{escape(transition.reason)}", soft_wrap=True)

    def update(self, number: int, readings: Mapping[str, float]) -> None:
        """One update in one line: how far the advantages spread, and how near the bound is."""
        spread = readings.get("train/advantages_std_raw", math.nan)
        line = f"  [dim]update[/] {number:>4}  [dim]raw std[/] {_bar(spread)} {spread:<7.2g}"
        line += f" [dim]largest |z|[/] {_against_bound(readings)}"
        self.console.print(line)


def _against_bound(readings: Mapping[str, float]) -> str:
    largest = readings.get("train/advantages_norm_max_abs")
    count = readings.get("train/advantages_count")
    if largest is None:
        return "[dim]-[/]"
    if count is None:
        return f"{largest:<8.3g}[dim]of ?[/]"
    bound = math.sqrt(max(count - 1, 1))
    colour = "green" if largest <= bound else "bold red"
    return f"[{colour}]{largest:<8.3g}[/][dim]of {bound:.2f}[/]"


def _bar(spread: float) -> str:
    """Nine decades, 1e-8 to 10, as a bar; green above the seed's window, red inside."""
    if not spread > 0:
        return "[dim]" + "·" * _BAR + "[/]"
    filled = round((min(max(math.log10(spread), -8), 1) + 8) / 9 * _BAR)
    colour = "green" if spread >= 1e-3 else "yellow" if spread >= 1e-4 else "red"
    return f"[{colour}]" + "━" * filled + "[/][dim]" + "·" * (_BAR - filled) + "[/]"
