"""The API's answers, as pydantic models: what `/openapi.json` says of them is what they are.

A non-finite number is written as the contract's word. Most are made from the records of the same
name by `model_validate`; `of` makes those that join several.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AliasPath, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from watchstep.core.updates import Severity
from watchstep_monitor.service.alerting.notifications import alert_view
from watchstep_monitor.service.clock import rfc3339, rfc3339_or_none
from watchstep_monitor.service.json_values import plain
from watchstep_monitor.service.ports import DeliveryState
from watchstep_monitor.service.run_state.records import (
    AlertRecord,
    Page,
    SilenceRecord,
    Stage,
    Verdict,
)

_MOMENT = WithJsonSchema(
    {"type": "string", "format": "date-time", "description": "RFC 3339 in UTC."}
)
Moment = Annotated[datetime, PlainSerializer(rfc3339), _MOMENT]
TrainerTime = Annotated[
    float | None,
    PlainSerializer(rfc3339_or_none),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}),
]
"""Epoch seconds of the trainer's own; None for what no calendar holds."""

Number = Annotated[
    float,
    WithJsonSchema(
        {
            "description": "A finite number, or the word for one that is not.",
            "anyOf": [
                {"type": "number"},
                {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]},
            ],
        }
    ),
]
Document = Annotated[dict[str, Any], PlainSerializer(plain)]
"""Anything that a trainer or a rule says; numbers in it as `Number`."""

R = TypeVar("R")
T = TypeVar("T")


