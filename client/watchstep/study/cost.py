"""What failures cost, and what halting early and the pin would have saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from watchstep.errors import RuleError
from watchstep.rules.strict_yaml import Mapped, read
from watchstep.study.statistics import Interval, wilson

WEEKS = 52


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What no log tells; the defaults are the seed document's.

    Each field is a range: a single number stands for both its ends.

    Attributes:
        runs_per_week: Training runs started.
        failure_rate: Share of runs that fail; replaced by the measured one where logs are
            given.
        run_cost: Compute of one whole run, in `currency`.
        run_hours: Length of one whole run.
        lost_hours: Training time lost with a failure; replaced by the measured share of
            `run_hours` where logs are given.
        debugging_hours: People's time for each failure.
        hour_cost: Cost of an hour of people's time; 0 counts no money for it.
        checkpoint_lost: Share of failures whose newest checkpoint is of no use, so that the
            whole run is lost.
        updates_between_checkpoints: What a good checkpoint costs in updates to be done again.
        longest_run_hours: Length of the longest runs, which one failure can take whole.
        unnoticed: Share of failures that nobody notices before the model is used.
        bad_model_cost: What a bad model that is used costs, in `currency`; 0 prices none.
    """

    runs_per_week: Interval = field(default=Interval(10, 10))
    failure_rate: Interval = field(default=Interval(0.02, 0.05))
    run_cost: Interval = field(default=Interval(50, 200))
    run_hours: Interval = field(default=Interval(5, 20))
    lost_hours: Interval = field(default=Interval(5, 20))
    debugging_hours: Interval = field(default=Interval(2, 10))
    hour_cost: Interval = field(default=Interval(0, 0))
    checkpoint_lost: Interval = field(default=Interval(1, 1))
    updates_between_checkpoints: Interval = field(default=Interval(100, 100))
    longest_run_hours: Interval = field(default=Interval(48, 168))
    unnoticed: Interval = field(default=Interval(0, 0.05))
    bad_model_cost: Interval = field(default=Interval(0, 0))
    currency: str = "USD"


_SHARES = ("failure_rate", "checkpoint_lost", "unnoticed")


@dataclass(frozen=True, slots=True)
class Measured:
    """What logs tell.

    Attributes:
        wasted_updates: Updates after the first bad one, over all failed runs.
        failed_updates: All updates of the failed runs.
        saved_updates: Updates after the halt that would have been, over all failed runs.
        good_updates: Updates before the first bad one, over all failed runs.
    """

    runs: int = 0
    failures: int = 0
    failed_updates: int = 0
    wasted_updates: int = 0
    saved_updates: int = 0
    good_updates: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the bill.

    Attributes:
        because: The arithmetic and the assumptions in it, in words.
    """

    name: str
    value: Interval
    unit: str
    because: str

    def as_json(self) -> dict[str, Any]:
        low, high = self.value.ends
        words = {"name": self.name, "unit": self.unit, "because": self.because}
        return {**words, "low": low, "high": high}


def read_assumptions(path: Path) -> Assumptions:
    """Assumptions from a small YAML file, read strictly.

    Raises:
        RuleError: With the line of the first mistake.
    """
    try:
        mapped = read(path.read_bytes(), str(path))
    except OSError as error:
        raise RuleError(f"cannot be read: {error.strerror or error}", source=str(path)) from None
    names = [entry.name for entry in fields(Assumptions)]
    mapped.refuse_unknown(names, "a cost file")
    values: dict[str, Any] = {}
    for key in mapped.values:
        values[key] = mapped.text(key) if key == "currency" else _range(mapped, key)
    return replace(Assumptions(), **values)


def _range(mapped: Mapped, key: str) -> Interval:
    value = mapped.values[key]
    ends = value if isinstance(value, list) else [value, value]
    numbers = [end for end in ends if isinstance(end, int | float) and not isinstance(end, bool)]
    if len(ends) != 2 or len(numbers) != 2:
        raise mapped.wrong(key, "expected a number, or two as [low, high]")
    low, high = (float(end) for end in numbers)
    if not (math.isfinite(low) and math.isfinite(high) and 0.0 <= low <= high):
        raise mapped.wrong(key, "expected finite numbers from 0, the lower one first")
    if key in _SHARES and high > 1.0:
        raise mapped.wrong(key, "is a share, from 0 to 1")
    return Interval(low, high)


def bill(assumed: Assumptions, measured: Measured | None = None) -> list[Figure]:
    """Every figure, with what it was made of.

    Args:
        measured: What logs told, whose share of failed runs and of lost updates then takes the
            place of the assumed ones.
    """
    rate, why_rate = _failure_rate(assumed, measured)
    runs = assumed.runs_per_week * WEEKS
    failures = runs * rate
    hours, why_hours = _lost_hours(assumed, measured)
    time_lost = Interval(
        failures.low * (hours.low + assumed.debugging_hours.low),
        failures.high * (hours.high + assumed.debugging_hours.high),
    )
    figures = [
        Figure(
            "runs a year", runs, "runs", f"{_text(assumed.runs_per_week)} a week, {WEEKS} weeks"
        ),
        Figure("failures a year", failures, "runs", why_rate),
        Figure(
            "compute lost a year",
            failures * assumed.run_cost,
            assumed.currency,
            f"{_text(assumed.run_cost)} {assumed.currency} a run (assumed); a failed run is lost",
        ),
        Figure("training time lost per failure", hours, "hours", why_hours),
        Figure(
            "time lost a year, machines and people",
            time_lost,
            "hours",
            f"that, and {_text(assumed.debugging_hours)} hours of debugging each (assumed)",
        ),
    ]
    if assumed.hour_cost.high > 0.0:
        people = failures * assumed.debugging_hours * assumed.hour_cost
        why = f"{_text(assumed.hour_cost)} {assumed.currency} an hour (assumed)"
        figures.append(Figure("people's time lost a year", people, assumed.currency, why))
    return [*figures, *_risks(assumed, failures), *_savings(assumed, measured, failures)]


def _risks(assumed: Assumptions, failures: Interval) -> list[Figure]:
    """The incident report's risks: no way back, a run of days lost, a bad model in use."""
    lost = _percent(assumed.checkpoint_lost)
    unnoticed = failures * assumed.unnoticed
    why = f"{_percent(assumed.unnoticed)} of the failures are not noticed (assumed)"
    ends = (
        (assumed.run_cost.low, assumed.run_hours.low),
        (assumed.run_cost.high, assumed.run_hours.high),
    )
    hourly = sorted(cost / hours if hours else 0.0 for cost, hours in ends)
    figures = [
        Figure(
            "failures without a way back a year",
            failures * assumed.checkpoint_lost,
            "runs",
            f"{lost} of the failures leave no checkpoint of use (assumed)",
        ),
        Figure(
            "largest single loss",
            assumed.longest_run_hours * Interval(*hourly),
            assumed.currency,
            f"a run of {_text(assumed.longest_run_hours)} hours (assumed) at the price of an hour",
        ),
        Figure("bad models in use a year", unnoticed, "models", why),
    ]
    if assumed.bad_model_cost.high > 0.0:
        price = f"{_text(assumed.bad_model_cost)} {assumed.currency} each (assumed)"
        priced = unnoticed * assumed.bad_model_cost
        figures.append(Figure("cost of bad models in use a year", priced, assumed.currency, price))
    return figures


