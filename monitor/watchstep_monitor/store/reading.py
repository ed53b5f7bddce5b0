"""Reading connections, whose failures are the store's trouble and not the caller's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from watchstep_monitor.service.errors import StorageTroubleError
from watchstep_monitor.store.footing import Footing

_FOOTING = "watchstep.footing"


def stand_on(engine: Engine, footing: Footing) -> None:
    """Have the files looked at before each reading of this engine."""
    engine.update_execution_options(**{_FOOTING: footing})


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection to read with.

    Raises:
        StorageTroubleError: The store cannot be read now.
    """
    footing: Footing | None = engine.get_execution_options().get(_FOOTING)
    trouble = None if footing is None else footing.trouble()
    if trouble is not None:
        raise StorageTroubleError(trouble)
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise StorageTroubleError("the store cannot be read") from error
