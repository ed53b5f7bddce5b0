"""The functions of the rule language: what each takes, gives and means.

`docs/rules.md` prints this table, and the parser checks calls against it, so neither
can say what the other does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "bool", "text", "window", "constant", "globs", "rule", "metric"]

SMALLEST_BASELINE = 10
"""Finite values a window must hold before a comparison with it means anything.

Smaller windows need themselves full. Ten is where the rule "ten times the largest so far"
was measured to raise nothing on 64 healthy runs.
"""


@dataclass(frozen=True, slots=True)
class Function:
    """One function of the language.

    Attributes:
        takes: Kind of each argument, in order. "globs" takes one or more, and is last.
        gives: Type of the result.
        text: One sentence for people: definition and unit.
        optional: How many of the last arguments may be left out.
        includes_now: Whether its window holds the present update's value as well.
    """

    takes: tuple[Kind, ...]
    gives: Literal["number", "bool"]
    text: str
    optional: int = 0
    includes_now: bool = False


FUNCTIONS: dict[str, Function] = {
    "abs": Function(("number",), "number", "Magnitude."),
    "sqrt": Function(("number",), "number", "Square root; NaN below zero."),
    "log10": Function(("number",), "number", "Decimal logarithm; -inf at zero, NaN below."),
    "least": Function(("number", "number"), "number", "The smaller one; NaN if either is."),
    "greatest": Function(("number", "number"), "number", "The larger one; NaN if either is."),
    "known": Function(
        ("number", "number"),
        "number",
        "The first where it is a number, the second where the first is missing or NaN: a second"
        " name, or a default such as known(guard/skipped, 0).",
    ),
    "bound": Function(
        ("number",),
        "number",
        "sqrt(n - 1): no value standardised with the mean and deviation of its own n values"
        " can be larger in magnitude, whatever the data and the epsilon (Samuelson's"
        " inequality; the population form, the looser of the two). NaN for n < 2.",
    ),
    "median": Function(
        ("number", "window"), "number", "Median of the previous finite values in the window."
    ),
    "mean": Function(
        ("number", "window"), "number", "Mean of the previous finite values in the window."
    ),
    "std": Function(
        ("number", "window"),
        "number",
        "Population deviation of the previous finite values in the window.",
    ),
    "min": Function(
        ("number", "window"), "number", "Smallest of the previous finite values in the window."
    ),
    "max": Function(
        ("number", "window"), "number", "Largest of the previous finite values in the window."
    ),
    "spike": Function(
        ("number", "window"),
        "number",
        "How many times the median magnitude of the previous finite window |x| is; inf when"
        " that median is zero and x is not.",
    ),
    "drop": Function(
        ("number", "window"),
        "number",
        "How many times smaller |x| is than the median magnitude of the previous finite window.",
    ),
    "zscore": Function(
        ("number", "window"),
        "number",
        "(x - mean) / std over the previous finite window; +-inf where that window is constant"
        " and x differs.",
    ),
    "record": Function(
        ("number", "constant"),
        "number",
        "How many times the largest finite magnitude seen so far in this attempt |x| is;"
        " unknown until that many finite values were seen.",
    ),
    "lowest": Function(
        ("number", "constant"),
        "number",
        "The smallest finite value of this attempt before this update; unknown until that many"
        " finite values were seen.",
    ),
    "previous": Function(("number",), "number", "The last finite value before this update."),
    "changed": Function(
        ("number",), "bool", "Whether x differs from the last finite value before it."
    ),
    "flat": Function(
        ("number", "window", "constant"),
        "bool",
        "Whether the last values, this one included, span no more than tolerance times their"
        " largest magnitude (default 0: all equal), over a full window.",
        optional=1,
        includes_now=True,
    ),
    "slope": Function(
        ("number", "window"),
        "number",
        "Least-squares slope per update over the last finite values, this one included.",
        includes_now=True,
    ),
    "eta": Function(
        ("number", "constant", "window"),
        "number",
        "Updates until the straight line through log10|x| over the last values reaches"
        " the limit; inf if it moves away from it. Zeros are left out, having no logarithm.",
        includes_now=True,
    ),
    "count": Function(
        ("bool", "window"),
        "number",
        "In how many of the last updates at which the condition could be told, this one"
        " included, it held; unknown where it cannot be told now.",
        includes_now=True,
    ),
    "nonfinite": Function(
        ("globs",),
        "bool",
        "Whether any reading of this update whose name matches is NaN or infinite.",
    ),
    "missing": Function(
        ("metric", "constant"),
        "bool",
        "Whether the metric was reported before and is absent from the last n updates with"
        " readings.",
    ),
    "present": Function(("metric",), "bool", "Whether this update reports the metric."),
    "reported": Function(
        ("metric",),
        "bool",
        "Whether the metric was reported in this attempt so far, this update included.",
    ),
    "reading": Function(("text",), "number", "The metric of that name, for names with odd signs."),
    "fired": Function(
        ("rule", "constant"),
        "bool",
        "Whether the other rule fired in one of the last n updates, as of the previous update.",
    ),
    "age": Function(
        (), "number", "Updates with readings of this attempt so far, this one included."
    ),
    "silence": Function(
        (),
        "number",
        "Seconds since the service last heard from the run, on the service's clock.",
    ),
    "stalled": Function(
        (), "bool", "Whether that silence is longer than the service's `stall.timeout_s`."
    ),
    "event": Function(("text",), "bool", "Whether this update carries an event of that kind."),
    "logged": Function(
        ("text",),
        "bool",
        "Whether this update carries a log or failure text that matches the glob, ignoring case.",
    ),
}
