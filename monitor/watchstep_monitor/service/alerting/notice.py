"""Notices as the outbox keeps them: plain JSON and back, NaN included.

During a rolling upgrade replicas of two versions read what the other wrote. Code before schema 0004
refuses fields that it does not know, so those that came later are kept apart from the first ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from watchstep.wire.text import number_from_json
from watchstep_monitor.service.json_values import plain
from watchstep_monitor.service.ports import AlertView, Notice

_ALERT_FIELDS = frozenset(field.name for field in fields(AlertView))
_NOTICE_FIELDS = frozenset(field.name for field in fields(Notice))


_FIRST_FIELDS = frozenset(
    {
        *("id", "run", "project", "attempt", "incident", "edge", "stage", "diagnosis"),
        *("confidence", "alerts", "readings", "checkpoint", "trainer_did", "links", "at", "status"),
    }
)
"""Fields that code of every version knows."""


def parted(written: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a written notice that code of every version knows, and the others."""
    first = {name: value for name, value in written.items() if name in _FIRST_FIELDS}
    return first, {name: value for name, value in written.items() if name not in _FIRST_FIELDS}


def notice_to_json(notice: Notice) -> dict[str, Any]:
    written: dict[str, Any] = plain(asdict(notice))
    for alert in written["alerts"]:
        if not alert["subject"]:
            del alert["subject"]
    return written


def notice_from_json(written: Mapping[str, Any]) -> Notice:
    fields_here = {name: value for name, value in written.items() if name in _NOTICE_FIELDS}
    return Notice(
        **{
            **fields_here,
            "alerts": tuple(_alert(alert) for alert in written["alerts"]),
            "readings": {
                name: number_from_json(value) for name, value in written["readings"].items()
            },
            "at": datetime.fromisoformat(written["at"]),
            "heard_at": _moment(written.get("heard_at")),
        }
    )


def _alert(written: Mapping[str, Any]) -> AlertView:
    fields_here = {name: value for name, value in written.items() if name in _ALERT_FIELDS}
    return AlertView(
        **{
            **fields_here,
            "since": datetime.fromisoformat(written["since"]),
            "resolved_at": _moment(written["resolved_at"]),
            "reading": number_from_json(written["reading"]),
        }
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
