"""The functions of the rule language: what each takes, gives and means.

`docs/rules.md` prints this table, and the parser checks calls against it, so neither
can say what the other does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "bool", "text", "window", "reports", "constant", "globs", "rule", "metric"]


@dataclass(frozen=True, slots=True)
class Function:
    """One function of the language.

    Attributes:
        takes: Kind of each argument, in order. "globs" takes one or more, and is last.
        gives: Type of the result.
        text: One sentence for people: the definition.
        unit: Of the result: "x's" is that of its first argument, "none" a plain number or a
            truth.
        source: Where the definition comes from.
        optional: How many of the last arguments may be left out.
        includes_now: Whether its window holds the present update's value as well.
    """

    takes: tuple[Kind, ...]
    gives: Literal["number", "bool"]
    text: str
    unit: str
    source: str
    optional: int = 0
    includes_now: bool = False


ALSO_METRICS = frozenset(
    {"digits", "stuck", "level", "settled", "growth", "first", "before", "reports"}
    | {"nonfinite_reports"}
)
"""Functions of the second release; without brackets they are metrics, as in rules of the first."""

FUNCTIONS: dict[str, Function] = {
    "abs": Function(("number",), "number", "Magnitude.", "x's", "IEEE 754."),
    "sqrt": Function(
        ("number",), "number", "Square root; NaN below zero.", "root of x's", "IEEE 754."
    ),
    "log10": Function(
        ("number",), "number", "Decimal logarithm; -inf at zero, NaN below.", "none", "IEEE 754."
    ),
    "digits": Function(
        ("number",),
        "number",
        "How many significant decimal digits write x exactly: 2 for 0.25, about 17 for a float that"
        " was not rounded before it was logged.",
        "digits",
        "Shortest decimal that reads back as the same float (Python's repr).",
    ),
    "least": Function(
        ("number", "number"),
        "number",
        "The smaller one; NaN if either is.",
        "x's",
        "IEEE 754 minimum, which NaN passes through.",
    ),
    "greatest": Function(
        ("number", "number"),
        "number",
        "The larger one; NaN if either is.",
        "x's",
        "IEEE 754 maximum, which NaN passes through.",
    ),
    "known": Function(
        ("number", "number"),
        "number",
        "The first where it is a number, the second where the first is missing or NaN: a second"
        " name, or a default such as known(guard/skipped, 0).",
        "x's",
        "SQL's COALESCE.",
    ),
    "bound": Function(
        ("number",),
        "number",
        "sqrt(n - 1): no value standardised with the mean and deviation of its own n values"
        " can be larger in magnitude, whatever the data and the epsilon (Samuelson's"
        " inequality; the population form, the looser of the two). NaN for n < 2.",
        "none",
        "Samuelson 1968, How deviant can you be?",
    ),
    "median": Function(
        ("number", "window"),
        "number",
        "Median of the previous finite values in the window.",
        "x's",
        "Textbook; of an even number the mean of the middle two.",
    ),
    "mean": Function(
        ("number", "window"),
        "number",
        "Mean of the previous finite values in the window.",
        "x's",
        "Textbook.",
    ),
    "std": Function(
        ("number", "window"),
        "number",
        "Population deviation of the previous finite values in the window.",
        "x's",
        "Textbook; divided by n.",
    ),
    "min": Function(
        ("number", "window"),
        "number",
        "Smallest of the previous finite values in the window.",
        "x's",
        "Textbook.",
    ),
    "max": Function(
        ("number", "window"),
        "number",
        "Largest of the previous finite values in the window.",
        "x's",
        "Textbook.",
    ),
    "spike": Function(
        ("number", "window"),
        "number",
        "How many times the median magnitude of the previous finite window |x| is; inf when"
        " that median is zero and x is not.",
        "times",
        "The incident report's rule of 100 times; a median, which the spike before does not move.",
    ),
    "drop": Function(
        ("number", "window"),
        "number",
        "How many times smaller |x| is than the median magnitude of the previous finite window.",
        "times",
        "The incident report's throughput drop of 2 to 5 times.",
    ),
    "zscore": Function(
        ("number", "window"),
        "number",
        "(x - mean) / std over the previous finite window; +-inf where that window is constant"
        " and x differs.",
        "deviations",
        "OLMo's spike score counts readings beyond 7 deviations.",
    ),
    "record": Function(
        ("number", "constant"),
        "number",
        "How many times the largest finite magnitude seen so far in this attempt |x| is;"
        " unknown until that many finite values were seen.",
        "times",
        "Measured on 64 healthy and harmless runs, 0 alarms at 10 times after 10 updates.",
    ),
    "lowest": Function(
        ("number", "constant"),
        "number",
        "The smallest finite value of this attempt before this update; unknown until that many"
        " finite values were seen.",
        "x's",
        "SageMaker Debugger's Overfit and Overtraining compare with the best so far.",
    ),
    "previous": Function(
        ("number",), "number", "The last finite value before this update.", "x's", "This project."
    ),
    "changed": Function(
        ("number",),
        "bool",
        "Whether x differs from the last finite value before it.",
        "none",
        "SageMaker Debugger's UnchangedTensor, negated.",
    ),
    "flat": Function(
        ("number", "window", "constant"),
        "bool",
        "Whether the last values, this one included, span no more than tolerance times their"
        " largest magnitude (default 0: all equal), over a full window.",
        "none",
        "SageMaker Debugger's UnchangedTensor.",
        optional=1,
        includes_now=True,
    ),
    "stuck": Function(
        ("number", "constant"),
        "bool",
        "Whether the last n reports, this one included, are all equal to the bit.",
        "none",
        "SageMaker Debugger's UnchangedTensor, made strict.",
        includes_now=True,
    ),
    "level": Function(
        ("number", "reports"),
        "number",
        "Median magnitude of the last n finite reports, this one included; unknown where this one"
        " is not finite.",
        "x's",
        "Textbook; a median, which one outlier does not move.",
        includes_now=True,
    ),
    "settled": Function(
        ("number", "reports"),
        "number",
        "The lowest level(x, n) of this attempt so far, and at least a thousandth of the first"
        " one that was above zero.",
        "x's",
        "SageMaker Debugger's Overfit compares with the best so far; a median of n is no luck.",
        includes_now=True,
    ),
    "growth": Function(
        ("number", "reports", "constant"),
        "number",
        "How many decades level(x, n) lies above settled(x, n), or above the floor (default 0)"
        " where that is more; 0 where it does not.",
        "decades",
        "log10 of a ratio: twofold is 0.3, tenfold 1, whatever the scale of x.",
        optional=1,
        includes_now=True,
    ),
    "first": Function(
        ("number", "reports"),
        "number",
        "Median magnitude of the first n finite reports of this attempt; unknown before.",
        "x's",
        "Textbook.",
        includes_now=True,
    ),
    "before": Function(
        ("number", "reports"),
        "number",
        "level(x, n) at the end of the attempt before; unknown in a run's first attempt.",
        "x's",
        "What is lost at a resume shows against what there was.",
    ),
    "reports": Function(
        ("metric",),
        "number",
        "Reports of the metric in this attempt so far, this one included, finite or not.",
        "reports",
        "Prometheus' count_over_time, of the attempt.",
    ),
    "nonfinite_reports": Function(
        ("metric", "window"),
        "number",
        "How many of the metric's last n reports, this one included, were NaN or infinite;"
        " unknown at an update without the metric.",
        "reports",
        "k of n, as surveillance of faults uses it.",
        includes_now=True,
    ),
    "slope": Function(
        ("number", "window"),
        "number",
        "Least-squares slope per update over the last finite values, this one included.",
        "x's per update",
        "Least squares, Gauss.",
        includes_now=True,
    ),
    "eta": Function(
        ("number", "constant", "window"),
        "number",
        "Updates until the straight line through log10|x| over the last values reaches"
        " the limit; inf if it moves away from it. Zeros are left out, having no logarithm.",
        "updates",
        "Least squares through logarithms, as advantages shrink by a share an update.",
        includes_now=True,
    ),
    "count": Function(
        ("bool", "window"),
        "number",
        "In how many of the last updates at which the condition could be told, this one"
        " included, it held; unknown where it cannot be told now.",
        "updates",
        "k of n, as surveillance of faults uses it.",
        includes_now=True,
    ),
    "nonfinite": Function(
        ("globs",),
        "bool",
        "Whether any reading of this update whose name matches is NaN or infinite.",
        "none",
        "IEEE 754; SageMaker Debugger's ExplodingTensor.",
    ),
    "missing": Function(
        ("metric", "constant"),
        "bool",
        "Whether the metric was reported before and is absent from the last n updates with"
        " readings.",
        "none",
        "Prometheus' absent_over_time, in updates.",
    ),
    "present": Function(
        ("metric",),
        "bool",
        "Whether this update reports the metric.",
        "none",
        "Prometheus' present_over_time, of one update.",
    ),
    "reported": Function(
        ("metric",),
        "bool",
        "Whether the metric was reported in this attempt so far, this update included.",
        "none",
        "Prometheus' present_over_time, of the attempt.",
    ),
    "reading": Function(
        ("text",),
        "number",
        "The metric of that name, for names with odd signs.",
        "x's",
        "This project.",
    ),
    "fired": Function(
        ("rule", "constant"),
        "bool",
        "Whether the other rule fired in one of the last n updates, as of the previous update.",
        "none",
        "Prometheus' ALERTS series.",
    ),
    "age": Function(
        (),
        "number",
        "Updates with readings of this attempt so far, this one included.",
        "updates",
        "This project.",
    ),
    "silence": Function(
        (),
        "number",
        "Seconds since the service last heard from the run, on the service's clock.",
        "seconds",
        "Prometheus' time() - timestamp().",
    ),
    "stalled": Function(
        (),
        "bool",
        "Whether that silence is longer than the service's `stall.timeout_s`.",
        "none",
        "SageMaker Debugger's StalledTrainingRule.",
    ),
    "event": Function(
        ("text",),
        "bool",
        "Whether this update carries an event of that kind.",
        "none",
        "This project.",
    ),
    "logged": Function(
        ("text",),
        "bool",
        "Whether this update carries a log or failure text that matches the glob, ignoring case.",
        "none",
        "Globs as in Python's fnmatch.",
    ),
}
