"""What stands about a line's text: colours, clocks, ranks, levels, places in the code."""

from __future__ import annotations

import re

_ESCAPE = r"(?:\x1b|\^\[|ESC|␛)"
"""The byte, or what viewers and web pages show in its place."""

_ANSI = re.compile(
    rf"{_ESCAPE}\[[0-9;?]{{0,40}}[ -/]{{0,4}}[@-~]"
    rf"|{_ESCAPE}\]\d{{1,4}};[^\x07\x1b\n^]{{0,400}}(?:\x07|\x1b\\|\^G)?"
    r"|\x1b\][^\x07\x1b\n]{0,400}(?:\x07|\x1b\\)?"
)

_CLOCK = (
    r"\d{4}[-/]\d\d[-/]\d\d[T ,_]?(?:\d\d:\d\d(?::\d\d)?(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)?"
)
_DAY = r"\d\d?/\d\d?(?:/\d\d(?:\d\d)?)?"
_LEVEL = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL|SUCCESS)"

_LAUNCHED = r"(?:rank|default|trainer|node|worker|gpu|proc(?:ess)?)"
_PLACE = (
    r"(?:[A-Za-z_][\w.<>-]{0,80}:[A-Za-z_<][\w.<>-]{0,80}:\d{1,6}(?=\s+[-|])"
    r"|[\w.-]{1,60}\.py:\d{1,6})"
)
"""Where in the code a line was logged: loguru's `module:function:12`, or `train.py:12`."""

_PARTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"[\s>|:,—-]{1,20}",
        # The number of a line, as notebooks and viewers of logs put it before all of them.
        r"\[?\d{1,7}\](?=\s*$|\s{1,4}(?:\d{1,3}%\||\{'))",
        # Launchers: torchrun, deepspeed, accelerate, mpirun, ray.
        rf"\[?{_LAUNCHED}[ _]?\d{{1,6}}(?:\|\d{{1,6}})?\]?:\s?",
        rf"\[{_LAUNCHED}[ _]?\d{{1,6}}(?:\|\d{{1,6}})?\]",
        r"\[\d{1,5},\d{1,5}\]<std(?:out|err)>:?",
        r"\([\w.<>-]{0,60} ?pid=\d{1,10}(?:, ip=[\d.]{7,15})?\)",
        # Docker Compose: the service and which of its containers.
        r"(?!(?i:epoch|step|iter|batch))[A-Za-z][\w.-]{0,60}-\d{1,3} {1,20}\|(?= )",
        # Clocks, bare or in brackets; a clock without a date only in brackets or before a level.
        rf"[\[(]?{_CLOCK}[\])]?",
        # The process that Sample Factory sets behind its clock.
        r"(?<=\d\])\[\d{5,7}\](?= )",
        r"\[[A-Za-z][^\[\]\d]{0,40}\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[^\[\]]{0,60}\]",
        rf"[\[(]?{_DAY} \d\d:\d\d:\d\d(?:[.,]\d{{1,9}})?(?: [\w.:]{{1,60}})?[\])]?",
        r"[\[(]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?[\])]",
        rf"\d\d:\d\d:\d\d(?:[.,]\d{{1,9}})?(?=[\s\[|-]{{1,4}}{_LEVEL}\b)",
        # absl and glog: I0301 10:00:00.123456 140123456789 logging_writer.py:48].
        r"[IWEFD]\d{3,4} \d\d:\d\d:\d\d\.\d{1,9}(?: +\d{1,20})? [\w./-]{1,80}:\d{1,6}\]",
        # Levels, as logging, loguru, rich and structlog set them; with the logger's name after.
        rf"[\[(<]?{_LEVEL}[\])>]?(?:[ :|-]{{1,12}}{_PLACE})?",
        # Kaldi: `LOG (nnet3-train[5.5]:Train():nnet-training.cc:12)`.
        r"(?:V?LOG|WARNING|ERROR)(?:\[\d\])? ?\([^\s:]{1,80}:[^\s:]{1,80}:[\w.-]{1,60}:\d{1,6}\)",
        # Python's own default: INFO:root:message.
        rf"{_LEVEL}:[A-Za-z_][\w.]{{0,60}}:",
        # A logger's name between the level and what begins with a number in brackets.
        rf"{_LEVEL} [A-Za-z_][\w.]{{0,80}}:(?=\s{{0,4}}\[\d{{1,9}}\]\s{{1,8}}\S)",
        # Places in the code, and the logger's name between two dashes or in brackets.
        r"[\[(]?[\w./-]{1,250}\.(?:py|cpp|cc|cu):\d{1,6}(?::[\w<>]{1,60})?[\])]?",
        # What a line is about is no logger: `[valid] Ep. 2`.
        r"\[(?!(?i:val|eval|test|dev))[A-Za-z][\w./:-]{0,60}\](?=\s?\[|\s?\d{4}-|[ -]{1,3}[A-Z])",
        rf"[A-Za-z][\w.-]{{0,60}}(?::\d{{1,6}})?(?=[\s|:-]{{1,4}}[\[(]?{_LEVEL}\b)",
        # Columns between tabs, such as the host and its rank, as far as that of the level.
        rf"[\w./:-]{{1,80}}(?=(?:\t[\w./:-]{{1,80}}){{0,3}}\t{_LEVEL}\b)",
        r"\(\d{1,5}/\d{1,5}\)(?= )",
        r"\([A-Za-z_][\w.]{0,60}:\d{1,6}\)",
        r"\[Rank \d{1,5}\]",
    )
)
_RANK = re.compile(
    rf"{_LAUNCHED}[ _]?\d{{1,6}}|\[\d{{1,5}},\d{{1,5}}\]<std|\([\w.<>-]{{0,60}} ?pid=\d{{1,10}}"
    rf"|\d{{1,5}}: {{1,2}}(?=[\[(]?{_CLOCK})"
)
_BRACKETED_RANK = re.compile(rf"\[(?i:{_LAUNCHED})[ _]?\d{{1,6}}")
_RECORD = re.compile(
    r"[\[(]\d{4}[-/]\d\d[-/]\d\d[ T_]\d\d:\d\d:\d\d(?:(?<=[\w%)] .{20})|(?<=[\w%)\]].{20}))"
)
_YAML_NUMBER = re.compile(r"(?<=: )([-+]?)\.((?i:nan|inf))(?![\w.])")
"""Not a number and infinity in YAML, as RLlib's results print them."""

