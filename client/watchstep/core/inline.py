"""How the generated function advances and reads its windows: by text, where a call would cost more.

A window of updates that is full, which is its state nearly always, is advanced and read by
the lines below; all others through their methods, which say the same. The tests hold the two
against each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from watchstep.core.extremes import ExtremeWindow
from watchstep.core.grammar import Node, Span
from watchstep.core.moments import MomentWindow, TrendWindow
from watchstep.core.windows import MedianWindow, RecordWindow, RepeatWindow, fewest

_PUSHES: dict[type[Any], str] = {
    MedianWindow: """\
{w}.queue.append({x})
_insort({w}.ordered, {x})
if len({w}.queue) > {n}: del {w}.ordered[_bisect({w}.ordered, {w}.queue.popleft())]""",
    MomentWindow: """\
if len({w}.queue) < {n}: {w}.push({x}, time)
else:
    _s = {w}.shift
    _in, _out = {x} - _s, {w}.queue.popleft() - _s
    {w}.queue.append({x})
    _total = {w}.total = {w}.total + _in - _out
    _squares = {w}.squares + _in * _in
    if _squares > {w}.peak: {w}.peak = _squares
    _squares = {w}.squares = _squares - _out * _out
    _left = {w}.left = {w}.left + 1
    _lost = not 1e-4 * {w}.peak <= _squares < _inf or _left >= {often}
    if _lost or abs(_s * {n} + _total) < 1e-4 * abs(_s) * {n}: {w}.sum_again()""",
    ExtremeWindow: """\
if len({w}.highs) == 1: {w}.turn()
{w}.values.append({x})
{w}.highs.pop()
{w}.lows.pop()
if {x} >= {w}.high: {w}.high = {x}
if {x} <= {w}.low: {w}.low = {x}""",
    TrendWindow: """\
{w}.newest += 1.0
{w}.waiting.append({x})""",
}
_UNLIMITED: dict[type[Any], str] = {
    RecordWindow: """\
{w}.seen += 1
{w}.last = {x}
if not {w}.low <= {x} <= {w}.largest: {w}.widen({x})""",
    RepeatWindow: """\
{w}.seen += 1
if {x} == {w}.last: {w}.repeats += 1
else: {w}.last, {w}.repeats = {x}, 1""",
}
_ASKED = {
    "median": "({middle} if len({w}.ordered) == {n} else {w}.median())",
    "mean": "({w}.shift + {w}.total / {n} if len({w}.queue) == {n} else {w}.mean())",
    "std": "(_root(_v) if len({w}.queue) == {n}"
    " and 1e-8 * (_o := {w}.total / {n}) * _o < (_v := {w}.squares / {n} - _o * _o) < _inf"
    " else {w}.std())",
    "smallest": "(_nan if len({w}.values) < {least}"
    " else {w}.low if {w}.low <= {w}.lows[-1] else {w}.lows[-1])",
    "largest": "(_nan if len({w}.values) < {least}"
    " else {w}.high if {w}.high >= {w}.highs[-1] else {w}.highs[-1])",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a function of the language does with its window.

    Attributes:
        window: Class of the window.
        pushed: What goes into it.
        asked: What is asked of it.
        now: Whether the present value is in it when it is asked.
    """

    window: type[Any]
    pushed: str
    asked: str
    now: bool = False


READINGS: dict[str, Reading] = {
    "median": Reading(MedianWindow, "{x}", "{median}"),
    "spike": Reading(MedianWindow, "abs({x})", "_ratio(abs({x}), {median})"),
    "drop": Reading(MedianWindow, "abs({x})", "_ratio({median}, abs({x}))"),
    "mean": Reading(MomentWindow, "{x}", "{mean}"),
    "std": Reading(MomentWindow, "{x}", "{std}"),
    "zscore": Reading(MomentWindow, "{x}", "_ratio({x} - {mean}, {std})"),
    "slope": Reading(TrendWindow, "{x}", "({w}.slope() if {x} - {x} == 0.0 else _nan)", now=True),
    "eta": Reading(
        TrendWindow,
        "_log10(abs({x}))",
        "({w}.updates_until({c}) if {x} - {x} == 0.0 else _nan)",
        now=True,
    ),
    "min": Reading(ExtremeWindow, "{x}", "{smallest}"),
    "max": Reading(ExtremeWindow, "{x}", "{largest}"),
    "flat": Reading(
        ExtremeWindow, "{x}", "({w}.is_flat({c}) if {x} - {x} == 0.0 else None)", now=True
    ),
    # `flat` without a tolerance, over updates: see `reading_of`.
    "repeated": Reading(
        RepeatWindow, "{x}", "({w}.lasts({c}) if {x} - {x} == 0.0 else None)", now=True
    ),
    "record": Reading(RecordWindow, "{x}", "{w}.times_largest({x}, {c})"),
    "lowest": Reading(RecordWindow, "{x}", "({w}.low if {w}.seen >= {c} else _nan)"),
    "previous": Reading(RecordWindow, "{x}", "{w}.last"),
    "changed": Reading(
        RecordWindow,
        "{x}",
        "(({x} != {w}.last) if {x} == {x} and {w}.last == {w}.last else None)",
    ),
}


def reading_of(call: Node) -> str:
    """The row of the table by which a call reads its window."""
    name = str(call.value)
    if name == "flat":
        span = call.parts[1].value
        tolerances = [float(str(part.value)) for part in call.parts[2:]]
        if isinstance(span, Span) and span.updates and not any(tolerances):
            return "repeated"
    return name


def push(window: type[Any], span: Span, w: str, x: str) -> list[str]:
    """The lines that push the value named `x` into the window named `w`."""
    if window in _UNLIMITED:
        return _UNLIMITED[window].format(w=w, x=x).splitlines()
    if span.updates is None:
        return [f"{w}.push({x}, time)"]
    text = _PUSHES[window].format(w=w, x=x, n=span.updates, often=max(256, span.updates))
    return text.splitlines()


def ask(name: str, span: Span, w: str, x: str, constant: float) -> str:
    """The expression by which the function `name` reads the window named `w`."""
    n = span.updates
    middle = f"{w}.ordered[{(n or 0) // 2}]"
    if n is not None and n % 2 == 0:
        middle = f"{w}.ordered[{n // 2 - 1}] * 0.5 + {middle} * 0.5"
    forms = {
        part: f"{w}.{part}()"
        if n is None
        else text.format(w=w, n=n, least=fewest(span), middle=middle)
        for part, text in _ASKED.items()
    }
    return READINGS[name].asked.format(w=w, x=x, c=repr(constant), **forms)
