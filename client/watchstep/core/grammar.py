"""From the text of an expression to a checked tree."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from watchstep.core.functions import ALSO_METRICS, FUNCTIONS, Function, Kind
from watchstep.core.spans import LONGEST_SECONDS, LONGEST_WINDOW, Span
from watchstep.errors import RuleError

LONGEST_EXPRESSION = 4_096
DEEPEST_NESTING = 40
DEEPEST_TREE = 120
"""Levels of the whole tree, long rows of `and` included: later stages descend it."""

Type = Literal["number", "bool", "text"]


@dataclass(frozen=True, slots=True)
class Syntax:
    """One node of an expression.

    Attributes:
        op: "number", "metric", "text", "span", "glob", "call", "not", "negate" or the operator.
        value: The literal, the metric's name, or the function's name.
        parts: Operands or arguments.
    """

    op: str
    type: Type
    value: object = None
    parts: tuple[Syntax, ...] = ()

    def __str__(self) -> str:
        """Canonical text; equal trees have equal texts."""
        match self.op:
            case "number":
                text = repr(self.value)
            case "text":
                text = f'"{self.value}"'
            case "metric" if not _is_plain(str(self.value)):
                text = f'reading("{self.value}")'
            case "call":
                text = f"{self.value}({', '.join(map(str, self.parts))})"
            case "not" | "negate":
                text = f"{'not ' if self.op == 'not' else '-'}({self.parts[0]})"
            case _ if self.parts:
                text = f"({self.parts[0]} {self.op} {self.parts[1]})"
            case _:
                text = str(self.value)
        return text

    def walk(self) -> Iterator[Syntax]:
        """This node and all below it, operands left to right."""
        yield self
        for part in self.parts:
            yield from part.walk()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?P<unit>[smh](?![A-Za-z0-9_]))?
      | (?P<name>[A-Za-z_][A-Za-z0-9_./:\-]*)
      | (?P<text>"[^"\n]*")
      | (?P<op><=|>=|==|!=|[<>()+\-*/,])""",
    re.VERBOSE,
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./:\-]*")
_COUNTING = frozenset({"record", "lowest", "missing", "fired", "stuck"})
_WORDS = frozenset({"and", "or", "not", "inf", "infinity", "nan"})
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


@lru_cache(maxsize=2_048)
def parse(text: str) -> Syntax:
    """Parse a condition.

    Args:
        text: An expression of the rule language, at most `LONGEST_EXPRESSION` characters.

    Raises:
        RuleError: Where it is not one, with the column and a suggestion where there is one.
    """
    if len(text) > LONGEST_EXPRESSION:
        raise RuleError(f"expression of {len(text)} characters; at most {LONGEST_EXPRESSION}")
    tree = _Parser(text).condition()
    if tree.type != "bool":
        raise RuleError(f"a rule needs a condition such as `x > 1`, and this is a {tree.type}")
    if _depth(tree) > DEEPEST_TREE:
        raise RuleError(f"more than {DEEPEST_TREE} levels of operators; split the rule")
    return tree


def _depth(tree: Syntax) -> int:
    """Levels of a tree, counted without descending: it may be deeper than Python's stack."""
    level, depth = [tree], 0
    while level:
        depth += 1
        level = [part for node in level for part in node.parts]
    return depth


def _is_plain(name: str) -> bool:
    """Whether a metric's name can stand in an expression without `reading`."""
    word = name.lower() in _WORDS or (name in FUNCTIONS and name not in ALSO_METRICS)
    return _NAME.fullmatch(name) is not None and not word and name[-1] not in "-:./"


