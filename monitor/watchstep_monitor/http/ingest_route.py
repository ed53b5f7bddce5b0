"""`POST /runs/{run}/updates`, as a plain route.

For small requests the framework's own validation and serialisation cost three times what
storing an update does.
"""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from watchstep.wire import ROWS_TYPE, RUN_NAME
from watchstep_monitor.http.answers import receipt_shown
from watchstep_monitor.http.bodies import media_type
from watchstep_monitor.http.context import Context, caller
from watchstep_monitor.http.problems import Flaw, ProblemError
from watchstep_monitor.http.strict_json import read_json

PATH = "/api/v1/runs/{run}/updates"


def ingest_route(context: Context) -> Route:
    """The route, to be mounted before all others."""
    desk, batches, metrics = context.desk, context.batches, context.metrics

    async def accept_updates(request: Request) -> Response:
        began = time.perf_counter()
        who = caller(request, context, "ingest")
        run = request.path_params["run"]
        if not RUN_NAME.match(run):
            flaw = Flaw(("path", "run"), "pattern", "is no name for a run")
            raise ProblemError(422, "The run cannot be called that.", flaws=[flaw])
        kind = media_type(request)
        if kind not in {"application/json", ROWS_TYPE}:
            raise ProblemError(415, f"The body must be application/json or {ROWS_TYPE}.")
        body = await request.body()
        if kind == ROWS_TYPE:
            batch = batches.read_rows(run, body, who.projects)
        else:
            batch = batches.read(run, read_json(body), who.projects)
        async with asyncio.timeout(context.commit_wait_s):
            receipt = await asyncio.wrap_future(desk.accept(batch))
        if metrics is not None:
            metrics.updates_stored(receipt.accepted, receipt.duplicates, len(receipt.rejected))
            metrics.ingest_took(time.perf_counter() - began)
        return receipt_shown(receipt)

    return Route(PATH, accept_updates, methods=["POST"])
