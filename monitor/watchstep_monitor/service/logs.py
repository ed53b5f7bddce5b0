"""Logs for operators: one event a line on stderr, as JSON or for people."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class JsonLines(logging.Formatter):
    """One JSON object a line; fields given as `extra` beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_fields(record, self), default=str, ensure_ascii=True)


class ConsoleLines(logging.Formatter):
    """Time, level, message, and fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record, self)
        head = f"{fields.pop('ts')} {fields.pop('level'):7} {fields.pop('event')}"
        fields.pop("logger")
        trace = fields.pop("exception", "")
        shown = " ".join(f"{name}={_one_line(value)}" for name, value in fields.items())
        return f"{head} {shown}".rstrip() + (f"\n{trace}" if trace else "")


def configure(level: str, style: Literal["json", "console"]) -> None:
    """Send everything from `level` up to stderr. Called once, by the command that serves."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else ConsoleLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # One line a request is noise at 1,000 requests a second; gauges count them.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    for noisy in ("httpx", "httpcore", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _fields(record: logging.LogRecord, formatter: logging.Formatter) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "event": record.getMessage(),
        "logger": record.name,
    }
    fields.update((name, value) for name, value in vars(record).items() if name not in _OWN)
    if record.exc_info:
        fields["exception"] = formatter.formatException(record.exc_info)
    return fields


def _one_line(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text else json.dumps(text)
