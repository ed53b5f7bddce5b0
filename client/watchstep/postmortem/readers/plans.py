"""How lines of one kind are read: planned once, then only their numbers are looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from watchstep.postmortem.readers import endings, prefixes, sentence_reader
from watchstep.postmortem.readers.columns import SIDES, is_header
from watchstep.postmortem.readers.counters import epoch_seconds
from watchstep.postmortem.readers.sentences import Counted, Sentence
from watchstep.postmortem.readers.tokens import split

_BORDER = frozenset("-=+#*_─━═╭╮╰╯┌┐└┘├┤┬┴┼┏┓┗┛┡┩╇╔╗╚╝╠╣ ")
_DATE = re.compile(r"(\d{4})[-/](\d\d)[-/](\d\d)[T _-]?(\d\d:\d\d:\d\d)(?:[.,](\d{1,6}))?")
_TRAINING_WORDS = re.compile(
    r"loss|reward|return|kl|entropy|grad|norm|lr|learning_rate|advantage|perplexity|ppl|"
    r"explained_variance|clip|accuracy|rmse|logloss|g_gan|cross-?entropy|epret|score",
    re.IGNORECASE,
)
_MEASURED = re.compile(
    r"(?:loss|entropy|(?:^|[/_])kl|reward)"
    r"(?!_?(?:scale|weight|coef|fn|func|type|lambda|ratio|target|threshold|model))|"
    r"(?:^|[/_])return|grad_?norm(?!_?(?:clip|max))|perplexity|ppl|explained_variance|"
    r"(?:^|[/_])acc(?:uracy)?$|rmse|epret|g_gan|score",
    re.IGNORECASE,
)
Kind = Literal["border", "cell", "prose", "columns", "silent"]


def measured(name: str) -> bool:
    """Whether a name is of something that only training measures, and no setting."""
    return _MEASURED.search(name) is not None


@dataclass(slots=True)
class Plan:
    """How lines that differ only in their numbers are read.

    Attributes:
        speaks: Whether such a line may tell how the run went.
        row: Whether its readings make a row of their own.
    """

    kind: Kind
    speaks: bool
    sentence: Sentence
    row: bool = False


def planned(text: str, pieces: list[str]) -> Plan:
    """How lines of this kind are read."""
    speaks = endings.may_speak(text) or endings.TRACEBACK in text
    bare = text.strip().translate(SIDES)
    if text.startswith("wandb:", prefixes.length(text)):
        # What W&B says of itself; its summary at the end repeats the last readings.
        return Plan("silent", speaks=False, sentence=Sentence())
    if _is_border(bare):
        return Plan("border", speaks, Sentence())
    bars = bare.count("|") if bare[:1] == "|" == bare[-1:] and len(bare) > 1 else 0
    if bars == 3:
        return Plan("cell", speaks, Sentence())
    if len(pieces) == 1 and is_header(bare):
        return Plan("columns", speaks, Sentence())
    inner = bare[1:-1].strip() if bars == 2 else text
    sentence = sentence_reader.read(inner, split(inner) if bars == 2 else pieces)
    return Plan("prose", speaks, sentence, row=_is_row(sentence))


def _is_border(text: str) -> bool:
    return (len(text) >= 10 and set(text) <= _BORDER | {"|"}) or _is_titled_border(text)


def _is_titled_border(text: str) -> bool:
    """`╭─── Training ───╮`: a border with a title in it."""
    return text[:1] in set("╭┌┏╔") and text[-1:] in set("╮┐┓╗")


def _is_row(sentence: Sentence) -> bool:
    """Whether a line's readings make a row, and are no settings."""
    names = [pair.name for pair in sentence.pairs]
    counted = any(measured(name) for name in names)
    trained = any(_TRAINING_WORDS.search(name) for name in names)
    if sentence.quoted:
        return counted or (trained and ("epoch" in names or sentence.position is not None))
    if sentence.position is not None:
        return trained
    return len(names) >= 2 and counted and not sentence.settings


def readings(sentence: Sentence, pieces: list[str]) -> dict[str, float]:
    """Every reading of a line of this kind.

    Raises:
        ValueError: Something else than a number stands where the first such line had one.
    """
    readings = {}
    for pair in sentence.pairs:
        text = pieces[2 * pair.slot + 1]
        try:
            readings[pair.name] = float(text)
        except ValueError:
            readings[pair.name] = float(text.replace(",", ""))
    return readings


def place(counted: Counted, pieces: list[str]) -> tuple[int, int | None]:
    """A counter's number, and the one that it goes up to."""
    at = count(pieces[2 * counted.slot + 1])
    length = count(pieces[2 * counted.length + 1]) if counted.length >= 0 else None
    return at, length


def count(text: str) -> int:
    """A printed count; a ValueError where it is no whole number."""
    before, _, after = text.partition(".")
    if after.strip("0"):
        raise ValueError(text)
    return int(before.replace(",", ""))


def clock(sentence: Sentence, pieces: list[str]) -> float | None:
    """The line's own clock, in seconds since the epoch."""
    if sentence.clock < 0:
        return None
    match = _DATE.match(pieces[2 * sentence.clock + 1])
    if match is None:
        return None
    year, month, day, clock, fraction = match.groups()
    return epoch_seconds(f"{year}-{month}-{day}T{clock}.{(fraction or '0').ljust(6, '0')}")
