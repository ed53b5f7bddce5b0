"""Values as plain JSON: non-finite numbers become the strings of the contract."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from watchstep_monitor.service.clock import rfc3339

Number = float | Literal["NaN", "Infinity", "-Infinity"]
"""A reading as JSON holds it."""

WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def number(value: float) -> Number:
    """A reading as JSON holds it: NaN and infinities as words."""
    if value - value == 0.0:
        return value
    if value != value:
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def reading(value: float | str) -> float:
    """A reading that `number` wrote."""
    return WORDS[value] if isinstance(value, str) else float(value)


def plain(value: Any) -> Any:
    """Anything made of dicts, lists, numbers, texts and datetimes, ready for `json.dumps`."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, datetime):
        return rfc3339(value)
    return value
