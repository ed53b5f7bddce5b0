"""Which metrics an update's packed readings belong to: one row per set of names and run."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from sqlalchemy import Dialect, Table, insert, select

from watchstep_monitor.store import schema
from watchstep_monitor.store.pipeline import guarded

if TYPE_CHECKING:
    from watchstep_monitor.store.transaction import SqlTransaction

MOST_RUNS = 20_000
"""Runs whose shapes are remembered; beyond it the memory is emptied and filled anew."""


ADVANCED_COLUMNS = (
    "trainer",
    "attempt",
    "last_seq",
    "version",
    "status",
    "step",
    "time",
    "updates",
    "lost",
    "heard_us",
    "ended_us",
    "timeline_us",
    "checkpoint",
    "trainer_did",
    "error",
)
"""Columns of a run that change with its updates."""


_REPLACED = (
    schema.attempts,
    schema.run_states,
    schema.alerts,
    schema.incidents,
    schema.commands,
)


class Shapes:
    """Remembers the shapes of runs. Thread-safe for different runs.

    Attributes:
        insert_updates, insert_rollups, advance_run: The driver's own statements for what
            every batch does; building them anew each time took longer than running them. On
            PostgreSQL `advance_run` fails where it finds no row, see `pipeline.guarded`.
        replace_row: By table, the statement that inserts a row or replaces the one with its
            key; its parameters are the columns in order.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._codes: dict[int, dict[tuple[str, ...], int]] = {}
        self._lock = threading.Lock()
        mark = "%s" if dialect.paramstyle in {"format", "pyformat"} else "?"
        # The week fills itself.
        columns = [column.name for column in schema.updates.columns if column.name != "week"]
        self.insert_updates = _inserting("updates", columns, mark)
        columns = [column.name for column in schema.rollups.columns]
        self.insert_rollups = _inserting("rollups", columns, mark)
        self.replace_row = {table.name: _replacing(table, mark) for table in _REPLACED}
        settings = ", ".join(f"{name} = {mark}" for name in ADVANCED_COLUMNS)
        guard = " AND ".join(
            f"{name} = {mark}" for name in ("run_key", "attempt", "last_seq", "version")
        )
        advance = f"UPDATE runs SET {settings}, thinned = 0 WHERE {guard}"  # noqa: S608 - see above
        self.advance_run = guarded(advance) if dialect.name == "postgresql" else advance

    def of(self, transaction: SqlTransaction, key: int) -> dict[tuple[str, ...], int]:
        """Names to number, of one run."""
        codes = self._codes.get(key)
        if codes is None:
            query = select(schema.shapes.c.names, schema.shapes.c.shape).where(
                schema.shapes.c.run_key == key
            )
            rows = transaction.connection.execute(query)
            codes = {tuple(json.loads(row.names)): row.shape for row in rows}
            transaction.on_rollback(lambda: self._forget(key))
            with self._lock:
                if len(self._codes) >= MOST_RUNS:
                    self._codes.clear()
                self._codes[key] = codes
        return codes

    def add(self, transaction: SqlTransaction, key: int, names: tuple[str, ...]) -> int:
        """Store a new set of names; returns its number."""
        # Read anew: another replica may have added shapes since this one looked.
        self._forget(key)
        codes = self.of(transaction, key)
        if names in codes:
            return codes[names]
        shape = max(codes.values(), default=0) + 1
        row = {"run_key": key, "shape": shape, "names": json.dumps(names)}
        transaction.connection.execute(insert(schema.shapes), row)
        transaction.on_rollback(lambda: self._forget(key))
        codes[names] = shape
        return shape

    def names(self, transaction: SqlTransaction, key: int, shape: int) -> tuple[str, ...]:
        """The names of a number."""
        for _ in range(2):
            for names, number in self.of(transaction, key).items():
                if number == shape:
                    return names
            # Another replica may have added it since this one looked.
            self._forget(key)
        raise LookupError(f"shape {shape} is not stored")

    def _forget(self, key: int) -> None:
        with self._lock:
            self._codes.pop(key, None)


def _inserting(table: str, columns: list[str], mark: str) -> str:
    marks = ", ".join(mark for _ in columns)
    # The names are the schema's own.
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - see above


def _replacing(table: Table, mark: str) -> str:
    columns = [column.name for column in table.columns]
    key = [column.name for column in table.primary_key]
    changed = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    # The names are the schema's own.
    return (
        f"INSERT INTO {table.name} ({', '.join(columns)})"  # noqa: S608 - see above
        f" VALUES ({', '.join(mark for _ in columns)})"
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changed}"
    )
