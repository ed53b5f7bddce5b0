"""A run's status, derived from what the trainer said, its readings, and a clock."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from watchstep_monitor.service.ports import RunStatus
from watchstep_monitor.service.run_state.records import AlertRecord, RunRecord, StoredStatus

_CORE = re.compile(r"(^|[/_])loss($|_)|(^|/)(approx_)?kl($|_)|(^|/)entropy|(^|/)advantages?_")
"""Readings without which there is no training.

Not explained variance, which is NaN whenever returns are constant, and not the gradient
norm, which a loss scaler may overflow once in a healthy run: rules look at those.
"""


@dataclass(slots=True)
class Liveness:
    """What silence is measured against; owned by the clock's thread, read by all.

    Attributes:
        up_since: When this process began to listen, or could store what it heard again: its
            own absence is no trainer's silence.
        timeout_s: Seconds of silence after which a running run is stalled.
    """

    up_since: datetime
    timeout_s: float

    def last_heard(self, record: RunRecord) -> datetime:
        """When the run was last heard, or could first have been."""
        return max(record.heard_at or record.created_at, self.up_since)

    def silent_before(self, now: datetime) -> datetime | None:
        """Runs not heard since then are stalled; None when the service is too young to say."""
        moment = now - timedelta(seconds=self.timeout_s)
        return moment if moment > self.up_since else None


def is_core(metric: str) -> bool:
    """Whether a non-finite reading of this metric means that training has diverged."""
    return _CORE.search(metric) is not None


def shows_divergence(alert: AlertRecord) -> bool:
    """Whether an alert says that training has left the numbers."""
    if alert.labels.get("stage") == "divergence":
        return True
    # NaN and infinities are the only numbers that differ from themselves taken away.
    beyond_numbers = alert.reading - alert.reading != 0.0
    return alert.severity == "critical" and bool(alert.metric) and beyond_numbers


def settled_status(
    record: RunRecord, firing: Iterable[AlertRecord], *, core_is_bad: bool
) -> StoredStatus:
    """Status after an update, before any clock is asked.

    What the trainer said of its end stands, but a run that went to its end with readings
    that are no numbers has diverged and not finished.
    """
    if record.status in {"halted", "failed"}:
        return record.status
    if core_is_bad or any(shows_divergence(alert) for alert in firing):
        return "diverged"
    return "finished" if record.ended_at is not None else "running"


def shown_status(record: RunRecord, now: datetime, hearing: Liveness) -> RunStatus:
    """Status as people and gauges see it now."""
    if record.status == "running":
        silence = now - hearing.last_heard(record)
        if silence > timedelta(seconds=hearing.timeout_s):
            return "stalled"
    return record.status
