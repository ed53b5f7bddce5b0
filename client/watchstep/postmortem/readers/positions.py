"""Where in training a printed line stands: the iteration, step, or batch of an epoch it names."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from watchstep.postmortem.readers.logs import Unit


@dataclass(frozen=True, slots=True)
class Position:
    """The number that a line prints for itself.

    Attributes:
        number: The iteration or step; the batch where batches are counted anew in each epoch.
        epoch: The epoch whose batches are counted, None where the number never starts anew.
        by_epoch: Whether the number is that of an epoch, for want of any other.
        length: How far the number goes in one epoch, None when the line does not say.
        rest: The line without the words of its position.
    """

    number: int
    unit: Unit
    rest: str
    epoch: int | None = None
    length: int | None = None
    by_epoch: bool = False


_INT = r"\d{1,3}(?:,\d{3})+|\d{1,15}"
_GLOBAL = re.compile(
    rf"(?<![\w/])(?:global[_ ]?step|num_updates|train_step|opt_step)['\"]?\s*[=:]?\s*"
    rf"(?P<at>{_INT})(?:\.0+)?(?![\w]|\.\d|/s)",
    re.IGNORECASE,
)
_GLOBAL_WORDS = ("global", "num_updates", "train_step", "opt_step")
_BATCH = r"(?P<at>\d{1,12})\s*/\s*(?P<of>\d{1,12})"
_IN_EPOCHS = (
    # mmdetection, mmengine, torchvision's references: Epoch [1][50/5808], Epoch: [0][ 10/5005].
    re.compile(rf"\bEpoch(?:\(\w+\))?\s*:?\s*\[(?P<epoch>\d+)(?:/\d+)?\]\s*\[\s*{_BATCH}\]"),
    # PyTorch's examples and timm: Train Epoch: 1 [640/60000 (1%)], Train: 0 [  50/1251 (  4%)].
    re.compile(rf"\bTrain(?: Epoch)?:?\s*(?P<epoch>\d+)\s*\[\s*{_BATCH}[^\]]*\]", re.IGNORECASE),
    # Lightning's bar: Epoch 3:  50%|####    | 10/20 [.
    re.compile(rf"\bEpoch\s+(?P<epoch>\d+):?[\s:]*\d+%\|[^|]*\|\s*{_BATCH}\s*\["),
    # fairseq: epoch 003:      5 / 356 loss=.
    re.compile(rf"\bepoch\s+(?P<epoch>\d+):?\s+{_BATCH}\s"),
    # espnet: 1epoch:train:1-100batch.
    re.compile(r"\b(?P<epoch>\d+)epoch:train:\d+-(?P<at>\d+)batch"),
    # Epoch [1/5], Step [100/600]; [Epoch 0/9] [Batch 5/9]; (epoch: 1, iters: 100.
    re.compile(
        r"\bepochs?\s*[:#=]?\s*\[?(?P<epoch>\d+)(?:\s*/\s*\d+)?\]?\s*[,|:;-]?\s*\[?\s*"
        r"(?:step|iter|iters|iteration|iterations|batch|batches)\s*[:#=]?\s*\[?"
        r"\s*(?P<at>\d+)(?![\d.])(?:\s*/\s*(?P<of>\d+))?\]?",
        re.IGNORECASE,
    ),
)
_SINGLE = re.compile(
    rf"(?<![\w/.-])(?P<unit>iterations?|iters?|steps?|updates?|batch|it(?=\s*[:=]))"
    rf"['\"]?\s*[:=#]?\s*\[?\s*(?P<at>{_INT})(?![\w%]|\.\d|/s|:\d)(?:\s*/\s*[\d,]+)?\]?",
    re.IGNORECASE,
)
_LEADING = (
    re.compile(r"^\s*\[(?P<at>\d{1,12})\](?=[\s:])"),
    re.compile(r"(?<=\])\s\[(?P<at>\d{1,12})\](?=\s)"),
    re.compile(r"^\s*\d{1,6}\|(?P<at>\d{1,12})\|(?=\s*[A-Za-z])"),
    re.compile(r"^\s*(?P<at>\d{1,12})\s*\|(?=\s*[A-Za-z])"),
    re.compile(r"^(?P<at>\d{1,12})(?= (?:train|val|test) [\d.naif+-]+$)"),
)
_BAR = re.compile(r"\d+%\|[^|]*\|\s*(?P<at>\d{1,12})/(?P<of>\d{1,12})\s*\[")
_EPOCH = re.compile(
    r"(?<![\w/.-])epoch\s*[:=#]?\s*\[?(?P<at>\d{1,9})(?![\d.]*\.\d|[\d%])(?:\s*/\s*\d+)?\]?",
    re.IGNORECASE,
)
_BARE = re.compile(
    r"^\W*(?:(?:training|starting|begin\w*)\s+)?(?P<word>epoch|iteration|step|update|batch)"
    r"\s*[:#=]?\s*(?P<at>\d{1,12})\s*(?:(?:/|of)\s*\d+)?\W*$|"
    r"\[(?:step|batch|iter|iteration)=(?P<in>\d{1,12})(?:/\d+)?(?:,\s*epoch=\d+)?\]:?\s*$",
    re.IGNORECASE,
)


def position(text: str) -> Position | None:
    """Where a line says that it stands, None when it does not say.

    A counter over the whole run wins over a batch within an epoch, which wins over other
    counters, over a progress bar, and last over an epoch.
    """
    small = text.lower()
    found = _GLOBAL.search(text) if any(word in small for word in _GLOBAL_WORDS) else None
    if found:
        return _at(text, found, "step")
    # Each search costs as much as the rest of the line: what cannot match is not looked for.
    for shape in _IN_EPOCHS if "epoch" in small or "train:" in small else ():
        found = shape.search(text)
        if found:
            return _in_epoch(text, found)
    return _counter(text) or _epoch_of(text)


def _counter(text: str) -> Position | None:
    found = _SINGLE.search(text)
    if found:
        word = found.group("unit").lower()
        return _at(text, found, "iteration" if word.startswith(("it", "update")) else "step")
    for shape in (*_LEADING, _BAR) if "%|" in text else _LEADING:
        found = shape.search(text)
        if found:
            return _at(text, found, "step")
    return None


def _epoch_of(text: str) -> Position | None:
    found = _EPOCH.search(text) if "epoch" in text.lower() else None
    if found is None:
        return None
    return dataclasses.replace(_at(text, found, "iteration"), by_epoch=True)


def bare_position(text: str) -> tuple[int, bool] | None:
    """The number of a line that holds nothing else, as a heading does, and whether of an epoch."""
    found = _BARE.search(text)
    if found is None:
        return None
    return int(found.group("at") or found.group("in")), (
        found.group("word") or ""
    ).lower() == "epoch"


def bar_position(text: str) -> tuple[int, int] | None:
    """How far a progress bar without a name has come, and of how much."""
    found = _BAR.search(text)
    if found is None or any(character.isalpha() for character in text[: found.start()]):
        return None
    return int(found.group("at")), int(found.group("of"))


def _at(text: str, found: re.Match[str], unit: Unit) -> Position:
    return Position(int(found.group("at").replace(",", "")), unit, _without(text, found))


def _in_epoch(text: str, found: re.Match[str]) -> Position:
    groups = found.groupdict()
    return Position(
        int(groups["at"]),
        "step",
        _without(text, found),
        epoch=int(groups["epoch"]),
        length=int(groups["of"]) if groups.get("of") else None,
    )


def _without(text: str, found: re.Match[str]) -> str:
    return f"{text[: found.start()]} | {text[found.end() :]}"
