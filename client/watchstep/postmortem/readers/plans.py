"""How lines of one kind are read: planned once, then only their numbers are looked at."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from watchstep.core.roles import role_of
from watchstep.postmortem.readers import endings, prefixes, sentence_reader
from watchstep.postmortem.readers.columns import SIDES, is_header
from watchstep.postmortem.readers.counters import epoch_seconds
from watchstep.postmortem.readers.naming import float_of
from watchstep.postmortem.readers.sentences import Counted, Pair, Sentence
from watchstep.postmortem.readers.tokens import split
from watchstep.postmortem.readers.vocabulary import EVALUATED, SUMS_UP, says_quantity

_BORDER = frozenset("-=+#*_─━═╭╮╰╯┌┐└┘├┤┬┴┼┏┓┗┛┡┩╇╔╗╚╝╠╣ ")
_DATE = re.compile(r"(\d{4})[-/](\d\d)[-/](\d\d)[T _-]?(\d\d:\d\d:\d\d)(?:[.,](\d{1,6}))?")
_MEASURED = re.compile(
    r"(?:loss|entropy|(?:^|[/_])(?<!target_)(?<!max_)(?<!desired_)kl|reward)"
    r"(?!_?(?:scale|weight|coef|fn|func|type|lambda|ratio|target|threshold|model))|"
    r"(?:^|[/_])return|(?<!max_)(?<!clip_)grad_?norm(?!_?(?:clip|max))|perplexity|ppl|(?:^|[/_])nll(?:$|[/_])|explained_variance|"
    r"(?:^|[/_-])(?:acc(?:uracy)?|err(?:or)?)$|rmse|epret|ep_rew|g_gan|score|^cost$|"
    r"(?:^|[/_])obj(?:ective|f?(?:$|_))",
    re.IGNORECASE,
)
_MANY = 3
"""Measurements of a block that no settings hold."""

_SETTING = re.compile(
    r"batch_?size|(?:^|_)seed$|warm_?up|weight_?decay|dropout|accumulation"
    r"|max_(?:grad|len|seq|steps|epochs)|num_(?:workers|epochs|layers|train)",
    re.IGNORECASE,
)
_NO_READING = re.compile(
    r"[a-z]ing$|^took$|^takes$|version|python|(?:^|_)(?:v?mem(?:ory)?|v?ram|[cgt]pu|disk|size)|_.*_.*_",
    re.IGNORECASE,
)
"""Names beside a counter that are of work, of a machine or of prose, as of a download's lines."""

_SPEED = re.compile(r"(?:^|[ _/])fps|throughput|words_s|(?:^|_)speed", re.IGNORECASE)
_LONGEST_TITLE = 4
_LOSSES = ("loss", "signed_loss", "eval_loss", "reward")
Kind = Literal["border", "cell", "prose", "columns", "silent"]


def measured(name: str) -> bool:
    """Whether a name is of something that only training measures, and no setting."""
    return _MEASURED.search(name) is not None


def is_row(block: Iterable[str], *, shown: bool, ends: bool = False) -> bool:
    """Whether a block of these names measures something, and is a row and no settings.

    Args:
        block: Its names.
        shown: Whether something shows that it is a row.
        ends: Whether the log ends here; a lone block that measures much is then the whole log.
    """
    names = list(block)
    measurements = sum(map(measured, names))
    enough = measurements > 0 and (shown or (ends and measurements >= _MANY))
    return enough and not are_settings(names)


def are_settings(names: Iterable[str]) -> bool:
    """Whether more of the names are of settings than of what training measures."""
    names = list(names)
    return sum(map(measured, names)) < sum(_SETTING.search(name) is not None for name in names)


@dataclass(slots=True)
class Plan:
    """How lines that differ only in their numbers are read.

    Attributes:
        speaks: Whether such a line may tell how the run went.
        row: Whether its readings make a row of their own.
        key: The name in a table's cell, where the line's only number is its value.
        title: The line itself, where it may stand over the readings of a block.
        indented: Whether it begins with blanks.
        sums_up: Whether it tells of the best or the final report, as most trainers do at their end.
        times: Whether it counts, and measures nothing but speed: it heads a reading beneath.
        numbers: Of the last such line.
    """

    kind: Kind
    speaks: bool
    sentence: Sentence
    row: bool = False
    key: str | None = None
    title: str = ""
    indented: bool = False
    sums_up: bool = False
    times: bool = False
    numbers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """How lines are read that have the same text, but for the digits of their numbers.

    Attributes:
        spans: Where the numbers stand.
        fixed: Where digits stand that are no part of a number, and which, as in `top5`.
    """

    plan: Plan
    spans: tuple[tuple[int, int], ...]
    fixed: tuple[tuple[int, int, str], ...]

    def numbers(self, text: str) -> list[str] | None:
        """A line's numbers; None where it is of another shape."""
        for begin, end, piece in self.fixed:
            if text[begin:end] != piece:
                return None
        return [text[begin:end] for begin, end in self.spans]


