"""Statements that go to PostgreSQL in one flight instead of one round trip each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

Statement = tuple[str, tuple[Any, ...]]
"""A statement in the driver's own form, and its parameters."""


class StaleGuardError(Exception):
    """A row that had to be there was not, or one that had not: someone else was faster."""


class NoPartitionError(Exception):
    """A row belongs to a week that has no partition yet."""


def send_together(connection: Connection, statements: Sequence[Statement]) -> None:
    """Send statements and wait once for all of their results.

    The first that fails stops those behind it, a COMMIT too; the caller ends the transaction
    by `roll_back`.

    Raises:
        StaleGuardError: See `guarded`; or a row with its key is there already.
        NoPartitionError: See there.
        OperationalError: Anything else.
    """
    _, failure = send_flight(connection, [statements])
    if failure is not None:
        raise failure


def send_flight(
    connection: Connection, transactions: Sequence[Sequence[Statement]]
) -> tuple[int, Exception | None]:
    """Send the statements of several transactions one after the other, and wait once.

    The first that fails stops its transaction and, without a trace, those behind it.

    Returns:
        How many came to the end of their statements, and, where it is not all of them, why the
        next one did not: see `send_together`.
    """
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    ends: list[psycopg.Cursor[Any]] = []
    failures: list[psycopg.Error] = []
    try:
        with raw.pipeline() as pipeline, raw.cursor() as cursor:
            try:
                for statements in transactions:
                    for text, values in statements[:-1]:
                        cursor.execute(text, values or None)
                    # One of its own: what it holds in the end tells whether it came so far.
                    ends.append(raw.cursor())
                    ends[-1].execute(statements[-1][0], statements[-1][1] or None)
                pipeline.sync()
            except psycopg.Error as error:
                # Raised in here the driver would log a warning as well, once for each time that
                # another replica was faster.
                failures.append(error)
    except psycopg.Error as error:
        failures.append(error)
    if not failures:
        return len(transactions), None
    return sum(end.statusmessage is not None for end in ends), _meaning(failures[0])


def find_absent(connection: Connection, trace: str, keys: Mapping[str, int]) -> frozenset[str]:
    """The runs of which there is no trace, each looked for in a transaction of its own.

    Args:
        connection: Without an open transaction.
        trace: Takes the run's key twice.
        keys: By run.

    Raises:
        OperationalError: The database did not answer.
    """
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    try:
        looks: list[tuple[str, psycopg.Cursor[Any]]] = []
        with raw.pipeline() as pipeline:
            for run, key in keys.items():
                looks.append((run, raw.execute(trace, (key, key))))
                # Without it all that is sent is one transaction.
                pipeline.sync()
        return frozenset(run for run, look in looks if look.fetchone() is None)
    except psycopg.Error as error:
        raise OperationalError("a pipeline", None, error) from error


def _meaning(error: psycopg.Error) -> Exception:
    if isinstance(error, psycopg.errors.DivisionByZero | psycopg.errors.UniqueViolation):
        return StaleGuardError()
    # What PostgreSQL calls a row that no partition takes is a violated check.
    kind = NoPartitionError() if isinstance(error, psycopg.errors.CheckViolation) else None
    failure = kind or OperationalError("a pipeline", None, error)
    failure.__cause__ = error
    return failure


def roll_back(connection: Connection) -> None:
    """End a transaction by the driver's own call, which also forgets its prepared statements.

    A statement that was to be prepared behind one that failed never was, and the driver does not
    notice: with a ROLLBACK as plain text it would ask for that statement for ever.

    Raises:
        OperationalError: The connection is gone.
    """
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    try:
        raw.rollback()
    except psycopg.Error as error:
        raise OperationalError("a rollback", None, error) from error


def is_lost(connection: Connection) -> bool:
    """Whether nothing can be sent any more."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    return bool(raw.closed)


def guarded(change: str) -> str:
    """An UPDATE that is an error when it changes no row, for no one looks at its row count."""
    return f"WITH moved AS ({change} RETURNING 1) SELECT 1 / count(*) FROM moved"
