"""How a call is declared and checked: who may make it, its body read strictly, how it is refused.

The caller is checked before anything of the request is read, so that turning away costs less than
serving, and a route that names no scope is open to everyone: a test walks all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from watchstep_monitor.http.bodies import require_json
from watchstep_monitor.http.context import Context, caller
from watchstep_monitor.http.strict_json import read_json
from watchstep_monitor.http.tokens import Caller
from watchstep_monitor.service.run_service import RunService

SCHEME = "bearer"
"""Name of the way to prove who one is, in the API's description."""

PROBLEM_REF = {"$ref": "#/components/schemas/Problem"}
_REFUSALS = {
    400: "Malformed bytes.",
    401: "No good token.",
    403: "The token lacks the scope.",
    404: "Not there, or not yours.",
    409: "Something else is stored under this identity.",
    410: "The run was deleted.",
    413: "Too large.",
    415: "Wrong media type.",
    422: "Content that cannot be used.",
    429: "Over a cap; see Retry-After.",
    503: "The store cannot commit; see Retry-After.",
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": meaning,
        "content": {"application/problem+json": {"schema": PROBLEM_REF}},
    }
    for status, meaning in _REFUSALS.items()
}
"""Every way in which a call can be refused."""


def call(summary: str, scope: str | None, **more: Any) -> dict[str, Any]:
    """Arguments of a route.

    Args:
        scope: What a token must allow; None where none is asked for.
        more: Further arguments of FastAPI's; `openapi_extra` and `responses` are added to.
    """
    extra = dict(more.pop("openapi_extra", {}))
    if scope is not None:
        extra["security"] = [{SCHEME: [scope]}]
    responses = {**REFUSALS, **more.pop("responses", {})}
    return {"summary": summary, "openapi_extra": extra, "responses": responses, **more}


class CheckedRoute(APIRoute):
    """A route that checks its caller first, and then reads its body strictly, if it has one."""

    @property
    def scope(self) -> str | None:
        """What a token must allow; see `call`."""
        security = (self.openapi_extra or {}).get("security")
        return str(security[0][SCHEME][0]) if security else None

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        scope, has_body = self.scope, self.body_field is not None

        async def checked(request: Request) -> Response:
            if scope is not None:
                context = context_of(request)
                request.state.caller = caller(request.headers, request.scope, context, scope)
            if has_body:
                request = await _read_strictly(request)
            return await handle(request)

        return checked


class _ReadRequest(Request):
    def __init__(self, request: Request, raw: bytes, document: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._raw = raw
        self._document = document

    async def body(self) -> bytes:
        return self._raw

    async def json(self) -> Any:
        return self._document


async def _read_strictly(request: Request) -> Request:
    raw = await request.body()
    if not raw:
        return _ReadRequest(request, raw, None)
    require_json(request.headers)
    # Here, since the framework has an answer of its own to malformed bytes.
    return _ReadRequest(request, raw, read_json(raw))


def context_of(request: Request) -> Context:
    """What the routes share."""
    context: Context = request.app.state.context
    return context


async def _context(request: Request) -> Context:
    return context_of(request)


async def _run_service(request: Request) -> RunService:
    return context_of(request).run_service


async def _caller(request: Request) -> Caller:
    who: Caller = request.state.caller
    return who


Shared = Annotated[Context, Depends(_context)]
Service = Annotated[RunService, Depends(_run_service)]
Who = Annotated[Caller, Depends(_caller)]
