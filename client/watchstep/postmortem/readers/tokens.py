"""A printed line as tokens: numbers, words and what stands between them.

Scanning is linear: no pattern here can match the same text in two ways, and every repetition
that something must follow is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

OPEN, CLOSE = "([{", ")]}"

Kind = Literal["number", "clock", "word", "mark"]

_EXPONENT = (
    # Behind decimals also Fortran's `1.5D+02` and Julia's `1.5f-3`.
    r"(?:\.?[eE][-+]?\d+|(?<=\d)(?:D[-+]\d{1,3}|f-?\d{1,2})(?![\w.]))?"
)
_AFTER_DIGIT = (
    # A date, with or without its time; a day and time; a time or duration.
    r"\d{3}[-/]\d\d[-/]\d\d(?:[T _-]?\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)?"
    r"|\d?/\d{1,2} \d\d:\d\d:\d\d(?:\.\d{1,9})?"
    r"|\d{0,4}:\d\d(?::\d\d){0,2}(?:[.,]\d{1,9})?(?![\d.])"
    r"|\d{0,3}[dhm] ?\d{1,2}[hms](?: ?\d{1,2}[ms])?(?![\w.])"
    r"|\d{0,2}(?:,\d{3}){1,6}(?!,?\d)(?:\.\d+)?"
    rf"|\d*(?:_\d+)*(?:\.\d+)?{_EXPONENT}"
)
_NAMED = (
    r"(?:(?<=[nN])(?i:an)|(?<=[iI])(?i:nf(?:inity)?))"
    r"(?=(?:x{1,9}|0{1,9}|_{1,9}|32|16)?(?![A-Za-z0-9_]))"
)
"""Printed to a fixed width, a NaN is filled up: `nanxxx`; Julia's is `NaN32`."""
_AFTER_SIGN = (
    r"\d{1,3}(?:,\d{3}){1,6}(?!,?\d)(?:\.\d+)?"
    rf"|\d+(?:_\d+)*(?:\.\d+)?{_EXPONENT}"
    rf"|\.\d+{_EXPONENT}|[nNiI]{_NAMED}"
)
SLOTS = re.compile(
    # What may begin a number stands first: the engine skips all else without a trial.
    r"([-+.\dnNiI](?<![\w.@$].)(?<![A-Za-z_]/.)"
    rf"(?:(?<=\d)(?:{_AFTER_DIGIT})|(?<=[-+])(?:{_AFTER_SIGN})|(?<=\.)\d+{_EXPONENT}"
    rf"|{_NAMED}))"
)
"""Every printed number and clock of a line. One inside a word, as in `rank0`, is part of it."""

_CLOCK_ONLY = re.compile(r"\d[^:]{0,15}:\d[\d:.,]*|\d{4}[-/]\d\d[-/]\d\d.*|\d{1,4}[dhm].*")
_PIECE = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<word>[^\W\d](?:[\w./@%+*^~-]|'(?=[a-z]))*)"
    r"|(?P<arrow>->|=>|:=|==)"
    r"|(?P<mark>[^\w\s]|[\d_])"
)
_BOXED = re.compile(r"(?:\w{1,9}\.)?(?:float\d\d|tensor|array)")
_LONGEST_LIST = 256
_TRAILING = "./-'*+~^"


class Token(NamedTuple):
    """A piece of a line.

    Attributes:
        text: As printed.
        slot: Which of the line's numbers it is, -1 for words and marks.
        before: Blanks before it: 0 for none, 1 for one, 2 for more, or a tab.
    """

    kind: Kind
    text: str
    slot: int
    before: int


def split(line: str) -> list[str]:
    """A line's fixed text and its numbers by turns: text at even places, numbers at odd ones."""
    return SLOTS.split(line)


