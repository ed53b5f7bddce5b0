"""What the store keeps, as frozen values; times are aware UTC datetimes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar

from watchstep.core.health import Health
from watchstep.core.updates import TRAINING, Severity
from watchstep_monitor.service.ports import DeliveryState

DEFAULT_PROJECT = "default"

MOST_KEYS = 16_384
"""Names whose keys are remembered: writing one update asks four times for its run's."""

T = TypeVar("T")

StoredStatus = Literal["running", "finished", "halted", "preempted", "failed"]
"""A run's status as far as the trainer says; for "stalled" and "lost" see `shown_status`."""

Stage = Literal["early signs", "explosion", "divergence", "aftermath"]
STAGES: tuple[Stage, ...] = ("early signs", "explosion", "divergence", "aftermath")
"""From first to last; an incident never goes back."""

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
"""From mildest to worst."""

AlertKey = tuple[str, str, str]
"""Rule, subject and source."""

Verdict = Literal["right", "false alarm"]
"""What a person says of an alert."""

TimelineKind = Literal[
    "attempt",
    "transition",
    "event",
    "stage",
    "status",
    "command",
    "acknowledged",
    "answered",
    "delivery",
]


@lru_cache(maxsize=MOST_KEYS)
def run_key(run: str) -> int:
    """The number under which a run's rows are kept: 63 bits of a hash of its name.

    Made from the name alone, so that any replica knows it without asking, and a distributed
    database can place a run's rows together.
    """
    digest = hashlib.blake2b(run.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def short_id(prefix: str, *parts: object) -> str:
    """An id that the same parts always give: prefix and 80 bits in hex."""
    text = "\x1f".join(str(part) for part in parts)
    return f"{prefix}_{hashlib.blake2b(text.encode(), digest_size=10).hexdigest()}"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run. `(attempt, last_seq, version)` is what writers compare and set.

    Attributes:
        version: One more with every change of the row.
        step, time: Of the newest update.
        updates: How many updates are stored over all attempts.
        lost: Sequence numbers passed over.
        health: Of the present attempt.
        heard_at: When the service last heard from the trainer, on the service's clock.
        updated_at: When the newest update arrived, on the same clock; None before the first.
        hung: What the trainer's own watch said of a loop that stands still (`since_s`,
            `innermost`, `moving`, `phase`, `seen`), or None while it moves.
        ended_at: None while the current attempt lives.
        timeline_us: Position of the newest timeline entry, microseconds since the epoch.
        checkpoint: The pinned checkpoint's "path", "step", "sha256", or None.
        trainer_did: Such as "halted at update 41"; "" when nothing.
        error: What a failed trainer said, or "".
        is_archived: Whether lists leave it out.
        notes: What people wrote about it.
    """

    run: str
    project: str
    created_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    trainer: str = ""
    attempt: int = 0
    last_seq: int = 0
    version: int = 0
    status: StoredStatus = "running"
    step: int = 0
    time: float = 0.0
    updates: int = 0
    lost: int = 0
    heard_at: datetime | None = None
    updated_at: datetime | None = None
    hung: Mapping[str, Any] | None = None
    health: Health = "unjudged"
    ended_at: datetime | None = None
    timeline_us: int = 0
    checkpoint: Mapping[str, Any] | None = None
    trainer_did: str = ""
    error: str = ""
    is_archived: bool = False
    notes: str = ""

    @property
    def key(self) -> int:
        return run_key(self.run)

    def place(self, name: Literal["host", "user"]) -> str:
        """What the trainer said of where it runs; "" where it did not."""
        environment = self.config.get("environment")
        sources = (self.tags, self.config, environment if isinstance(environment, dict) else {})
        value = next((source[name] for source in sources if source.get(name)), "")
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One start or resume of a run.

    Attributes:
        session: What the trainer calls itself; the same session is the same attempt.
        last_seq: Newest stored sequence number of this attempt.
        last_seqs: The same of each other source than the training.
    """

    attempt: int
    session: str | None
    last_seq: int
    started_at: datetime
    last_seqs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """A rule's life for one run; see `AlertView` for the fields that people see.

    Attributes:
        subject: The metric that the alert has a life for, where its rule is for a role; else "".
            An alert is (run, rule, subject, source).
        source: Over whose updates the rule holds; `first_seq` and `last_seq` are its numbers.
        first_seq: Update at which the rule began to hold, in `attempt`.
        last_seq: Update at which it was last known to hold; for a firing alert the run's
            newest.
        since: When it began to hold; when it began to fire once it does.
        incident: Id of the incident it belongs to, or None while pending.
        answer: What a person said of it; "" for nothing yet.
    """

    id: str
    run: str
    project: str
    attempt: int
    rule: str
    severity: Severity
    state: Literal["pending", "firing", "resolved"]
    since: datetime
    first_seq: int
    last_seq: int
    metric: str
    reading: float
    reason: str
    action: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    resolved_at: datetime | None = None
    incident: str | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    subject: str = ""
    answer: Literal["", Verdict] = ""
    answered_by: str = ""
    source: str = TRAINING

    @property
    def key(self) -> AlertKey:
        """What tells it from the other alerts of its run."""
        return self.rule, self.subject, self.source