def parse_span(text: str) -> Span:
    """Parse `3 updates`, `1 update`, `30s`, `5m` or `1h`.

    Raises:
        RuleError: When it is none of these.
    """
    match = re.fullmatch(r"\s*([0-9]+)\s*updates?\s*|\s*([0-9]+(?:\.[0-9]+)?)([smh])\s*", text)
    if match is None:
        raise RuleError(f"{text!r} is no length of time; write `3 updates`, `30s`, `5m` or `1h`")
    if match[1]:
        if len(match[1]) > 9 or int(match[1]) > LONGEST_WINDOW:
            raise RuleError(f"{match[1][:12]} updates; at most {LONGEST_WINDOW}")
        return Span(updates=int(match[1]))
    seconds = float(match[2]) * _SECONDS[match[3]]
    if seconds > LONGEST_SECONDS:
        raise RuleError(f"{seconds:g} seconds; at most {LONGEST_SECONDS:g}")
    return Span(seconds=seconds)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise RuleError(f"unexpected {text[at]!r} at column {at + 1}", column=at + 1)
        at = match.end()
        kind = "number" if match.lastgroup == "unit" else str(match.lastgroup)
        if kind != "space":
            tokens.append(_Token("span" if match["unit"] else kind, match[0], match.start()))
    tokens.append(_Token("end", "", len(text)))
    return tokens


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.at = 0
        self.depth = 0

    @property
    def here(self) -> _Token:
        return self.tokens[self.at]

    def wrong(self, reason: str, token: _Token | None = None) -> RuleError:
        column = (token or self.here).at + 1
        return RuleError(f"{reason} at column {column}", column=column)

    def take(self, text: str) -> bool:
        if self.here.text == text and self.here.kind in {"op", "name"}:
            self.at += 1
            return True
        return False

    def need(self, text: str) -> None:
        if not self.take(text):
            shown = f"`{self.here.text}`" if self.here.text else "the end"
            raise self.wrong(f"expected `{text}`, found {shown}")

    def condition(self) -> Syntax:
        tree = self.either()
        if self.here.kind != "end":
            hint = ""
            if self.here.text in _COMPARISONS:
                hint = "; comparisons do not chain, join two with `and`"
            raise self.wrong(f"expected an operator, found `{self.here.text}`{hint}")
        return tree

    def either(self) -> Syntax:
        self.depth += 1
        if self.depth > DEEPEST_NESTING:
            raise self.wrong(f"nested deeper than {DEEPEST_NESTING}")
        tree = self.both()
        while self.take("or"):
            tree = self.join("or", tree, self.both())
        self.depth -= 1
        return tree

    def both(self) -> Syntax:
        tree = self.negation()
        while self.take("and"):
            tree = self.join("and", tree, self.negation())
        return tree

    def join(self, op: str, left: Syntax, right: Syntax) -> Syntax:
        return Syntax(op, "bool", parts=(self.typed(left, "bool"), self.typed(right, "bool")))

    def negation(self) -> Syntax:
        negations = 0
        while self.take("not"):
            negations += 1
        tree = self.comparison()
        # Twice not is the thing itself, so a long row of them costs no depth.
        if negations:
            self.typed(tree, "bool")
        return Syntax("not", "bool", parts=(tree,)) if negations % 2 else tree

    def comparison(self) -> Syntax:
        left = self.sum()
        if self.here.text not in _COMPARISONS:
            return left
        op = self.here.text
        self.at += 1
        right = self.sum()
        return Syntax(op, "bool", parts=(self.typed(left, "number"), self.typed(right, "number")))

    def sum(self) -> Syntax:
        return self.chain(("+", "-"), self.product)

    def product(self) -> Syntax:
        return self.chain(("*", "/"), self.factor)

    def chain(self, operators: tuple[str, ...], operand: object) -> Syntax:
        assert callable(operand)
        tree: Syntax = operand()
        length = 0
        while self.here.kind == "op" and self.here.text in operators:
            op = self.here.text
            self.at += 1
            length += 1
            if length > DEEPEST_NESTING:
                raise self.wrong(f"more than {DEEPEST_NESTING} terms in a row")
            parts = (self.typed(tree, "number"), self.typed(operand(), "number"))
            tree = Syntax(op, "number", parts=parts)
        return tree

    def factor(self) -> Syntax:
        negations = 0
        while self.take("-"):
            negations += 1
        tree = self.primary()
        if not negations:
            return tree
        self.typed(tree, "number")
        if tree.op == "number":
            return Syntax("number", "number", float(str(tree.value)) * (-1) ** negations)
        return Syntax("negate", "number", parts=(tree,)) if negations % 2 else tree

    def primary(self) -> Syntax:
        token = self.here
        self.at += 1
        if token.kind == "number":
            return Syntax("number", "number", float(token.text))
        if token.kind == "text":
            return Syntax("text", "text", token.text[1:-1])
        if token.text == "(":
            tree = self.either()
            self.need(")")
            return tree
        if token.kind == "name" and token.text not in {"and", "or", "not"}:
            if self.here.text == "(":
                return self.call(token)
            return self.metric(token)
        self.at -= 1
        shown = f"`{token.text}`" if token.text else "the end"
        raise self.wrong(f"expected a metric, a number or a function, found {shown}")

    def metric(self, token: _Token) -> Syntax:
        if token.text.lower() in {"inf", "infinity"}:
            return Syntax("number", "number", float("inf"))
        if token.text.lower() == "nan":
            raise self.wrong(
                "nothing compares with nan; use `nonfinite(metric)` or `on_nan: fire`", token
            )
        if token.text in FUNCTIONS and token.text not in ALSO_METRICS:
            raise self.wrong(f"`{token.text}` is a function, so write `{token.text}(...)`", token)
        if token.text[-1] in "-:./":
            raise self.wrong(f"`{token.text}` reads as one name; put a space into it", token)
        return Syntax("metric", "number", token.text)

    def call(self, name: _Token) -> Syntax:
        function = FUNCTIONS.get(name.text)
        if function is None:
            close = difflib.get_close_matches(name.text, FUNCTIONS, 1)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            raise self.wrong(f"no function `{name.text}`{hint}", name)
        self.need("(")
        parts = self.arguments(name, function)
        self.need(")")
        self.check_constants(name, parts)
        if name.text == "reading":
            return Syntax("metric", "number", parts[0].value)
        return Syntax("call", function.gives, name.text, parts)

    def check_constants(self, name: _Token, parts: tuple[Syntax, ...]) -> None:
        """Refuse numbers that would make a call meaningless rather than false."""
        for part in parts[1:]:
            if part.op != "number":
                continue
            number = float(str(part.value))
            if name.text in _COUNTING and not (number >= 1 and number == number // 1):
                raise self.wrong(f"`{name.text}` counts in whole numbers from 1", name)
            if name.text == "eta" and not 0 < number < float("inf"):
                raise self.wrong("`eta` looks at log10|x|; its limit must be above 0", name)
            if name.text == "flat" and not 0 <= number < float("inf"):
                raise self.wrong("the tolerance of `flat` must be 0 or more", name)
            if name.text == "growth" and not 0 <= number < float("inf"):
                raise self.wrong("the floor of `growth` must be 0 or more", name)

    def arguments(self, name: _Token, function: Function) -> tuple[Syntax, ...]:
        kinds = function.takes
        parts: list[Syntax] = []
        while self.here.text != ")" and self.here.kind != "end":
            if parts:
                self.need(",")
            kind: Kind | None = "globs" if kinds[-1:] == ("globs",) else None
            if kind is None and len(parts) < len(kinds):
                kind = kinds[len(parts)]
            if kind is None:
                raise self.wrong(f"`{name.text}` takes {len(kinds)} arguments")
            parts.append(self.argument(kind))
        fewest = 1 if "globs" in kinds else len(kinds) - function.optional
        if len(parts) < fewest:
            expected = ", ".join(kinds) or "nothing"
            raise self.wrong(
                f"`{name.text}` takes ({expected}) and got {len(parts)} arguments", name
            )
        return tuple(parts)

    def argument(self, kind: Kind) -> Syntax:
        token = self.here
        if kind == "globs":
            return self.glob()
        if kind in {"rule", "metric"} and token.kind in {"name", "text"}:
            self.at += 1
            return Syntax(kind if kind == "metric" else "rule", "text", token.text.strip('"'))
        if kind == "window":
            return self.window()
        if kind == "reports":
            window = self.window()
            if token.kind == "span":
                raise self.wrong("a level is over reports, such as 5, and not over seconds", token)
            return window
        if kind == "constant":
            tree = self.factor()
            if tree.op != "number":
                raise self.wrong("expected a plain number", token)
            return tree
        if kind in {"rule", "metric"}:
            raise self.wrong(f"expected the name of a {kind}", token)
        expected: Type = "bool" if kind == "bool" else "text" if kind == "text" else "number"
        return self.typed(self.either(), expected, token)

    def window(self) -> Syntax:
        token = self.here
        self.at += 1
        if token.kind == "span":
            seconds = float(token.text[:-1]) * _SECONDS[token.text[-1]]
            if not 0 < seconds <= LONGEST_SECONDS:
                raise self.wrong(f"a window lasts up to {LONGEST_SECONDS:g} seconds", token)
            return Syntax("span", "number", Span(seconds=seconds))
        if token.kind != "number" or not token.text.isdigit():
            raise self.wrong("expected a window, such as 50 (updates) or 30s", token)
        if len(token.text) > 9 or not 1 <= int(token.text) <= LONGEST_WINDOW:
            raise self.wrong(f"a window holds 1 to {LONGEST_WINDOW} updates", token)
        return Syntax("span", "number", Span(updates=int(token.text)))

    def glob(self) -> Syntax:
        start = self.here.at
        while self.here.kind != "end" and self.here.text not in {",", ")"}:
            self.at += 1
        pattern = self.text[start : self.here.at].strip().strip('"')
        if not re.fullmatch(r"[A-Za-z0-9_./:*?\-\[\]]{1,128}", pattern):
            raise self.wrong(f"{pattern!r} is no pattern for metric names", self.tokens[self.at])
        return Syntax("glob", "text", pattern)

    def typed(self, node: Syntax, expected: Type, token: _Token | None = None) -> Syntax:
        if node.type != expected:
            shown = {"number": "a number", "bool": "a condition", "text": "a text"}
            raise self.wrong(f"expected {shown[expected]}, found {shown[node.type]}", token)
        return node