_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")


def mask_of(text: str) -> bytes:
    """A line with all digits made the same."""
    return text.encode("utf-8", "surrogatepass").translate(_DIGITS_ALIKE)


def shape_of(plan: Plan, pieces: list[str]) -> Shape:
    """The shape of a line that `split` has taken apart."""
    spans, fixed, at = [], [], 0
    for index, piece in enumerate(pieces):
        end = at + len(piece)
        if index % 2:
            spans.append((at, end))
        elif any(map(str.isdigit, piece)):
            fixed.append((at, end, piece))
        at = end
    return Shape(plan, tuple(spans), tuple(fixed))


def planned(text: str, pieces: list[str]) -> Plan:
    """How lines of this kind are read."""
    trace = endings.TRACEBACK in text
    speaks = trace or endings.may_speak(text)
    bare = text.strip().translate(SIDES)
    if text.startswith("wandb:", prefixes.length(text)):
        # What W&B says of itself; its summary at the end repeats the last readings.
        return Plan("silent", speaks=False, sentence=Sentence())
    if _is_border(bare):
        return Plan("border", speaks, Sentence())
    bars = bare.count("|") if bare[:1] == "|" == bare[-1:] and len(bare) > 1 else 0
    key, _, value = bare[1:-1].partition("|")
    if bars == 3 and not (len(pieces) == 5 and pieces[1] in key and value.strip()[:1].isalpha()):
        plain = len(pieces) == 3 and value.strip() == pieces[1]
        return Plan("cell", speaks, Sentence(), key=key if plain else None)
    if (len(pieces) == 1 or "\t" in bare) and is_header(bare):
        return Plan("columns", speaks, Sentence())
    framed = bars in {2, 3}
    inner = bare[1:-1].strip() if framed else text
    sentence = sentence_reader.read(inner, split(inner) if framed else pieces)
    _name_short_loss(sentence, pieces[1::2])
    sentence.from_zero = ("\u2501" in text and "\u2022" in text) or "v_num=" in text
    raised = speaks and endings.is_exception(text[prefixes.length(text) :])
    row = _is_row(sentence, pieces[1::2]) and not raised
    if raised:
        sentence = Sentence()
    # A row whose names speak, as "number of nan iterations" does, says nothing else.
    speaks = trace or (speaks and not (row or sentence.keras))
    indented = text[:1].isspace()
    titles = len(pieces) == 1 and not indented and len(text.split()) <= _LONGEST_TITLE
    times = not row and any(_SPEED.search(pair.name) for pair in sentence.pairs)
    title = text if titles else ""
    plan = Plan("prose", speaks, sentence, row, title=title, indented=indented, times=times)
    plan.sums_up = SUMS_UP.match(text, prefixes.length(text)) is not None
    return plan


def is_torn(
    plan: Plan, pieces: Sequence[str], before: Plan | None, plans: Mapping[tuple[str, ...], Plan]
) -> bool:
    """Whether a log's last line stops in a number, or behind a name.

    Args:
        plan: The line's.
        pieces: Of the line, as `tokens.split` gives them.
        before: The plan of the same kind of lines, where there were some.
        plans: Of all kinds of lines before.
    """
    if before is not None:
        ends = before.row and not pieces[-1] and bool(before.numbers)
        return ends and len(_decimals(pieces[-2])) < len(_decimals(before.numbers[-1]))
    key = tuple(pieces[::2])
    if not _stops_in_number(pieces):
        return plan.sentence.torn
    # Lines that begin alike go on.
    return any(
        other.row and kind != key and kind[: len(key) - 1] == key[:-1]
        for kind, other in plans.items()
    )


