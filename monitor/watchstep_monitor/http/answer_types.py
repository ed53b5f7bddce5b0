"""The shapes of the API's answers, as `/openapi.json` tells them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

# Of this module, since pydantic describes those of `typing` from Python 3.12 on only.
from typing_extensions import TypedDict

from watchstep.core.updates import Severity
from watchstep_monitor.service.json_values import Number
from watchstep_monitor.service.ports import DeliveryState, RunStatus
from watchstep_monitor.service.run_state.records import Stage, TimelineKind

Moment = Annotated[
    str, Field(description="RFC 3339 in UTC.", json_schema_extra={"format": "date-time"})
]


class Flaw(TypedDict):
    """What is wrong with one part of what was sent."""

    loc: list[str | int]
    type: str
    msg: str


class Rejected(TypedDict):
    """An update of a batch that was not taken; `index` is its place in the batch."""

    index: int
    errors: list[Flaw]


class Command(TypedDict):
    """Something that a person asks of a trainer."""

    id: str
    run: str
    attempt: int
    kind: Literal["halt", "checkpoint"]
    reason: str
    created_at: Moment
    expires_at: Moment


class Receipt(TypedDict):
    """What became of a batch, once it is durable."""

    accepted: int
    duplicates: Annotated[int, Field(description="Stored before; they had no second effect.")]
    rejected: list[Rejected]
    last_seq: int
    commands: list[Command]


class RuleNames(TypedDict):
    """The rules that judge a run."""

    fingerprint: str
    names: list[str]


class Begun(TypedDict):
    """An attempt that a trainer began or resumed."""

    run: str
    project: str
    attempt: int
    last_seq: int
    rules: RuleNames
    accepts: Annotated[list[str], Field(description="Other media types of a batch.")]


class Counts(TypedDict):
    """How much a run has of what."""

    updates: int
    lost: Annotated[int, Field(description="Sequence numbers passed over.")]


class StatusCounts(Counts):
    """The same with alerts, by state."""

    firing: int
    pending: int


class RunBase(TypedDict):
    """What a run is by itself."""

    run: str
    project: str
    status: RunStatus
    attempt: int
    step: int
    last_seq: int
    tags: dict[str, str]
    trainer: str
    created_at: Moment
    last_update_at: Annotated[Moment | None, Field(description="On the service's clock.")]
    last_update_time: Annotated[Moment | None, Field(description="On the trainer's clock.")]
    ended_at: Moment | None
    checkpoint: Annotated[
        dict[str, Any] | None, Field(description="The pin: path, step and sha256.")
    ]
    trainer_did: str
    error: str


class Run(RunBase):
    """A run as lists show it."""

    counts: Counts


class Reading(TypedDict):
    """A metric's newest reading and the band it lies in."""

    value: Number
    zone: Annotated[
        str | None,
        Field(description="ok, watch, warning, danger or explosion; null where there are none."),
    ]


class Alert(TypedDict):
    """A rule's life for one run."""

    id: str
    run: str
    project: str
    attempt: int
    rule: str
    severity: Severity
    state: Literal["pending", "firing", "resolved"]
    since: Moment
    first_update: int
    last_update: int
    resolved_at: Moment | None
    metric: str
    reading: Annotated[Number | None, Field(description="null where the rule has no metric.")]
    reason: str
    action: str
    acknowledged: bool
    acknowledged_by: str
    silenced: bool
    summary: str
    description: str
    cause: str
    runbook_url: str
    labels: dict[str, str]
    incident: str | None


class Phase(TypedDict):
    """One stage of an incident."""

    stage: Stage
    first_update: int
    last_update: int


class Cause(TypedDict):
    """A likely cause, with what speaks for and against it."""

    cause: str
    kind: str
    title: str
    confidence: Annotated[float, Field(ge=0, le=1)]
    evidence: list[str]
    against: list[str]
    page: str


class Incident(TypedDict):
    """All alerts of one run that belong together."""

    id: str
    run: str
    project: str
    attempt: int
    state: Literal["open", "resolved"]
    stage: Stage
    severity: Severity
    opened_at: Moment
    resolved_at: Moment | None
    first_bad_update: int
    first_bad_step: int
    last_good_update: int | None
    damage_update: int | None
    stages: list[Phase]
    diagnosis: str
    confidence: float
    causes: list[Cause]
    notices: int


