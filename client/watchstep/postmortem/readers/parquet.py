"""Parquet, as W&B exports a run's history: a row a step, a column a metric."""

from __future__ import annotations

from collections.abc import Iterator

from watchstep.errors import LogUnreadableError
from watchstep.postmortem.readers.counters import Counter
from watchstep.postmortem.readers.jsonlogs import mapping_row
from watchstep.postmortem.readers.logs import Log, Row

MAGIC = b"PAR1"
_ROWS = 1_000
"""Rows that are held in memory at a time."""


def rows(log: Log) -> Iterator[Row]:
    """The rows, with what is a number in each.

    Raises:
        LogUnreadableError: The library that could read it is not installed.
    """
    path = log.files[0]
    try:
        from pyarrow import parquet, types
    except ImportError:
        raise LogUnreadableError(
            f"{path}: Parquet is read with pyarrow: pip install pyarrow"
        ) from None
    counter = Counter(log)
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            names = [
                field.name
                for field in schema
                if types.is_integer(field.type) or types.is_floating(field.type)
            ]
            for batch in file.iter_batches(_ROWS, columns=names):
                for row in batch.to_pylist():
                    # A column is empty where the metric was not logged at that step.
                    yield mapping_row({k: v for k, v in row.items() if v is not None}, counter)
    except (OSError, ValueError) as error:
        log.tear(f"reading the table stopped: {str(error)[:200]}")
