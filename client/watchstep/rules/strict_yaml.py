"""YAML 1.2 read strictly: every mistake has a line, and no file can hang or crash the reader."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from watchstep.errors import RuleError

LARGEST_FILE_BYTES = 262_144
DEEPEST_NESTING = 12
LONGEST_NUMBER = 32
"""Characters of a number; no setting of a rule has need of more."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """A mapping with the lines that its keys stand on."""

    values: dict[str, Any]
    lines: dict[str, int]
    line: int
    source: str

    @classmethod
    def of(cls, plain: Mapping[str, Any], source: str) -> Mapped:
        values = {name: _from_plain(part, source) for name, part in plain["values"].items()}
        return cls(values, plain["lines"], plain["line"], source)

    def plain(self) -> dict[str, Any]:
        """The same as JSON, for `of`."""
        values = {name: _to_plain(part) for name, part in self.values.items()}
        return {"values": values, "lines": self.lines, "line": self.line}

    def refuse_unknown(self, allowed: Iterable[str], what: str) -> None:
        """Raise for the first key that is not known, with the nearest that is."""
        allowed = list(allowed)
        for key, line in self.lines.items():
            if key not in allowed:
                close = difflib.get_close_matches(key, allowed, 1)
                hint = (
                    f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(allowed)}"
                )
                reason = f"unknown key {key!r} in {what}{hint}"
                raise RuleError(reason, line=line, source=self.source, key=key)

    def wrong(self, key: str, reason: str) -> RuleError:
        """An error at the line of a key."""
        line = self.lines.get(key, self.line)
        return RuleError(f"{key}: {reason}", line=line, source=self.source, key=key)

    def without(self, key: str, instead: Mapping[str, Any]) -> Mapped:
        """The same without a key, or with another value of it."""
        values = {name: value for name, value in self.values.items() if name != key}
        lines = {name: line for name, line in self.lines.items() if name != key}
        if key in instead:
            values[key], lines[key] = instead[key], self.lines.get(key, self.line)
        return Mapped(values, lines, self.line, self.source)

    def text(self, key: str, default: str | None = None) -> str | None:
        """A text; numbers that YAML made of it are refused rather than guessed back."""
        value = self.values.get(key, default)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, f"expected a text, found {_kind(value)}")
        return value

    def integer(self, key: str, default: int, least: int = 0) -> int:
        """A whole number of at least `least`."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.wrong(key, f"expected a whole number from {least}, found {value!r}")
        return value

    def mappings(self, key: str) -> list[Mapped]:
        items = self.sequence(key)
        for part in items:
            if not isinstance(part, Mapped):
                raise self.wrong(key, f"expected mappings, found {_kind(part)}")
        return items

    def sequence(self, key: str) -> list[Any]:
        """A list; absent is empty."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(key, f"expected a list, found {_kind(value)}")
        return value

    def texts(self, key: str) -> dict[str, str]:
        """A mapping of texts; absent is empty. Numbers and booleans are written out."""
        value = self.values.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapped):
            raise self.wrong(key, f"expected a mapping, found {_kind(value)}")
        for name, part in value.values.items():
            if isinstance(part, (list, Mapped)) or part is None:
                raise value.wrong(name, f"expected a text, found {_kind(part)}")
        return {name: _written(part) for name, part in value.values.items()}


def _to_plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_plain(part) for part in value]
    return value.plain() if isinstance(value, Mapped) else value


def _from_plain(value: Any, source: str) -> Any:
    if isinstance(value, list):
        return [_from_plain(part, source) for part in value]
    return Mapped.of(value, source) if isinstance(value, dict) else value


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _kind(value: object) -> str:
    if isinstance(value, Mapped):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else repr(value)


def read(text: bytes, source: str) -> Mapped:
    """Read one YAML document whose root is a mapping.

    Raises:
        RuleError: It is too large, not UTF-8, not YAML, repeats a key, or uses aliases, tags
            or nesting that a rule file has no need of.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    if len(text) > LARGEST_FILE_BYTES:
        raise RuleError(
            f"more than {LARGEST_FILE_BYTES} bytes, the most that a file may have",
            line=1,
            source=source,
        )
    try:
        node = YAML(typ="safe", pure=True).compose(text.decode())
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        reason = f"not UTF-8 at byte {error.start}"
        raise RuleError(reason, line=line, source=source) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        reason = " ".join(str(error.problem or error.context).split())
        raise RuleError(f"not YAML: {reason}", line=line, source=source) from None
    except ReaderError as error:
        line = text.decode().count("\n", 0, max(error.position, 0)) + 1
        reason = f"not YAML: character {error.character!r} is not allowed"
        raise RuleError(reason, line=line, source=source) from None
    # What the scanner and the parser trip over in directives and flow mappings is none of YAML's
    # own errors; found by feeding them damaged files.
    except (YAMLError, ValueError, TypeError, AttributeError, IndexError, AssertionError):
        raise RuleError("not YAML", line=1, source=source) from None
    except RecursionError:
        raise RuleError("nested too deeply", line=1, source=source) from None
    document = _Reader(source).value(node, 0) if node is not None else None
    if not isinstance(document, Mapped):
        raise RuleError(
            f"expected a mapping at the top, found {_kind(document)}", line=1, source=source
        )
    return document


class _Reader:
    """Turns composed nodes into plain values, keeping lines."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.seen: set[int] = set()

    def wrong(self, reason: str, node: Any) -> RuleError:
        return RuleError(reason, line=node.start_mark.line + 1, source=self.source)

    def value(self, node: Any, depth: int) -> Any:
        if depth > DEEPEST_NESTING:
            raise self.wrong(f"nested deeper than {DEEPEST_NESTING}", node)
        if id(node) in self.seen:
            raise self.wrong(
                "this anchor is used again; aliases are not supported, write the value out", node
            )
        self.seen.add(id(node))
        kind = type(node).__name__
        if kind == "MappingNode":
            return self.mapping(node, depth)
        if kind == "SequenceNode":
            return [self.value(part, depth + 1) for part in node.value]
        return self.scalar(node)

    def mapping(self, node: Any, depth: int) -> Mapped:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            name = self.value(key, depth + 1)
            if not isinstance(name, str):
                raise self.wrong(f"expected a text as key, found {_kind(name)}", key)
            if name in values:
                raise self.wrong(f"key {name!r} stands here twice", key)
            values[name] = self.value(value, depth + 1)
            lines[name] = key.start_mark.line + 1
        return Mapped(values, lines, node.start_mark.line + 1, self.source)

    def scalar(self, node: Any) -> Any:
        tag = str(node.ctag if hasattr(node, "ctag") else node.tag).rsplit(":", 1)[-1]
        text = str(node.value)
        if tag == "null":
            return None
        if tag == "bool" and text.lower() in {"true", "false"}:
            return text.lower() == "true"
        if tag in {"int", "float"}:
            return self.number(tag, text, node)
        if tag in {"str", "timestamp", "bool"}:
            return text
        raise self.wrong(f"tag !{tag} is not supported", node)

    def number(self, tag: str, text: str, node: Any) -> Any:
        """A number as YAML 1.2 has it; a text where only a resolver takes it for one (`0_`)."""
        if len(text) > LONGEST_NUMBER:
            raise self.wrong(f"a number of {len(text)} digits", node)
        plain = text.lower().replace("_", "")
        try:
            if tag == "float":
                return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
            prefixed = plain.lstrip("+-")[:2] in {"0x", "0o", "0b"}
            return int(plain, 0) if prefixed else int(plain)
        except ValueError:
            return text
