"""Which metrics an update's packed readings belong to: one row per set of names and run."""

from __future__ import annotations

import threading

MOST_RUNS = 20_000
"""Runs whose shapes are remembered; beyond it the memory is emptied and filled anew."""

Codes = dict[tuple[str, ...], int]
"""Names to number, of one run."""


class Shapes:
    """What transactions remember of the shapes of runs. Thread-safe for different runs.

    All that is stored of a run, for as long as its row is at the version that this process knows:
    whoever adds a shape advances the row in the same transaction. Once the row is read anew it is
    forgotten.
    """

    def __init__(self) -> None:
        self._codes: dict[int, Codes] = {}
        self._lock = threading.Lock()

    def of(self, key: int) -> Codes | None:
        """What is remembered of a run, to which its transaction may add; None if nothing is."""
        return self._codes.get(key)

    def remember(self, key: int, codes: Codes) -> None:
        """Take over what was read, or made, of a run."""
        with self._lock:
            if len(self._codes) >= MOST_RUNS:
                self._codes.clear()
            self._codes[key] = codes

    def forget(self, key: int) -> None:
        """Have the run's read anew: there may be others, or what was made was never stored."""
        with self._lock:
            self._codes.pop(key, None)
