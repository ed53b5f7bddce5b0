"""The real clocks: this machine's, and the one that replicas share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

log = logging.getLogger(__name__)

WRONG_S = 1.0
"""A machine whose clock differs by more is worth a line in the log."""


class SystemClock:
    """The machine's clocks; see `Clock`.

    Between two looks time goes by the clock that no one sets. Where the wall clock is ahead, it
    was set forward or the machine slept, and is followed. Where it was set back it is not: what
    waits for a moment would wait for hours. A restart takes it over.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self.monotonic = wall, monotonic
        self._ahead_s = wall() - monotonic()
        self._warned = False

    def now(self) -> datetime:
        """The time, UTC and aware; never earlier than it was."""
        ahead_s = self._wall() - self.monotonic()
        if ahead_s > self._ahead_s:
            self._ahead_s = ahead_s
        elif self._ahead_s - ahead_s > WRONG_S and not self._warned:
            self._warned = True
            log.warning(
                "the machine's clock was set back; the service's goes on as it was",
                extra={"back_s": round(self._ahead_s - ahead_s, 1)},
            )
        return datetime.fromtimestamp(self.monotonic() + self._ahead_s, UTC)


class SharedClock:
    """The clock of whoever is asked for the time, such as a database that several share.

    Between answers it goes on by this machine's monotonic clock, so that a wall clock that is
    wrong, or is set, changes nothing. Until the first answer it is the wall clock.
    """

    def __init__(self) -> None:
        self._anchor: tuple[datetime, float] | None = None
        self._offset_s = 0.0

    def now(self) -> datetime:
        """The shared time, UTC and aware."""
        anchor = self._anchor
        if anchor is None:
            return datetime.now(UTC)
        moment, at = anchor
        return moment + timedelta(seconds=time.monotonic() - at)

    def monotonic(self) -> float:
        """Seconds on a clock that no one sets."""
        return time.monotonic()

    def told(self, moment: datetime, asked_at: float, answered_at: float) -> None:
        """Take an answer over, where it is not what this clock says already.

        Args:
            asked_at: `monotonic` before the question.
            answered_at: `monotonic` after it. The answer was right at some moment between
                the two, which is as exact as it can be known.
        """
        span = timedelta(seconds=answered_at - asked_at)
        moment = moment.astimezone(UTC)
        if self._anchor is None or not moment <= self.now() <= moment + span:
            self._anchor = (moment + span / 2, answered_at)
        self._compare(self.now())

    def _compare(self, shared: datetime) -> None:
        offset_s = (datetime.now(UTC) - shared).total_seconds()
        changed = abs(offset_s - self._offset_s) > WRONG_S
        self._offset_s = offset_s if changed else self._offset_s
        if changed:
            log.warning(
                "this machine's clock differs from the database's, which counts",
                extra={"ahead_s": round(offset_s, 1)},
            )


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
