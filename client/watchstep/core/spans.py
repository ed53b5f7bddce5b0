"""Lengths of history, and how long and how short they may be."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_WINDOW = 100_000
LONGEST_SECONDS = 30 * 86_400.0
SMALLEST_BASELINE = 10
"""Finite values a window must hold before a comparison with it means anything.

Smaller windows need themselves full. Ten is where the rule "ten times the largest so far"
was measured to raise nothing on 64 healthy runs.
"""


@dataclass(frozen=True, slots=True)
class Span:
    """A length of history: in updates or in seconds, one of them."""

    updates: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        """As written in an expression."""
        return str(self.updates) if self.seconds is None else f"{self.seconds:g}s"

    @property
    def words(self) -> str:
        """As written in a rule file, such as "3 updates" or "30s"."""
        return f"{self.updates} updates" if self.seconds is None else str(self)
