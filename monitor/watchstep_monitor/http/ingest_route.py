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

from watchstep.wire import RUN_NAME
from watchstep_monitor.http.answers import receipt_shown
from watchstep_monitor.http.bodies import require_json
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
        require_json(request)
        batch = batches.read(run, read_json(await request.body()), who.projects)
        receipt = await asyncio.wrap_future(desk.accept(batch))
        if metrics is not None:
            metrics.updates_stored(receipt.accepted, receipt.duplicates, len(receipt.rejected))
            metrics.ingest_took(time.perf_counter() - began)
        return receipt_shown(receipt)

    return Route(PATH, accept_updates, methods=["POST"])
