"""JSON read strictly: what two parsers could read in two ways is refused.

Refused with 400: bytes that are no UTF-8 or no JSON, a key twice in one object, lone
surrogates, numbers beyond the range of a double, nesting without end. Bare NaN and Infinity
tokens are taken for the numbers they name.
"""

from __future__ import annotations

import json
import math
from typing import Any

from pydantic_core import from_json

from watchstep_monitor.http.problems import Flaw, ProblemError

MOST_NESTING = 32
MOST_DIGITS = 400
"""Digits in a number: 17 tell one double from the next, and no trainer writes hundreds."""

_FLOATS = frozenset({float})
_SPACED_COLONS = (b" :", b"\t:", b"\n:", b"\r:")


def malformed(reason: str) -> ProblemError:
    """The answer to bytes that are no JSON of ours."""
    return ProblemError(
        400,
        "The body is not JSON as this service reads it.",
        flaws=[Flaw(("body",), "json", reason)],
    )


def read_json(body: bytes) -> Any:
    """The document in a body.

    Raises:
        ProblemError: 400.
    """
    try:
        parsed = from_json(body, allow_inf_nan=True, cache_strings="keys")
    except ValueError:
        raise malformed("cannot be parsed") from None
    keys, suspicious = _survey(parsed, 0)
    if suspicious or not keys_are_unique(body, keys):
        # Only the slow parser can say whether that is harmless.
        return _read_slowly(body)
    return parsed


def _survey(value: Any, depth: int) -> tuple[int, bool]:
    """How many keys survived parsing, and whether some number needs a closer look."""
    if depth > MOST_NESTING:
        raise malformed(f"nests deeper than {MOST_NESTING}")
    kind = type(value)
    if kind is float:
        return 0, value - value != 0.0
    if kind is int:
        return 0, abs(value) >= 2**63
    if kind is dict:
        keys, suspicious = len(value), False
        children = value.values()
        if _FLOATS.issuperset(map(type, children)):
            # Readings are nearly all that there is: no term of a finite sum is not finite.
            total = sum(children)
            return keys, total - total != 0.0
    elif kind is list:
        keys, suspicious = 0, False
        children = value
    else:
        return 0, False
    for child in children:
        child_kind = type(child)
        # Looked at here, without a call.
        if child_kind is float:
            suspicious = suspicious or child - child != 0.0
        elif child_kind is dict or child_kind is list or child_kind is int:
            more, doubt = _survey(child, depth + 1)
            keys += more
            suspicious = suspicious or doubt
    return keys, suspicious


def keys_are_unique(body: bytes, keys: int) -> bool:
    """Whether no key can have been written twice; counts, and never errs towards yes.

    A parser keeps one of two equal keys. Every key is followed by a colon, so as many colons
    as keys that survived means that none was lost. Texts may hold colons too; then, without
    backslashes, every `":` ends a key, and without spaces before colons every key ends so.
    """
    if body.count(b":") == keys:
        return True
    if b"\\" in body or any(pattern in body for pattern in _SPACED_COLONS):
        return False
    return body.count(b'":') == keys


def _read_slowly(body: bytes) -> Any:
    try:
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_in_range,
            parse_int=_integer,
        )
    except RecursionError:
        raise malformed("nests too deep") from None
    except ValueError:
        raise malformed("cannot be parsed") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise malformed("an object has the same key twice")
    return made


def _in_range(text: str) -> float:
    if len(text) > MOST_DIGITS:
        raise malformed("a number has too many digits")
    value = float(text)
    if math.isinf(value):
        raise malformed("a number is beyond the range of a 64-bit float")
    return value


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise malformed("a number has too many digits")
    value = int(text)
    try:
        float(value)
    except OverflowError:
        raise malformed("a number is beyond the range of a 64-bit float") from None
    return value
