"""Text and numbers made harmless, before any vendor's own escaping."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

from watchstep.wire.text import number_to_json

# Lone surrogates are no UTF-8, control characters forge lines, and the direction marks let
# a run's name show other text than it holds.
_HOSTILE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
_LINK = re.compile(r"https?://[!-~]+")


def line(text: str) -> str:
    """The text as one line that any JSON, mail or terminal can hold."""
    return _HOSTILE.sub(" ", text).strip()


def clip(text: str, limit: int) -> str:
    """At most `limit` characters; an ellipsis shows that there were more."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def number(value: float) -> str:
    """A reading for people: six digits, and the non-finite ones by their JSON names."""
    return f"{value:.6g}" if math.isfinite(value) else str(number_to_json(value))


def jsonable(value: object) -> object:
    """The value in types that JSON has; what is none of them becomes its text."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return number_to_json(value)
    if isinstance(value, str):
        # Line breaks stay: a vendor's body is built of lines, each of them harmless already.
        return "\n".join(_HOSTILE.sub(" ", part) for part in value.split("\n"))
    if isinstance(value, Mapping):
        return {line(str(key)): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(inner) for inner in value]
    return line(str(value))


def dumped(value: object) -> str:
    """Strict JSON: no bare NaN, no lone surrogate."""
    return json.dumps(jsonable(value), allow_nan=False, ensure_ascii=False)


def is_link(text: str) -> bool:
    """Whether it may stand behind a word that people click: plain http(s), nothing odd."""
    return _LINK.fullmatch(text) is not None and not set(text) & set("<>|\"'`()[]\\ ")