def torn(plan: Plan, pieces: Sequence[str]) -> Plan:
    """How a torn line is read: without the number that it stops in.

    A line of which the loss is cut off is not read at all, for the loss did not vanish.
    """
    numbers, stops = pieces[1::2], _stops_in_number(pieces)
    pairs = [pair for pair in plan.sentence.pairs if not stops or pair.slot < len(numbers) - 1]
    losses = any("loss" in pair.name and not EVALUATED.match(pair.name) for pair in pairs)
    broken = any(not math.isfinite(float_of(numbers[pair.slot])) for pair in pairs)
    if not (losses or broken):
        return Plan("silent", speaks=False, sentence=Sentence())
    return replace(plan, sentence=replace(plan.sentence, pairs=pairs))


def _stops_in_number(pieces: Sequence[str]) -> bool:
    return len(pieces) > 1 and not pieces[-1].strip(".eE+-")


def _name_short_loss(sentence: Sentence, numbers: Sequence[str]) -> None:
    """`L=1.27` beside a counter is a loss where none is named; not the length of an episode."""
    names = {pair.name for pair in sentence.pairs}
    if sentence.position is None or "r" in names or any(role_of(n) in _LOSSES for n in names):
        return
    for pair in sentence.pairs:
        if pair.name in {"l", "ls"} and not numbers[pair.slot].isdecimal():
            pair.name = "loss"


def _decimals(printed: str) -> str:
    return printed.partition(".")[2]


def _is_border(text: str) -> bool:
    return (len(text) >= 10 and set(text) <= _BORDER | {"|"}) or _is_titled_border(text)


def _is_titled_border(text: str) -> bool:
    """`╭─── Training ───╮`: a border with a title in it."""
    return text[:1] in set("╭┌┏╔") and text[-1:] in set("╮┐┓╗")


def _is_row(sentence: Sentence, numbers: Sequence[str]) -> bool:
    """Whether a line's readings make a row, and are no settings.

    Args:
        numbers: Of the first such line.
    """
    if sentence.settings:
        return False
    pairs = sentence.pairs
    names = [pair.name for pair in pairs]
    counted = any(measured(name) for name in names)
    trained = any(map(says_quantity, names))
    if sentence.quoted:
        return counted or (trained and ("epoch" in names or sentence.position is not None))
    if sentence.position is not None:
        # Nothing but an agent counts episodes, whatever its trainer prints of them.
        agent = bool(names) and sentence.position.word == "episode"
        return trained or agent or any(is_reading(pair.name, numbers[pair.slot]) for pair in pairs)
    if sentence.stated:
        return False
    return len(names) >= 2 and counted


def is_reading(name: str, printed: str) -> bool:
    """Whether a number beside a counter is measured by training, whatever it is called.

    One of no known quantity is printed as no count.
    """
    if says_quantity(name):
        return True
    if role_of(name) != "unknown" or _NO_READING.search(name):
        return False
    return not printed.lstrip("+-").replace(",", "").isdecimal()


def readings(sentence: Sentence, numbers: list[str]) -> dict[str, float]:
    """Every reading of a line of this kind.

    Raises:
        ValueError: Something else than a number stands where the first such line had one.
    """
    try:
        return {
            pair.name: float(numbers[pair.slot]) if pair.count == 1 else _mean(pair, numbers)
            for pair in sentence.pairs
        }
    except ValueError:
        return {pair.name: _mean(pair, numbers) for pair in sentence.pairs}


def _mean(pair: Pair, numbers: list[str]) -> float:
    return sum(map(float_of, numbers[pair.slot : pair.slot + pair.count])) / pair.count


def place(counted: Counted, numbers: list[str]) -> tuple[int, int | None]:
    """A counter's number, and the one that it goes up to."""
    length = count(numbers[counted.length]) if counted.length >= 0 else None
    return count(numbers[counted.slot]), length


def count(text: str) -> int:
    """A printed count; a ValueError where it is no whole number."""
    if text.isdecimal():
        return int(text)
    before, _, after = text.partition(".")
    if after.strip("0"):
        raise ValueError(text)
    return int(before.replace(",", ""))


def clock(sentence: Sentence, numbers: list[str]) -> float | None:
    """The line's own clock, in seconds since the epoch."""
    if sentence.clock < 0:
        return None
    match = _DATE.match(numbers[sentence.clock])
    if match is None:
        return None
    year, month, day, clock, fraction = match.groups()
    return epoch_seconds(f"{year}-{month}-{day}T{clock}.{(fraction or '0').ljust(6, '0')}")
