"""Moving an embedded store into PostgreSQL, in one transaction, checked row by row."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql
from sqlalchemy import Table
from sqlalchemy.engine import make_url

from watchstep.errors import SettingsError
from watchstep_monitor.store import schema
from watchstep_monitor.store.opening import StoreOptions, open_store, own_folder
from watchstep_monitor.store.read_connection import reason_of

ROWS_A_FETCH = 500
"""Rows held at a time; one holds up to 256 updates."""


@dataclass(frozen=True, slots=True)
class MovedTable:
    """One table that is the same on both sides.

    Attributes:
        sha256: Of all rows in the order of their keys.
    """

    table: str
    rows: int
    sha256: str


def move_embedded(source: str, target: StoreOptions) -> list[MovedTable]:
    """Copy every row of an embedded store into an empty PostgreSQL.

    The source is only read, and must not be in use. Nothing is committed unless every table
    then reads back with the same rows and the same hash.

    Args:
        source: `sqlite:///PATH`; PATH is the file of the store.
        target: With the database's URL; its schema is created if need be.

    Raises:
        SettingsError: One line: what is wrong with either side, or which table differs.
    """
    path = _source_path(source)
    open_store(target).close()
    assert target.database_url is not None
    url = make_url(target.database_url).set(drivername="postgresql")
    lock = own_folder(path.parent)
    try:
        with (
            closing(_opened(path)) as old,
            psycopg.connect(url.render_as_string(hide_password=False)) as new,
        ):
            _refuse_filled(new)
            return [_move(table, old, new) for table in schema.metadata.sorted_tables]
    except sqlite3.Error as error:
        raise SettingsError(f"{path}: the store cannot be read: {error}") from None
    except psycopg.Error as error:
        raise SettingsError(f"database_url: {reason_of(error)}") from None
    finally:
        lock.close()


def _source_path(source: str) -> Path:
    prefix = "sqlite:///"
    if not source.startswith(prefix) or not source[len(prefix) :]:
        raise SettingsError("db migrate-from: the source is sqlite:///PATH")
    path = Path(source[len(prefix) :])
    if not path.is_file():
        raise SettingsError(f"{path}: there is no store here")
    return path


def _opened(path: Path) -> sqlite3.Connection:
    # Not immutable: what a killed process left in the write-ahead log is part of the store.
    old = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)
    if old.execute("PRAGMA application_id").fetchone()[0] != schema.APPLICATION_ID:
        old.close()
        raise SettingsError(f"{path}: another program's database, not watchstep's")
    have = old.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    if have != schema.HEAD:
        old.close()
        raise SettingsError(f"{path}: schema {have}; bring it to {schema.HEAD} by `db upgrade`")
    old.execute("PRAGMA query_only=ON")
    return old


def _refuse_filled(new: psycopg.Connection[Any]) -> None:
    # Keeps out every other writer until the end of this transaction.
    new.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
    for table in schema.metadata.sorted_tables:
        query = sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(table.name))
        if new.execute(query).fetchone() is not None:
            raise SettingsError(f"database_url: table {table.name} is not empty")


def _move(table: Table, old: sqlite3.Connection, new: psycopg.Connection[Any]) -> MovedTable:
    names = [column.name for column in table.columns]
    into = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, names))
    )
    original = _Digest()
    with new.cursor() as cursor, cursor.copy(into) as copy:
        for row in original.passing(_rows_of(old, table, names)):
            copy.write_row(row)
    copied = _Digest()
    with _reading_back(new, table, names) as rows:
        for _ in copied.passing(rows):
            pass
    if (copied.rows, copied.sha256) != (original.rows, original.sha256):
        raise SettingsError(
            f"table {table.name}: {copied.rows} rows came back of {original.rows}, or others"
        )
    return MovedTable(table.name, copied.rows, copied.sha256)


def _rows_of(old: sqlite3.Connection, table: Table, names: list[str]) -> Iterator[tuple[Any, ...]]:
    # Names are the schema's own.
    order = ", ".join(column.name for column in table.primary_key.columns)
    cursor = old.execute(f"SELECT {', '.join(names)} FROM {table.name} ORDER BY {order}")
    while rows := cursor.fetchmany(ROWS_A_FETCH):
        yield from rows


@contextmanager
def _reading_back(
    new: psycopg.Connection[Any], table: Table, names: list[str]
) -> Iterator[Iterable[tuple[Any, ...]]]:
    keys = [
        # Texts in the order of their bytes, as SQLite has them.
        sql.SQL('{} COLLATE "C"' if column.type.python_type is str else "{}").format(
            sql.Identifier(column.name)
        )
        for column in table.primary_key.columns
    ]
    query = sql.SQL("SELECT {} FROM {} ORDER BY {}").format(
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.Identifier(table.name),
        sql.SQL(", ").join(keys),
    )
    with new.cursor(name=f"moved_{table.name}") as cursor:
        cursor.itersize = ROWS_A_FETCH
        cursor.execute(query)
        yield cursor


class _Digest:
    """Counts and hashes rows as they pass."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.rows = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def passing(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        for row in rows:
            # repr tells 1 from 1.0 and None from "", and writes every double exactly.
            self._hash.update(repr(row).encode("utf-8", "surrogatepass"))
            self.rows += 1
            yield row
