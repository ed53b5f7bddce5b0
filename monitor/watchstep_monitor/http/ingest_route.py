"""`POST /runs/{run}/updates`, ahead of the framework.

For small requests the framework's layers, validation and serialisation cost several times what
storing an update does. It is declared to the framework too, which describes it and serves whatever
comes another way.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from watchstep.wire import ROWS_TYPE, RUN_NAME
from watchstep_monitor.http.bodies import BatchBody, media_type
from watchstep_monitor.http.calls import CheckedRoute, call, context_of
from watchstep_monitor.http.context import Context, caller
from watchstep_monitor.http.problems import Flaw, ProblemError
from watchstep_monitor.http.run_models import Receipt

_PLACE = re.compile(r"/api/v1/runs/([^/]+)/updates")

Accept = Callable[[Request, str], Awaitable[Response]]

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
    """See `accept`."""
    return await accept(request, context_of(request), run)


async def accept(request: Request, context: Context, run: str) -> Response:
    """Answer a request to store updates of the run that is named."""
    began = time.perf_counter()
    who = caller(request, context, "ingest")
    if not RUN_NAME.match(run):
        flaw = Flaw(("path", "run"), "pattern", "is no name for a run")
        raise ProblemError(422, "The run cannot be called that.", flaws=[flaw])
    kind = media_type(request)
    if kind not in {"application/json", ROWS_TYPE}:
        raise ProblemError(415, f"The body must be application/json or {ROWS_TYPE}.")
    # Before the body is looked at: turning away must cost less than serving.
    context.run_service.admit()
    body = await request.body()
    read = context.batches.read_rows if kind == ROWS_TYPE else context.batches.read
    batch = read(run, body, who.projects)
    async with asyncio.timeout(context.limits.commit_wait_s):
        receipt = await asyncio.wrap_future(context.run_service.accept(batch))
    if context.metrics is not None:
        context.metrics.updates_stored(receipt.accepted, receipt.duplicates, len(receipt.rejected))
        context.metrics.ingest_took(time.perf_counter() - began)
    answer = Receipt.model_validate(receipt).model_dump_json()
    return Response(answer, 202, media_type="application/json")


def ingest_first(context: Context, app: ASGIApp) -> ASGIApp:
    """The application, with updates taken before it looks for a route.

    What `accept` raises is for whoever is in front.
    """

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            place = _PLACE.fullmatch(scope["path"])
            if place is not None:
                response = await accept(Request(scope, receive), context, place[1])
                await response(scope, receive, send)
                return
        await app(scope, receive, send)

    return answered
