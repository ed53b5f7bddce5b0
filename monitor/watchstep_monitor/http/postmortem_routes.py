"""Post-mortems: of a log that is sent, and of a run in the store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from watchstep_monitor.http.answer_types import Postmortem
from watchstep_monitor.http.answers import answer
from watchstep_monitor.http.context import Context, caller
from watchstep_monitor.http.openapi import documented
from watchstep_monitor.http.problems import Flaw, ProblemError
from watchstep_monitor.http.run_routes import RunName
from watchstep_monitor.service.errors import InvalidError
from watchstep_monitor.service.postmortem.runner import PostmortemLimits, Postmortems, file_name

LOG_PATH = "/api/v1/postmortem"
"""Whose body is a log, read by the route itself; see `Envelope`."""


def postmortem_routes(context: Context, postmortems: Postmortems) -> APIRouter:
    """The routes, to be mounted under `/api/v1`."""
    routes = APIRouter(tags=["post-mortem"])

    @routes.post("/postmortem", **_documented("What a log tells: the bytes of one log file."))
    async def examine_log(
        request: Request,
        name: Annotated[str, Query(max_length=256, description="What the file is called.")] = "log",
    ) -> Response:
        caller(request, context, "read")
        if request.headers.get("content-encoding", "identity") != "identity":
            raise ProblemError(415, "Send the log as it is, a .gz file as well.")
        async with postmortems.turn() as folder:
            path = folder / file_name(name)
            await _receive(request, path, postmortems.limits)
            return answer(await postmortems.of_log(path, path.name))

    @routes.get(
        "/runs/{run}/postmortem",
        **documented(None, "What a run's stored updates tell.", Postmortem),
    )
    async def examine_run(request: Request, run: RunName) -> Response:
        projects = caller(request, context, "read").projects
        view = await run_in_threadpool(context.run_service.view, run, projects)
        rules = context.run_service.book.sources(view.record.tags)
        async with postmortems.turn() as folder:
            return answer(await postmortems.of_run(folder, view.record, rules))

    return routes


def _documented(summary: str) -> dict[str, Any]:
    told = documented(None, summary, Postmortem)
    schema = {"type": "string", "format": "binary"}
    body = {"content": {"application/octet-stream": {"schema": schema}}, "required": True}
    return {**told, "openapi_extra": {"requestBody": body}}


async def _receive(request: Request, path: Path, limits: PostmortemLimits) -> None:
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


def _too_large(limits: PostmortemLimits) -> ProblemError:
    reason = f"at most {limits.log_bytes} bytes; larger logs: watchstep postmortem FILE"
    return ProblemError(
        413,
        "The log is too large.",
        flaws=[Flaw(("body",), "too_long", reason)],
        headers={"Connection": "close"},
    )
