"""Whatever a user gives as configuration, tags or event, as bounded plain JSON without secrets."""

from __future__ import annotations

import enum
import json
import numbers
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from watchstep.boundary import of_stranger, text_of
from watchstep.masking import (
    HIDDEN,
    masked,
    names_a_password,
    names_a_secret,
    names_an_option_with_a_secret,
)
from watchstep.wire.names import legal_tag_name
from watchstep.wire.text import number_to_json

CONFIG_BYTES = 48 * 1024
"""Three quarters of what the service takes for configuration and tags together."""
EVENT_BYTES = 12 * 1024
"""Three quarters of what the service takes for an event."""
MOST_TAGS = 63
"""One less than the service takes, which leaves room for the packs that were chosen."""

_DEEPEST = 8
_LONGEST_TEXT = 4_000
_LONGEST_TAG = 256


class _Room:
    """Counts bytes of JSON down, and the values that found no room."""

    def __init__(self, size_bytes: int) -> None:
        self.left_bytes = size_bytes
        self.left_out = 0

    def take(self, size_bytes: int) -> bool:
        if size_bytes > self.left_bytes:
            self.left_out += 1
            return False
        self.left_bytes -= size_bytes
        return True


def plain_mapping(value: Any, *, most_bytes: int) -> tuple[dict[str, Any], int]:
    """A mapping, or an object with fields, as plain JSON; and how many values found no room.

    Args:
        value: A mapping, dataclass, `argparse.Namespace`, named tuple, or anything with
            `to_dict`, `model_dump` or attributes.
        most_bytes: Of its JSON, about.

    Raises:
        TypeError: It has no fields.
    """
    fields = _fields_of(value)
    if fields is None:
        raise TypeError(f"a {type(value).__name__} has no names in it")
    room = _Room(most_bytes)
    return _plain_fields(fields, room, depth=0, hide=False), room.left_out


def plain_tags(tags: Any) -> tuple[dict[str, str], list[str]]:
    """Tags as the service takes them, and a sentence for each that had to be changed."""
    fields = _fields_of(tags)
    if fields is None:
        return {}, [f"tags must be a mapping of names to texts, not a {type(tags).__name__}"]
    plain: dict[str, str] = {}
    changes: list[str] = []
    for key, value in fields:
        if len(plain) >= MOST_TAGS:
            changes.append(f"of {len(fields)} tags {MOST_TAGS} are kept")
            break
        text = text_of(key.__str__) if not isinstance(key, str) else key
        name = legal_tag_name(text)
        if name != text:
            changes.append(f"tag {text[:80]!r} is kept as {name!r}")
        shown = HIDDEN if names_a_secret(text) else _tag_text(value)
        if len(shown) > _LONGEST_TAG:
            shown = shown[: _LONGEST_TAG - 1] + "…"
            changes.append(f"tag {name!r} is cut to {_LONGEST_TAG} characters")
        plain[name] = shown
    return plain, changes


def _tag_text(value: Any) -> str:
    plain = _plain(value, _Room(4 * _LONGEST_TAG), depth=0, hide=False)
    if plain is None:
        text = ""
    else:
        text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return "".join(char if char.isprintable() else " " for char in text)


def _fields_of(value: Any) -> list[tuple[Any, Any]] | None:
    """Names and values of an object that has some; None for any other."""
    if isinstance(value, Mapping):
        return _items_of(value)
    if isinstance(value, (type, str, bytes, numbers.Number)):
        return None
    for method in ("_asdict", "model_dump", "to_dict"):
        ask = getattr(value, method, None)
        if callable(ask):
            answer = of_stranger(ask, None)
            if isinstance(answer, Mapping):
                return _items_of(answer)
    fields = of_stranger(lambda: list(vars(value).items()), None)
    slots = getattr(type(value), "__dataclass_fields__", None)
    if fields is None and slots is not None:
        fields = of_stranger(lambda: [(name, getattr(value, name)) for name in slots], None)
    return fields


def _items_of(mapping: Mapping[Any, Any]) -> list[tuple[Any, Any]] | None:
    return of_stranger(lambda: list(mapping.items()), None)


def _plain_fields(
    fields: Iterable[tuple[Any, Any]], room: _Room, *, depth: int, hide: bool
) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, value in fields:
        name = (key if isinstance(key, str) else text_of(key.__str__))[:_LONGEST_TAG]
        if not room.take(len(name) + 8):
            continue
        if names_a_password(name) and isinstance(value, numbers.Number):
            plain[name] = HIDDEN
        else:
            hidden = hide or names_a_secret(name)
            plain[name] = _plain(value, room, depth=depth + 1, hide=hidden)
    return plain


def _plain(value: Any, room: _Room, *, depth: int, hide: bool) -> Any:
    value = _scalar(value)
    if value is None or isinstance(value, bool):
        return value
    if type(value) in (int, float):
        return _number(value, room)
    if not isinstance(value, str):
        if depth >= _DEEPEST:
            room.left_out += 1
            return "…"
        if isinstance(value, (list, tuple, set, frozenset)) and not hasattr(value, "_asdict"):
            return _plain_members(value, room, depth=depth, hide=hide)
        fields = None if _is_opaque(value) else _fields_of(value)
        if fields is not None:
            return _plain_fields(fields, room, depth=depth, hide=hide)
    return _text(value if isinstance(value, str) else text_of(value.__str__), room, hide=hide)


def _scalar(value: Any) -> Any:
    """What an enumeration's member, or a number of NumPy's or torch's, stands for."""
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, (str, bool)) or type(value) in (int, float) or not hasattr(value, "item"):
        return value
    number = of_stranger(value.item, None)
    return number if isinstance(number, (int, float)) else value


def _plain_members(members: Collection[Any], room: _Room, *, depth: int, hide: bool) -> list[Any]:
    plain: list[Any] = []
    hide_next = False
    for member in members:
        if room.left_bytes <= 8:
            room.left_out += len(members) - len(plain)
            break
        text = member if isinstance(member, str) else ""
        hide_next = hide_next and not text.startswith("-")
        plain.append(_plain(member, room, depth=depth + 1, hide=hide or hide_next))
        hide_next = names_an_option_with_a_secret(text)
    return plain


def _is_opaque(value: Any) -> bool:
    """Whether an object is better shown by its text than by its attributes."""
    if isinstance(value, Mapping) or hasattr(value, "_asdict"):
        return False
    kind = type(value)
    described = hasattr(value, "__dataclass_fields__") or kind.__name__ == "Namespace"
    return not described and (callable(value) or kind.__module__ not in ("__main__", "types"))


def _number(value: Any, room: _Room) -> Any:
    # More digits than Python turns into a text (4,300) are no hyper-parameter.
    if isinstance(value, int) and value.bit_length() > 1_024:
        return "a very large number"
    if not room.take(8):
        return None
    return number_to_json(value) if isinstance(value, float) else value


def _text(text: str, room: _Room, *, hide: bool) -> str:
    if hide and text:
        return HIDDEN
    shown = masked(text[: _LONGEST_TEXT + 1])
    if len(shown) > _LONGEST_TEXT:
        room.left_out += 1
        shown = shown[:_LONGEST_TEXT] + "…"
    size_bytes = len(shown.encode("utf-8", "replace")) + 4
    if room.take(size_bytes):
        return shown
    fits = max(room.left_bytes // 4 - 4, 0)
    room.left_bytes = 0
    return shown[:fits] + "…"
