"""Warnings and log lines of the trainer, captured so that rules can match them.

Nothing is configured: no handler, no level, no filter. The record factory and
`warnings.showwarning` are wrapped while a watch is open, pass everything on unchanged and
are put back when the last watch ends.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections import deque
from typing import Any

from watchstep.boundary import text_of

MOST_TEXTS = 20
LONGEST_TEXT = 500


class CapturedLogs:
    """The newest texts since they were last taken; bounded, and safe from any thread.

    Attributes:
        newest: The newest ones, taken or not.
    """

    def __init__(self) -> None:
        self.texts: deque[tuple[str, str]] = deque(maxlen=MOST_TEXTS)
        self.newest: deque[str] = deque(maxlen=MOST_TEXTS)
        self._seen: set[str] = set()

    def hear(self, level: str, text: str) -> None:
        """Remember one text; what was said before since the last `take` is not repeated."""
        text = text[:LONGEST_TEXT]
        self.newest.append(text)
        if text not in self._seen and len(self._seen) < MOST_TEXTS:
            self._seen.add(text)
            self.texts.append((level, text))

    def take(self) -> dict[str, Any] | None:
        if not self.texts:
            return None
        heard = list(self.texts)
        self.texts.clear()
        self._seen.clear()
        level = "error" if any(level == "error" for level, _ in heard) else "warning"
        return {"kind": "log", "level": level, "text": "\n".join(text for _, text in heard)}


_lock = threading.Lock()
_listeners: list[CapturedLogs] = []
_before: list[Any] = []


def listen(listener: CapturedLogs) -> None:
    """Begin to overhear."""
    with _lock:
        _listeners.append(listener)
        if len(_listeners) == 1:
            _before[:] = [logging.getLogRecordFactory(), warnings.showwarning]
            logging.setLogRecordFactory(_record)
            warnings.showwarning = _showwarning


def stop(listener: CapturedLogs) -> None:
    """End it; what was wrapped is put back unless somebody wrapped it again meanwhile."""
    with _lock:
        if listener in _listeners:
            _listeners.remove(listener)
        if not _listeners and _before:
            if logging.getLogRecordFactory() is _record:
                logging.setLogRecordFactory(_before[0])
            if warnings.showwarning is _showwarning:
                warnings.showwarning = _before[1]
            _before.clear()


def _record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    factory = _before[0] if _before else logging.LogRecord
    record: logging.LogRecord = factory(*args, **kwargs)
    if record.levelno >= logging.WARNING and not record.name.startswith("watchstep"):
        unsaid = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        text = text_of(record.getMessage, unsaid)
        level = "error" if record.levelno >= logging.ERROR else "warning"
        for listener in _listeners:
            listener.hear(level, text)
    return record


def _showwarning(message: Any, category: Any, *args: Any, **kwargs: Any) -> None:
    for listener in _listeners:
        text = text_of(lambda: f"{category.__name__}: {message}", category.__name__)
        listener.hear("warning", text)
    if _before:
        _before[1](message, category, *args, **kwargs)
