"""Routes about the service itself: rules, receivers, deliveries, health, gauges."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from watchstep_monitor.http.alert_routes import Id, RunQuery
from watchstep_monitor.http.answer_types import (
    Delivery,
    Health,
    Ready,
    ReceiverState,
    Reloaded,
    Resent,
    Rules,
    Trial,
)
from watchstep_monitor.http.answers import answer, delivery_json, page, rules_json
from watchstep_monitor.http.context import Context, caller
from watchstep_monitor.http.openapi import documented
from watchstep_monitor.http.problems import ProblemError
from watchstep_monitor.http.run_routes import Cursor, Limit
from watchstep_monitor.service.errors import NotFoundError
from watchstep_monitor.service.events import DeliveriesDue
from watchstep_monitor.service.ports import DeliveryState
from watchstep_monitor.service.run_state.storage import DeliveryFilter


def admin_routes(context: Context) -> APIRouter:
    """The routes, to be mounted under `/api/v1`."""
    routes = APIRouter(tags=["service"])
    run_service = context.run_service

    @routes.get("/rules", **documented(None, "The rules that judge every run.", Rules))
    def live_rules(request: Request) -> Response:
        caller(request, context, "read")
        return answer(rules_json(run_service.book.rules))

    @routes.get(
        "/receivers", **documented(None, "Receivers and how they fare.", ReceiverState, listed=True)
    )
    def list_receivers(request: Request) -> Response:
        caller(request, context, "read")
        return answer({"items": context.receivers.shown(), "next_cursor": None})

    @routes.post("/receivers/{name}/test", **documented(None, "Send a test message now.", Trial))
    async def test_receiver(
        request: Request, name: Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    ) -> Response:
        caller(request, context, "admin")
        result = await run_in_threadpool(context.receivers.test, name)
        if result is None:
            raise NotFoundError("no such receiver")
        return answer(result)

    @routes.get(
        "/deliveries", **documented(None, "Deliveries, newest first.", Delivery, listed=True)
    )
    def list_deliveries(
        request: Request,
        state: DeliveryState | None = None,
        run: RunQuery = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response:
        projects = caller(request, context, "read").projects
        wanted = DeliveryFilter(projects, state, run)
        found = run_service.store.deliveries(wanted, min(limit, context.page), cursor)
        return page(found, delivery_json)

    @routes.post(
        "/deliveries/{delivery_id}/resend",
        **documented(None, "Try a dead one again.", Resent, status=202),
    )
    async def resend(request: Request, delivery_id: Id) -> Response:
        projects = caller(request, context, "admin").projects
        if not await run_in_threadpool(context.receivers.resend, delivery_id, projects):
            raise NotFoundError("no such dead delivery")
        run_service.bus.publish(DeliveriesDue())
        return answer({"id": delivery_id, "state": "waiting"}, 202)

    return routes


def root_routes(context: Context) -> APIRouter:
    """Routes at the root, where probes and Prometheus look."""
    routes = APIRouter(tags=["service"])
    run_service = context.run_service

    @routes.post("/-/reload", **documented(None, "Load the rule files again.", Reloaded))
    async def reload(request: Request) -> Response:
        caller(request, context, "admin")
        await run_in_threadpool(run_service.reload)
        return answer({"rules": len(run_service.book.rules.rules)})

    @routes.get("/healthz", **documented(None, "Whether the process lives.", Health))
    async def healthz() -> Response:
        return answer({"status": "ok"})

    @routes.get("/readyz", **documented(None, "Whether updates can be committed.", Ready))
    def readyz() -> Response:
        trouble = run_service.store.ready()
        if trouble is not None:
            raise ProblemError(503, trouble, headers={"Retry-After": "5"})
        return answer({"status": "ok", "rules": len(run_service.book.rules.rules)})

    @routes.get("/metrics", **documented(None, "Gauges for Prometheus.", "text/plain"))
    def metrics(request: Request) -> Response:
        caller(request, context, "read")
        text, media_type = context.exposition()
        return Response(text, media_type=media_type)

    return routes
