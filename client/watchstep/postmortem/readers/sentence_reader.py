"""Reads a line as tokens: a name, a separator, a number, and what else stands between them.

Lines that differ only in their numbers are read once, so the rules below cost a log of a million
lines no more than one of a hundred.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from watchstep.core.roles import role_of
from watchstep.postmortem.readers import prefixes
from watchstep.postmortem.readers.naming import metric_name
from watchstep.postmortem.readers.sentences import (
    Counted,
    Pair,
    Sentence,
    choose_position,
    name_as_known,
)
from watchstep.postmortem.readers.tokens import CLOSE, OPEN, Line, Token, is_whole, split, tokens
from watchstep.postmortem.readers.vocabulary import (
    COUNTED_AFTER,
    COUNTERS,
    EPOCHS,
    EVALUATED,
    GLOBAL,
    NOT_IN_DICTIONARIES,
    PREPOSITIONS,
    STATISTICS,
    counter_of,
    counts_at,
    is_evaluation,
    is_settings,
    is_source,
    is_unit,
)

_LONGEST_NAME, _MOST_PAIRS = 8, 1_000  # Words; more are prose.
_WHOLE = re.compile(r"\d{1,15}\.0{1,6}")
_DATE = re.compile(r"\d{4}[-/]\d\d[-/]\d\d[T _-]?\d\d:")
_VERBS = frozenset(("is", "becomes", "became", "was", "went", "goes", "turned", "turns"))
_SEPARATORS = frozenset((":", "=", ":=", "->", "=>", "→", "=="))
_ROUNDED, _BEHIND = frozenset("kKMB"), {"rate": "learning rate"}
_BREAKS = frozenset(",;|·•!<>&│")


def read(line: str, pieces: Sequence[str]) -> Sentence:
    """What a line says.

    Args:
        line: As printed, without colours.
        pieces: The same, as `tokens.split` gives it.
    """
    start = prefixes.length(line)
    rest = split(line[start:]) if start else list(pieces)
    slots = len(rest) // 2
    if start and slots and rest[1::2] != list(pieces[1::2])[-slots:]:
        rest, slots, start = list(pieces), len(pieces) // 2, 0  # The cut went through a number.
    skipped = len(pieces) // 2 - slots
    sentence = _Reader(Line(tokens(rest))).sentence()
    sentence.shift(skipped)
    sentence.placed()
    if sentence.position is not None:
        sentence.learning = "earning" in pieces[2 * sentence.position.slot]
    if skipped and _DATE.match(pieces[1]):
        sentence.clock = 0
    return sentence


class _Reader:
    """Walks over a line's tokens once, with the words since the last break in hand."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._at = 0
        self._words: list[str] = []
        self._separator = ""
        self._context = ""
        self._braces: list[str] = []
        self._loose = 0
        self._after = ""
        self._counted: list[Counted] = []
        self._leading: Counted | None = None
        self._sentence = Sentence()
        self._closing, self._sentence.depth = line.closing()

    def sentence(self) -> Sentence:
        if timed := self._line.timed_loss():
            self._leading, self._at = Counted("step", timed[0].slot), len(self._line)
            self._sentence.pairs.append(Pair("loss", timed[1].slot, strong=True))
        else:
            self._begin()
        while self._at < len(self._line):
            token = self._line[self._at]
            self._at += 1
            if token.kind == "word":
                self._word(token)
            elif token.kind == "number":
                self._number(token)
            elif token.kind == "clock":
                self._words, self._separator = [], ""
            else:
                self._mark(token)
        self._finish()
        return self._sentence

    def _begin(self) -> None:
        """A number at the beginning that the line's own position may be."""
        line = self._line
        at = inside = int(line.text(0) == "[")
        if at >= len(line) or not is_whole(line[at]):
            if line.text(0) == "round" and line.is_whole(1) and line.text(2) == ":":
                self._counts_rounds(1, 3)
            return
        after = self._line.text(at + 1)
        if inside and after == "]":
            if line.is_whole(at + 2) and line.text(at + 3) == "|":
                at += 2  # `[  0]    520 || B: 5.1`: an epoch, and the iteration.
            self._leading, self._at = Counted("step", line[at].slot), max(at + 1, 3)
        elif inside and after == "," and line.is_whole(at + 2) and line.text(at + 3) == "]":
            self._counted += [Counted("epoch", line[1].slot), Counted("step", line[3].slot)]
            self._at = at + 4  # PyTorch's tutorials print the epoch and the step in it.
        elif after == "/" and self._line.is_whole(at + 2) and not inside:
            self._leading_fraction(at)
        elif not inside and after == "," and line.begins_pairs(at + 2):
            self._leading, self._at = Counted("step", line[at].slot), at + 2
        elif not inside and after == line.text(at + 3) == "|" and line.is_whole(at + 2):
            self._leading, self._at = Counted("step", line[at + 2].slot), at + 4
        elif not inside and (
            after in {"|", ":"} or line.names_one_value(at + 1) or line.stands_apart(at + 1)
        ):
            self._leading, self._at = Counted("step", line[at].slot), at + 1
            self._named_behind(at + 2)

    def _counts_rounds(self, count: int, loss: int) -> None:
        """Flower's `round 12: 0.41`, and what stands in `(12, 0.41, {'accuracy': 0.87}, 341.2)`."""
        if self._line.is_number(loss):
            self._counted.append(Counted("iteration", self._line[count].slot))
            self._sentence.pairs.append(Pair("loss", self._line[loss].slot, strong=True))
            self._words, self._separator, self._at = [], "", loss + 1

    def _leading_fraction(self, at: int) -> None:
        """`100/1875 [====>...] - loss: 3`, as Keras prints; `12/50000: loss: 3`; `1/5 | loss 3`."""
        counted = Counted("step", self._line[at].slot, self._line[at + 2].slot)
        following, after = self._line.text(at + 3), self._line.text(at + 4)
        if following in {":", ",", "|"} or after in {"/", ":", "="}:
            self._leading, self._at = counted, at + 3
        elif following in {"━", "-"} or (following == "[" and after[:1] in set("=>.")):
            self._sentence.keras, self._sentence.bar, self._at = True, counted, at + 3

    def _named_behind(self, at: int) -> None:
        """`100: 5.1, 5.4 avg loss, 0.001 rate`: each number stands before its name."""
        for token, label in self._line.numbers_before_names(at):
            name = metric_name(_BEHIND.get(label, label).lower()) or "loss"
            self._sentence.pairs.append(Pair(name, token.slot, strong=True))
            self._at = len(self._line)

    def _word(self, token: Token) -> None:
        end = self._closing.get(self._at, self._at)
        if not self._words and token.text == "tensor" and self._line.is_loss(self._at, end):
            self._words, self._separator = ["loss"], "="
        if self._separator and self._wrapped():
            return
        is_value = self._separator == "=" and not token.before
        if self._separator or (self._words and token.before == 2):
            self._drop()
        if is_value and self._line.text(self._at) not in _SEPARATORS:
            return  # `stage=easy step=0`
        self._words.append(token.text)
        if len(self._words) > 4 * _LONGEST_NAME:
            del self._words[:_LONGEST_NAME]

    def _wrapped(self) -> bool:
        """Take a value that is printed as a call: `tensor(nan, device='cuda:0')`."""
        if self._line.text(self._at) != "(" or self._line[self._at].before:
            return False
        end = self._closing.get(self._at, len(self._line))
        self._take_only(self._at + 1, end)
        self._at = end + 1
        return True

    def _take_only(self, begin: int, end: int) -> None:
        """The one number between brackets is the value, or the mean of a list of them."""
        values = self._line.values(begin, end)
        if values:
            self._pair(values[0], len(values))
        else:
            self._drop()

    def _drop(self) -> None:
        """The words in hand are no name, but a heading over what follows."""
        self._note_loose(self._words)
        if self._words:
            self._context = " ".join(self._words[-_LONGEST_NAME:])
        self._words, self._separator = [], ""

    def _note_loose(self, words: Sequence[str]) -> None:
        self._loose += len(words)
        if is_evaluation(words):
            self._sentence.evaluates = True

    def _number(self, token: Token) -> None:
        at = self._at
        glued = self._line[at] if at < len(self._line) and not self._line[at].before else None
        word = glued.text if glued is not None and glued.kind == "word" else ""
        if word and not is_unit(word) and not (self._words and not token.text.isdigit()):
            self._mixed(token, word)
            return
        if word in _ROUNDED and self._words and counter_of(self._words):
            self._counted.append(Counted("", -1))  # `Step: 424k` is none of its thousand steps.
            self._words, self._separator, self._at = [], "", at + 1
            return
        if glued is not None and glued.text == "%" and self._barred(at + 1):
            return
        indexed = self._words and not token.before and self._line.text(at - 2) == "#"
        if indexed and not counter_of(self._words):
            return  # `Train net output #0: loss = 0.5`
        if self._line.part_of_word(at):
            if self._words and counter_of(self._words) and self._line.is_whole(at + 1):
                self._at = at + 2  # `Batch [20-40]` counts up to 40.
                self._named(self._line[at + 1])
            return
        if self._words:
            self._named(token)
        else:
            self._unnamed(token)
        self._skip_unit()

    def _mixed(self, token: Token, word: str) -> None:
        """`1epoch`, `100batch` count; `3x3` and `7b-chat` are words."""
        self._at += 1
        if word.lower() in {"epoch", "batch"} and is_whole(token):
            self._counted.append(Counted(word.lower(), token.slot))
        else:
            self._words.append(token.text + word)

    def _named(self, token: Token) -> None:
        words, separator = self._words, self._separator
        adjective = words[-1].lower() in PREPOSITIONS or self._line.names_loss(self._at)
        if token.text[-1].isalpha() and not separator and adjective:
            self._words.append(token.text)  # `number of nan iterations`, `detected nan loss`.
            return
        if words == ["After"] and is_whole(token) and self._counts_behind():
            return
        at, line = self._at, self._line
        goes_on = line.text(at) in _SEPARATORS | _VERBS and line.text(at + 1)
        if not separator and is_whole(token) and line.has_value(words[-1], at):
            self._counted.append(Counted("step", token.slot))  # `Train loss 20 0.5312`.
            return
        if not separator and goes_on and is_whole(token) and counts_at(words):
            self._counted.append(Counted(words[-1].lower(), token.slot, self._length()))
            self._words = words[:-2]
            return
        counter = counter_of(words)
        counts = is_whole(token) or (counter in GLOBAL and _WHOLE.fullmatch(token.text))
        # An epoch among a dictionary's readings is one of them: an evaluation repeats it.
        if counter and counts and not (self._braces and counter in NOT_IN_DICTIONARIES):
            self._note_loose(words[: -len(counter.split())])
            self._counted.append(Counted(counter, token.slot, self._length()))
            self._words, self._separator = [], ""
            if self._line.text(self._at) == ",":
                self._named_behind(self._at + 1)
        elif not separator and len(words) > 4:
            self._drop()  # A number in prose.
        else:
            self._pair(token)

    def _counts_behind(self) -> bool:
        """Whether what stands here is counted by the number before it: `After 20 sequences:`."""
        word = self._line.text(self._at).lower()
        if word not in COUNTERS | COUNTED_AFTER:
            return False
        self._counted.append(
            Counted(word if word in EPOCHS else "step", self._line[self._at - 1].slot)
        )
        self._words, self._at = [], self._at + 1
        return True

    def _pair(self, token: Token, count: int = 1) -> None:
        words, separator = self._words[-_LONGEST_NAME:], self._separator
        self._words, self._separator = [], ""
        token, self._at = self._line.as_share(self._at, token)
        if words[-1:] and words[-1] in _VERBS and not separator:
            words, separator = words[:-1] or self._context.split(), words[-1]
            words = words[: -1 if words[-1:] and words[-1] in PREPOSITIONS else None]
            self._sentence.stated = True
        is_line = separator == ":" and is_source(words[-1])
        name = "" if is_line or {*words[-1:]} & PREPOSITIONS else self._name(" ".join(words))
        if name and len(self._sentence.pairs) < _MOST_PAIRS:
            self._sentence.pairs.append(Pair(name, token.slot, bool(separator), count))

    def _name(self, printed: str) -> str:
        """A printed name as a metric's, with what stands over it where it says too little."""
        if "'s " in printed:
            printed = re.sub(r"'s (l[12])$", r"_\1_error", printed).replace("'s ", "_")
        if self._braces:
            first, *inner = self._braces
            keeps = first and role_of(printed) == "unknown" and role_of(first) == "eval_score"
            printed = "/".join([*([first.lower()] if keeps else []), *filter(None, inner), printed])
        elif "/" not in printed:
            printed = printed.lower()
        if printed in STATISTICS and self._context and not self._braces:
            joint = "/" if "/" in self._context else " "
            self._loose -= len(self._context.split())
            printed = f"{self._context if joint == '/' else self._context.lower()}{joint}{printed}"
        names = {pair.name for pair in self._sentence.pairs}
        name = metric_name(printed)
        if name in names and self._context:
            name = metric_name(f"{self._context.lower()}/{printed}")
        if name in names:
            name = f"{name}_2"  # MXNet prints the losses of several heads by one name.
        if name in names:
            return ""
        if self._sentence.evaluates and not EVALUATED.match(name) and not self._braces:
            return f"val_{name}"
        return name

    def _unnamed(self, token: Token) -> None:
        """A number without a name: the batch of an epoch, or nothing of interest."""
        if not is_whole(token):
            return
        bracketed, length = self._line.text(self._at - 2) in {"[", "(", "<"}, self._length()
        first = self._leading is None or self._leading.length < 0
        pairs, after = self._sentence.pairs, self._line.text(self._at)
        if length >= 0 and len(pairs) == 1 and not self._counted and pairs[0].name == "train":
            self._counted.append(Counted("epoch", pairs.pop().slot))  # timm: `Train: 0 [50/1251`.
        last = self._counted[-1] if self._counted else None
        if last is not None and last.word in EPOCHS and length >= 0 and not self._sentence.pairs:
            self._counted.append(Counted("batch", token.slot, length))
        elif length >= 0 and not pairs and (not first or (bracketed and after in set("])>,-|"))):
            self._bracketed(Counted("step", token.slot, length))

    def _bracketed(self, counted: Counted) -> None:
        """`[10/1500] loss 5.1` counts steps, `[1/25][300/3183] loss 5.1` the batches of epochs."""
        if self._counted or self._sentence.evaluates:
            return
        if self._leading is not None:
            counted.word = "batch"
            self._counted = [Counted("epoch", self._leading.slot), counted]
        self._leading = counted

    def _length(self) -> int:
        """The place of the number after a slash or "of", which is then passed over."""
        at = self._at
        if self._line.text(at) in {"/", "of"} and self._line.is_whole(at + 1):
            self._at = at + 2
            return self._line[at + 1].slot
        return -1

    def _barred(self, at: int) -> bool:
        """Take `|####    | 10/20` behind a percentage, the place that a bar shows, if it is one."""
        line, end = self._line, at + 1
        while end < len(line) and line[end].kind != "word" and line[end].text != "|":
            end += 1
        bars = line.text(at) == line.text(end) == "|" and line.text(end + 2) == "/"
        if not (bars and line.is_whole(end + 1) and line.is_whole(end + 3)):
            return False
        self._drop()
        bar = Counted("step", line[end + 1].slot, line[end + 3].slot)
        self._sentence.bar = bar
        self._sentence.described = self._loose > 0
        self._at = end + 4
        within_epoch = self._counted and self._counted[-1].word in EPOCHS
        if within_epoch and not self._sentence.evaluates:
            self._counted.append(Counted("batch", bar.slot, bar.length))
        return True

    def _skip_unit(self) -> None:
        """Pass over a unit, unless it is the next reading's name."""
        token = self._line[self._at] if self._at < len(self._line) else None
        if token is None or token.kind != "word" or token.before == 2:
            return
        after = self._line[self._at + 1 : self._at + 2]
        names = any(t.text in {":", "="} or (t.kind != "mark" and t.before < 2) for t in after)
        fills = not token.before and self._line.text(self._at - 1)[-1:].isalpha()
        if fills or (is_unit(token.text) and (not token.before or not names)):
            self._at += 1

    def _mark(self, token: Token) -> None:
        text = token.text
        if text in _SEPARATORS:
            if self._words:
                self._separator = text
        elif text in "'\"":
            self._quoted()
        elif text in OPEN:
            self._opened(text, token)
        elif text == "-" and token.before:
            self._dash()
        elif text == "." and self._abbreviates():
            return
        elif text in _BREAKS or text in CLOSE or (text == "." and not token.before):
            self._after = text
            if text == "}" and self._braces:
                self._braces.pop()
            self._drop()

    def _abbreviates(self) -> bool:
        """Whether a full stop shortens a counter's name: `Ep. 1 : Up. 500`."""
        word = self._line[self._at - 2] if self._at >= 2 else None
        return word is not None and word.text.lower() in COUNTERS and self._line.is_whole(self._at)

    def _dash(self) -> None:
        """`loss - 0.5 | kl - 0.1` names readings; otherwise a dash only parts them."""
        at = self._at
        number = at < len(self._line) and self._line[at].kind == "number"
        after = self._line.text(at + 1)
        if (
            self._words
            and not self._separator
            and number
            and after in {"", "|", ",", "-", ";", "%"}
        ):
            self._separator = "-"
        elif not self._separator:
            self._drop()

    def _quoted(self) -> None:
        begin, end = self._at - 1, self._closing.get(self._at - 1)
        if end is None:
            return
        inside = self._line[begin + 1 : end]
        if self._separator:
            self._quoted_value(inside)
        elif self._line.text(end + 1) in {":", "="} or self._line.text(end + 1) == "":
            self._words = ["".join(" " * min(t.before, 1) + t.text for t in inside).strip()]
        else:
            if self._words and self._words[-1] == "for" and len(inside) == 1:
                # `objective function for 'output' … is -0.5`: there may be one for another.
                self._words[-1] = inside[0].text
            self._drop()
        self._at = end + 1

    def _quoted_value(self, inside: Sequence[Token]) -> None:
        """`'0.5'` and `'12%'` are numbers; `'5/547'` may be a position; other text is none."""
        numbers = [token for token in inside if token.kind == "number"]
        plain = len(numbers) == 1 and len(inside) <= 2 and inside[0].kind == "number"
        if plain:
            self._named(numbers[0])
        elif len(numbers) == 2 and len(inside) == 3 and inside[1].text == "/" and self._words:
            word = self._words[0].lower().partition("/")[0]
            if word in COUNTERS:
                self._counted.append(Counted(word, numbers[0].slot, numbers[1].slot))
        self._words, self._separator = [], ""

    def _opened(self, text: str, token: Token) -> None:
        begin = self._at - 1
        end = self._closing.get(begin, len(self._line))
        listed = text == "[" and len(self._line.values(self._at, end)) > 1
        is_value = listed or (text == "[" and not token.before and self._line.is_number(self._at))
        if text == "{":
            self._sentence.quoted = True
            # What stands before the outermost brace is no part of a name: `metrics = {...}`.
            # But `iou {'cat': 0.7}` is of an IoU, since that `cat` is one says nothing.
            over = " ".join(self._words) if self._separator or not self._braces else ""
            self._braces.append(over)
            self._words, self._separator = [], ""
        elif self._words and counter_of(self._words) and self._counts_in(text, end):
            return
        elif self._words[-1:] == ["progress"] and text == "(" and self._line.is_whole(begin + 1):
            self._counts_rounds(begin + 1, begin + 3)
        elif self._separator or (self._words and is_value):  # `d1[0.35]`
            if text == "[" or self._line.is_number(self._at):
                self._take_only(self._at, end)
                self._at = end + 1
            else:
                self._drop()
        elif self._words and text == "(" and self._continues(end):
            self._suffix(begin, end)
        elif text == "[" and end == self._at + 1 and self._line.is_number(end + 1):
            # `[Loss] 0.5 | [step] 89`
            self._words, self._at = [self._line.text(self._at)], end + 1
        else:
            if self._words and not token.before and is_settings(self._words[-1]):
                self._sentence.settings = True
            self._drop()

    def _counts_in(self, text: str, end: int) -> bool:
        """Whether a counter's number is in brackets, or what it counts: `Epoch(train) [1]`."""
        if text == "[":
            return self._line.is_whole(self._at)
        inside = self._line[self._at : end]
        if text == "(" and len(inside) == 1 and inside[0].kind == "word":
            self._note_loose([inside[0].text])
            self._at = end + 1
            return True
        return False

    def _continues(self, end: int) -> bool:
        """Whether a name goes on after its brackets, as `Reward (100 ep): 22.6` does."""
        if self._line.text(end + 1) in {":", "="}:
            return True
        return self._line.is_number(end + 1) and end - self._at <= 3

    def _suffix(self, begin: int, end: int) -> None:
        inside = self._line[begin + 1 : end]
        if all(token.kind != "number" for token in inside) and len(inside) <= 4:
            joint = " " if self._line[begin].before else ""
            self._words[-1] += f"{joint}({''.join(token.text for token in inside)})"
        self._at = end + 1

    def _finish(self) -> None:
        sentence = self._sentence
        leftover = bool(self._words)
        cut_name = leftover and len(sentence.pairs) >= 3 and self._after == "|"
        sentence.torn = bool(self._separator) or cut_name
        self._drop()
        if self._line.text(1) == "|" and not sentence.pairs:
            self._leading = None  # The index of a table of words, such as a model's layers.
        choose_position(sentence, self._counted, self._leading)
        name_as_known(sentence)
        only = len(sentence.pairs) == 1 and sentence.position is None and not sentence.bar
        sentence.lone = only and self._loose <= 1 and not sentence.quoted
        sentence.bare = sentence.position is not None and not sentence.pairs and not leftover
        ends = any(token.kind != "number" for token in self._line[-1:])
        long = sentence.position is not None and sentence.position.length >= 0
        heads = ends or long or self._loose > 0 or len(self._counted) > 1
        sentence.heads = sentence.bare and heads
