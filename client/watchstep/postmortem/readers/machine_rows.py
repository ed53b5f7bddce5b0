"""Rows that a trainer prints for machines among its other lines: JSON objects, and CSV."""

from __future__ import annotations

from collections.abc import Mapping

from watchstep.postmortem.readers.columns import is_csv_head
from watchstep.postmortem.readers.counters import Counter, is_numbered
from watchstep.postmortem.readers.jsonlogs import mapping_row, parsed
from watchstep.postmortem.readers.logs import Log, Row
from watchstep.postmortem.readers.naming import flat_readings
from watchstep.postmortem.readers.plans import are_settings, is_reading, measured
from watchstep.postmortem.readers.tables import cells, columns_of, table_row


class MachineRows:
    """Reads such lines as the readers of whole files of them do.

    Args:
        log: Its `unit` is set by the first row.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._objects = Counter(log)
        self._columns: tuple[str, ...] = ()
        self._table = self._objects

    @property
    def in_table(self) -> bool:
        return bool(self._columns)

    def row(self, text: str) -> Row | None:
        """A line's row; one without readings for a table's head, None for any other line."""
        bare = text.strip()
        if bare[:1] == "{" and bare[-1:] == "}":
            return self._object_row(bare)
        if "," not in bare:
            return None
        if is_csv_head(bare):
            self._columns = columns_of(cells(bare, ",") or [], "")
            self._table = Counter(self._log, self._columns)
            return Row({})
        row = cells(bare, ",") if self._columns else None
        if row is None or len(row) != len(self._columns) or _is_prose(row):
            return None
        return table_row(self._columns, row, self._table)

    def _object_row(self, text: str) -> Row | None:
        mapping = parsed(text)
        if not isinstance(mapping, Mapping):
            return None
        readings = flat_readings(mapping)
        numbered = is_numbered(readings)
        trains = any(
            measured(name) or (numbered and is_reading(name, format(value, "g")))
            for name, value in readings.items()
        )
        return (
            mapping_row(mapping, self._objects) if trains and not are_settings(readings) else None
        )


def _is_prose(row: list[str]) -> bool:
    """Whether what commas part is no row of numbers, but words."""
    return any(" " in cell.strip() for cell in row) or not any(map(str.isdigit, "".join(row)))
