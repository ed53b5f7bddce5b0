"""Post-mortems: of a log that is sent, and of a run in the store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from watchstep_monitor.http.calls import CheckedRoute, Shared, Who, call
from watchstep_monitor.http.models import Postmortem
from watchstep_monitor.http.problems import Flaw, ProblemError
from watchstep_monitor.http.run_routes import RunName
from watchstep_monitor.service.errors import InvalidError
from watchstep_monitor.service.postmortem.runner import file_name
from watchstep_monitor.settings.schema import LimitSettings

LOG_PATH = "/api/v1/postmortem"
"""Whose body is a log, read by the route itself; see `Envelope`."""


routes = APIRouter(tags=["post-mortem"], route_class=CheckedRoute)

_LOG_BODY = {
    "requestBody": {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "required": True,
    }
}


@routes.post(
    "/postmortem",
    **call("What a log tells: the bytes of one log file.", "read", openapi_extra=_LOG_BODY),
)
async def examine_log(
    request: Request,
    context: Shared,
    name: Annotated[str, Query(max_length=256, description="What the file is called.")] = "log",
) -> Postmortem:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise ProblemError(415, "Send the log as it is, a .gz file as well.")
    postmortems = context.postmortems
    async with postmortems.turn() as folder:
        path = folder / file_name(name)
        await _receive(request, path, postmortems.limits)
        return Postmortem.model_validate(await postmortems.of_log(path, path.name))


@routes.get("/runs/{run}/postmortem", **call("What a run's stored updates tell.", "read"))
async def examine_run(context: Shared, who: Who, run: RunName) -> Postmortem:
    service = context.run_service
    view = await run_in_threadpool(service.view, run, who.projects)
    rules = service.book.sources(view.record.tags)
    async with context.postmortems.turn() as folder:
        report = await context.postmortems.of_run(folder, view.record, rules)
    return Postmortem.model_validate(report)


async def _receive(request: Request, path: Path, limits: LimitSettings) -> None:
    """Write the body to a file, part by part.

    Raises:
        ProblemError: It is too large, or does not arrive in time.
        InvalidError: There is none.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared[:20]) > limits.log_bytes:
        raise _too_large(limits)
    size = 0
    try:
        async with asyncio.timeout(limits.log_read_s):
            with path.open("wb") as file:
                async for part in request.stream():
                    size += len(part)
                    if size > limits.log_bytes:
                        raise _too_large(limits)
                    file.write(part)
    except TimeoutError:
        raise ProblemError(
            408, "The log did not arrive in time.", headers={"Connection": "close"}
        ) from None
    if size == 0:
        raise InvalidError("there is no log in it", loc=("body",), kind="empty")


def _too_large(limits: LimitSettings) -> ProblemError:
    reason = f"at most {limits.log_bytes} bytes; larger logs: watchstep postmortem FILE"
    return ProblemError(
        413,
        "The log is too large.",
        flaws=[Flaw(("body",), "too_long", reason)],
        headers={"Connection": "close"},
    )
