"""A compiled rule set: one generated function, and what it needs to run.

Values: numbers are floats, NaN also standing for "not reported". Conditions are True, False
or None, and None is "cannot be told": a comparison with NaN, or with what was not reported.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from watchstep.core import arithmetic
from watchstep.core.spans import Span
from watchstep.core.windows import Window

Held = list[tuple[int, bool | None, bool | None]]
Advance = Callable[[Sequence[float], list[Any], Any, list[int]], Held]

SCOPE: dict[str, Any] = {
    "_ratio": arithmetic.ratio,
    "_sqrt": arithmetic.sqrt,
    "_log10": arithmetic.log10,
    "_bound": arithmetic.bound,
    "_least": arithmetic.least,
    "_greatest": arithmetic.greatest,
    "_differ": arithmetic.differ,
    "_known": arithmetic.known,
    "_root": math.sqrt,
    "_insort": insort,
    "_bisect": bisect_left,
    "_nan": math.nan,
    "_inf": math.inf,
}
"""What the generated function may call."""


@dataclass(frozen=True, slots=True)
class Site:
    """A window of the program: where its state lives and how to make a fresh one."""

    key: str
    make: Callable[[Span], Window]
    span: Span


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled rule set.

    Attributes:
        slots: Canonical metric names in slot order.
        sites: Windows in order.
        globs: For every distinct `nonfinite` call, its patterns.
        watched: Slots whose presence is remembered, for `missing` and `reported`.
        metrics: For every rule, the slots it reads, in order of appearance.
        looked_over: For every rule, the indices in `globs` of its `nonfinite` calls.
        clocked: Indices of the rules about silence.
        advance: Evaluates every rule and pushes the update into the windows. Takes values in
            slot order and two more, see `Plan.lay`. Returns rule index, condition and clear
            condition for the rules that hold or are not idle.
    """

    slots: tuple[str, ...]
    sites: tuple[Site, ...]
    globs: tuple[tuple[str, ...], ...]
    watched: tuple[int, ...]
    metrics: tuple[tuple[int, ...], ...]
    looked_over: tuple[tuple[int, ...], ...]
    clocked: tuple[int, ...]
    advance: Advance
