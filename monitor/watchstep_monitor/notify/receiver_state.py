"""One lane per receiver: how much may be on its way to it, and what became of the last ones."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from watchstep_monitor.notify.config import ReceiverConfig
from watchstep_monitor.settings.schema import ReceiverKind

RATE_WINDOW_S = 60.0


@dataclass(slots=True)
class ReceiverState:
    """Owned by the worker's loop; nothing else writes to it, and anyone may look.

    A receiver that has not just proved healthy gets one attempt at a time: so a dead one
    costs one connection, and one that answers 410 is not called in parallel meanwhile.

    Attributes:
        disabled: "" or why nothing is sent to it any more.
        in_flight: Attempts under way.
        delivered, failed, dead: Attempts since the service started, by how they ended;
            `failed` ones are tried again.
        last_attempt_at, last_delivered_at: UTC; None before the first.
        last_error: "" after a success.
    """

    receiver: ReceiverConfig
    at_once: int
    rate_per_minute: int
    healthy: bool = False
    disabled: str = ""
    in_flight: int = 0
    delivered: int = 0
    failed: int = 0
    dead: int = 0
    last_attempt_at: datetime | None = None
    last_delivered_at: datetime | None = None
    last_error: str = ""
    starts: deque[float] = field(default_factory=deque)

    @property
    def name(self) -> str:
        return self.receiver.name

    @property
    def kind(self) -> ReceiverKind:
        return self.receiver.kind

    def room(self, monotonic: float) -> int:
        """How many deliveries may be claimed for it now; a disabled one's are only closed."""
        if self.disabled:
            return self.at_once
        self._forget(monotonic)
        slots = (self.at_once if self.healthy else 1) - self.in_flight
        return max(0, min(slots, self.rate_per_minute - len(self.starts)))

    def opens_in_s(self, monotonic: float) -> float | None:
        """Seconds until the rate cap lets another attempt start; None if it does not bind."""
        self._forget(monotonic)
        if self.disabled or len(self.starts) < self.rate_per_minute:
            return None
        return self.starts[0] + RATE_WINDOW_S - monotonic

    def begin(self, monotonic: float, now: datetime) -> None:
        """Note that an attempt starts."""
        self.in_flight += 1
        self.starts.append(monotonic)
        self.last_attempt_at = now

    def _forget(self, monotonic: float) -> None:
        while self.starts and monotonic - self.starts[0] >= RATE_WINDOW_S:
            self.starts.popleft()
