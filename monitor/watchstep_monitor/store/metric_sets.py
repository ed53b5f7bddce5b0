"""Which metrics an update's packed readings belong to: one row per set of names and run."""

from __future__ import annotations

import threading

MOST_RUNS = 20_000
"""Runs whose shapes are remembered; beyond it the memory is emptied and filled anew."""

Codes = dict[tuple[str, ...], int]
"""Names to number, of one run."""


class Shapes:
    """What transactions remember of the shapes of runs. Thread-safe for different runs.

    Where replicas share a store it may be behind: a number that is missing has to be looked for.
    """

    def __init__(self) -> None:
        self._codes: dict[int, Codes] = {}
        self._created_us: dict[int, int] = {}
        self._lock = threading.Lock()

    def of(self, key: int) -> Codes | None:
        """What is remembered of a run, to which its transaction may add; None if nothing is."""
        return self._codes.get(key)

    def belong_to(self, key: int, created_us: int) -> None:
        """Forget what was remembered of another run of the same name, which was deleted."""
        with self._lock:
            if self._created_us.get(key, created_us) != created_us:
                self._codes.pop(key, None)
            if len(self._created_us) >= MOST_RUNS:
                self._created_us.clear()
            self._created_us[key] = created_us

    def remember(self, key: int, codes: Codes) -> None:
        """Take over what was read, or made, of a run."""
        with self._lock:
            if len(self._codes) >= MOST_RUNS:
                self._codes.clear()
            self._codes[key] = codes

    def forget(self, key: int) -> None:
        """Have the run read anew: what was remembered may never have been stored."""
        with self._lock:
            self._codes.pop(key, None)
