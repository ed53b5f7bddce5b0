"""The driver's own statements for what batches write.

Building them anew each time took longer than running them.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Dialect, Table

from watchstep_monitor.store import schema
from watchstep_monitor.store.postgres.pipeline import guarded
from watchstep_monitor.store.row_mapping import ADVANCED, PROGRESS, column_of

_GUARD = ("run_key", "attempt", "last_seq", "version")
_RUN = ", ".join(column.name for column in schema.runs.columns)
_FILLS_ITSELF = frozenset({"thinned", "week"})


class Statements:
    """One database's; never changes.

    Attributes:
        insert: By table, what adds a row; its parameters are `columns`, in order.
        replace: By table, what adds a row or puts it in the place of the one with its key;
            its parameters are the columns in order.
        forget_deleted: Takes away what is remembered of a deleted run; its parameter is the key.
        load_run: A run's row by its key; on PostgreSQL it locks it.
        deleted_run: Name and sessions of a deleted run, by its key.
        shapes: Names and number of every shape of a run, by its key.
        trace_of_run: Finds a row where there is or was a run of a key, which it takes twice.
        advance_run: By the fields that it changes; its parameters are these, then `_GUARD`'s. On
            PostgreSQL it fails where it finds no row, see `pipeline.guarded`.
    """

    def __init__(self, dialect: Dialect) -> None:
        mark = "%s" if dialect.paramstyle in {"format", "pyformat"} else "?"
        tables = schema.metadata.tables.values()
        self.insert = {table.name: _inserting(table, mark) for table in tables}
        self.replace = {table.name: _replacing(table, mark) for table in tables}
        is_postgres = dialect.name == "postgresql"
        keyed = f"WHERE run_key = {mark}"
        # The names are the schema's own.
        self.forget_deleted = f"DELETE FROM deleted_runs {keyed}"
        self.load_run = f"SELECT {_RUN} FROM runs {keyed}{' FOR UPDATE' * is_postgres}"
        self.deleted_run = f"SELECT run, sessions FROM deleted_runs {keyed}"
        self.shapes = f"SELECT names, shape FROM shapes {keyed}"
        self.trace_of_run = (
            f"SELECT 1 FROM runs {keyed} UNION ALL SELECT 1 FROM deleted_runs {keyed}"
        )
        self.advance_run = {
            fields: _advancing(fields, mark, guards=is_postgres) for fields in (ADVANCED, PROGRESS)
        }


def _advancing(fields: Sequence[str], mark: str, *, guards: bool) -> str:
    settings = ", ".join(f"{column_of(field)} = {mark}" for field in fields)
    guard = " AND ".join(f"{name} = {mark}" for name in _GUARD)
    # The names are the schema's own.
    advance = f"UPDATE runs SET {settings}, thinned = 0 WHERE {guard}"
    return guarded(advance) if guards else advance


def columns(table: Table) -> list[str]:
    """What is written of a table; what fills itself is left out."""
    return [column.name for column in table.columns if column.name not in _FILLS_ITSELF]


def _inserting(table: Table, mark: str) -> str:
    names = columns(table)
    marks = ", ".join(mark for _ in names)
    # The names are the schema's own.
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})"


def _replacing(table: Table, mark: str) -> str:
    names = [column.name for column in table.columns]
    key = [column.name for column in table.primary_key]
    changed = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key)
    # The names are the schema's own.
    return (
        f"INSERT INTO {table.name} ({', '.join(names)})"
        f" VALUES ({', '.join(mark for _ in names)})"
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changed}"
    )
