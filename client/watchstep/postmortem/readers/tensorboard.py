"""TensorBoard event files: every scalar, in order, without TensorFlow and without sampling.

An event is `{wall_time = 1, step = 2, summary = 5 {value = 1 {tag = 1, simple_value = 2 or
tensor = 8}}}`. All events of one tag differ only in time, step and the number itself, so the
place of the number is learned from the first event of a tag (by a full parse) and looked up
for the others.
"""

from __future__ import annotations

import functools
import heapq
import math
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from watchstep.postmortem.readers.logs import Log, Row
from watchstep.postmortem.readers.naming import metric_name
from watchstep.postmortem.readers.opening import head_of, open_stream
from watchstep.postmortem.readers.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    fields,
    signed,
    varint,
)
from watchstep.postmortem.readers.tfrecord import batches

_DOUBLE = struct.Struct("<d")
_FLOAT = struct.Struct("<f")
_DT_FORMS = {1: "<f", 2: "<d", 3: "<i", 4: "<B", 6: "<b", 9: "<q", 10: "<?", 19: "<e"}
"""TensorFlow's DataType numbers, with how one element lies in `tensor_content`."""

_ELEMENT_FIELDS = {4: "", 5: "<f", 6: "<d"}
"""TensorProto's tensor_content (as its dtype says), float_val and double_val."""

_INTEGER_FIELDS = (7, 10, 11)
"""TensorProto's int_val, int64_val and bool_val."""

_EPISODE_TAGS = ("charts/episodic_", "charts/episode_")
"""CleanRL writes these once per episode, between updates, at steps of their own."""

_MOST_LEARNED = 100_000
"""Shapes of events remembered of one file, so that a hostile one cannot fill the memory."""


class _Scalar(NamedTuple):
    wall_time: float
    step: int
    name: str
    value: float


class _Place(NamedTuple):
    """Where a number lies in an event's bytes, and how to read it there."""

    offset: int
    size: int
    read: Callable[[bytes], float]


_UNLEARNABLE = _Place(0, 0, float)
"""An integer's width varies with its value: the next one may lie elsewhere."""


def rows(log: Log) -> Iterator[Row]:
    """The scalars of a run's event files, one row for each burst at one step.

    Files are merged by wall time, so that a resumed run's files follow each other and files
    written side by side interleave. A file that begins where all earlier ones have ended is a
    resume, and counts as the next attempt.
    """
    log.unit = "step"
    episodes: dict[str, float] = {}
    last: Row | None = None
    for row in _merged(log):
        if all(name.startswith(_EPISODE_TAGS) for name in row.readings):
            episodes.update(row.readings)
            last = row
            continue
        if episodes:
            row.readings = episodes | row.readings
            episodes = {}
        yield row
    if episodes and last is not None:
        last.readings = episodes
        yield last


def file_rows(path: Path, log: Log) -> Iterator[Row]:
    """The scalars of one event file, those that follow each other at one step in one row.

    Float tensors of one element (what `tf.summary.scalar` writes) count; histograms, images
    and text do not. Damage is noted in `log`. A row's time is that of its first event.
    """
    decoder = Decoder(log)
    with open_stream(path) as stream:
        for payloads in batches(stream, log, path.name):
            yield from decoder.decode(payloads)
    if decoder.row.readings:
        yield decoder.row


