"""Errors as RFC 9457 problems: what was wrong and where, never the offending value."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from watchstep.errors import RuleError
from watchstep.masking import masked
from watchstep_monitor.service.errors import (
    ConflictError,
    GoneError,
    InvalidError,
    NotFoundError,
    OverCapError,
    StorageTroubleError,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MOST_BYTES = 2_048
MOST_ERRORS = 10
MOST_TEXT = 160
MOST_KEY = 64
_NAME = re.compile(r"[A-Za-z0-9_./:-]{1,128}\Z")
STORAGE_RETRY_S = 5


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that was wrong with a request."""

    loc: tuple[str | int, ...]
    kind: str
    reason: str

    def shown(self) -> dict[str, Any]:
        """As the contract writes it; see `_key_shown` for keys that the caller made up."""
        loc = [part if isinstance(part, int) else _key_shown(part) for part in self.loc[:8]]
        return {"loc": loc, "type": self.kind, "msg": _clean(self.reason)[:MOST_TEXT]}


def _key_shown(key: str) -> str:
    """A key if it is a name, cut where it is long; "?" for what is none or looks like a secret."""
    if _NAME.match(key) is None or masked(key) != key:
        return "?"
    return key if len(key) <= MOST_KEY else f"{key[: MOST_KEY - 1]}…"


class ProblemError(Exception):
    """A request that ends in an error answer.

    Attributes:
        status: HTTP status.
        detail: One sentence for people.
        flaws: What was wrong, where.
        headers: Such as Retry-After.
        members: Further members of the problem, such as last_seq.
    """

    def __init__(
        self,
        status: int,
        detail: str = "",
        *,
        flaws: Sequence[Flaw] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.flaws = tuple(flaws)
        self.headers = dict(headers or {})
        self.members = dict(members or {})

    def response(self) -> Response:
        """The answer to the request, at most 2 KiB."""
        errors = [flaw.shown() for flaw in self.flaws[:MOST_ERRORS]]
        while True:
            document = {
                "type": "about:blank",
                "title": _title(self.status),
                "status": self.status,
                "detail": _clean(self.detail)[:MOST_TEXT] or _title(self.status),
                **self.members,
                "errors": errors,
            }
            body = json.dumps(document, separators=(",", ":")).encode()
            if len(body) <= MOST_BYTES or not errors:
                return Response(body, self.status, headers=self.headers, media_type=MEDIA_TYPE)
            errors.pop()


def problem_of(error: Exception) -> ProblemError:
    """What the service's refusals mean in HTTP."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, StorageTroubleError | TimeoutError):
        return ProblemError(
            503,
            "The store cannot commit now; send it again.",
            headers={"Retry-After": str(STORAGE_RETRY_S)},
        )
    refused = _refusal(error)
    if refused is None:
        log.error("unexpected error", exc_info=error)
        return ProblemError(500, "An error of the service; its log tells more.")
    return refused


def _refusal(error: Exception) -> ProblemError | None:
    if isinstance(error, NotFoundError | GoneError):
        return ProblemError(404 if isinstance(error, NotFoundError) else 410, str(error))
    if isinstance(error, ConflictError):
        members = {} if error.last_seq is None else {"last_seq": error.last_seq}
        flaw = Flaw(("body", *error.loc), "conflict", str(error))
        return ProblemError(409, str(error), flaws=[flaw], members=members)
    if isinstance(error, InvalidError):
        flaw = Flaw(error.loc, error.kind, str(error))
        return ProblemError(422, "The request has content that cannot be used.", flaws=[flaw])
    if isinstance(error, OverCapError):
        return ProblemError(429, str(error), headers={"Retry-After": str(error.retry_after_s)})
    if isinstance(error, RuleError):
        flaw = Flaw(("rules", error.line), "rule", error.reason)
        return ProblemError(422, "The rules stay as they were.", flaws=[flaw])
    return None


def install_handlers(app: FastAPI) -> None:
    """Make every error of the application a problem."""

    async def on_invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        if any(flaw["loc"][0] == "path" and flaw["loc"][1] != "run" for flaw in error.errors()):
            # An id that can be no id names nothing; a run's name is the caller's own to choose.
            return ProblemError(404, "no such thing").response()
        return unusable(error.errors()).response()

    async def on_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = {
            name: value
            for name, value in (error.headers or {}).items()
            if name.lower() in {"allow", "www-authenticate", "retry-after"}
        }
        return ProblemError(error.status_code, headers=headers).response()

    async def on_any(_: Request, error: Exception) -> Response:
        return problem_of(error).response()

    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    for kind in (
        ProblemError,
        NotFoundError,
        ConflictError,
        GoneError,
        InvalidError,
        OverCapError,
        RuleError,
        StorageTroubleError,
        TimeoutError,
    ):
        app.add_exception_handler(kind, on_any)


def unusable(errors: Iterable[Mapping[str, Any]]) -> ProblemError:
    """The refusal of what pydantic found wrong."""
    detail = "The request has content that cannot be used."
    return ProblemError(422, detail, flaws=flaws_of(errors))


def flaws_of(errors: Iterable[Mapping[str, Any]]) -> list[Flaw]:
    """What pydantic found, without the values; a value error's own text is ours and holds none."""
    return [
        Flaw(tuple(each["loc"]), str(each["type"]), each["msg"].removeprefix("Value error, "))
        for each in errors
    ]


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _clean(text: str) -> str:
    """Printable ASCII, so that no answer or log line can be broken open."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)