_MOST_PARTS = 24
_LONGEST = 300

_GLUED = re.compile(
    r"(?<![^|,;])(e|ep|epoch|i|it|iter|s|step|b|batch)(\d{1,12})(?=[|,;/]|$)", re.IGNORECASE
)
_COUNTERS = {"e": "epoch", "i": "iter", "s": "step", "b": "batch"}
"""Short for what is counted in rows without blanks, such as `E01|it00020|loss=1.27`."""


def plain(line: str) -> str:
    """A line without colours and window titles, its numbers as Python prints them."""
    if "\x1b" in line or "^[" in line or "ESC" in line or "␛" in line:
        line = _ANSI.sub("", line)
    if ": ." in line or ": -." in line or ": +." in line:
        line = _YAML_NUMBER.sub(r"\1\2", line)
    if " " not in line and ("=" in line or ":" in line):
        line = _GLUED.sub(lambda m: f"{_COUNTERS.get(m[1].lower(), m[1])} {m[2]}", line)
    return line


def length(line: str) -> int:
    """How many characters of a line are its prefix."""
    at = 0
    for _ in range(_MOST_PARTS):
        ends = [match.end() for part in _PARTS if (match := part.match(line, at, _LONGEST))]
        end = max(ends, default=at)
        if end == at:
            break
        at = end
    return at


def rank(line: str) -> str:
    """What a launcher put before a line to say which process printed it, "" for nothing."""
    match = _RANK.match(line) or _BRACKETED_RANK.search(line, 0, _LONGEST)
    return match.group() if match else ""


def records(line: str) -> list[str]:
    """What is printed on one line although each begins with a clock in brackets."""
    begins = [match.start() for match in _RECORD.finditer(line, 1)]
    prefix = length(line) if begins else 0
    begins = [0, *(begin for begin in begins if begin >= prefix)]
    return [line[begin:end] for begin, end in zip(begins, [*begins[1:], None], strict=True)]
