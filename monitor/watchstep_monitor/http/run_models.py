"""Answers about runs; see `models`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, PlainSerializer

from watchstep.core.health import Health as RunHealth
from watchstep.wire.rows import ROWS_TYPE
from watchstep_monitor.http.models import (
    Alert,
    Answer,
    Command,
    Document,
    Incident,
    Moment,
    Number,
    Rejected,
    TrainerTime,
)
from watchstep_monitor.service import series
from watchstep_monitor.service.ingest import batch
from watchstep_monitor.service.json_values import plain
from watchstep_monitor.service.ports import RunStatus
from watchstep_monitor.service.run_state.records import RunRecord, TimelineEntry, TimelineKind
from watchstep_monitor.service.run_state.rulebook import RuleBook
from watchstep_monitor.service.run_state.run_cache import RunView


class Receipt(Answer):
    """What became of a batch, once it is durable."""

    accepted: int
    duplicates: int = Field(description="Stored before; they had no second effect.")
    rejected: list[Rejected]
    last_seq: int = Field(description="Of the training.")
    last_seqs: dict[str, int] = Field(description="Of each other source.")
    commands: list[Command]
    rules: str = Field(description="The fingerprint of the rules that judge the run.")
    attempt: int = Field(
        description="The run's newest: updates of an earlier attempt are stored and not judged."
    )
    left_out: int = Field(description="Readings that were too many for an update or a run.")


class RuleText(Answer):
    """One pack or rule file, as it judges."""

    source: str
    text: str = Field(description="Empty for a pack that ships with watchstep.")


class RunRules(Answer):
    """The rules that judge a run, to be judged by elsewhere: files in order, later ones win."""

    fingerprint: str
    names: list[str]
    files: list[RuleText]

    @classmethod
    def of(cls, book: RuleBook, tags: Mapping[str, str]) -> RunRules:
        rules = book.for_tags(tags)
        return cls(
            fingerprint=rules.fingerprint,
            names=[rule.name for rule in rules.rules],
            files=[RuleText(source=name, text=text) for name, text in book.texts(tags)],
        )


class Begun(Answer):
    """An attempt that a trainer began or resumed."""

    run: str
    project: str
    attempt: int
    last_seq: int
    last_seqs: dict[str, int] = Field(description="Of each source but the training.")
    rules: RunRules
    accepts: list[str] = Field(description="Other media types of a batch.")
    config_left_out: int = Field(description="Entries of the configuration that had no room.")
    earlier_heard_s: float | None = Field(
        description="Of the attempt before, where it has told no end: how long ago it was heard."
    )

    @classmethod
    def of(
        cls, begun: batch.Begun, rules: RunRules, left_out: int, earlier_heard_s: float | None
    ) -> Begun:
        """The answer to a trainer that began or resumed an attempt."""
        record = begun.record
        return cls(
            run=record.run,
            project=record.project,
            attempt=record.attempt,
            last_seq=record.last_seq,
            last_seqs=dict(begun.last_seqs),
            rules=rules,
            accepts=[ROWS_TYPE],
            config_left_out=left_out,
            earlier_heard_s=earlier_heard_s,
        )


class Counts(Answer):
    """How much a run has of what."""

    updates: int
    lost: int = Field(description="Sequence numbers passed over.")


class DetailCounts(Counts):
    """The same with alerts, by state."""

    firing: int
    pending: int


class Run(Answer):
    """A run as lists show it."""

    run: str
    project: str
    status: RunStatus = Field(description="What the process does.")
    health: RunHealth = Field(description="What the numbers of the present attempt are.")
    host: str
    user: str
    attempt: int
    step: int
    last_seq: int
    tags: dict[str, str]
    trainer: str
    created_at: Moment
    last_update_at: Moment | None = Field(description="On the service's clock.")
    last_heard_at: Moment | None = Field(description="Any word of it, on the service's clock.")
    hung: Document | None = Field(
        description="What the trainer's watch said of a loop that stands still."
    )
    last_update_time: TrainerTime = Field(description="On the trainer's clock.")
    ended_at: Moment | None
    checkpoint: Document | None = Field(description="The pin: path, step and sha256.")
    trainer_did: str
    error: str
    notes: str
    archived: bool
    counts: Counts

    @classmethod
    def of(cls, record: RunRecord, status: RunStatus) -> Run:
        return cls(**_of_run(record, status), counts=Counts.model_validate(record))


class Reading(Answer):
    """A metric's newest reading and how bad it is."""

    value: Number
    zone: str | None = Field(
        description="ok, or the severity of the worst alert about it; null where no rule looks."
    )


