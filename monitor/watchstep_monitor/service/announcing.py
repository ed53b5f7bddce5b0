"""An outbox that tells listeners how each delivery went."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from watchstep_monitor.service.events import Broadcast
from watchstep_monitor.service.ports import (
    Dead,
    Delivered,
    Delivery,
    DeliveryState,
    DeliveryStore,
    Outcome,
    Retry,
)


class AnnouncingOutbox:
    """A `DeliveryStore` in front of another.

    Attributes:
        broadcast: Where deliveries are told; None tells no one.
    """

    def __init__(self, outbox: DeliveryStore) -> None:
        self._outbox = outbox
        self.broadcast: Broadcast | None = None

    def claim(
        self, now: datetime, limit: int, lease_s: float, busy: Collection[str]
    ) -> list[Delivery]:
        """See the port."""
        return self._outbox.claim(now, limit, lease_s, busy)

    def settle(self, delivery: Delivery, outcome: Outcome, now: datetime) -> None:
        """See the port."""
        self._outbox.settle(delivery, outcome, now)
        if self.broadcast is None:
            return
        notice = delivery.notice
        detail = delivery_detail(delivery, outcome)
        self.broadcast.publish("delivery", notice.run, notice.project, detail)

    def next_due(self) -> datetime | None:
        """See the port."""
        return self._outbox.next_due()

    def outbox_depth(self) -> Mapping[DeliveryState, int]:
        """See the port."""
        return self._outbox.outbox_depth()


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
