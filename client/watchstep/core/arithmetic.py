"""Arithmetic of the rule language: IEEE 754 where Python would raise, NaN for the unknown."""

from __future__ import annotations

import math
import sys
from typing import Final

UNKNOWN: Final = math.nan
_LARGEST_EXPONENT: Final = math.log(sys.float_info.max)


def ratio(numerator: float, denominator: float) -> float:
    """Division as IEEE 754 has it, where Python would raise."""
    if denominator:
        return numerator / denominator
    if numerator != numerator or not numerator or denominator != denominator:
        return UNKNOWN
    return math.copysign(math.inf, numerator) * math.copysign(1.0, denominator)


def exp(x: float) -> float:
    """The exponential function; inf beyond the largest float."""
    return math.inf if x > _LARGEST_EXPONENT else math.exp(x)


def sqrt(x: float) -> float:
    """Square root; unknown below zero."""
    return math.sqrt(x) if x >= 0 else UNKNOWN


def log10(x: float) -> float:
    """Decimal logarithm; -inf at zero, unknown below."""
    if x > 0:
        return math.log10(x)
    return -math.inf if x == 0 else UNKNOWN


def digits(x: float) -> float:
    """How many significant decimal digits write a number exactly; UNKNOWN of what is not finite."""
    if x - x != 0.0:
        return UNKNOWN
    mantissa = repr(abs(x)).partition("e")[0]
    return float(len(mantissa.replace(".", "").strip("0")))


def bound(n: float) -> float:
    """The largest magnitude that n values standardised by themselves can have."""
    return math.sqrt(n - 1.0) if n >= 2.0 else UNKNOWN


def least(a: float, b: float) -> float:
    """The smaller one; unknown if either is."""
    return min(a, b) if a == a and b == b else UNKNOWN


def greatest(a: float, b: float) -> float:
    """The larger one; unknown if either is."""
    return max(a, b) if a == a and b == b else UNKNOWN


def known(a: float, b: float) -> float:
    """The first where it is known, else the second."""
    return a if a == a else b
