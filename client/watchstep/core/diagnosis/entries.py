"""What a line of the table of causes is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Weight:
    """One sign's say about one cause.

    Attributes:
        logits: Positive speaks for the cause, negative against it.
        why: The reason, in a few words.
    """

    sign: str
    logits: float
    why: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One cause and everything that is weighed for it.

    Attributes:
        needs: At least one of these signs must be there; without, the cause is not named.
    """

    name: str
    title: str
    prior: float
    needs: tuple[str, ...]
    weights: tuple[Weight, ...]


def entry(
    name: str, title: str, prior: float, needs: str, *weights: tuple[str, float, str]
) -> Entry:
    """A line as the tables write it: `needs` are names with spaces between."""
    return Entry(name, title, prior, tuple(needs.split()), tuple(Weight(*each) for each in weights))
