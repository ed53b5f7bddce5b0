"""`GET /events`: what happens, as server-sent events that can be taken up again."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from watchstep_monitor.http.context import Context, caller
from watchstep_monitor.http.openapi import documented
from watchstep_monitor.service.errors import OverCapError
from watchstep_monitor.service.events import Happening
from watchstep_monitor.service.json_values import plain
from watchstep_monitor.service.run_state.records import TimelineEntry

PING_S = 15.0
"""Between comments on a quiet stream; proxies close after 60 s of silence."""

MOST_BEHIND = 1_000
"""Happenings that wait for a slow listener; then it is cut off, and takes up where it was."""

CATCH_UP = 1_000


def stream_routes(context: Context, stopping: asyncio.Event) -> APIRouter:
    """The route, to be mounted under `/api/v1`.

    Args:
        context: See there.
        stopping: Set when the service ends; open streams end with it.
    """
    routes = APIRouter(tags=["service"])
    run_service = context.run_service

    @routes.get("/events", **documented(None, "Server-sent events.", "text/event-stream"))
    async def events(request: Request) -> Response:
        who = caller(request, context, "read")
        if run_service.bus.listening() >= context.event_streams:
            raise OverCapError("too many event streams are open", retry_after_s=10)
        after = _last_event_id(request)
        stream = _Stream(asyncio.get_running_loop())
        recent, complete = run_service.bus.listen(stream.offer, after)
        missed: list[TimelineEntry] = []
        if after is not None and not complete:
            missed = await run_in_threadpool(run_service.store.timeline_since, after, CATCH_UP)
        known = {entry.at_us for entry in missed}
        project_of = await run_in_threadpool(_projects, context, missed)
        first = [_from_entry(entry, project_of[entry.run]) for entry in missed]
        first += [happening for happening in recent if happening.id not in known]
        first.sort(key=lambda happening: happening.id)

        def may_hear(happening: Happening) -> bool:
            return who.projects is None or happening.project in who.projects

        async def body() -> AsyncIterator[bytes]:
            try:
                async for text in stream.texts(first, may_hear, stopping):
                    yield text
            finally:
                run_service.bus.leave(stream.offer)

        return StreamingResponse(
            body(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    return routes


class _Stream:
    """One listener's queue, filled from writing threads and emptied by the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[Happening] = asyncio.Queue()

    def offer(self, happening: Happening) -> None:
        # The loop may have ended while a commit was under way.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._queue.put_nowait, happening)

    async def texts(
        self,
        first: list[Happening],
        may_hear: Callable[[Happening], bool],
        stopping: asyncio.Event,
    ) -> AsyncIterator[bytes]:
        yield b"retry: 2000\n\n"
        for happening in first:
            if may_hear(happening):
                yield _text(happening)
        stopped = asyncio.ensure_future(stopping.wait())
        try:
            while not stopping.is_set() and self._queue.qsize() < MOST_BEHIND:
                following = asyncio.ensure_future(self._queue.get())
                await asyncio.wait(
                    {following, stopped}, timeout=PING_S, return_when=asyncio.FIRST_COMPLETED
                )
                if not following.done():
                    following.cancel()
                    if not stopping.is_set():
                        yield b": quiet\n\n"
                elif may_hear(following.result()):
                    yield _text(following.result())
        finally:
            stopped.cancel()


def _last_event_id(request: Request) -> int | None:
    given = request.headers.get("last-event-id", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 18 else None


def _text(happening: Happening) -> bytes:
    told = {"run": happening.run, "project": happening.project, **happening.detail}
    if happening.kind == "event":
        told = {"run": happening.run, "project": happening.project, "event": happening.detail}
    document = json.dumps(plain(told), allow_nan=False, separators=(",", ":"))
    return f"id: {happening.id}\nevent: {happening.kind}\ndata: {document}\n\n".encode()


def _from_entry(entry: TimelineEntry, project: str) -> Happening:
    detail = {**entry.detail, "attempt": entry.attempt, "seq": entry.seq}
    return Happening(entry.at_us, entry.kind, entry.run, project, detail)


def _projects(context: Context, entries: list[TimelineEntry]) -> dict[str, str]:
    found: dict[str, str] = {}
    for run in {entry.run for entry in entries}:
        record = context.run_service.store.run(run)
        found[run] = "" if record is None else record.project
    return found
