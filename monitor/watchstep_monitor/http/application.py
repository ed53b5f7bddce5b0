"""All routes in one application, behind the envelope."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from watchstep_monitor.http.admin_routes import admin_routes, root_routes
from watchstep_monitor.http.alert_routes import alert_routes, silence_routes
from watchstep_monitor.http.context import Context
from watchstep_monitor.http.docs_page import docs_page
from watchstep_monitor.http.envelope import Envelope, RequestLimits
from watchstep_monitor.http.ingest_route import PATH, accepting, ingest_first, ingest_route
from watchstep_monitor.http.openapi import answer_schemas, batch_operation
from watchstep_monitor.http.postmortem_routes import LOG_PATH, postmortem_routes
from watchstep_monitor.http.problems import install_handlers
from watchstep_monitor.http.run_routes import history_routes, run_routes
from watchstep_monitor.http.stream import stream_routes
from watchstep_monitor.service.postmortem.runner import Postmortems

PREFIX = "/api/v1"
PACKED_FROM_BYTES = 2_048
"""Below it, packing costs more than it saves on any network."""


def build_application(
    context: Context,
    limits: RequestLimits,
    *,
    version: str,
    stopping: asyncio.Event,
    postmortems: Postmortems,
    pages: Sequence[APIRouter] = (),
) -> Envelope:
    """The ASGI application.

    Args:
        context: What the routes share.
        limits: Of requests.
        version: Of watchstep, for the API's description.
        stopping: Set when the service ends, so that open streams do.
        postmortems: Makes them.
        pages: Routes of the web page, mounted at the root.
    """
    app = FastAPI(
        title="watchstep",
        version=version,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    # For the page on a phone, and Prometheus: JSON of readings packs to a fifth. Streams of events
    # and files that are packed already pass as they are, and so do answers to trainers.
    app.add_middleware(GZipMiddleware, minimum_size=PACKED_FROM_BYTES, compresslevel=1)
    install_handlers(app)
    accept = accepting(context)
    app.router.routes.append(ingest_route(accept))
    for routes in (
        run_routes(context),
        history_routes(context),
        alert_routes(context),
        silence_routes(context),
        admin_routes(context),
        postmortem_routes(context, postmortems),
        stream_routes(context, stopping),
    ):
        app.include_router(routes, prefix=PREFIX)
    app.include_router(root_routes(context))
    for routes in pages:
        app.include_router(routes)
    _describe(app)
    first = ingest_first(accept, app)
    return Envelope(first, limits, keyring=context.keyring, streamed=[LOG_PATH])


def _describe(app: FastAPI) -> None:
    generate = app.openapi

    def described() -> dict[str, Any]:
        schema = generate()
        schema["paths"].setdefault(PATH, {})["post"] = batch_operation()
        schema.setdefault("components", {}).setdefault("schemas", {}).update(answer_schemas())
        return schema

    app.openapi = described  # type: ignore[method-assign]

    async def docs(_: Request) -> Response:
        return HTMLResponse(docs_page(described()))

    app.add_route("/docs", docs, include_in_schema=False)