class Decoder:
    """Turns one file's events into rows, and remembers what events of one tag share.

    Attributes:
        row: The row that the next event may still belong to.
    """

    def __init__(self, log: Log) -> None:
        self.row = Row({})
        self._log = log
        # An event between its step and its last four bytes, which are the number, to the
        # metric's name; "" for one that is left out.
        self._simple: dict[bytes, str] = {}
        # Bytes after the step, to where in them a tensor's number may begin and end; and the
        # bytes before and after it, to name and place.
        self._places: dict[int, set[tuple[int, int]]] = {}
        self._tensors: dict[tuple[bytes, bytes], tuple[str, _Place]] = {}

    def decode(self, payloads: list[bytes]) -> list[Row]:
        """The rows that a batch of events completes.

        One loop without calls for the events that make up nearly all of a file: this is
        where the time of reading goes.
        """
        done: list[Row] = []
        simple, read_value = self._simple.get, _FLOAT.unpack_from
        readings, row_step = self.row.readings, self.row.step
        written, at, step = _NO_STEP
        for payload in payloads:
            if not payload.startswith(written, 9):  # Mostly the step is the one before.
                written, at, step = _step(payload)
            name = simple(payload[at:-4])
            if not name:
                if name is None:
                    for scalar in self._unknown(payload, at, step):
                        self._put(scalar, done)
                    readings, row_step = self.row.readings, self.row.step
                continue
            value = read_value(payload, len(payload) - 4)[0]
            if step != row_step or name in readings:
                scalar = _Scalar(_DOUBLE.unpack_from(payload, 1)[0], step, name, value)
                self._put(scalar, done)
                readings, row_step = self.row.readings, step
            else:
                readings[name] = value
        return done

    def _put(self, scalar: _Scalar, done: list[Row]) -> None:
        row = self.row
        if scalar.step != row.step or scalar.name in row.readings:
            if row.readings:
                done.append(row)
            row = self.row = Row({}, step=scalar.step, time=scalar.wall_time)
        row.readings[scalar.name] = scalar.value

    def _unknown(self, payload: bytes, at: int, step: int) -> list[_Scalar]:
        """The scalars of an event that is not of the simple, known kind."""
        rest = payload[at:]
        for offset, stop in self._places.get(len(rest), ()) if at else ():
            tensor = self._tensors.get((rest[:offset], rest[stop:]))
            if tensor is not None:
                name, place = tensor
                wall_time = _DOUBLE.unpack_from(payload, 1)[0]
                return [_Scalar(wall_time, step, name, place.read(rest[offset:stop]))]
        try:
            values = list(_parsed(payload, self._log))
        except (ValueError, struct.error, IndexError):
            self._log.tear("an event that cannot be parsed is left out")
            return []
        if at and len(values) == 1 and len(self._simple) + len(self._tensors) < _MOST_LEARNED:
            self._learn(payload, at, *values[0])
        return [scalar for scalar, _ in values if scalar.name]

    def _learn(self, payload: bytes, at: int, scalar: _Scalar, place: _Place) -> None:
        stop = place.offset + place.size
        if place.offset <= at:
            return
        if stop == len(payload) and place.size == 4 and place.read is _float:
            self._simple[payload[at:-4]] = scalar.name
        elif scalar.name:
            rest = payload[at:]
            self._places.setdefault(len(rest), set()).add((place.offset - at, stop - at))
            self._tensors[payload[at : place.offset], payload[stop:]] = (scalar.name, place)


_NO_STEP = (b"\xff", 0, 0)
"""For an event of an unusual shape: 0xff is the key of no field, so that none looks like it."""


def _step(payload: bytes) -> tuple[bytes, int, int]:
    """The bytes that hold an event's step, where they end, and the step.

    Events begin with 0x09 and 8 bytes of wall time, then 0x10 and the step; a step of 0 is
    not written, and the summary's key 0x2a follows at once.
    """
    if len(payload) < 14 or payload[0] != 0x09:
        return _NO_STEP
    if payload[9] == 0x2A:
        return b"\x2a", 9, 0
    if payload[9] != 0x10:
        return _NO_STEP
    try:
        step, at = varint(payload, 10)
    except ValueError:
        return _NO_STEP
    return payload[9:at], at, signed(step)


def _parsed(payload: bytes, log: Log) -> Iterator[tuple[_Scalar, _Place]]:
    """Each number of an event, by a full parse."""
    wall_time, step = 0.0, 0
    summaries: list[tuple[bytes, int]] = []
    for number, wire, value, start in fields(payload):
        if number == 1 and wire == FIXED64 and isinstance(value, bytes):
            wall_time = _DOUBLE.unpack(value)[0]
        elif number == 2 and wire == VARINT and isinstance(value, int):
            step = signed(value)
        elif number == 5 and wire == BYTES and isinstance(value, bytes):
            summaries.append((value, start))
    for summary, base in summaries:
        for number, _, value, start in fields(summary):
            if number == 1 and isinstance(value, bytes):
                scalar = _value(value, base + start)
                if scalar is not None:
                    tag, place, reading = scalar
                    yield _Scalar(wall_time, step, _name(tag, log), reading), place


