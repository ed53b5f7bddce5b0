"""How the column `attempt` of stored updates tells their source as well.

The training's updates have the attempt itself in it, those of each other source a number below 0,
so that code from before there were sources passes them over.
"""

from __future__ import annotations

from watchstep.core.updates import TRAINING

_ATTEMPT_BITS = 20
"""More than `MOST_ATTEMPT` of the HTTP interface needs; 11 are left for the source."""

MOST_STORED = (1 << _ATTEMPT_BITS) - 1
"""Beyond every attempt."""

_NAMED = (TRAINING, "outside", "machine", "otlp")
_RANK = "rank-"


def stored_attempt(source: str, attempt: int) -> int:
    """What the column `attempt` has for a source's updates; 0 is before its first attempt."""
    if source in _NAMED:
        number = _NAMED.index(source)
    else:
        number = len(_NAMED) + int(source.removeprefix(_RANK))
    return attempt - (number << _ATTEMPT_BITS)


def source_and_attempt(stored: int) -> tuple[str, int]:
    number, attempt = -(stored >> _ATTEMPT_BITS), stored & MOST_STORED
    source = _NAMED[number] if number < len(_NAMED) else f"{_RANK}{number - len(_NAMED)}"
    return source, attempt
