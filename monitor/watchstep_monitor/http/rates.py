"""How often one token may call: a bucket that fills with time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from watchstep_monitor.http.problems import ProblemError

BURST_S = 5.0
"""A caller that was quiet may catch up on so many seconds at once: a trainer that comes back
with a full spool sends as fast as it can."""


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class RateCap:
    """One bucket a token. Used from the event loop and its thread pool alike.

    A call that is lost between two threads' arithmetic is one call too many let in.
    """

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with full buckets.

        Args:
            per_s: Calls a second and token.
            clock: Seconds that only rise.
        """
        self._per_s = per_s
        self._most = max(1.0, per_s * BURST_S)
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, name: str) -> None:
        """Count one call.

        Raises:
            ProblemError: 429, with Retry-After.
        """
        now = self._clock()
        bucket = self._buckets.get(name)
        if bucket is None:
            # Names are those of configured tokens, so this stays small.
            bucket = self._buckets[name] = _Bucket(self._most, now)
        bucket.left = min(self._most, bucket.left + (now - bucket.at) * self._per_s)
        bucket.at = now
        if bucket.left < 1.0:
            wait_s = max(1, math.ceil((1.0 - bucket.left) / self._per_s))
            raise ProblemError(
                429,
                "This token calls more often than it may.",
                headers={"Retry-After": str(wait_s)},
            )
        bucket.left -= 1.0
