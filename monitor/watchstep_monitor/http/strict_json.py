"""JSON read strictly: what two parsers could read in two ways is refused.

`msgspec` parses, and checks the usual batch (numbers under names, no event) while it does, which
takes a third of parsing first and looking afterwards. What it does not take is read again by the
standard library's parser, slowly, which finds what is wrong or takes the tokens below.

Refused with 400: bytes that are no UTF-8 or no JSON, a key twice in one object, lone
surrogates, numbers beyond the range of a double, nesting without end. Bare NaN and Infinity
tokens are taken for the numbers they name.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

import msgspec

from watchstep_monitor.http.problems import Flaw, ProblemError

MOST_COUNTER = 2**53
"""Largest `seq` and `step`: beyond it JSON parsers of other languages lose digits."""

MOST_TIME = 1e11
"""Epoch seconds until which a time is taken as it is: the year 5138."""

MOST_NESTING = 32
MOST_DIGITS = 400
"""Digits in a number: 17 tell one double from the next, and no trainer writes hundreds."""

_FLOATS = frozenset({float})
_SPACED_COLONS = (b" :", b"\t:", b"\n:", b"\r:")


class UsualUpdate(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An update without an event, all of whose readings are finite numbers."""

    seq: Annotated[int, msgspec.Meta(ge=1, le=MOST_COUNTER)]
    step: Annotated[int, msgspec.Meta(ge=0, le=MOST_COUNTER)]
    time: Annotated[float, msgspec.Meta(ge=0.0, le=MOST_TIME)]
    metrics: dict[str, float]


class UsualBatch(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /runs/{run}/updates` as most callers send it."""

    attempt: int
    updates: list[UsualUpdate]


_USUAL = msgspec.json.Decoder(UsualBatch)
_BATCH_KEYS = len(UsualBatch.__struct_fields__)
_UPDATE_KEYS = len(UsualUpdate.__struct_fields__)


def read_usual(body: bytes) -> UsualBatch | None:
    """The batch in a body; None where `read_json` has to look.

    Names are not looked at, nor how many there are.
    """
    try:
        batch = _USUAL.decode(body)
    except (ValueError, RecursionError):
        # Of msgspec and of the codec for UTF-8.
        return None
    keys = _BATCH_KEYS + sum(_UPDATE_KEYS + len(update.metrics) for update in batch.updates)
    return batch if keys_are_unique(body, keys) else None


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
        parsed = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return _read_slowly(body)
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
        parsed = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_in_range,
            parse_int=_integer,
        )
        # Lone surrogates, which are text for this parser alone, cannot be written again.
        json.dumps(parsed, ensure_ascii=False).encode()
    except RecursionError:
        raise malformed("nests too deep") from None
    except ValueError:
        raise malformed("cannot be parsed") from None
    _survey(parsed, 0)
    return parsed


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
    _in_range(text)
    return int(text)
