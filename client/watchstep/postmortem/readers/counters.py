"""Which number of a row says where in training it stands, and when it was written."""

from __future__ import annotations

import datetime
import functools
import math
import re
from collections.abc import Container, Iterable, Mapping
from typing import Any

from watchstep.postmortem.readers.logs import Log, Row, Unit
from watchstep.postmortem.readers.naming import number, whole

_ITERATIONS = (
    *("time/iterations", "update", "iteration", "iterations", "iter", "training_iteration"),
    *("nupdates", "misc/nupdates", "Iteration", "Diagnostics/Iteration", "learning_iteration"),
    *("time/iteration", "train/iteration"),
)
_STEPS = (
    *("current_steps", "step", "global_step", "_step", "train/global_step"),
    *("trainer/global_step", "steps", "time/total_timesteps", "total_timesteps", "total_steps"),
    *("timesteps", "env_steps", "num_env_steps_sampled_lifetime", "frame", "frames", "it"),
    *("opt_step", "episode", "Step", "kimg", "round", "generation"),
)
_NESTED = ("step", "global_step", "iteration")
_EPOCHS = ("epoch", "Epoch")
_EVALUATIONS = ("val", "test", "eval", "valid", "validation", "dev")
_PARTS = ("mode", "split", "phase", "stage", "subset")
"""Keys of JSON logs under which a row says what it is about, and what it says if not training."""
_ENOUGH_ROWS = 3
_FRACTION = "global_step/max_steps"
"""ms-swift's counter, as in "5/547"."""

_SNAPSHOT = re.compile(r"(\d{1,15})\.pkl$")
"""StyleGAN's `network-snapshot-000200.pkl`, by thousands of images."""

_WITHIN_EPOCHS = ("iter", "step", "it", "batch")
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
        self._last: int | None = None
        self._rows = 0
        self._dense: dict[str, int] = {}
        if columns:
            self._choose(columns)
            if not self._key and "epoch" in columns:
                self._key, log.unit = "epoch", "iteration"
            elif not self._key and "Epoch" in columns:
                self._key, log.unit = "Epoch", "iteration"

    def row(self, readings: dict[str, float], raw: Mapping[str, object]) -> Row:
        """The row for one mapping; a bare counter is no reading and is taken out.

        Args:
            readings: The numbers in it; changed.
            raw: The mapping as it was printed, for clocks written as text.
        """
        if not self._key:
            self._choose(tuple(readings))
        value = readings.get(self._key)
        if value is None and isinstance(raw.get(_FRACTION), str):
            value = number(str(raw[_FRACTION]).partition("/")[0])
        if not self._key and (saved := _SNAPSHOT.search(str(raw.get("snapshot_pkl")))):
            value, self._log.unit = float(saved[1]), "step"
        if self._key and "/" not in self._key and self._key not in _EPOCHS:
            readings.pop(self._key, None)
        row = Row(readings, step=whole(value), time=_clock(readings, raw))
        says_part = not raw.keys().isdisjoint(_PARTS)
        if says_part and any(raw.get(key) in _EVALUATIONS for key in _PARTS):
            # It counts the batches of the evaluation, which say nothing about training.
            row.readings = {f"val_{name}": reading for name, reading in readings.items()}
            row.step = self._last
        if self._key in _WITHIN_EPOCHS:
            row.epoch = whole(readings.get("epoch"))
        self._last = row.step if row.step is not None else self._last
        return row

    def fill_gaps(self, readings: dict[str, float], values: Iterable[tuple[str, Any]]) -> None:
        """Put NaN where a loss is null that every row had until now.

        JSON has no NaN, and encoders that keep to the standard write null for it.

        Args:
            readings: The numbers of a row; changed.
            values: All that it holds, by name.
        """
        self._rows += 1
        for key, value in values:
            if not _may_be_null(key):
                continue
            if isinstance(value, int | float) or (value is None and self._dense.get(key)):
                self._dense[key] = self._dense.get(key, 0) + 1
            if value is None and self._dense.get(key) == self._rows > _ENOUGH_ROWS:
                readings[key] = math.nan
                self._log.note("null, where every row before had a loss, is read as NaN")

    def _choose(self, names: tuple[str, ...]) -> None:
        self._key, unit = numbered_by(names)
        if self._key:
            self._log.unit = unit
            return
        nested = [name for name in names if name.rpartition("/")[2] in _NESTED]
        if len(nested) == 1:  # `{"data": {"step": 5, "loss": 2.1}}`
            self._key, self._log.unit = nested[0], "step"


def numbered_by(names: Container[str], *, by_epoch: bool = False) -> tuple[str, Unit]:
    """Which of the names numbers a row, and what it counts; "" where none does."""
    epochs = (*_EPOCHS, "Itr") if by_epoch else ()
    candidates: tuple[tuple[str, Unit], ...] = (
        *((name, "iteration") for name in (*_ITERATIONS, *epochs)),
        *((name, "step") for name in _STEPS),
    )
    return next(((name, unit) for name, unit in candidates if name in names), ("", "row"))


def is_numbered(names: Container[str]) -> bool:
    """Whether one of the names counts updates, or epochs for want of them."""
    return bool(numbered_by(names)[0]) or any(name in names for name in _EPOCHS)


def table_number(table: dict[str, float]) -> tuple[int | None, Unit]:
    """What a table says about where it stands: the iteration, else the time steps."""
    key, unit = numbered_by(table, by_epoch=True)
    return whole(table.get(key)), unit


def epoch_seconds(text: str) -> float | None:
    """An ISO 8601 time as seconds since the epoch (UTC when it names no zone), or None."""
    try:
        moment = datetime.datetime.fromisoformat(text.strip().replace(",", "."))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()


@functools.lru_cache(maxsize=4_096)
def _may_be_null(name: str) -> bool:
    """Whether a null under this name may stand for a NaN."""
    return re.search(r"loss|grad_?norm", name, re.IGNORECASE) is not None


def _clock(readings: dict[str, float], raw: Mapping[str, object]) -> float | None:
    for key in () if raw.keys().isdisjoint(_TIMES) else _TIMES:
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
