"""Promtool's notation for series in tests: `1 2 NaN 5x4 1+2x3 _ _x2`."""

from __future__ import annotations

import re

MOST_VALUES = 100_000

_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_STEPS = re.compile(rf"({_NUMBER})(?:([+-])({_NUMBER[5:]}))?x([0-9]{{1,6}})")
_MISSING = re.compile(r"_(?:x([0-9]{1,6}))?")
_WORDS = frozenset({"nan", "inf", "+inf", "-inf"})


def expand(text: str) -> list[float | None]:
    """Values in order, None where there is no reading.

    Args:
        text: Numbers, `NaN`, `Inf`, `-Inf`, `_` (missing) and, as in promtool, `axn` for a and
            n more of it, `a+bxn` for a and n more in steps of b, `_xn` for n missing ones.

    Raises:
        ValueError: A part is none of these, or there are more than `MOST_VALUES` values.
    """
    values: list[float | None] = []
    for part in text.split():
        values += _part(part)
        if len(values) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values")
    return values


def _part(part: str) -> list[float | None]:
    missing = _MISSING.fullmatch(part)
    if missing:
        return [None] * int(missing[1] or 1)
    word, _, times = part.lower().partition("x")
    if word in _WORDS and re.fullmatch(r"[0-9]{0,6}", times):
        return [float(word)] * (int(times or 0) + 1)
    steps = _STEPS.fullmatch(part)
    if steps:
        first, by = float(steps[1]), float(steps[3] or 0.0)
        by = -by if steps[2] == "-" else by
        return [first + number * by for number in range(int(steps[4]) + 1)]
    if re.fullmatch(_NUMBER, part):
        return [float(part)]
    raise ValueError(f"{part!r} is no value; write numbers, NaN, _, 5x4 or 1+2x3")
