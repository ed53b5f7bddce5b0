"""Routes about the service itself: rules, receivers, deliveries, health, gauges."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from watchstep_monitor.http.alert_routes import Id, RunQuery
from watchstep_monitor.http.calls import CheckedRoute, Service, Shared, Who, call
from watchstep_monitor.http.models import (
    Delivery,
    Health,
    Listed,
    Ready,
    ReceiverState,
    ReceiverTest,
    Reloaded,
    Resent,
    Rule,
    Rules,
    listed,
)
from watchstep_monitor.http.problems import ProblemError
from watchstep_monitor.http.run_routes import Cursor, Limit
from watchstep_monitor.http.tokens import SESSION_COOKIE, Caller, bearer
from watchstep_monitor.service.errors import NotFoundError
from watchstep_monitor.service.events import DeliveriesDue
from watchstep_monitor.service.ports import DeliveryState
from watchstep_monitor.service.run_state.storage import DeliveryFilter

ReceiverName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]

SESSION_S = 30 * 86_400
"""How long a browser keeps a token; the token itself may end sooner."""

routes = APIRouter(tags=["service"], route_class=CheckedRoute)
root_routes = APIRouter(tags=["service"], route_class=CheckedRoute)
"""At the root, where probes and Prometheus look."""


@routes.get("/rules", **call("The rules that judge every run.", "read"))
def live_rules(service: Service) -> Rules:
    rules = service.book.rules
    items = [Rule.model_validate(rule) for rule in rules.rules]
    return Rules(fingerprint=rules.fingerprint, items=items)


@routes.get("/receivers", **call("Receivers and how they fare.", "read"))
def list_receivers(context: Shared, who: Who) -> Listed[ReceiverState]:
    """A token that is limited to projects sees no counts: they are of all projects."""
    shown = [ReceiverState.model_validate(each) for each in context.worker.receivers()]
    if who.projects is not None:
        shown = [
            ReceiverState(name=each.name, kind=each.kind, disabled=each.disabled) for each in shown
        ]
    return Listed(items=shown)


@routes.post("/receivers/{name}/test", **call("Send a test message now.", "admin"))
def test_receiver(context: Shared, who: Who, name: ReceiverName) -> ReceiverTest:
    _refuse_limited(who)
    if name not in {each.name for each in context.worker.receivers()}:
        raise NotFoundError("no such receiver")
    return ReceiverTest.model_validate(context.worker.send_test(name))


@routes.get("/deliveries", **call("Deliveries, newest first.", "read"))
def list_deliveries(
    context: Shared,
    who: Who,
    state: DeliveryState | None = None,
    run: RunQuery = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Listed[Delivery]:
    selection = DeliveryFilter(who.projects, state, run)
    page = context.run_service.store.deliveries(selection, min(limit, context.limits.page), cursor)
    return listed(page, Delivery.model_validate)


@routes.post(
    "/deliveries/{delivery_id}/resend", **call("Try a dead one again.", "admin", status_code=202)
)
def resend(context: Shared, who: Who, delivery_id: Id) -> Resent:
    now = context.run_service.clock.now()
    if not context.outbox.resend(delivery_id, now, who.projects):
        raise NotFoundError("no such dead delivery")
    context.run_service.bus.publish(DeliveriesDue())
    return Resent(id=delivery_id, state="waiting")


@root_routes.post("/-/reload", **call("Load the rule files again.", "admin"))
def reload_rules(service: Service, who: Who) -> Reloaded:
    _refuse_limited(who)
    service.reload()
    return Reloaded(rules=len(service.book.rules.rules))


@root_routes.post("/session", **call("Keep this token in the browser.", "read", status_code=204))
def begin_session(request: Request, response: Response) -> None:
    """The page asks for a token once: from here on the browser sends it, as a cookie."""
    forwarded = request.headers.get("x-forwarded-proto", request.url.scheme)
    response.set_cookie(
        SESSION_COOKIE,
        bearer(request.headers),
        max_age=SESSION_S,
        secure=forwarded == "https",
        httponly=True,
        samesite="strict",
    )


@root_routes.delete("/session", **call("Forget the browser's token.", "read", status_code=204))
def end_session(response: Response) -> None:
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")


@root_routes.get("/healthz", **call("Whether the process lives.", None))
async def healthz() -> Health:
    return Health()


@root_routes.get("/readyz", **call("Whether updates can be committed.", None))
def readyz(service: Service) -> Ready:
    trouble = service.store.ready()
    if trouble is not None:
        raise ProblemError(503, trouble, headers={"Retry-After": "5"})
    return Ready(rules=len(service.book.rules.rules))


@root_routes.get(
    "/metrics",
    **call(
        "Gauges for Prometheus.",
        "read",
        response_class=Response,
        response_model=None,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    ),
)
def metrics(context: Shared, who: Who) -> Response:
    text, media_type = context.exposition(who.projects)
    return Response(text, media_type=media_type)


def _refuse_limited(who: Caller) -> None:
    """What concerns every project is not for a token that is limited to some.

    Raises:
        ProblemError: 403.
    """
    if who.projects is not None:
        raise ProblemError(403, "The token is limited to projects, and this concerns all.")
