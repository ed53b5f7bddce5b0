"""All routes in one application, behind the envelope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware.gzip import GZipMiddleware

from watchstep_monitor.http import (
    action_routes,
    admin_routes,
    alert_routes,
    docs_page,
    ingest_route,
    otlp_route,
    postmortem_routes,
    run_routes,
    stream,
)
from watchstep_monitor.http.calls import SCHEME
from watchstep_monitor.http.context import Context
from watchstep_monitor.http.envelope import Envelope
from watchstep_monitor.http.models import Problem
from watchstep_monitor.http.problems import install_handlers

PREFIX = "/api/v1"
MODULES = (ingest_route, run_routes, alert_routes, admin_routes, postmortem_routes, stream)
"""Whose routes lie under the prefix."""

PACKED_FROM_BYTES = 2_048
"""Below it, packing costs more than it saves on any network."""


def build_application(
    context: Context,
    *,
    version: str,
    pages: Sequence[APIRouter] = (),
) -> Envelope:
    """The ASGI application.

    Args:
        pages: Routes of the web page, mounted at the root.
    """
    app = framework(version, pages)
    app.state.context = context
    return Envelope(
        app,
        context.limits,
        keyring=context.keyring,
        streamed=[postmortem_routes.LOG_PATH],
        direct=ingest_route.direct(context),
    )


def framework(version: str, pages: Sequence[APIRouter] = ()) -> FastAPI:
    """All routes, described; they answer once `app.state.context` is set."""
    app = _Described(
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
    for module in MODULES:
        app.include_router(module.routes, prefix=PREFIX)
    # With those of `otlp_route`.
    app.include_router(otlp_route.root_routes)
    app.include_router(action_routes.routes)
    app.include_router(docs_page.routes)
    for routes in pages:
        app.include_router(routes)
    return app


class _Described(FastAPI):
    """Adds to the framework's description what it cannot know: problems, and tokens."""

    def openapi(self) -> dict[str, Any]:
        schema = super().openapi()
        components = schema.setdefault("components", {})
        template = "#/components/schemas/{model}"
        problem = Problem.model_json_schema(mode="serialization", ref_template=template)
        named = problem.pop("$defs", {})
        components.setdefault("schemas", {}).update({**named, "Problem": problem})
        components["securitySchemes"] = {SCHEME: {"type": "http", "scheme": "bearer"}}
        return schema
