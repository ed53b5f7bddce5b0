"""One metric of one run in order, from the updates themselves or, where they do, from roll-ups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Select, func, select, tuple_

from watchstep_monitor.service.run_state.records import run_key
from watchstep_monitor.service.series import Readings, Series
from watchstep_monitor.store import schema
from watchstep_monitor.store.blocks import block_readings
from watchstep_monitor.store.damage import whole
from watchstep_monitor.store.read_connection import reading
from watchstep_monitor.store.rollups import MOST_POINTS, rollup_readings
from watchstep_monitor.store.source_numbers import MOST_STORED, source_and_attempt, stored_attempt

ROWS_A_READ = 500
"""Rows held at a time; no read transaction stays open between."""

POINTS_A_ROLLUP = 4
"""How many points of a chart one roll-up is good for: what thinning keeps of a stretch as long."""

_Place = tuple[int, int]
"""An attempt, as it is stored, and a number in it."""


@dataclass(frozen=True, slots=True)
class SeriesWalk:
    """What to read.

    Attributes:
        names: Of every shape of the run.
        places: Of the shapes that have the metric, where it is among the names.
        steps: The first and the last that are wanted.
    """

    engine: Engine
    run: str
    names: Mapping[int, tuple[str, ...]]
    places: Mapping[int, int]
    steps: tuple[int, int]
    source: str

    @property
    def _bounds(self) -> tuple[_Place, _Place]:
        """What lies before all that the source has stored, and after it."""
        return (stored_attempt(self.source, 0), -1), (stored_attempt(self.source, MOST_STORED), 0)

    def is_empty(self) -> bool:
        query = self._of_source(select(schema.updates.c.first_seq), schema.updates)
        with reading(self.engine) as connection:
            return connection.execute(query.limit(1)).first() is None

    def series(self, most: int | None) -> Series:
        """Every point, or what thinning to `most` points needs to see; see the port."""
        if most is not None:
            table = schema.rollups
            with reading(self.engine) as connection:
                there = connection.execute(self._within(select(func.count()), table)).scalar_one()
            if there * POINTS_A_ROLLUP >= most:
                return Series(self._rolled_up(), whole=False)
        return Series(self._raw(*self._bounds), whole=True)

    def _rolled_up(self) -> Iterator[Readings]:
        after, end = self._bounds
        for row in whole(self.run, self._rows(schema.rollups, after, end)):
            first, last = (row.attempt, row.first_seq), (row.attempt, row.last_seq)
            if first != (after[0], after[1] + 1):
                yield from self._raw(after, first)
            _, attempt = source_and_attempt(row.attempt)
            rolled = rollup_readings(row, attempt, self.places[row.shape])
            if self._is_inside(row) and len(rolled.values) < MOST_POINTS:
                yield rolled
            else:
                yield from self._raw((first[0], first[1] - 1), (last[0], last[1] + 1))
            after = last
        yield from self._raw(after, end)

    def _is_inside(self, row: Any) -> bool:
        return bool(self.steps[0] <= row.least_step and row.greatest_step <= self.steps[1])

    def _raw(self, after: _Place, before: _Place) -> Iterator[Readings]:
        """The readings of all updates between two places, both excluded."""
        for row in whole(self.run, self._rows(schema.updates, after, before)):
            width = len(self.names[row.shape])
            yield block_readings(row, self.places[row.shape], width, self.steps)

    def _rows(self, table: Any, after: _Place, before: _Place) -> Iterator[Any]:
        place = tuple_(table.c.attempt, table.c.first_seq)
        while True:
            query = (
                self._within(select(table), table)
                .where(place > after, place < before)
                .order_by(table.c.attempt, table.c.first_seq)
                .limit(ROWS_A_READ)
            )
            with reading(self.engine) as connection:
                rows: Sequence[Any] = connection.execute(query).all()
            yield from rows
            if len(rows) < ROWS_A_READ:
                return
            after = (rows[-1].attempt, rows[-1].first_seq)

    def _within(self, query: Select[Any], table: Any) -> Select[Any]:
        low, high = self.steps
        return self._of_source(query, table).where(
            table.c.least_step <= high,
            table.c.greatest_step >= low,
        )

    def _of_source(self, query: Select[Any], table: Any) -> Select[Any]:
        before, after = self._bounds
        return query.where(
            table.c.run_key == run_key(self.run),
            table.c.shape.in_(self.places),
            table.c.attempt >= before[0],
            table.c.attempt < after[0],
        )
