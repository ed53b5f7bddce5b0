"""What each sign says for or against each cause: the whole judgement, as two tables of data.

`causes.csv` has a line a cause, and one for each of several ways to the same cause (`kind`).
`weights.csv` has a line for what one sign says of one of them, in logits: 2 is strong, 4 nearly
settles it, 0.5 leans; negative speaks against. Each cause starts at its prior. Causes compete: the
confidence of one is `exp(SLOPE * score)` as a share of the sum over all that could be named and of
"nothing that has a name here", whose score is `NOTHING`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SLOPE, NOTHING = 0.9, -1.0
"""`python -m benchmarks.judgement fit` gives a slope of 1.2 on the runs that weights were chosen
by, at hardly more likelihood; kinds of faults that they were not chosen by are judged worse."""
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Weight:
    """One sign's say about one cause.

    Attributes:
        logits: Positive speaks for the cause, negative against it.
    """

    sign: str
    logits: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One cause, or one way to it, and everything that is weighed for it.

    Attributes:
        needs: At least one of these signs must be there; without, the cause is not named.
    """

    name: str
    title: str
    prior: float
    needs: tuple[str, ...]
    weights: tuple[Weight, ...]


def _rows(name: str) -> list[dict[str, str]]:
    # The tables are a part of this module in another notation: read once, as it is imported.
    with (_HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _entries() -> Iterator[tuple[str, str, Entry]]:
    """Cause, kind and entry, in the order of the table."""
    weights: dict[tuple[str, str], list[Weight]] = {}
    for row in _rows("weights.csv"):
        weight = Weight(row["sign"], float(row["logits"]))
        weights.setdefault((row["cause"], row["kind"]), []).append(weight)
    for row in _rows("causes.csv"):
        key = cause, kind = row["cause"], row["kind"]
        needs = tuple(row["needs"].split())
        mine = tuple(weights[key])
        yield cause, kind, Entry(kind or cause, row["title"], float(row["prior"]), needs, mine)


_ENTRIES = tuple(_entries())
CAUSES: tuple[Entry, ...] = tuple(entry for _, kind, entry in _ENTRIES if not kind)
"""Every cause that can be named, in the order that breaks ties."""
KINDS: Mapping[str, tuple[Entry, ...]] = {
    cause: tuple(each for name, kind, each in _ENTRIES if kind and name == cause)
    for cause in {cause for cause, kind, _ in _ENTRIES if kind}
}
"""For some causes in which of several ways it came about."""
