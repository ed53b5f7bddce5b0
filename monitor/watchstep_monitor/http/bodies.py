"""Request bodies other than batches: their shapes, and how they are read."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.requests import Request

from watchstep_monitor.http.problems import ProblemError, flaws_of
from watchstep_monitor.http.strict_json import read_json

RUN_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$"
METRIC_PATTERN = r"^[A-Za-z0-9_./:-]{1,128}$"
PROJECT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:/ -]{0,63}$"

Text = Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
ShortText = Annotated[str, Field(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
TagName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:/-]{1,64}$")]
TagText = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]

B = TypeVar("B", bound="Body")


class Body(BaseModel):
    """A request body: strict about types and names, silent about values."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, frozen=True)


class BeginBody(Body):
    """Body of `PUT /runs/{run}`."""

    project: Annotated[str, Field(pattern=PROJECT_PATTERN)] | None = None
    tags: dict[TagName, TagText] | None = Field(None, max_length=64)
    config: dict[str, Any] | None = None
    trainer: ShortText | None = None
    attempt: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    session: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] | None = None


class CommandBody(Body):
    """Body of `POST /runs/{run}/commands`."""

    kind: Literal["halt", "checkpoint"]
    reason: Text = ""


class AcknowledgeBody(Body):
    """Body of `POST /alerts/{id}/ack`; may be left out."""

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
        if self.ends_at is not None and self.starts_at is not None:
            _in_order(self.starts_at, self.ends_at)
        return self


async def body_of(request: Request, kind: type[B], *, optional: bool = False) -> B:
    """The request's body as a model.

    Raises:
        ProblemError: 415 for another media type, 400 for malformed bytes, 422 for content.
    """
    raw = await request.body()
    if optional and not raw:
        return kind()
    require_json(request)
    document = read_json(raw)
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        flaws = flaws_of([{**one, "loc": ("body", *one["loc"])} for one in found])
        raise ProblemError(
            422, "The request has content that cannot be used.", flaws=flaws
        ) from None


def require_json(request: Request) -> None:
    """Refuse other media types.

    Raises:
        ProblemError: 415.
    """
    if media_type(request) != "application/json":
        raise ProblemError(415, "The body must be application/json.")


def media_type(request: Request) -> str:
    """What the request says that its body is, without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def size_of(document: object) -> int:
    """Bytes of a value as JSON."""
    return len(json.dumps(document, default=str))


def _in_order(start: datetime, end: datetime) -> None:
    if end <= start:
        raise ValueError("must end after it starts")
