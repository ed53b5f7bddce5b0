"""What happens, as it happens: one bus that whoever is concerned subscribes to.

Published by the run service and by the delivery worker, after what they tell of is durable. The
delivery worker, the gauges, the silences, other replicas and the event streams subscribe.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from watchstep.core.updates import Severity
from watchstep_monitor.service.clock import to_us
from watchstep_monitor.service.ports import (
    Clock,
    Dead,
    Delivered,
    Delivery,
    Outcome,
    Retry,
)

REMEMBERED = 2_000
"""Happenings kept for a listener that was away for a moment; older ones are in timelines."""

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that people are shown as it happens.

    Attributes:
        id: Microseconds since the epoch, strictly rising in this process; what a listener
            names to go on from there.
        kind: "transition", "status", "stage", "event", "attempt", "command", "acknowledged"
            or "delivery".
        project: Decides who may hear of it.
    """

    id: int
    kind: str
    run: str
    project: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AlertChanged:
    """An alert entered a state: "pending", "firing" or "resolved"."""

    severity: Severity
    state: str


@dataclass(frozen=True, slots=True)
class DeliveriesDue:
    """There is something new in the outbox, or something of it may be sent again."""


@dataclass(frozen=True, slots=True)
class SilencesChanged:
    """A silence was made or ended here."""


@dataclass(frozen=True, slots=True)
class RulesRead:
    """The rule files were read again; `ok` is False where the old rules stay.

    Attributes:
        asked_here: Whether someone asked this process, so that other replicas have to follow.
    """

    ok: bool
    asked_here: bool = True


@dataclass(frozen=True, slots=True)
class DeliveryAttempted:
    """One attempt at a delivery ended: "delivered", "retry", "dead" or "gone"."""

    receiver: str
    result: str
    seconds: float


@dataclass(frozen=True, slots=True)
class OutboxTrouble:
    """The outbox could not be read or written."""


class EventBus:
    """Thread-safe; listeners are called in the publishing thread and must return at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._recent: deque[Happening] = deque(maxlen=REMEMBERED)
        self._listeners: dict[type, tuple[Callable[[Any], None], ...]] = {}
        self._last_id = 0

    def subscribe(self, kind: type[E], listener: Callable[[E], None]) -> None:
        with self._lock:
            self._listeners[kind] = (*self._listeners.get(kind, ()), listener)

    def publish(self, event: object) -> None:
        for listener in self._listeners.get(type(event), ()):
            listener(event)

    def happened(
        self, kind: str, run: str, project: str, detail: Mapping[str, Any], at_us: int | None = None
    ) -> None:
        """Remember and publish a `Happening`.

        Args:
            run: "" where none is concerned.
            detail: Plain JSON.
            at_us: Of the timeline entry it stands for; None for now.
        """
        with self._lock:
            least_id = to_us(self._clock.now()) if at_us is None else at_us
            self._last_id = max(least_id, self._last_id + 1)
            happening = Happening(self._last_id, kind, run, project, detail)
            self._recent.append(happening)
            listeners = self._listeners.get(Happening, ())
        for listener in listeners:
            listener(happening)

    def listen(
        self, listener: Callable[[Happening], None], after: int | None
    ) -> tuple[list[Happening], bool]:
        """Subscribe to happenings; nothing falls between what is returned and what is told.

        Returns:
            What happened after `after` and is still remembered, and whether that is all of it.
        """
        with self._lock:
            self._listeners[Happening] = (*self._listeners.get(Happening, ()), listener)
            if after is None:
                return [], True
            complete = bool(self._recent) and self._recent[0].id <= after
            return [happening for happening in self._recent if happening.id > after], complete

    def leave(self, listener: Callable[[Happening], None]) -> None:
        with self._lock:
            left = (each for each in self._listeners.get(Happening, ()) if each != listener)
            self._listeners[Happening] = tuple(left)

    def listening(self) -> int:
        return len(self._listeners.get(Happening, ()))


def delivery_detail(delivery: Delivery, outcome: Outcome) -> dict[str, str]:
    """What listeners are told of an attempt at a delivery."""
    notice = delivery.notice
    return {
        "delivery": delivery.id,
        "receiver": delivery.receiver,
        "incident": notice.incident,
        "edge": notice.edge,
        "outcome": _word(outcome),
    }


def _word(outcome: Outcome) -> str:
    if isinstance(outcome, Delivered):
        return "delivered"
    if isinstance(outcome, Retry):
        return "retry"
    return "dead" if isinstance(outcome, Dead) else "gone"
