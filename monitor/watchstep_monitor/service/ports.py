"""What the service needs from the world: what it hands to the outbox, and the clock.

The worker that tells people and the gauges that Prometheus scrapes are written against
these, and never against SQL.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from watchstep.core.health import Health
from watchstep.core.updates import Severity
from watchstep_monitor.settings.schema import RunEdge

RunStatus = Literal["running", "finished", "halted", "preempted", "failed", "stalled", "lost"]
"""What a run's process does. Stalled: it speaks, and no update comes. Lost: it is not heard of."""

DeliveryState = Literal["waiting", "delivered", "dead"]
"""Every word that a delivery's state may be: still to be sent, taken, or given up."""


Edge = Literal["opened", "changed", "resolved", "repeat", "test", RunEdge]


@dataclass(frozen=True, slots=True)
class AlertView:
    """One alert as people and receivers see it.

    Attributes:
        id: Stable across restarts.
        since: When it began to fire, UTC.
        first_update: Sequence number at which the rule began to hold.
        last_update: Sequence number at which it was last seen to hold.
        resolved_at: None while it fires.
        metric, reading: The reading that shows it; "" and NaN where no single one does.
        reason: The values compared, in one sentence.
        summary, description, cause, runbook_url: The rule's annotations, "" when absent.
        subject: The metric that the alert has a life for, where its rule is for a role; else "".
    """

    id: str
    rule: str
    severity: Severity
    state: Literal["pending", "firing", "resolved"]
    run: str
    project: str
    attempt: int
    since: datetime
    first_update: int
    last_update: int
    resolved_at: datetime | None
    metric: str
    reading: float
    action: str
    reason: str
    summary: str = ""
    description: str = ""
    cause: str = ""
    runbook_url: str = ""
    acknowledged: bool = False
    silenced: bool = False
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """One edge of an incident, ready to be rendered for any receiver.

    Attributes:
        id: Constant over retries; becomes `webhook-id`.
        incident: The incident's id, constant over its life; that of the attempt for an edge of
            the run's own life.
        edge: What changed: it opened, an alert joined or left, it resolved, a reminder, a test;
            or the run finished, was preempted or resumed.
        stage: "early signs", "explosion", "divergence" or "aftermath".
        diagnosis: The likeliest cause in one sentence, or "" when there is not enough evidence.
        confidence: 0..1, of the diagnosis.
        alerts: Those of the incident, worst first; empty where the edge is the run's own.
        readings: The newest readings of the metrics that the alerts are about.
        checkpoint: The pinned checkpoint: "path", "step", "sha256"; None when there is none.
        trainer_did: What the trainer reported, such as "halted at update 41"; "" when nothing.
        links: Name to URL, such as "run" and "runbook".
        at: When the edge happened, UTC.
        status: The run's: "running", "halted", "failed", "stalled" and so on; "" when unknown.
        first_step, last_step: The trainer's own step, of the first bad update and of the newest.
        first_update: Number of the first bad update.
        heard_at: When the trainer was last heard, UTC.
        host, user: Where the trainer runs; "" when it did not say.
        error, traceback: Of a trainer that died.
        oom: Whose memory ran out, "device" or "host"; "" where that was not the cause.
        ended_by: What ended a command that failed: "exception", "kill" (SIGKILL), "signal", "exit"
            (a code alone), "hang" or "start" (it could not be started); "" when unknown.
        hung: What the trainer's own watch says of a loop that stands still: `since_s`,
            `innermost`, `moving`, `phase`; where it was seen from outside, what: `seen`.
    """

    id: str
    run: str
    project: str
    attempt: int
    incident: str
    edge: Edge
    stage: str
    diagnosis: str
    confidence: float
    alerts: tuple[AlertView, ...]
    readings: Mapping[str, float]
    checkpoint: Mapping[str, object] | None
    trainer_did: str
    links: Mapping[str, str]
    at: datetime
    status: str = ""
    first_step: int | None = None
    last_step: int | None = None
    first_update: int | None = None
    heard_at: datetime | None = None
    host: str = ""
    user: str = ""
    error: str = ""
    traceback: str = ""
    oom: str = ""
    ended_by: str = ""
    hung: Mapping[str, object] | None = None

    @property
    def severity(self) -> Severity:
        """The worst severity among the alerts; "info" when there are none."""
        order: tuple[Severity, ...] = ("critical", "warning", "info")
        present = {alert.severity for alert in self.alerts}
        return next((severity for severity in order if severity in present), "info")