def tokens(pieces: Sequence[str]) -> list[Token]:
    """The tokens of a line that `split` has taken apart."""
    line: list[Token] = []
    before = 0
    for at, piece in enumerate(pieces):
        if at % 2:
            kind: Kind = "clock" if _CLOCK_ONLY.fullmatch(piece) else "number"
            line.append(Token(kind, piece, at // 2, before))
            before = 0
        else:
            before = _add_words(piece, before, line)
    return line


def _add_words(piece: str, before: int, line: list[Token]) -> int:
    """Add the tokens of fixed text; how many blanks it ends in."""
    at = 0
    while at < len(piece):
        match = _PIECE.match(piece, at)
        if match is None:
            at += 1
            continue
        text = match.group()
        if match.lastgroup == "space":
            before = 2 if len(text) > 1 or text == "\t" else 1
            at = match.end()
            continue
        if match.lastgroup == "word":
            text = text.rstrip(_TRAILING)
            line.append(Token("word", text, -1, before))
        else:
            line.append(Token("mark", text, -1, before))
        at += len(text)
        before = 0
    return before


class Line(tuple[Token, ...]):
    """The tokens of a line, looked at by place; beyond its ends there is nothing."""

    __slots__ = ()

    def text(self, at: int) -> str:
        """The token's text, "" beyond the ends."""
        return self[at].text if 0 <= at < len(self) else ""

    def is_number(self, at: int) -> bool:
        return 0 <= at < len(self) and self[at].kind == "number"

    def is_whole(self, at: int) -> bool:
        """Whether a number that can count stands there."""
        return 0 <= at < len(self) and is_whole(self[at])

    def is_glued(self, at: int) -> bool:
        """Whether a token stands there with no blank before it."""
        return 0 <= at < len(self) and not self[at].before

    def is_loss(self, at: int, end: int) -> bool:
        """Whether a tensor printed without a name is a loss: how it came about stands in it."""
        return any(token.text == "grad_fn" for token in self[at:end])

    def timed_loss(self) -> tuple[Token, Token] | None:
        """Count and loss of `0m 5s (- 9m 2s) (50 6%) 2.85`, as PyTorch's tutorials print them."""
        bare = [token for token in self if token.kind != "clock" and token.text not in "[(-)]"]
        if len(bare) < 4 or all(token.kind != "clock" for token in self):
            return None
        count, share, sign, loss = bare[:4]
        fits = is_whole(count) and share.kind == "number" and sign.text == "%"
        return (count, loss) if fits and loss.kind == "number" and not is_whole(loss) else None

    def as_share(self, at: int, part: Token) -> tuple[Token, int]:
        """What a number says, and where the line goes on: `103/1000 (10.3%)` is that share.

        Args:
            at: The place behind the number.
            part: The number.
        """
        whole = self.text(at) == "/" and self.is_number(at + 1)
        if not (whole and self[at - 1] is part and self.text(at + 2) in {"(", "["}):
            return part, at
        is_share = self.is_number(at + 3) and self.text(at + 4) == "%"
        return (self[at + 3], at + 5) if is_share else (part, at)

    def names_one_value(self, at: int) -> bool:
        """Whether nothing but a word and a number stand from here: `250 train 6.43`."""
        rest = self[at:]
        return len(rest) == 2 and rest[0].kind == "word" and rest[1].kind == "number"

    def stands_apart(self, at: int) -> bool:
        """Whether a pair begins here, in a column of its own: `250  loss=0.5`."""
        apart = at < len(self) and self[at].before == 2
        return apart and self[at].kind == "word" and self.text(at + 1) in {"=", ":"}

    def numbers_before_names(self, at: int) -> list[tuple[Token, str]]:
        """Each number from here with the words behind it, where these are all that there is."""
        parts: list[tuple[Token, str]] = []
        while self.is_number(at):
            end = at + 1
            while end < len(self) and self[end].kind == "word":
                end += 1
            parts.append((self[at], " ".join(token.text for token in self[at + 1 : end])))
            if self.text(end) not in {",", ""}:
                return []
            at = end + 1
        names = [name for _, name in parts]
        is_all = at >= len(self) and len(set(names)) >= max(len(names), 2) and "" not in names[1:]
        return parts if is_all else []

    def begins_pairs(self, at: int) -> bool:
        """Whether names of one word and their values stand from here: `d1[0.7] d2[0.6]`."""
        named = at < len(self) and self[at].kind == "word"
        return named and self.text(at + 1) in {"=", ":", "["} and self.is_number(at + 2)

    def part_of_word(self, at: int) -> bool:
        """Whether the number before is the end of a word or range, as in `gpu-0`."""
        if self.text(at) == "-" and self.is_glued(at) and self.is_glued(at + 1):
            return True
        before = self[at - 2] if at >= 2 else None
        if before is None or self[at - 1].before or before.text != "-" or before.before:
            return False
        return at >= 3 and self[at - 3].kind != "mark"

    def names_loss(self, at: int) -> bool:
        """Whether the word loss stands there, without a value of its own."""
        valued = self.is_number(at + 1) or self.text(at + 1) in {":", "=", "is", "["}
        return self.text(at).lower() in {"loss", "losses"} and not valued

    def values(self, begin: int, end: int) -> list[Token]:
        """The one number between brackets, or those of a list: fractions, and nothing but them."""
        inside, values = self[begin:end], list[Token]()
        for at, token in enumerate(inside, begin):
            if token.kind == "word" and self.text(at + 1) == "=":
                break
            if token.kind == "number":
                values.append(token)
        if len(values) == 2 and self.text(begin) == "(" and is_whole(values[0]):
            return values[1:]  # `[(0, '25.3')]` holds the value of number 0.
        is_list = (
            self.text(begin - 1) == "["
            and end < len(self)
            and not all(map(is_whole, values))
            and all(
                t.kind == "number" or t.text in ",()" or _BOXED.fullmatch(t.text) for t in inside
            )
            and (inside[0].text != "(" and len(values) <= _LONGEST_LIST)
        )
        return values if len(values) == 1 or is_list else []

    def has_value(self, word: str, at: int) -> bool:
        """Whether a loss has its value behind the number before: `loss 20 0.5`, `loss 20: 0.5`."""
        at += self.text(at) == ":"
        return "loss" in word.lower() and self.is_number(at) and not self.is_whole(at)

    def closing(self) -> tuple[dict[int, int], int]:
        """Where each opening bracket and quote closes, and how many braces never do."""
        places: dict[int, int] = {}
        opened: dict[str, list[int]] = {bracket: [] for bracket in OPEN}
        quotes: dict[str, int] = {}
        for at, token in enumerate(self):
            if token.kind != "mark":
                continue
            if token.text in OPEN:
                opened[token.text].append(at)
            elif token.text in CLOSE:
                stack = opened[OPEN[CLOSE.index(token.text)]]
                if stack:
                    places[stack.pop()] = at
            elif token.text in "'\"":
                if token.text in quotes:
                    places[quotes.pop(token.text)] = at
                else:
                    quotes[token.text] = at
        return places, len(opened["{"])


def is_whole(token: Token) -> bool:
    """Whether a number is one that counts: whole, not negative, of 15 digits at most."""
    digits = token.text.replace(",", "")
    return token.kind == "number" and len(token.text) <= 15 and digits.isdigit()
