"""Notices as the outbox keeps them: plain JSON and back, NaN included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from watchstep_monitor.service.json_values import plain, reading
from watchstep_monitor.service.ports import AlertView, Notice


def notice_to_json(notice: Notice) -> dict[str, Any]:
    """The notice as a JSON object."""
    written: dict[str, Any] = plain(asdict(notice))
    return written


def notice_from_json(written: Mapping[str, Any]) -> Notice:
    """The notice that `notice_to_json` wrote."""
    return Notice(
        **{
            **written,
            "alerts": tuple(_alert(alert) for alert in written["alerts"]),
            "readings": {name: reading(value) for name, value in written["readings"].items()},
            "at": datetime.fromisoformat(written["at"]),
        }
    )


def _alert(written: Mapping[str, Any]) -> AlertView:
    resolved = written["resolved_at"]
    return AlertView(
        **{
            **written,
            "since": datetime.fromisoformat(written["since"]),
            "resolved_at": None if resolved is None else datetime.fromisoformat(resolved),
            "reading": reading(written["reading"]),
        }
    )