class Answer(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(
        from_attributes=True, frozen=True, ser_json_inf_nan="strings", populate_by_name=True
    )


class Listed(Answer, Generic[T]):
    """A page of a list."""

    items: list[T]
    next_cursor: str | None = Field(default=None, description="For the next page; null at the end.")


class Flaw(Answer):
    """What is wrong with one part of what was sent."""

    loc: list[str | int]
    type: str = Field(validation_alias="kind")
    msg: str = Field(validation_alias="reason")


class Problem(Answer):
    """Why a call was refused (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = ""
    last_seq: int | None = Field(default=None, description="With 409 to a batch.")
    errors: list[Flaw]


class Rejected(Answer):
    """An update of a batch that was not taken; `index` is its place in the batch."""

    index: int
    errors: list[Flaw]


class Command(Answer):
    """Something that a person asks of a trainer."""

    id: str
    run: str
    attempt: int
    kind: Literal["halt", "checkpoint"]
    reason: str
    created_at: Moment
    expires_at: Moment


class Alert(Answer):
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
    reading: Number | None = Field(description="null where the rule has no metric.")
    reason: str
    action: str
    acknowledged: bool
    acknowledged_by: str
    answer: Literal["", Verdict] = Field(description="What a person said of it.")
    answered_by: str
    silenced: bool
    summary: str
    description: str
    cause: str
    runbook_url: str
    labels: dict[str, str]
    source: str = Field(description="Over whose updates it holds; those are its numbers.")
    incident: str | None

    @classmethod
    def of(cls, alert: AlertRecord, last_seq: int | None, *, silenced: bool) -> Alert:
        """An alert; `last_seq` is the run's newest, for one that still fires."""
        view = alert_view(alert, last_seq=last_seq, silenced=silenced)
        joined = {name: getattr(view, name) for name in cls.model_fields if hasattr(view, name)}
        return cls(
            **{
                **joined,
                "metric": view.subject or view.metric,
                "reading": view.reading if view.metric else None,
            },
            acknowledged_by=alert.acknowledged_by,
            answer=alert.answer,
            answered_by=alert.answered_by,
            labels=dict(alert.labels),
            source=alert.source,
            incident=alert.incident,
        )


class RuleAnswers(Answer):
    """How many alerts of a rule people called right, and how many false alarms."""

    rule: str
    right: int
    false_alarms: int


class Phase(Answer):
    """One stage of an incident."""

    stage: Stage
    first_update: int
    last_update: int


class Cause(Answer):
    """A likely cause, with what speaks for and against it."""

    cause: str
    kind: str
    title: str
    confidence: float = Field(ge=0, le=1)
    evidence: list[str]
    against: list[str]
    page: str


class Incident(Answer):
    """All alerts of one run that belong together."""

    id: str
    run: str
    project: str
    attempt: int
    state: Literal["open", "resolved"]
    stage: Stage
    severity: Severity = Field(validation_alias="worst")
    opened_at: Moment
    resolved_at: Moment | None
    first_bad_update: int = Field(validation_alias="first_bad")
    first_bad_step: int
    last_good_update: int | None = Field(validation_alias="last_good")
    damage_update: int | None = Field(validation_alias="damage")
    stages: list[Phase] = Field(validation_alias="phases")
    diagnosis: str
    confidence: float
    causes: list[Cause]
    notices: int


class SilenceMatcher(Answer):
    """A condition on an alert's labels, as in Alertmanager."""

    name: str
    value: str
    is_regex: bool = Field(serialization_alias="isRegex")
    is_equal: bool = Field(serialization_alias="isEqual")


class Silence(Answer):
    """Alerts that match all matchers tell no one between two times."""

    id: str
    state: Literal["pending", "active", "expired"]
    matchers: list[SilenceMatcher]
    starts_at: Moment
    ends_at: Moment
    comment: str
    created_by: str
    created_at: Moment

    @classmethod
    def of(cls, silence: SilenceRecord, now: datetime) -> Silence:
        over, begun = now >= silence.ends_at, now >= silence.starts_at
        return cls(
            id=silence.id,
            state="expired" if over else "active" if begun else "pending",
            matchers=[
                SilenceMatcher(
                    name=matcher.name,
                    value=matcher.value,
                    is_regex=matcher.op.endswith("~"),
                    is_equal=not matcher.op.startswith("!"),
                )
                for matcher in silence.matchers
            ],
            starts_at=silence.starts_at,
            ends_at=silence.ends_at,
            comment=silence.comment,
            created_by=silence.created_by,
            created_at=silence.created_at,
        )


class Delivery(Answer):
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


class Resent(Answer):
    """A dead delivery that is tried again."""

    id: str
    state: DeliveryState


class Rule(Answer):
    """A rule as it judges now."""

    name: str
    group: str
    expr: str
    hold: str = Field(validation_alias=AliasPath("hold", "words"), serialization_alias="for")
    severity: Severity
    action: str = Field(validation_alias=AliasPath("action", "word"))
    labels: dict[str, str]
    annotations: dict[str, str]


class Rules(Listed[Rule]):
    """The rules that judge every run."""

    fingerprint: str


class ReceiverState(Answer):
    """A receiver and how it fares since the service started; counts are of all projects."""

    name: str
    kind: str
    disabled: str = Field(description="Why nothing is sent to it any more, or empty.")
    in_flight: int = 0
    delivered: int = 0
    failed: int = 0
    dead: int = 0
    last_attempt_at: Moment | None = None
    last_delivered_at: Moment | None = None
    last_error: str = ""


class ReceiverTest(Answer):
    """What a test message met."""

    receiver: str
    delivered: bool
    reason: str
    took_s: float


class Reloaded(Answer):
    """How many rules are live after a reload."""

    rules: int


class Health(Answer):
    """The process lives."""

    status: Literal["ok"] = "ok"


class Ready(Health):
    """Updates can be committed."""

    rules: int


class Span(Answer):
    """From where to where a rule fired in a log."""

    rule: str
    severity: Severity
    action: str
    first_update: int
    last_update: int


class Examined(Answer):
    """What a log, or a run in the store, tells; numbers of updates as the log prints them."""

    model_config = ConfigDict(extra="allow")

    path: str
    format: str
    run: str
    partial: bool = Field(description="Part of it could not be read.")
    updates: int
    verdict: str = Field(
        description="healthy, suspicious, exploded, diverged, died or unjudged.",
    )
    halt: bool = Field(description='Whether `on_critical="halt"` would have stopped it.')
    first_bad_update: int | None
    last_good_update: int | None
    alerts: list[Span]
    causes: list[Document]
    not_checked: list[str]


class Postmortem(Answer):
    """The examinations, worst first, and the same as one self-contained page."""

    runs: list[Examined]
    page: str = Field(description="HTML.")


def listed(page: Page[R], shown: Callable[[R], T]) -> Listed[T]:
    return Listed(items=[shown(item) for item in page.items], next_cursor=page.next_cursor)
