"""How often one token or, without tokens, one address may call: a bucket that fills with time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from watchstep_monitor.http.problems import ProblemError

BURST_S = 5.0
"""A caller that was quiet may catch up on so many seconds at once: a trainer that comes back
with a full spool sends as fast as it can."""


ADDRESS = "address "
"""Begins the name of a caller without a token; the address comes after it."""

MOST_BUCKETS = 10_000
"""Tokens are few; of addresses a loopback has millions, and forgetting them lets more in."""

_WHO = ("This token", "This address")


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class RateCap:
    """One bucket a caller. Used from the event loop and its thread pool alike.

    A call that is lost between two threads' arithmetic is one call too many let in.
    """

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._most = max(1.0, per_s * BURST_S)
        self._buckets: dict[str, _Bucket] = {}

    def take(self, name: str) -> None:
        """Count one call of a token's name, or of an address.

        Raises:
            ProblemError: 429, with Retry-After.
        """
        now = time.monotonic()
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= MOST_BUCKETS:
                self._buckets.clear()
            bucket = self._buckets[name] = _Bucket(self._most, now)
        bucket.left = min(self._most, bucket.left + (now - bucket.at) * self._per_s)
        bucket.at = now
        if bucket.left < 1.0:
            wait_s = max(1, math.ceil((1.0 - bucket.left) / self._per_s))
            raise ProblemError(
                429,
                f"{_WHO[name.startswith(ADDRESS)]} calls more often than it may.",
                headers={"Retry-After": str(wait_s)},
            )
        bucket.left -= 1.0