def _value(message: bytes, base: int) -> tuple[str, _Place, float] | None:
    """Tag, place and number of one summary value; None when it holds no single number."""
    tag = ""
    scalar: tuple[_Place, float] | None = None
    for number, wire, value, start in fields(message):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            tag = value.decode("utf-8", "replace")
        elif number == 2 and wire == FIXED32:
            scalar = _fixed(value, base + start, "<f")
        elif number == 8:
            scalar = _tensor(value, base + start)
    if scalar is None or not tag:
        return None
    return tag, *scalar


def _tensor(tensor: bytes, base: int) -> tuple[_Place, float] | None:
    """Place and value of a tensor's only element; None for larger, empty or text tensors."""
    form = "<f"
    for number, _, value, start in fields(tensor):
        if number == 1 and isinstance(value, int):
            form = _DT_FORMS.get(value, "")
        elif number == 2 and isinstance(value, bytes) and _elements(value) != 1:
            return None
        elif number in _ELEMENT_FIELDS and isinstance(value, bytes):
            return _fixed(value, base + start, _ELEMENT_FIELDS[number] or form)
        elif number in _INTEGER_FIELDS:
            whole = value if isinstance(value, int) else varint(value, 0)[0]
            return _UNLEARNABLE, float(signed(whole))
    return None


def _fixed(raw: bytes, offset: int, form: str) -> tuple[_Place, float] | None:
    if not form or len(raw) != struct.calcsize(form):
        return None
    read = _float if form == "<f" else functools.partial(_unpacked, form)
    return _Place(offset, len(raw), read), read(raw)


def _float(raw: bytes) -> float:
    return float(_FLOAT.unpack(raw)[0])


def _unpacked(form: str, raw: bytes) -> float:
    return float(struct.unpack(form, raw)[0])


def _elements(shape: bytes) -> int:
    """How many elements a TensorShapeProto stands for; a scalar has no dimensions."""
    count = 1
    for number, _, dimension, _ in fields(shape):
        if number == 2 and isinstance(dimension, bytes):
            sizes = [size for field, _, size, _ in fields(dimension) if field == 1]
            count *= int(sizes[0]) if sizes else 0
    return count


def _merged(log: Log) -> Iterator[Row]:
    """The rows of every file by wall time, with the attempt each belongs to.

    A file is opened when the merge reaches its first event: thousands of resumes in one
    folder need one open file, not thousands.
    """
    waiting = sorted(((_first_time(path), path) for path in log.files), reverse=True)
    heap: list[tuple[float, Path, Row, Iterator[Row]]] = []
    attempt = 0
    while heap or waiting:
        while waiting and (not heap or waiting[-1][0] <= heap[0][0]):
            _, path = waiting.pop()
            stream = file_rows(path, log)
            first = next(stream, None)
            if first is not None:
                attempt += not heap
                heapq.heappush(heap, (_time(first), path, first, stream))
        if not heap:
            return
        _, path, row, stream = heap[0]
        row.attempt = attempt
        yield row
        following = next(stream, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (_time(following), path, following, stream))


def _time(row: Row) -> float:
    # A NaN would leave the heap without an order.
    return row.time if row.time is not None and math.isfinite(row.time) else 0.0


def _first_time(path: Path) -> float:
    """When a file begins: the wall time of its first event, which may hold no scalar."""
    head = head_of(path)[:21]
    if len(head) == 21 and head[12] == 0x09:
        moment = float(_DOUBLE.unpack_from(head, 13)[0])
        return moment if math.isfinite(moment) else 0.0
    return 0.0


_OTHER_CLOCKS = re.compile(
    r"^(?:Train/mean_\w+|rewards\d*|shaped_rewards|episode_lengths)/(time|iter)$"
)
"""Tags that rsl_rl and rl_games write a second time, with seconds or epochs as their steps."""


def _name(tag: str, log: Log) -> str:
    other = _OTHER_CLOCKS.match(tag)
    if other:
        counted = "seconds" if other.group(1) == "time" else "epochs"
        log.note(f"{tag} left out: its steps are {counted}")
        return ""
    return metric_name(tag.removeprefix("ray/tune/"))
