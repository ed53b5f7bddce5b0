"""The real clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """The machine's clocks; see `Clock`."""

    def now(self) -> datetime:
        """The wall clock, UTC and aware."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds on a clock that no one sets."""
        return time.monotonic()


def to_us(moment: datetime) -> int:
    """Microseconds since the epoch."""
    return round(moment.timestamp() * 1_000_000)


def from_us(microseconds: int) -> datetime:
    """The moment so many microseconds after the epoch, UTC."""
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


def rfc3339(moment: datetime) -> str:
    """As answers write it, such as 2026-01-31T12:00:00.250000Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def rfc3339_or_none(epoch_s: float | None) -> str | None:
    """A trainer's time as answers write it; None for what no calendar holds."""
    if epoch_s is None:
        return None
    try:
        return rfc3339(datetime.fromtimestamp(epoch_s, UTC))
    except (ValueError, OverflowError, OSError):
        return None
