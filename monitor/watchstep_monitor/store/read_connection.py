"""Reading connections, whose failures are the store's trouble and not the caller's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from watchstep_monitor.service.errors import StorageTroubleError
from watchstep_monitor.store.circuit_breaker import Reach
from watchstep_monitor.store.sqlite_file_check import Footing

_FOOTING = "watchstep.footing"
_REACH = "watchstep.reach"


def guard(engine: Engine, footing: Footing | None, reach: Reach | None) -> None:
    """Have readings of this engine refused at once while files are gone or the database is away."""
    engine.update_execution_options(**{_FOOTING: footing, _REACH: reach})


def reason_of(error: BaseException) -> str:
    """One short sentence without statements, parameters or paths."""
    lines = str(getattr(error, "orig", None) or error).splitlines()
    return (lines or [type(error).__name__])[0][:200]


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection to read with.

    Raises:
        StorageTroubleError: The store cannot be read now.
    """
    options = engine.get_execution_options()
    footing: Footing | None = options.get(_FOOTING)
    reach: Reach | None = options.get(_REACH)
    trouble = None if footing is None else footing.trouble()
    if trouble is not None:
        raise StorageTroubleError(trouble)
    try:
        with engine.connect() if reach is None else reach.connect(engine) as connection:
            yield connection
    except (SQLAlchemyError, ConnectionError) as error:
        raise StorageTroubleError("the store cannot be read") from error