class RunDetail(RunBase):
    """A run with its readings, alerts and incident."""

    counts: StatusCounts
    config: dict[str, Any]
    readings: dict[str, Reading]
    alerts: list[Alert]
    incident: Incident | None
    commands: list[Command]
    rules: Annotated[str, Field(description="The fingerprint of the rules that judge it.")]


class Point(TypedDict):
    """One reading of a series."""

    attempt: int
    seq: int
    step: int
    time: Moment | None
    value: Number


class Series(TypedDict):
    """Readings of one metric; when thinned, extremes and non-finite ones are kept."""

    metric: str
    points: list[Point]
    thinned: bool


class Lead(TypedDict):
    """How far something lies behind the first alert that fired."""

    updates: int
    seconds: float


class Entry(TypedDict):
    """One thing that happened to a run; further fields depend on its kind."""

    id: int
    kind: TimelineKind
    at: Moment | None
    attempt: int
    seq: int
    step: int
    time: Moment | None
    since_first_sign: Lead | None


class SilenceMatcher(TypedDict):
    """A condition on an alert's labels, as in Alertmanager."""

    name: str
    value: str
    isRegex: bool
    isEqual: bool


class Silence(TypedDict):
    """Alerts that match all matchers tell no one between two times."""

    id: str
    state: Literal["pending", "active", "expired"]
    matchers: list[SilenceMatcher]
    starts_at: Moment
    ends_at: Moment
    comment: str
    created_by: str
    created_at: Moment


class Delivery(TypedDict):
    """A message on its way to a receiver."""

    id: str
    run: str
    incident: str
    receiver: str
    edge: str
    state: DeliveryState
    attempts: int
    created_at: Moment
    next_at: Moment | None
    settled_at: Moment | None
    reason: str


class Resent(TypedDict):
    """A dead delivery that is tried again."""

    id: str
    state: DeliveryState


Rule = TypedDict(
    "Rule",
    {
        "name": str,
        "group": str,
        "expr": str,
        "for": str,
        "severity": Severity,
        "action": str,
        "labels": dict[str, str],
        "annotations": dict[str, str],
    },
)
"""A rule as it judges now. A call, since one key is a keyword."""


class Rules(TypedDict):
    """The rules that judge every run."""

    fingerprint: str
    items: list[Rule]
    next_cursor: None


class ReceiverState(TypedDict):
    """A receiver and how it fares since the service started."""

    name: str
    kind: str
    disabled: Annotated[str, Field(description="Why nothing is sent to it any more, or empty.")]
    in_flight: int
    delivered: int
    failed: int
    dead: int
    last_attempt_at: Moment | None
    last_delivered_at: Moment | None
    last_error: str


class Trial(TypedDict):
    """What a test message met."""

    receiver: str
    delivered: bool
    reason: str
    took_s: float


class Reloaded(TypedDict):
    """How many rules are live after a reload."""

    rules: int


class Health(TypedDict):
    """The process lives."""

    status: Literal["ok"]


class Ready(Health):
    """Updates can be committed."""

    rules: int


class Span(TypedDict):
    """From where to where a rule fired in a log."""

    rule: str
    severity: Severity
    action: str
    first_update: int
    last_update: int


class Examined(TypedDict):
    """What a log, or a run in the store, tells; numbers of updates as the log prints them."""

    path: str
    format: str
    run: str
    partial: Annotated[bool, Field(description="Part of it could not be read.")]
    updates: int
    verdict: Literal["healthy", "suspicious", "exploded", "diverged", "died"]
    halt: Annotated[bool, Field(description='Whether `on_critical="halt"` would have stopped it.')]
    first_bad_update: int | None
    last_good_update: int | None
    alerts: list[Span]
    causes: list[dict[str, Any]]
    not_checked: list[str]


class Postmortem(TypedDict):
    """The examinations, worst first, and the same as one self-contained page."""

    runs: list[Examined]
    page: Annotated[str, Field(description="HTML.")]


ANSWERS: tuple[type, ...] = (
    Receipt,
    Begun,
    Run,
    RunDetail,
    Command,
    Series,
    Entry,
    Alert,
    Incident,
    Silence,
    Delivery,
    Resent,
    Rules,
    ReceiverState,
    Trial,
    Reloaded,
    Health,
    Ready,
    Postmortem,
)
"""Those that a route answers; what they hold is described with them."""
