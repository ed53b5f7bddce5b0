"""Attributes of a stranger's objects that are another thing for a while."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any


class Replaced(ExitStack):
    """Closing it puts every attribute back as it was, the newest first."""

    def replace(self, place: Any, name: str, value: Any) -> None:
        had = name in vars(place)
        before = getattr(place, name)
        setattr(place, name, value)
        self.callback(lambda: setattr(place, name, before) if had else delattr(place, name))
