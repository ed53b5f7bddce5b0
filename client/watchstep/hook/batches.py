"""Which batches of data spoilt a step, remembered beside the spool over restarts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_MOST_NOW = 4_096
_MOST_SHOWN = 64
_MOST_BAD = 1_000_000


class Batches:
    """The ids of the batches of this update, and of those that were bad.

    Args:
        path: A file with one JSON object a line; made when the first batch is bad.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._now: list[str] = []
        self._bad: set[str] | None = None

    @property
    def waiting(self) -> bool:
        return bool(self._now)

    def begin(self, ids: Any) -> None:
        self._now.extend(_texts(ids))
        del self._now[:-_MOST_NOW]

    def is_bad(self, ids: Any) -> bool:
        """Whether any of these was in a batch that was bad, in this start or an earlier one."""
        bad = self._known_bad()
        return any(text in bad for text in _texts(ids))

    def end(self, *, step: int, reason: str) -> dict[str, Any]:
        """The update is over.

        Args:
            reason: Why its batches are bad; "" where they are not.

        Returns:
            What the update's event tells of them; empty where there is nothing to tell.
        """
        ids, self._now = self._now, []
        if not reason or not ids:
            return {}
        bad = self._known_bad()
        if len(bad) < _MOST_BAD:
            bad.update(ids)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "reason": reason, "ids": ids}) + "\n")
        shown: dict[str, Any] = {"batch": ids[:_MOST_SHOWN]}
        if len(ids) > _MOST_SHOWN:
            shown["batch_size"] = len(ids)
        return shown

    def _known_bad(self) -> set[str]:
        if self._bad is None:
            self._bad = set()
            for line in self._lines():
                # A kill in the middle of a write leaves half a line.
                with contextlib.suppress(ValueError, TypeError, AttributeError):
                    self._bad.update(map(str, json.loads(line).get("ids", ())))
        return self._bad

    def _lines(self) -> list[str]:
        try:
            return self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []


def _texts(ids: Any) -> Iterable[str]:
    """Ids as texts: of one, or of a list, array or tensor of them."""
    plain = ids.tolist() if hasattr(ids, "tolist") else ids
    if isinstance(plain, (str, bytes, int)) or not isinstance(plain, Iterable):
        return [str(plain)]
    return [str(member.item() if hasattr(member, "item") else member) for member in plain]