class RunDetail(Run):
    """A run with its readings, alerts and incident."""

    counts: DetailCounts
    last_seqs: dict[str, int] = Field(description="Of each source but the training.")
    config: Document
    readings: dict[str, Reading]
    alerts: list[Alert]
    incident: Incident | None
    commands: list[Command]
    rules: str = Field(description="The fingerprint of the rules that judge it.")

    @classmethod
    def of_view(cls, view: RunView, status: RunStatus, alerts: list[Alert]) -> RunDetail:
        """A run; `alerts` are those that fire."""
        record, zones = view.record, view.zones()
        return cls(
            **_of_run(record, status),
            counts=DetailCounts(
                updates=record.updates,
                lost=record.lost,
                firing=len(alerts),
                pending=sum(alert.state == "pending" for alert in view.alerts),
            ),
            last_seqs=dict(view.last_seqs),
            config=dict(record.config),
            readings={
                name: Reading(value=value, zone=zones.get(name))
                for name, value in view.latest.items()
            },
            alerts=alerts,
            incident=None if view.incident is None else Incident.model_validate(view.incident),
            commands=[Command.model_validate(command) for command in view.commands],
            rules=view.rules.fingerprint,
        )


def _of_run(record: RunRecord, status: RunStatus) -> dict[str, Any]:
    own = ("run", "project", "health", "attempt", "step", "last_seq", "trainer", "trainer_did")
    return {
        **{name: getattr(record, name) for name in (*own, "error", "created_at", "ended_at")},
        "status": status,
        "host": record.place("host"),
        "user": record.place("user"),
        "tags": dict(record.tags),
        "notes": record.notes,
        "archived": record.is_archived,
        "last_update_at": record.updated_at,
        "last_heard_at": record.heard_at,
        "hung": None if record.hung is None else dict(record.hung),
        "last_update_time": record.time if record.last_seq else None,
        "checkpoint": None if record.checkpoint is None else dict(record.checkpoint),
    }


class Point(Answer):
    """One reading of a series."""

    attempt: int
    seq: int
    step: int
    time: TrainerTime
    value: Number


class Series(Answer):
    """Readings of one metric; when thinned, extremes and non-finite ones are kept."""

    metric: str
    points: list[Point]
    thinned: bool

    @classmethod
    def of(cls, metric: str, points: list[series.Point], *, thinned: bool) -> Series:
        """Of thousands of points none is checked again."""
        made = [Point.model_construct(None, **point._asdict()) for point in points]
        return cls.model_construct(None, metric=metric, points=made, thinned=thinned)


class Lead(Answer):
    """How far something lies behind the first alert that fired."""

    updates: int
    seconds: float


class Entry(Answer):
    """One thing that happened to a run; further fields depend on its kind."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, PlainSerializer(plain)]]

    id: int
    kind: TimelineKind
    at: TrainerTime
    attempt: int
    seq: int
    step: int
    time: TrainerTime
    source: str
    since_first_sign: Lead | None

    @classmethod
    def of(cls, entry: TimelineEntry, first_sign: TimelineEntry | None) -> Entry:
        """One thing that happened.

        Args:
            first_sign: The first alert of the attempt that fired, or None; how far an entry lies
                behind it is the time that a person had.
        """
        lead = None
        place = (entry.attempt, entry.source)
        if first_sign is not None and place == (first_sign.attempt, first_sign.source):
            seconds = (entry.at_us - first_sign.at_us) / 1_000_000
            lead = Lead(updates=entry.seq - first_sign.seq, seconds=seconds)
        own = {
            "id": entry.at_us,
            "kind": entry.kind,
            "at": entry.at_us / 1_000_000,
            "attempt": entry.attempt,
            "seq": entry.seq,
            "step": entry.step,
            "time": entry.time,
            "source": entry.source,
            "since_first_sign": lead,
        }
        # An event has fields of the trainer's own, which must not pass for ours.
        more = {"event": entry.detail} if entry.kind == "event" else dict(entry.detail)
        return cls(**{**own, **more})
