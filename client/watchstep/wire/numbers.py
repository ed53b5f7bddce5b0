"""Numbers, as they cross the wire."""

from __future__ import annotations

import math
from typing import Any

from watchstep.errors import WireError

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def number_to_json(value: float) -> float | str:
    """A reading as JSON can hold it: a number, or the word for a non-finite one."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def number_from_json(value: Any) -> float:
    """A reading from what a JSON parser gave for it.

    Raises:
        WireError: It is a bool, None, another string than the three words, no number at
            all, or an integer beyond the range of a double. The value is not in the message.
    """
    if type(value) is float:
        return value
    if isinstance(value, str):
        word = _WORDS.get(value)
        if word is None:
            raise WireError('must be a number, "NaN", "Infinity" or "-Infinity"')
        return word
    # bool is an int to Python, but `true` is no reading.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WireError('must be a number, "NaN", "Infinity" or "-Infinity"')
    try:
        return float(value)
    except OverflowError:
        raise WireError("must fit into a 64-bit float") from None
