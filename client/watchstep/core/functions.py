"""The functions of the rule language: what each takes, gives and means.

`docs/rules.md` prints this table, and the parser checks calls against it, so neither
can say what the other does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

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
    | {"nonfinite_reports", "discriminator", "adversarial", "start", "exp"}
)
"""Functions of later releases; without brackets they are metrics, as in rules of the first."""

_TABLE = """\
abs(number) -> number, x's
    Magnitude.
    Source: IEEE 754.
sqrt(number) -> number, root of x's
    Square root; NaN below zero.
    Source: IEEE 754.
exp(number) -> number, none
    The exponential function; inf where that is too large for a float.
    Source: IEEE 754.
log10(number) -> number, none
    Decimal logarithm; -inf at zero, NaN below.
    Source: IEEE 754.
digits(number) -> number, digits
    How many significant decimal digits write x exactly: 2 for 0.25, about 17 for a float
    that was not rounded before it was logged.
    Source: Shortest decimal that reads back as the same float (Python's repr).
least(number, number) -> number, x's
    The smaller one; NaN if either is.
    Source: IEEE 754 minimum, which NaN passes through.
greatest(number, number) -> number, x's
    The larger one; NaN if either is.
    Source: IEEE 754 maximum, which NaN passes through.
known(number, number) -> number, x's
    The first where it is a number, the second where the first is missing or NaN: a second
    name, or a default such as known(guard/skipped, 0).
    Source: SQL's COALESCE.
bound(number) -> number, none
    sqrt(n - 1): no value standardised with the mean and deviation of its own n values can
    be larger in magnitude, whatever the data and the epsilon (Samuelson's inequality; the
    population form, the looser of the two). NaN for n < 2.
    Source: Samuelson 1968, How deviant can you be?
median(number, window) -> number, x's
    Median of the previous finite values in the window.
    Source: Textbook; of an even number the mean of the middle two.
mean(number, window) -> number, x's
    Mean of the previous finite values in the window.
    Source: Textbook.
std(number, window) -> number, x's
    Population deviation of the previous finite values in the window.
    Source: Textbook; divided by n.
min(number, window) -> number, x's
    Smallest of the previous finite values in the window.
    Source: Textbook.
max(number, window) -> number, x's
    Largest of the previous finite values in the window.
    Source: Textbook.
spike(number, window) -> number, times
    How many times the median magnitude of the previous finite window |x| is; inf when that
    median is zero and x is not.
    Source: The incident report's rule of 100 times; a median, which the spike before does
    not move.
drop(number, window) -> number, times
    How many times smaller |x| is than the median magnitude of the previous finite window.
    Source: The incident report's throughput drop of 2 to 5 times.
zscore(number, window) -> number, deviations
    (x - mean) / std over the previous finite window; +-inf where that window is constant
    and x differs.
    Source: OLMo's spike score counts readings beyond 7 deviations.
record(number, constant) -> number, times
    How many times the largest finite magnitude seen so far in this attempt |x| is; unknown
    until that many finite values were seen.
    Source: Measured on 64 healthy and harmless runs, 0 alarms at 10 times after 10 updates.
lowest(number, constant) -> number, x's
    The smallest finite value of this attempt before this update; unknown until that many
    finite values were seen.
    Source: SageMaker Debugger's Overfit and Overtraining compare with the best so far.
previous(number) -> number, x's
    The last finite value before this update.
    Source: This project.
changed(number) -> bool, none
    Whether x differs from the last finite value before it.
    Source: SageMaker Debugger's UnchangedTensor, negated.
flat(number, window, [constant]) -> bool, none, now
    Whether the last values, this one included, span no more than tolerance times their
    largest magnitude (default 0: all equal), over a full window.
    Source: SageMaker Debugger's UnchangedTensor.
stuck(number, constant) -> bool, none, now
    Whether the last n reports, this one included, are all equal to the bit.
    Source: SageMaker Debugger's UnchangedTensor, made strict.
level(number, reports) -> number, x's, now
    Median magnitude of the last n finite reports, this one included; unknown where this one
    is not finite.
    Source: Textbook; a median, which one outlier does not move.
settled(number, reports) -> number, x's, now
    The lowest level(x, n) of this attempt so far, and at least a thousandth of the first
    one that was above zero.
    Source: SageMaker Debugger's Overfit compares with the best so far; a median of n is no
    luck.
growth(number, reports, [constant]) -> number, decades, now
    How many decades level(x, n) lies above settled(x, n), or above the floor (default 0)
    where that is more; 0 where it does not.
    Source: log10 of a ratio: twofold is 0.3, tenfold 1, whatever the scale of x.
first(number, reports) -> number, x's, now
    Median magnitude of the first n finite reports of this attempt; unknown before.
    Source: Textbook.
start(number, reports) -> number, x's, now
    The same with its sign: what rewards below 0 began with.
    Source: Textbook.
before(number, reports) -> number, x's
    level(x, n) at the end of the attempt before; unknown in a run's first attempt.
    Source: What is lost at a resume shows against what there was.
reports(metric) -> number, reports
    Reports of the metric in this attempt so far, this one included, finite or not.
    Source: Prometheus' count_over_time, of the attempt.
nonfinite_reports(metric, window) -> number, reports, now
    How many of the metric's last n reports, this one included, were NaN or infinite;
    unknown at an update without the metric.
    Source: k of n, as surveillance of faults uses it.
slope(number, window) -> number, x's per update, now
    Least-squares slope per update over the last finite values, this one included.
    Source: Least squares, Gauss.
eta(number, constant, window) -> number, updates, now
    Updates until the straight line through log10|x| over the last values reaches the limit;
    inf if it moves away from it. Zeros are left out, having no logarithm.
    Source: Least squares through logarithms, as advantages shrink by a share an update.
count(bool, window) -> number, updates, now
    In how many of the last updates at which the condition could be told, this one included,
    it held; unknown where it cannot be told now.
    Source: k of n, as surveillance of faults uses it.
nonfinite(globs) -> bool, none
    Whether any reading of this update whose name matches is NaN or infinite.
    Source: IEEE 754; SageMaker Debugger's ExplodingTensor.
missing(metric, constant) -> bool, none
    Whether the metric was reported before and is absent from the last n updates with
    readings.
    Source: Prometheus' absent_over_time, in updates.
present(metric) -> bool, none
    Whether this update reports the metric.
    Source: Prometheus' present_over_time, of one update.
reported(metric) -> bool, none
    Whether the metric was reported in this attempt so far, this update included.
    Source: Prometheus' present_over_time, of the attempt.
discriminator(metric) -> bool, none
    Whether the name is that of a loss of the discriminator of an adversarial pair, or of how
    far it takes a fake for real.
    Source: This project.
adversarial(metric) -> bool, none
    Whether the name is that of a loss of either side of an adversarial pair.
    Source: This project.
reading(text) -> number, x's
    The metric of that name, for names with odd signs.
    Source: This project.
fired(rule, constant) -> bool, none
    Whether the other rule fired in one of the last n updates, as of the previous update.
    Source: Prometheus' ALERTS series.
age() -> number, updates
    Updates with readings of this attempt so far, this one included.
    Source: This project.
step() -> number, steps
    The trainer's own step counter at this update; 0 before there was one.
    Source: This project.
silence() -> number, seconds
    Seconds since the service last heard from the run, on the service's clock.
    Source: Prometheus' time() - timestamp().
stalled() -> bool, none
    Whether that silence is longer than the service's `stall.timeout_s`.
    Source: SageMaker Debugger's StalledTrainingRule.
event(text) -> bool, none
    Whether this update carries an event of that kind.
    Source: This project.
logged(text) -> bool, none
    Whether this update carries a log or failure text that matches the glob, ignoring case.
    Source: Globs as in Python's fnmatch.
"""
_HEAD = re.compile(
    r"(?P<name>\w+)\((?P<takes>.*)\) -> (?P<gives>\w+), (?P<unit>.*?)(?P<now>, now)?\n"
)


def _function(entry: str) -> tuple[str, Function]:
    head = _HEAD.match(entry)
    assert head is not None, entry
    text, _, source = " ".join(entry[head.end() :].split()).partition(" Source: ")
    takes = head["takes"].replace("[", "").replace("]", "")
    return head["name"], Function(
        takes=cast(tuple[Kind, ...], tuple(takes.split(", ")) if takes else ()),
        gives=cast(Literal["number", "bool"], head["gives"]),
        text=text,
        unit=head["unit"],
        source=source,
        optional=head["takes"].count("["),
        includes_now=head["now"] is not None,
    )


FUNCTIONS = dict(map(_function, re.split(r"\n(?=\w)", _TABLE)))
"""By name."""