class Clock(Protocol):
    """Time as an argument, so that tests move it instead of waiting."""

    def now(self) -> datetime:
        """The wall clock, UTC and aware."""

    def monotonic(self) -> float:
        """Seconds on a clock that no one sets."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notice on its way to one receiver, leased to the caller of `claim`.

    Attributes:
        id: Constant over retries; the row of the outbox.
        receiver: The receiver's name in the settings.
        notice: What to say; `notice.id` is constant over retries too.
        attempt: 1 for the first try, one more for each `Retry`.
        created_at: When the edge was committed, UTC.
        next_at: When this attempt fell due, UTC.
    """

    id: str
    receiver: str
    notice: Notice
    attempt: int
    created_at: datetime
    next_at: datetime


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver took the notice."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The receiver did not take it; try again at `at` (UTC, aware).

    Attributes:
        reason: For people, such as "HTTP 503"; names no URL and no secret.
    """

    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Dead:
    """Trying again cannot help, or was tried often enough: kept, visible, re-sendable."""

    reason: str


@dataclass(frozen=True, slots=True)
class ReceiverGone:
    """The receiver said that it is gone for good (410).

    Everything that waits for it becomes dead, and nothing more is enqueued for it until the
    service starts again or its settings are loaded again.
    """

    reason: str = "the receiver answered 410 Gone"


Outcome = Delivered | Retry | Dead | ReceiverGone
"""How one attempt at a delivery ended."""


class DeliveryStore(Protocol):
    """The outbox, as the worker that sends it sees it. Thread-safe."""

    def claim(
        self, now: datetime, limit: int, lease_s: float, busy: Collection[str]
    ) -> list[Delivery]:
        """Lease up to `limit` deliveries that are due, the oldest of each run in turn.

        Of one (receiver, incident) only the oldest undelivered one is ever given out, so
        that a "resolved" never overtakes its "opened". A lease that runs out is given out
        again with the same ids: a receiver may then see a notice twice, never zero times.

        Args:
            lease_s: Seconds for which no other caller is given the same deliveries.
            busy: Names of receivers to leave alone in this call.
        """

    def renew(self, deliveries: Iterable[Delivery], now: datetime, lease_s: float) -> None:
        """Go on leasing what was claimed here and is still under way."""

    def settle(self, delivery: Delivery, outcome: Outcome, now: datetime) -> None:
        """Record how an attempt ended, durably, and end the lease.

        Settling a delivery again, or one whose lease another caller took over, changes
        nothing once it is delivered.
        """

    def next_due(self) -> datetime | None:
        """When the earliest waiting delivery falls due or its lease ends; None for none."""

    def outbox_depth(self) -> Mapping[DeliveryState, int]:
        """How many deliveries are in each state."""


@dataclass(frozen=True, slots=True)
class FiringAlert:
    """One alert that fires now, as a gauge shows it; `metric` is "" where its rule names none."""

    rule: str
    severity: Severity
    metric: str = ""


@dataclass(frozen=True, slots=True)
class RunGauge:
    """One run as a scrape sees it.

    Attributes:
        step: The trainer's own step counter at the newest update; 0 before the first.
        last_update_at: When its newest update arrived, epoch seconds on the service's clock;
            None before the first.
        last_heard_at: When anything of it did.
        lost_updates: How many sequence numbers were passed over and never arrived.
        readings: The newest reading of each metric; NaN and infinities included.
        zones: Metric name to "ok" or the severity of the worst alert about it; metrics that no
            rule looks at are absent.
        ended_at: When the run finished, failed, halted or was preempted, epoch seconds; None
            while it lives.
        has_incident: Whether an incident of it is open.
    """

    run: str
    project: str
    status: RunStatus
    health: Health
    step: int
    last_update_at: float | None
    last_heard_at: float | None
    lost_updates: int
    readings: Mapping[str, float]
    zones: Mapping[str, str]
    firing: tuple[FiringAlert, ...]
    ended_at: float | None
    has_incident: bool = False
