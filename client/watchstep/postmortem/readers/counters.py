"""Which number of a row says where in training it stands, and when it was written."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping

from watchstep.postmortem.readers.logs import Log, Row, Unit
from watchstep.postmortem.readers.naming import number, whole

_ITERATIONS = (
    "time/iterations",
    "update",
    "iteration",
    "iterations",
    "iter",
    "training_iteration",
    "learning_iteration",
    "time/iteration",
    "train/iteration",
)
_STEPS = (
    "step",
    "global_step",
    "_step",
    "train/global_step",
    "trainer/global_step",
    "steps",
    "time/total_timesteps",
    "total_timesteps",
    "total_steps",
    "timesteps",
    "env_steps",
    "num_env_steps_sampled_lifetime",
    "frame",
    "frames",
    "it",
    "opt_step",
    "episode",
    "Step",
)
_TIMES = ("_timestamp", "timestamp", "time", "wall_time", "Wall_time", "created_at", "date")
_EARLIEST = 946_684_800.0
"""2000-01-01: a smaller "time" is a duration, not a clock."""


class Counter:
    """Reads a row's own number, always from the same key once one was found.

    Args:
        log: Its `unit` is set when the key is found.
        columns: The names of a table's columns, where they are known beforehand: an epoch
            then counts if nothing better is there.
    """

    def __init__(self, log: Log, columns: tuple[str, ...] = ()) -> None:
        self._log = log
        self._key = ""
        if columns:
            self._choose(columns)
            if not self._key and "epoch" in columns:
                self._key, log.unit = "epoch", "iteration"

    def row(self, readings: dict[str, float], raw: Mapping[str, object]) -> Row:
        """The row for one mapping; a bare counter is no reading and is taken out.

        Args:
            readings: The numbers in it; changed.
            raw: The mapping as it was printed, for clocks written as text.
        """
        if not self._key:
            self._choose(tuple(readings))
        value = readings.get(self._key)
        if self._key and "/" not in self._key and self._key != "epoch":
            readings.pop(self._key, None)
        return Row(readings, number=whole(value), time=_clock(readings, raw))

    def _choose(self, names: tuple[str, ...]) -> None:
        units: tuple[tuple[tuple[str, ...], Unit], ...] = (
            (_ITERATIONS, "iteration"),
            (_STEPS, "step"),
        )
        for keys, unit in units:
            for key in keys:
                if key in names:
                    self._key, self._log.unit = key, unit
                    return


def epoch_seconds(text: str) -> float | None:
    """An ISO 8601 time as seconds since the epoch (UTC when it names no zone), or None."""
    try:
        moment = datetime.datetime.fromisoformat(text.strip().replace(",", "."))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()


def _clock(readings: dict[str, float], raw: Mapping[str, object]) -> float | None:
    for key in _TIMES:
        value = raw.get(key)
        if value is None:
            continue
        seconds = number(value)
        if seconds is None and isinstance(value, str):
            seconds = epoch_seconds(value)
        if seconds is not None and math.isfinite(seconds) and seconds > _EARLIEST:
            while seconds > 1e11:  # Milliseconds, microseconds or nanoseconds.
                seconds /= 1000
            readings.pop(key, None)
            return seconds
    return None
