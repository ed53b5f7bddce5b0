"""`POST /runs/{run}/updates`, ahead of the framework.

For small requests the framework's layers, validation and serialisation cost several times what
storing an update does.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from watchstep.wire import ROWS_TYPE, RUN_NAME
from watchstep_monitor.http.answers import answer, receipt_json
from watchstep_monitor.http.bodies import media_type
from watchstep_monitor.http.context import Context, caller
from watchstep_monitor.http.problems import Flaw, ProblemError

PATH = "/api/v1/runs/{run}/updates"
_PLACE = re.compile(r"/api/v1/runs/([^/]+)/updates")

Accept = Callable[[Request, str], Awaitable[Response]]


def accepting(context: Context) -> Accept:
    """What answers a request to store updates of the run that is named."""
    run_service, batches, metrics = context.run_service, context.batches, context.metrics

    async def accept(request: Request, run: str) -> Response:
        began = time.perf_counter()
        who = caller(request, context, "ingest")
        if not RUN_NAME.match(run):
            flaw = Flaw(("path", "run"), "pattern", "is no name for a run")
            raise ProblemError(422, "The run cannot be called that.", flaws=[flaw])
        kind = media_type(request)
        if kind not in {"application/json", ROWS_TYPE}:
            raise ProblemError(415, f"The body must be application/json or {ROWS_TYPE}.")
        # Before the body is looked at: turning away must cost less than serving.
        run_service.admit()
        body = await request.body()
        read = batches.read_rows if kind == ROWS_TYPE else batches.read
        batch = read(run, body, who.projects)
        async with asyncio.timeout(context.commit_wait_s):
            receipt = await asyncio.wrap_future(run_service.accept(batch))
        if metrics is not None:
            metrics.updates_stored(receipt.accepted, receipt.duplicates, len(receipt.rejected))
            metrics.ingest_took(time.perf_counter() - began)
        return answer(receipt_json(receipt), 202)

    return accept


def ingest_first(accept: Accept, app: ASGIApp) -> ASGIApp:
    """The application, with updates taken before it looks for a route.

    What `accept` raises is for whoever is in front.
    """

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            place = _PLACE.fullmatch(scope["path"])
            if place is not None:
                response = await accept(Request(scope, receive), place[1])
                await response(scope, receive, send)
                return
        await app(scope, receive, send)

    return answered


def ingest_route(accept: Accept) -> Route:
    """The same for the framework, which knows which methods the path has."""

    async def accept_updates(request: Request) -> Response:
        return await accept(request, request.path_params["run"])

    return Route(PATH, accept_updates, methods=["POST"])
