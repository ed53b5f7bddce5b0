"""Updates as JSON: the body of `POST /api/v1/runs/{run}/updates`.

One update is one object, `{"seq", "step", "time", "metrics", "event"?, "source"?}`. Its bytes
depend on nothing but the update, so that sending it again sends the same body.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from watchstep.core.updates import EVENT_KINDS, TRAINING, Update
from watchstep.errors import WireError
from watchstep.masking import masked_event
from watchstep.wire.names import METRIC_NAME, SOURCE_NAME

MAX_COUNTER = 2**63 - 1
"""Largest `seq` and `step`: what a signed 64-bit column holds."""

_FIRST_TIME, _LAST_TIME = -62_135_596_800.0, 253_402_300_799.0
_FIELDS = frozenset({"seq", "step", "time", "metrics", "event", "source"})
_REQUIRED = ("seq", "step", "time", "metrics")

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

# Filling one prepared format string is 1.5 times as fast as json.dumps, and a trainer logs
# the same names again and again. A trainer that never repeats its names must not grow this.
_TEMPLATES_MAX = 512
_templates: dict[tuple[str, ...], str] = {}


def encode_update(update: Update) -> bytes:
    """One update as a JSON object, UTF-8, without the attempt.

    Raises:
        WireError: A name, number or event in it cannot be sent; the message begins with
            the field.
    """
    names = tuple(update.readings)
    check_counters(update.seq, update.step, update.time)
    values = tuple(_reading(name, update.readings[name]) for name in names)
    body = fill(template(names), update.seq, update.step, update.time, values)
    if update.event is not None:
        body = with_event(body, event_to_json(update.event))
    return body if update.source == TRAINING else with_source(body, update.source)


def encode_batch(attempt: int, updates: Sequence[bytes | Update]) -> bytes:
    """The body of one POST: updates, already encoded or not, under their attempt."""
    encoded = [update if isinstance(update, bytes) else encode_update(update) for update in updates]
    return b'{"attempt":%d,"updates":[%b]}' % (attempt, b",".join(encoded))


def decode_update(fields: Mapping[str, Any], attempt: int) -> Update:
    """One update from its parsed JSON object; how strictly that is parsed is up to the service.

    Raises:
        WireError: The message is `FIELD: reason` and never holds the offending value.
    """
    for name in _REQUIRED:
        if name not in fields:
            raise WireError(f"{name}: is missing")
    if not _FIELDS.issuperset(fields):
        raise WireError(f"update: has a field that is not one of {', '.join(sorted(_FIELDS))}")
    return Update(
        seq=_counter("seq", fields["seq"], least=1),
        step=_counter("step", fields["step"], least=0),
        time=_time(fields["time"]),
        readings=_readings(fields["metrics"]),
        event=_event(fields.get("event")),
        attempt=attempt,
        source=_source(fields.get("source", TRAINING)),
    )


def number_to_json(value: float) -> float | str:
    """A reading as JSON can hold it: a number, or the word for a non-finite one."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def number_from_json(value: Any) -> float:
    """A reading from what a JSON parser gave for it.

    Raises:
        WireError: It is a bool, None, another string than the three words, no number at
            all, or an integer beyond the range of a double. The value is not in the message.
    """
    if type(value) is float:
        return value
    if isinstance(value, str):
        word = _WORDS.get(value)
        if word is None:
            raise WireError('must be a number, "NaN", "Infinity" or "-Infinity"')
        return word
    # bool is an int to Python, but `true` is no reading.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WireError('must be a number, "NaN", "Infinity" or "-Infinity"')
    try:
        return float(value)
    except OverflowError:
        raise WireError("must fit into a 64-bit float") from None


def event_to_json(event: Mapping[str, Any]) -> bytes:
    """An event as a JSON object, whatever a user put into it, with its secrets masked.

    This is the one place that every event passes on its way to spool and service. Non-finite
    numbers become their words, text that is not Unicode gets question marks, and objects that
    JSON cannot hold become their `str`.

    Raises:
        WireError: It has no legal "kind", or refers to itself.
    """
    if event.get("kind") not in EVENT_KINDS:
        raise WireError(f"event.kind: must be one of {', '.join(EVENT_KINDS)}")
    try:
        shown = masked_event(event)
    except RecursionError as error:
        raise WireError("event: cannot be written as JSON") from error
    return to_json(shown)


