"""What trainers send, `PUT /runs/{run}` and `POST /runs/{run}/updates`, ahead of the framework.

For small requests the framework's layers, validation and serialisation cost several times what
storing an update does. Both are declared to the framework too, which describes them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from watchstep.wire.names import RUN_NAME
from watchstep.wire.rows import ROWS_TYPE
from watchstep_monitor.http.bodies import (
    BatchBody,
    BeginBody,
    fitting,
    media_type,
    require_json,
)
from watchstep_monitor.http.calls import CheckedRoute, call, context_of
from watchstep_monitor.http.context import Context, caller
from watchstep_monitor.http.envelope import Answering, Direct
from watchstep_monitor.http.problems import Flaw, ProblemError, unusable
from watchstep_monitor.http.run_models import Begun, Receipt, RunRules
from watchstep_monitor.http.strict_json import read_json
from watchstep_monitor.http.tokens import Caller
from watchstep_monitor.service.ingest import batch as batches

_UPDATES = re.compile(r"/api/v1/runs/[^/]+/updates")
_RUN = re.compile(r"/api/v1/runs/[^/]+")

_ROWS = (
    "The same updates as rows of little-endian doubles, a fifth of the size: the magic `WSR1` and "
    "the attempt as u64, then blocks of a kind u8 and a count u32. Kind 1: the length u32 of the "
    "metric names, the names joined by newlines, and so many rows of seq u64, step i64, time f64 "
    "and one f64 a name. Kind 2: so many bytes of one update as a JSON object."
)
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": BatchBody.inlined_schema()},
            ROWS_TYPE: {"schema": {"type": "string", "format": "binary", "description": _ROWS}},
        },
    }
}

routes = APIRouter(tags=["runs"], route_class=CheckedRoute)


@routes.post(
    "/runs/{run}/updates",
    **call(
        "Store and judge a batch; 202 once it is durable.",
        "ingest",
        status_code=202,
        response_model=Receipt,
        openapi_extra=_BODY,
    ),
)
async def accept_updates(request: Request, run: str) -> Response:
    answer = await accept(
        context_of(request), request.scope, run, request.headers, await request.body()
    )
    return Response(answer, 202, media_type="application/json")


async def accept(
    context: Context, scope: Scope, run: str, headers: Mapping[str, str], body: bytes
) -> bytes:
    """Store the updates in a body; the 202's own body once they are durable."""
    began = time.perf_counter()
    who = caller(headers, scope, context, "ingest")
    _check_name(run)
    kind = media_type(headers)
    if kind not in {"application/json", ROWS_TYPE}:
        raise ProblemError(415, f"The body must be application/json or {ROWS_TYPE}.")
    # Before the body is looked at: turning away must cost less than serving.
    context.run_service.admit()
    read = context.batches.read_rows if kind == ROWS_TYPE else context.batches.read
    receipt = await _durable(context, read(run, body, who.projects))
    if context.metrics is not None:
        context.metrics.updates_stored(receipt.accepted, receipt.duplicates, len(receipt.rejected))
        context.metrics.ingest_took(time.perf_counter() - began)
    if receipt.rejected or receipt.commands:
        return Receipt.model_validate(receipt).model_dump_json().encode()
    # The same document, without its model.
    return msgspec.json.encode(receipt)


async def begin(context: Context, who: Caller, run: str, body: BeginBody) -> bytes:
    """Begin or resume an attempt as a body describes it; the 200's own body."""
    sent = dict(body)
    left_out = 0
    if sent["config"] is not None:
        sent["config"], left_out = fitting(sent["config"], context.limits.config_bytes)
    beginning = batches.Beginning(run=run, projects=who.projects, **sent)
    outcome = context.outcomes.new()
    context.run_service.begin(beginning, outcome)
    with context.commit_wait:
        begun, earlier_heard_s = await outcome.future
    rules = RunRules.of(context.run_service.book, begun.record.tags)
    answer = Begun.of(begun, rules, left_out, earlier_heard_s)
    return answer.model_dump_json().encode()


def _description(headers: Mapping[str, str], body: bytes) -> BeginBody:
    if not body:
        return BeginBody()
    require_json(headers)
    document = read_json(body)
    try:
        return BeginBody() if document is None else BeginBody.model_validate(document)
    except ValidationError as error:
        errors = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise unusable(errors) from None


def _check_name(run: str) -> None:
    if not RUN_NAME.match(run):
        flaw = Flaw(("path", "run"), "pattern", "is no name for a run")
        raise ProblemError(422, "The run cannot be called that.", flaws=[flaw])


async def _durable(context: Context, batch: batches.Batch) -> batches.Receipt:
    outcome = context.outcomes.new()
    context.run_service.hand_over(batch, outcome)
    try:
        with context.commit_wait:
            receipt: batches.Receipt = await outcome.future
    finally:
        context.run_service.left()
    return receipt


def direct(context: Context) -> Direct:
    """What answers trainers before the framework looks for a route."""

    async def answer_updates(
        scope: Scope, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]:
        return 202, await accept(context, scope, _run_in(scope), headers, body)

    async def answer_run(
        scope: Scope, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]:
        who, run = caller(headers, scope, context, "ingest"), _run_in(scope)
        _check_name(run)
        return 200, await begin(context, who, run, _description(headers, body))

    def of(scope: Scope) -> Answering | None:
        if scope["method"] == "POST" and _UPDATES.fullmatch(scope["path"]):
            return answer_updates
        if scope["method"] == "PUT" and _RUN.fullmatch(scope["path"]):
            return answer_run
        return None

    return of


def _run_in(scope: Scope) -> str:
    return str(scope["path"].split("/")[4])