def _failure_rate(assumed: Assumptions, measured: Measured | None) -> tuple[Interval, str]:
    if measured is None or not measured.runs:
        return assumed.failure_rate, f"{_percent(assumed.failure_rate)} of the runs fail (assumed)"
    rate = wilson(measured.failures, measured.runs)
    return rate, (
        f"{measured.failures} of {measured.runs} runs in the logs failed, {_percent(rate)} "
        "(measured; Wilson, 95%)"
    )


def _lost_hours(assumed: Assumptions, measured: Measured | None) -> tuple[Interval, str]:
    if measured is None or not measured.failures:
        return assumed.lost_hours, f"{_text(assumed.lost_hours)} hours (assumed)"
    lost = _lost_share(assumed, measured)
    hours = lost * assumed.run_hours
    return hours, (
        f"{_percent(lost)} of a run's updates are lost (measured: {measured.wasted_updates:,} of "
        f"{measured.failed_updates:,} updates of failed runs came after the first bad one; the "
        f"good ones before it are lost with {_percent(assumed.checkpoint_lost)} of the "
        f"checkpoints, assumed), of {_text(assumed.run_hours)} hours a run (assumed)"
    )


def _lost_share(assumed: Assumptions, measured: Measured) -> Interval:
    total = max(measured.failed_updates, 1)
    ends = (
        (measured.wasted_updates + share * measured.good_updates) / total
        for share in (assumed.checkpoint_lost.low, assumed.checkpoint_lost.high)
    )
    return Interval(*ends)


def _savings(assumed: Assumptions, measured: Measured | None, failures: Interval) -> list[Figure]:
    """What halting and the pin would have saved; nothing can be said of it without logs."""
    if measured is None or not measured.failures:
        return []
    total = max(measured.failed_updates, 1)
    halted = measured.saved_updates / total
    kept_each = [
        max(measured.good_updates / measured.failures - between / 2, 0.0) * measured.failures
        for between in (
            assumed.updates_between_checkpoints.high,
            assumed.updates_between_checkpoints.low,
        )
    ]
    pinned = Interval(
        assumed.checkpoint_lost.low * kept_each[0] / total,
        assumed.checkpoint_lost.high * kept_each[1] / total,
    )
    compute = failures * assumed.run_cost
    return [
        Figure(
            "saved a year by halting",
            compute * halted,
            assumed.currency,
            f"{measured.saved_updates:,} of {measured.failed_updates:,} updates of failed runs "
            f'came after the update at which on_critical="halt" stops (measured)',
        ),
        Figure(
            "saved a year by the pin",
            compute * pinned,
            assumed.currency,
            f"{measured.good_updates:,} updates of failed runs were good (measured); of each run "
            f"half of {_text(assumed.updates_between_checkpoints)} updates between checkpoints is "
            f"done again, and {_percent(assumed.checkpoint_lost)} of the failures would have lost "
            "the checkpoint without it (assumed)",
        ),
    ]


def assumptions_json(assumed: Assumptions) -> Mapping[str, Any]:
    """Every assumption; ranges as their two ends."""
    ranges: dict[str, Any] = {}
    for entry in fields(Assumptions):
        value = getattr(assumed, entry.name)
        ranges[entry.name] = value.ends if isinstance(value, Interval) else value
    return ranges


def _text(between: Interval, form: str = "{:g}") -> str:
    return " to ".join(dict.fromkeys(form.format(end) for end in between.ends))


def _percent(between: Interval) -> str:
    return _text(between * 100, "{:.3g}%")
