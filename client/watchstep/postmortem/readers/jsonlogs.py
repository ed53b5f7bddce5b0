"""JSON in its shapes: a row per line, an array of rows, a trainer's state, columns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from watchstep.core.updates import EVENT_KINDS
from watchstep.postmortem.readers.counters import Counter
from watchstep.postmortem.readers.logs import Log, Row
from watchstep.postmortem.readers.naming import (
    flat_readings,
    flat_values,
    metric_name,
    number,
    numbers_of,
    whole,
)
from watchstep.postmortem.readers.opening import lines, text_chunks

_DECODER = json.JSONDecoder(parse_int=float)
"""Integers come as floats: a log may hold one of 400 digits, which then is infinite."""

_HISTORY = re.compile(r'"log_history"\s*:\s*\[')
_NAMES = ("name", "tag", "key", "metric", "metric_name")
_TEXTS = ("log", "message", "msg", "text", "line", "textPayload")

_LARGEST_OBJECT = 1 << 22
"""Characters of one row that are waited for before the file counts as torn."""

_LARGEST_COLUMNS = 1 << 26
"""Characters of a file of columns, the one shape that must be held in memory whole."""


def jsonl_rows(log: Log) -> Iterator[Row]:
    """One row a line, as `updates.jsonl`, SB3's `progress.json` and most exports have it."""
    counter = Counter(log)
    path = log.files[0]
    for text in lines(path, log):
        if not text.strip():
            continue
        row = parsed(text)
        if isinstance(row, Mapping):
            if "env_info" not in row:  # What mmdetection writes of the machine, once.
                yield mapping_row(row, counter)
        elif text.endswith("\n"):
            log.tear("a line that is no JSON object is left out")
        else:
            log.tear("the last line is torn")


def array_rows(log: Log) -> Iterator[Row]:
    """The objects of a JSON array, read one at a time."""
    counter = Counter(log)
    for row in _objects(log, None):
        yield mapping_row(row, counter)


def trainer_state_rows(log: Log) -> Iterator[Row]:
    """`log_history` of a Hugging Face `trainer_state.json`, read one entry at a time."""
    counter = Counter(log)
    for row in _objects(log, _HISTORY):
        yield mapping_row(row, counter)


def column_rows(log: Log) -> Iterator[Row]:
    """A mapping of names to equally long lists, as Keras' `History.history` is dumped."""
    text = ""
    for piece in text_chunks(log.files[0], log):
        text += piece
        if len(text) > _LARGEST_COLUMNS:
            log.tear("a file of JSON columns this large is not read")
            return
    columns = parsed(text)
    if not isinstance(columns, Mapping):
        log.tear("the file is torn: its columns are incomplete")
        return
    lists = {key: column for key, column in columns.items() if isinstance(column, list)}
    counter = Counter(log)
    for index in range(max((len(column) for column in lists.values()), default=0)):
        row = {key: column[index] for key, column in lists.items() if index < len(column)}
        yield mapping_row(row, counter)


def parsed(text: str) -> Any:
    """A JSON text's value, NaN and infinities allowed; None when it is not JSON."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def mapping_row(mapping: Mapping[str, Any], counter: Counter) -> Row:
    """A row from one JSON object, watchstep's own update objects included."""
    metrics = mapping.get("metrics")
    if isinstance(metrics, Mapping) and "seq" in mapping:
        return own_row(mapping, metrics)
    values = [
        (_long_name(mapping) if name == "value" else name, value)
        for name, value in flat_values(mapping)
    ]
    readings = numbers_of(values)
    counter.fill_gaps(readings, values)
    row = counter.row(readings, mapping)
    # The closing rows of Transformers and of RLlib.
    closes = "train_runtime" in mapping or (
        mapping.get("done") is True and "training_iteration" in mapping
    )
    row.event = event_of(mapping.get("event")) or ({"kind": "finished"} if closes else None)
    return row


def printed_in(row: object) -> str | None:
    """The printed line that a logger of containers has wrapped in JSON, if it is one."""
    if not isinstance(row, Mapping):
        return None
    texts = (row.get(key) for key in _TEXTS)
    return next((text for text in texts if isinstance(text, str)), None)


def _long_name(mapping: Mapping[str, Any]) -> str:
    """What `value` is called in a row that holds one reading: `{"name": "loss", "value": 1}`."""
    names = (mapping.get(key) for key in _NAMES)
    return next((metric_name(name) for name in names if isinstance(name, str)), "value")


def own_row(mapping: Mapping[str, Any], metrics: Mapping[str, Any]) -> Row:
    """A row from an update in watchstep's own form; it keeps its sequence number."""
    seq = whole(number(mapping.get("seq"))) or 0
    return Row(
        flat_readings(metrics),
        step=whole(number(mapping.get("step"))),
        time=number(mapping.get("time")),
        event=event_of(mapping.get("event")),
        attempt=whole(number(mapping.get("attempt"))) or 0,
        seq=max(seq, 0),
    )


def event_of(value: object) -> dict[str, object] | None:
    """An update's event, if it is one of watchstep's kinds."""
    if isinstance(value, Mapping) and value.get("kind") in EVENT_KINDS:
        return dict(value)
    return None


def _objects(log: Log, opening: re.Pattern[str] | None) -> Iterator[Mapping[str, Any]]:
    """The objects of the array that `opening` leads to, or of the file's outermost one."""
    begins = opening or re.compile(r"\[")
    buffer, inside, at = "", False, 0
    for chunk in text_chunks(log.files[0], log):
        buffer, at = buffer[at:] + chunk, 0
        if not inside:
            start = begins.search(buffer)
            if start is None:
                at = max(0, len(buffer) - 256)
                continue
            inside, at = True, start.end()
        while True:
            at = _next_object(buffer, at)
            if at < len(buffer) and buffer[at] == "]":
                return
            try:
                row, end = _DECODER.raw_decode(buffer, at)
            except (ValueError, RecursionError):
                break
            if end == len(buffer):
                break  # A number that ends with the chunk may go on in the next.
            at = end
            if isinstance(row, Mapping):
                yield row
        if len(buffer) - at > _LARGEST_OBJECT:
            break
    log.tear("the file is torn: its list of rows has no end")


def _next_object(buffer: str, at: int) -> int:
    while at < len(buffer) and buffer[at] in " \t\r\n,":
        at += 1
    return at
