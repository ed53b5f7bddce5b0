"""How the hook itself is doing, told now and then among the readings it watches."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watchstep.sender import Outbound

EVERY_S = 60.0
"""Seconds between readings: one update in thousands carries them."""

_UNFIT = re.compile("[^A-Za-z0-9_]+")
_CALLS = 512
"""Calls of `log` that the percentiles are of."""


class Vitals:
    """Measures `log` itself, and gathers what else is known about the hook.

    Attributes:
        due: When the next readings are, on the monotonic clock.
        took_ns: Of the newest calls of `log`.
    """

    def __init__(self) -> None:
        self.due = time.monotonic() + EVERY_S
        self.took_ns: deque[int] = deque(maxlen=_CALLS)

    def readings(
        self, outbound: Outbound | None, losses: Mapping[str, int], errors: Mapping[str, int]
    ) -> dict[str, float]:
        """How things are now; counts are totals since the run began.

        `hook/log_p50_s` and `hook/log_p99_s` (of the last 512 calls), `hook/errors`,
        `hook/lost/REASON`, and of the sender `hook/queue_updates`, `hook/spool_bytes`,
        `hook/http_failures`, `hook/internal_errors` and, once it was heard, `hook/ack_age_s`.

        Args:
            outbound: The sender, None where this process does not report.
        """
        self.due = time.monotonic() + EVERY_S
        readings = {"hook/errors": float(sum(errors.values()))}
        took = sorted(self.took_ns)
        if took:
            readings["hook/log_p50_s"] = took[len(took) // 2] / 1e9
            readings["hook/log_p99_s"] = took[len(took) * 99 // 100] / 1e9
        for reason, count in losses.items():
            readings[f"hook/lost/{_UNFIT.sub('_', reason)}"] = float(count)
        if outbound is not None:
            stats = outbound.stats()
            readings["hook/queue_updates"] = float(stats.queue_len)
            readings["hook/spool_bytes"] = float(stats.spool_bytes)
            readings["hook/http_failures"] = float(stats.http_failures)
            readings["hook/internal_errors"] = float(stats.internal_errors)
            if stats.last_ack_age_s is not None:
                readings["hook/ack_age_s"] = stats.last_ack_age_s
        return readings
