"""Names and numbers in a printed line, whatever stands between them."""

from __future__ import annotations

import re

from watchstep.postmortem.readers.naming import NUMBER, metric_name

_NUMBER = rf"(?:\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|{NUMBER})"
_UNIT = r"\s?(?:ms|us|s|sec|seconds|%|it/s|steps/s|[KMGT]i?B?|k)?(?![\w/]|\.\d|:\d|-\d)"
_AFTER_NUMBER = re.compile(r"(?<=[\d%fnBsz])\s*\([^()]*\)")
_SEPARATED = re.compile(r"([:=])\s+")
_SPLIT = re.compile(
    r"\s*[|;\t\[\]{}]\s*|,(?=\s|$|[A-Za-z_])|\s+[-/·•]\s+|\s{2,}|\.\s+(?=[A-Z])|(?<=\))\s+|^\("
)
_JOINED = re.compile(
    rf"(?<![\w./'\"-])([A-Za-z_][\w./@%-]*)\s?[=:]\s?(?:tensor\()?({_NUMBER}){_UNIT}"
)
_NAMED = re.compile(
    rf"([A-Za-z][\w./%'-]*(?: [A-Za-z(][\w./%'()-]*){{0,4}})\s?[=:]\s?({_NUMBER}){_UNIT}.{{0,40}}"
)
_SPACED = re.compile(rf"([A-Za-z][\w./-]*(?: [A-Za-z][\w./-]*){{0,2}}) ({_NUMBER}){_UNIT}\)?")
_ALTERNATING = re.compile(rf"(?:[A-Za-z][\w./-]* {_NUMBER}{_UNIT}\s*){{2,}}")
_IS = re.compile(rf"([A-Za-z][\w ]{{0,30}}?) is ({_NUMBER})\.?")
_TENSOR = re.compile(rf"\btensor\(\s*({_NUMBER})[^()]*(?:\([^()]*\)[^()]*)?\)")
_WORD_NUMBER = re.compile(rf"([A-Za-z][\w./-]*) ({_NUMBER}){_UNIT}")
_WIDE = re.compile(
    rf"^\W{{0,4}}([A-Za-z][\w ./%()-]{{0,80}}?)(?:\s{{2,}}|\t)({_NUMBER}){_UNIT}\s*$"
)
_HAS_NUMBER = re.compile(r"\d|nan|NaN|NAN|[Ii]nf|INF")
_MOST_PAIRS = 1_000


def pairs(text: str) -> dict[str, float]:
    """Every reading that a line names, the first one of each name.

    Names are written small, unless they are paths: the same trainer prints "Loss" to people
    and "loss" to files. "loss: 1.5 (1.6)" is 1.5; the mean in brackets is left out.
    """
    readings: dict[str, float] = {}
    for segment in _segments(text):
        for key, value in _of_segment(segment) if _HAS_NUMBER.search(segment) else ():
            readings.setdefault(name_of(key), _float(value))
        if len(readings) > _MOST_PAIRS:
            break
    readings.pop("", None)
    return readings


def lone_pair(text: str) -> tuple[str, float] | None:
    """The one reading of a line that holds nothing else, as `key: 1.5` or `key     1.5`."""
    wide = _WIDE.match(text)
    if wide:
        return name_of(wide.group(1)), _float(wide.group(2))
    segments = [segment for segment in _segments(text) if segment.strip()]
    if len(segments) != 1:
        return None
    found = _of_segment(segments[0])
    if len(found) != 1 or len(found[0][0]) < len(segments[0].strip()) // 3:
        return None
    return name_of(found[0][0]), _float(found[0][1])


def name_of(key: str) -> str:
    """A printed key as a metric's name."""
    return metric_name(key if "/" in key else key.lower())


def _segments(text: str) -> list[str]:
    if "tensor(" in text:
        text = _TENSOR.sub(r"\1", text)
    text = _SEPARATED.sub(r"\1 ", _AFTER_NUMBER.sub("", text))
    return _SPLIT.split(text)


def _of_segment(segment: str) -> list[tuple[str, str]]:
    segment = segment.strip(" ():,=")
    joined: list[tuple[str, str]] = _JOINED.findall(segment)
    if len(joined) > 1:
        return joined
    if ":" in segment or "=" in segment:
        named = _NAMED.fullmatch(segment)
        return [(named.group(1), named.group(2))] if named else joined
    spaced = _SPACED.fullmatch(segment)
    if spaced:
        return [(spaced.group(1), spaced.group(2))]
    said = _IS.fullmatch(segment)
    if said:
        return [(said.group(1), said.group(2))]
    if _ALTERNATING.fullmatch(segment):
        return _WORD_NUMBER.findall(segment)
    return []


def _float(printed: str) -> float:
    return float(printed.replace("_", "").replace(",", ""))