@dataclass(frozen=True, slots=True)
class RuleAnswers:
    """How many alerts of a rule people called right, and how many false alarms."""

    rule: str
    right: int
    false_alarms: int


@dataclass(frozen=True, slots=True)
class IncidentRecord:
    """All alerts of one run that belong together.

    Attributes:
        first_bad: Sequence number (in `attempt`) at which the first alert began to hold.
        last_good: The one before it, or None when the first update was bad already.
        diagnosis, confidence: Title and confidence of the likeliest cause; "" and 0 while
            nothing stands out.
        worst: The worst severity so far.
        due_at: When a message about it is to be written, or None.
        due_edge: Which one: "opened", "changed" or "repeat".
        damage: Update of the first non-finite core reading or of death, or None.
        causes: Likeliest first, each as REST shows it; see `diagnosing`.
        phases: Its stages so far, each as REST shows it.
        diagnosed_seq: Newest update when its causes were looked for; 0 for never.
        told: Receivers that were told that it opened; only they hear of its end.
        notices: How many notices were written; numbers their ids.
        noticed_at: When the newest one was.
    """

    id: str
    run: str
    project: str
    attempt: int
    state: Literal["open", "resolved"]
    stage: Stage
    opened_at: datetime
    first_bad: int
    first_bad_step: int
    last_good: int | None
    worst: Severity
    diagnosis: str = ""
    confidence: float = 0.0
    damage: int | None = None
    causes: tuple[Mapping[str, Any], ...] = ()
    phases: tuple[Mapping[str, Any], ...] = ()
    diagnosed_seq: int = 0
    resolved_at: datetime | None = None
    due_at: datetime | None = None
    due_edge: Literal["", "opened", "changed", "repeat"] = ""
    told: tuple[str, ...] = ()
    notices: int = 0
    noticed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """Something a person asks of a trainer.

    Attributes:
        state: "waiting" until the trainer answers, the run's attempt changes or it expires.
    """

    id: str
    run: str
    attempt: int
    kind: Literal["halt", "checkpoint"]
    reason: str
    created_at: datetime
    expires_at: datetime
    state: Literal["waiting", "taken", "void"] = "waiting"


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One thing that happened to a run.

    Attributes:
        at_us: Microseconds since the epoch on the service's clock; strictly rising within a
            run, which makes it the entry's identity and its order.
        seq: Number of its source.
        time: When it happened on the trainer's clock, epoch seconds; None for the service's own.
        detail: The fields of its kind, as plain JSON (non-finite numbers as strings).
    """

    run: str
    at_us: int
    kind: TimelineKind
    attempt: int
    seq: int
    step: int
    time: float | None
    detail: Mapping[str, Any]
    source: str = TRAINING


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on an alert's labels, as in Alertmanager.

    Attributes:
        op: `=`, `!=`, `=~` or `!~`.
    """

    name: str
    op: str
    value: str


@dataclass(frozen=True, slots=True)
class SilenceRecord:
    """Alerts that match all matchers tell no one between two times."""

    id: str
    matchers: tuple[Matcher, ...]
    starts_at: datetime
    ends_at: datetime
    comment: str
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A row for the outbox.

    Attributes:
        number: Place among the incident's notices; a receiver gets them in this order.
    """

    id: str
    run: str
    incident: str
    receiver: str
    number: int
    notice: Mapping[str, Any]
    at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """A delivery as people see it."""

    id: str
    run: str
    incident: str
    receiver: str
    edge: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    next_at: datetime | None
    settled_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """The rule state of one source of a run as of (attempt, seq).

    Attributes:
        engine: What `State.snapshot` gave.
        latest: The newest reading of every metric.
        reports: What `Reports.snapshot` gave; empty in a snapshot of an older version.
        sources: With that of the training, those of the other sources of the attempt.
    """

    attempt: int
    seq: int
    engine: Mapping[str, Any]
    latest: Mapping[str, float]
    reports: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, StateSnapshot] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list.

    Attributes:
        next_cursor: Where the next page begins, or None when this is the last.
    """

    items: tuple[T, ...]
    next_cursor: str | None


def all_items(read: Callable[[str | None], Page[T]]) -> Iterator[T]:
    """The items of a list page by page, each read when it is reached by its cursor."""
    cursor: str | None = None
    while True:
        page = read(cursor)
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return
