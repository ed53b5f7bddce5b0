"""What a person is told: one notice per edge of a run's incident, never one per alert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from watchstep.core.updates import Severity

Edge = Literal["opened", "changed", "resolved", "repeat", "test"]


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


@dataclass(frozen=True, slots=True)
class Notice:
    """One edge of an incident, ready to be rendered for any receiver.

    Attributes:
        id: Constant over retries; becomes `webhook-id`.
        incident: The incident's id, constant over its life.
        edge: What changed: it opened, an alert joined or left, it resolved, a reminder, a test.
        stage: "early signs", "explosion", "divergence" or "aftermath".
        diagnosis: The likeliest cause in one sentence, or "" when there is not enough evidence.
        confidence: 0..1, of the diagnosis.
        alerts: Those of the incident, worst first; never empty but for a test.
        readings: The newest readings of the metrics that the alerts are about.
        checkpoint: The pinned checkpoint: "path", "step", "sha256"; None when there is none.
        trainer_did: What the trainer reported, such as "halted at update 41"; "" when nothing.
        links: Name to URL, such as "run" and "runbook".
        at: When the edge happened, UTC.
        status: The run's: "running", "halted", "failed", "stalled" and so on; "" when unknown.
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

    @property
    def severity(self) -> Severity:
        """The worst severity among the alerts; "info" when there are none."""
        order: tuple[Severity, ...] = ("critical", "warning", "info")
        present = {alert.severity for alert in self.alerts}
        return next((severity for severity in order if severity in present), "info")
