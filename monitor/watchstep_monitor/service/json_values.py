"""Values as plain JSON: non-finite numbers become the strings of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from watchstep.wire.text import number_to_json
from watchstep_monitor.service.clock import rfc3339


def plain(value: Any) -> Any:
    """Anything made of dicts, lists, numbers, texts and datetimes, ready for `json.dumps`."""
    if isinstance(value, float):
        return number_to_json(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, datetime):
        return rfc3339(value)
    return value
