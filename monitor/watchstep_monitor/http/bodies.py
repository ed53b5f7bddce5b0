"""Request bodies other than batches: their shapes, and how they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from watchstep.core.updates import TRAINING
from watchstep.wire.names import SOURCE_NAME, legal_project_name, legal_tag_name
from watchstep_monitor.http.problems import ProblemError
from watchstep_monitor.http.strict_json import MOST_COUNTER
from watchstep_monitor.service.run_state.records import Verdict

RUN_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$"
METRIC_PATTERN = r"^[A-Za-z0-9_./:-]{1,128}$"
PROJECT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:/ -]{0,63}$"

Text = Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
ShortText = Annotated[str, Field(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]

MOST_ATTEMPT = 1_000_000
MOST_TAGS = 64
MOST_TAG_TEXT = 256
MOST_CONFIG_TEXT = 1_000
"""Characters that a text of a configuration too large keeps."""


def _project(sent: object) -> object:
    return legal_project_name(sent) if isinstance(sent, str) and sent else sent


def _tags(sent: object) -> object:
    """Any scalar is a tag's text, and any text its name, as far as there is room."""
    if not isinstance(sent, dict):
        return sent
    scalars = {name: each for name, each in sent.items() if not isinstance(each, dict | list)}
    first = list(scalars.items())[:MOST_TAGS]
    return {legal_tag_name(name): _printable(each)[:MOST_TAG_TEXT] for name, each in first}


def _trainer(sent: object) -> object:
    return _printable(sent)[:64] if isinstance(sent, str) else sent


def _printable(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    # Control characters have no place in labels, and PostgreSQL refuses a NUL.
    return "".join(char if char.isprintable() else " " for char in text)


class Body(BaseModel):
    """A request body: strict about types and names, silent about values."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, frozen=True)


class BeginBody(Body):
    """Body of `PUT /runs/{run}`; odd names and long texts are mapped and cut, never refused."""

    project: Annotated[str | None, BeforeValidator(_project)] = None
    tags: Annotated[dict[str, str] | None, BeforeValidator(_tags)] = None
    config: dict[str, Any] | None = None
    trainer: Annotated[str | None, BeforeValidator(_trainer)] = None
    attempt: Annotated[int, Field(ge=1, le=MOST_ATTEMPT)] | None = None
    session: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] | None = None


class EditBody(Body):
    """Body of `PATCH /runs/{run}`; what is left out stays."""

    notes: Annotated[str | None, Field(max_length=10_000)] = None
    tags: Annotated[dict[str, str] | None, BeforeValidator(_tags)] = None
    archived: Annotated[bool | None, Field(description="Lists leave it out.")] = None
    closed: Annotated[
        Literal[True] | None, Field(description="Its incident and alerts are over.")
    ] = None


class CommandBody(Body):
    """Body of `POST /runs/{run}/commands`."""

    kind: Literal["halt", "checkpoint"]
    reason: Text = ""


class AcknowledgeBody(Body):
    """Body of `POST /alerts/{id}/ack`; may be left out."""

    by: ShortText = ""


class AnswerBody(Body):
    """Body of `POST /alerts/{id}/answer`."""

    answer: Verdict
    by: ShortText = ""


class MatcherBody(Body):
    """A matcher, in the form of Alertmanager's API."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
    value: Annotated[str, Field(max_length=512, pattern=r"^[^\x00-\x1f\x7f]*$")]
    is_regex: bool = Field(default=False, alias="isRegex")
    is_equal: bool = Field(default=True, alias="isEqual")


class SilenceBody(Body):
    """Body of `POST /silences`."""

    model_config = ConfigDict(
        extra="forbid", strict=False, hide_input_in_errors=True, frozen=True, populate_by_name=True
    )

    matchers: list[MatcherBody | Annotated[str, Field(max_length=700)]] = Field(
        min_length=1, max_length=16
    )
    starts_at: AwareDatetime | None = Field(None, alias="startsAt")
    ends_at: AwareDatetime | None = Field(None, alias="endsAt")
    duration_s: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] | None = None
    comment: Text = ""
    created_by: ShortText = Field("", alias="createdBy")

    @model_validator(mode="after")
    def _has_one_end(self) -> SilenceBody:
        if (self.ends_at is None) == (self.duration_s is None):
            raise ValueError("give either ends_at or duration_s")
        if self.ends_at and self.starts_at and self.ends_at <= self.starts_at:
            raise ValueError("must end after it starts")
        return self


class UpdateBody(Body):
    """One update of a batch."""

    seq: Annotated[int, Field(ge=1, le=MOST_COUNTER)]
    step: Annotated[int, Field(ge=0, le=MOST_COUNTER)]
    time: float | datetime = Field(description="Epoch seconds or RFC 3339.")
    metrics: dict[str, float | Literal["NaN", "Infinity", "-Infinity"]] = {}
    event: dict[str, Any] | None = Field(None, description='With its "kind".')
    source: Annotated[str, Field(pattern=SOURCE_NAME.pattern.replace("\\Z", "$"))] = Field(
        TRAINING, description="Who speaks; each source counts its own seq."
    )


class BatchBody(Body):
    """Body of `POST /runs/{run}/updates`, as it is described; `batches` reads it."""

    attempt: Annotated[int, Field(ge=1, le=MOST_ATTEMPT)]
    updates: list[UpdateBody]

    @classmethod
    def inlined_schema(cls) -> dict[str, Any]:
        """Its schema without references, for a description that stands by itself."""
        schema = cls.model_json_schema()
        schema["properties"]["updates"]["items"] = schema.pop("$defs")["UpdateBody"]
        return schema


def require_json(headers: Mapping[str, str]) -> None:
    """Refuse other media types.

    Raises:
        ProblemError: 415.
    """
    if media_type(headers) != "application/json":
        raise ProblemError(415, "The body must be application/json.")


def media_type(headers: Mapping[str, str]) -> str:
    """What a request says that its body is, without parameters, in lower case."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def fitting(document: Mapping[str, Any], most_bytes: int) -> tuple[dict[str, Any], int]:
    """What fits of a run's configuration, long texts cut, and how many entries did not."""
    if _size_of(document) <= most_bytes:
        return dict(document), 0
    fitting_config: dict[str, Any] = {}
    left = most_bytes
    for name, value in document.items():
        part = value[:MOST_CONFIG_TEXT] if isinstance(value, str) else value
        size = _size_of({name: part})
        if size <= left:
            fitting_config[name] = part
            left -= size
    return fitting_config, len(document) - len(fitting_config)


def _size_of(document: object) -> int:
    return len(json.dumps(document, default=str))
