"""Names and numbers as logs print them, turned into metric names and floats."""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

LONGEST_NAME = 128
"""Longest metric name that the service takes, in characters."""

_LONGEST_CELL = 100
_DRESSED = re.compile(
    r"(?:(?:tensor|(?:np\.|numpy\.)?(?:array|float\d\d)|Array)\()?\[{0,2}\s{0,4}"
    r"([-+]?(?:\d{1,3}(?:,\d{3}){1,6}(?:\.\d*)?|\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+"
    r"|(?i:nan|inf(?:inity)?)))\s{0,4}\]{0,2}(?:,[\w=':. ]{0,60})?\)?%?"
)

_EXPONENTS = str.maketrans("Df", "ee")
"""Fortran's and Julia's letters before an exponent."""

_OTHER = re.compile(r"[^A-Za-z0-9_./:-]")
_SPACE = re.compile(r"\s+")


@functools.lru_cache(maxsize=65_536)
def metric_name(printed: str) -> str:
    """A printed key in the metric charset; "" when nothing of it is left.

    Spaces and foreign characters become "_". A name over 128 characters keeps its beginning
    and gets a digest of the whole, so that two long names stay two.
    """
    name = _OTHER.sub("_", _SPACE.sub("_", printed.strip()))
    if len(name) > LONGEST_NAME:
        digest = hashlib.sha256(printed.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        name = f"{name[: LONGEST_NAME - 9]}_{digest}"
    return name


def number(value: object) -> float | None:
    """A reading, from a number or its printed form; None when it is no number.

    "nan", "NaN", "-Infinity", "inf" and integers beyond the range of a float are numbers.
    """
    if isinstance(value, float):
        return value
    if isinstance(value, bool | int):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if isinstance(value, str):
        return _printed(value)
    return None


def whole(value: float | None) -> int | None:
    """A counter's value, or None when it is no finite whole number."""
    if value is None or not math.isfinite(value) or value != int(value):
        return None
    return int(value)


def flat_readings(row: Mapping[str, Any]) -> dict[str, float]:
    """Every number of a nested mapping, keys joined with "/"; everything else is left out."""
    return numbers_of(flat_values(row))


def numbers_of(values: Iterable[tuple[str, Any]]) -> dict[str, float]:
    """The numbers among values by name; what has no name or is no number is left out."""
    readings: dict[str, float] = {}
    for name, value in values:
        # Nearly all are floats; asking for more costs more than the rest.
        reading = value if type(value) is float else number(value)
        if name and reading is not None:
            readings[name] = reading
    return readings


def flat_values(
    row: Mapping[str, Any], prefix: str = "", depth: int = 4
) -> Iterator[tuple[str, Any]]:
    """Every value of a nested mapping, keys joined with "/" and turned into metric names."""
    for key, value in row.items():
        if type(value) is float or not isinstance(value, Mapping):
            yield metric_name(f"{prefix}{key}"), value
        elif depth and key not in ("config", "hparams"):
            # Trainers dump their whole settings into each result: no readings.
            yield from flat_values(value, f"{prefix}{key}/", depth - 1)


def _printed(text: str) -> float | None:
    text = text.strip()
    if not text or text[0] not in "+-.0123456789nNiI[tanA":
        return None
    try:
        return float(text)
    except ValueError:
        return _dressed(text.translate(_EXPONENTS))


def float_of(text: str) -> float:
    """A printed number: `1,234.5`, Fortran's `1.5D+02`, Julia's `1.5f-3`.

    Raises:
        ValueError: It is none.
    """
    try:
        return float(text)
    except ValueError:
        return float(text.replace(",", "").translate(_EXPONENTS))


def _dressed(text: str) -> float | None:
    """A number as a table's cell may hold it: `1,234.5`, `12%`, `[21.]`, `tensor(nan)`."""
    match = _DRESSED.fullmatch(text) if len(text) < _LONGEST_CELL else None
    return float(match.group(1).replace(",", "")) if match else None
