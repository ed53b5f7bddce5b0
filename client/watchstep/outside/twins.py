"""One quantity that two sources call by two names, as a console and TensorBoard's file do."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from watchstep.postmortem.readers.logs import agree

_MOST_STEPS = 1_024
"""Values of a metric that are remembered: a file may be written minutes after the console."""

_MOST_OF_A_KIND = 8
"""Names that are compared with one another; more of one ending are layers or heads."""


@dataclass
class _Told:
    """A metric as one or more sources tell it."""

    name: str
    sources: set[Hashable] = field(default_factory=set)
    values: dict[int, float] = field(default_factory=dict)

    def note(self, source: Hashable, step: int, value: float) -> None:
        self.sources.add(source)
        self.values[step] = value
        if len(self.values) > _MOST_STEPS:
            del self.values[next(iter(self.values))]


class Twins:
    """Finds names of one quantity: the same last part, the same role, and the same values.

    `episodic_return` on the console and `charts/episodic_return` in a file are one metric as long
    as no step has shown two values. What one source tells under both names are two.

    Args:
        canonical: The vocabulary's name for a metric.
        role: What kind of quantity a name is of.
    """

    def __init__(self, canonical: Callable[[str], str], role: Callable[[str], str]) -> None:
        self._canonical = canonical
        self._role = role
        self._kinds: dict[tuple[str, str], dict[str, _Told]] = {}
        self._agreed: set[frozenset[str]] = set()
        self._differed: set[frozenset[str]] = set()

    def name(self, source: Hashable, name: str, step: int | None, value: float) -> str:
        """The name under which a reading is told: its own, or the first one's of its twins."""
        role = self._role(name)
        kind = self._kinds.setdefault((name.rpartition("/")[2], role), {})
        metric = self._canonical(name)
        if role == "unknown" or (metric not in kind and len(kind) >= _MOST_OF_A_KIND):
            return name
        own = kind.setdefault(metric, _Told(name))
        if step is not None:
            own.note(source, step, value)
            self._compare(metric, kind, step, value)
        for earlier, twin in kind.items():
            if earlier == metric:
                break
            if self._are_one(metric, earlier):
                return twin.name
        return name

    def _are_one(self, metric: str, other: str) -> bool:
        pair = frozenset((metric, other))
        return pair in self._agreed and pair not in self._differed

    def _compare(self, metric: str, kind: dict[str, _Told], step: int, value: float) -> None:
        for other, twin in kind.items():
            seen = twin.values.get(step)
            if seen is not None and twin.sources.isdisjoint(kind[metric].sources):
                same = agree(seen, value)
                (self._agreed if same else self._differed).add(frozenset((metric, other)))