def to_json(value: Any) -> bytes:
    """Any value of a user's as UTF-8 JSON, with what JSON cannot hold spelled out.

    Raises:
        WireError: It refers to itself.
    """
    try:
        text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (RecursionError, ValueError, TypeError) as error:
        raise WireError("event: cannot be written as JSON") from error
    # A lone surrogate is legal in a str and poison in every later UTF-8 answer.
    return text.encode("utf-8", "replace")


def template(names: tuple[str, ...]) -> str:
    """The format string that `fill` takes for updates with these metric names, in order.

    Raises:
        WireError: A name is not legal.
    """
    remembered = _templates.get(names)
    if remembered is not None:
        return remembered
    for name in names:
        _metric_name(name)
    metrics = ",".join(f'"{name}":%s' for name in names)
    made = '{"seq":%d,"step":%d,"time":%r,"metrics":{' + metrics + "}}"
    if len(_templates) >= _TEMPLATES_MAX:
        _templates.clear()
    _templates[names] = made
    return made


def fill(form: str, seq: int, step: int, time: float, values: Iterable[float]) -> bytes:
    """One update's JSON object from its template and its plain floats."""
    numbers = tuple(values)
    # A sum is finite only if every term is; one that overflows merely takes the slow way.
    if not math.isfinite(sum(numbers)):
        words = tuple(_token(value) for value in numbers)
        return (form % (seq, step, time, *words)).encode("ascii")
    return (form % (seq, step, time, *numbers)).encode("ascii")


def with_event(body: bytes, event: bytes) -> bytes:
    """An update's JSON object with an event, itself a JSON object, added to it."""
    return b'%b,"event":%b}' % (body[:-1], event)


def with_source(body: bytes, source: str) -> bytes:
    """An update's JSON object as another source than the training says it."""
    return b'%b,"source":"%b"}' % (body[:-1], source.encode("ascii"))


def _token(value: float) -> str:
    spelled = number_to_json(value)
    return f'"{spelled}"' if isinstance(spelled, str) else repr(spelled)


def _plain(value: Any) -> Any:
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return number_to_json(float(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return str(value)


def check_counters(seq: int, step: int, time: float) -> None:
    """Refuse what no update may have as its place in the stream.

    Raises:
        WireError: `seq` is below 1, `step` below 0, either beyond 64 bits, or `time` is not
            finite.
    """
    _counter("seq", seq, least=1)
    _counter("step", step, least=0)
    _finite_time(time)


def _counter(field: str, value: Any, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise WireError(f"{field}: must be an integer")
    if not least <= value <= MAX_COUNTER:
        raise WireError(f"{field}: must be between {least} and {MAX_COUNTER}")
    return value


def _time(value: Any) -> float:
    if isinstance(value, str):
        return _rfc3339(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WireError("time: must be epoch seconds or RFC 3339")
    try:
        return check_date(float(value))
    except OverflowError:
        raise WireError("time: must be epoch seconds or RFC 3339") from None


def _rfc3339(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise WireError("time: must name its offset from UTC")
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise WireError("time: must be epoch seconds or RFC 3339") from None


def check_date(time: float) -> float:
    """The time, where it is one that can be written as a date.

    Raises:
        WireError: It is not finite, or outside the years 1 to 9999: milliseconds, perhaps.
    """
    if not _FIRST_TIME <= _finite_time(time) <= _LAST_TIME:
        raise WireError("time: must be in the years 1 to 9999, as seconds since 1970")
    return time


def _finite_time(value: float) -> float:
    if not math.isfinite(value):
        raise WireError("time: must be finite")
    return float(value)


def _readings(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise WireError("metrics: must be an object")
    return {_metric_name(name): _reading(name, number) for name, number in value.items()}


def _metric_name(name: Any) -> str:
    if not isinstance(name, str) or METRIC_NAME.match(name) is None:
        raise WireError("metrics: has a name that is not [A-Za-z0-9_./:-]{1,128}")
    return name


def _reading(name: str, value: Any) -> float:
    if type(value) is float:
        return value
    try:
        return number_from_json(value)
    except WireError as error:
        raise WireError(f"metrics.{name}: {error}") from None


def _source(value: Any) -> str:
    if not isinstance(value, str) or SOURCE_NAME.match(value) is None:
        raise WireError("source: must be training, outside, machine, otlp or rank-0 to rank-1999")
    return value


def _event(value: Any) -> Mapping[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise WireError("event: must be an object")
    if value.get("kind") not in EVENT_KINDS:
        raise WireError(f"event.kind: must be one of {', '.join(EVENT_KINDS)}")
    return value
