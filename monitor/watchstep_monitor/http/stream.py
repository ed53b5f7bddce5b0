"""`GET /events`: what happens, as server-sent events that can be taken up again."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse

from watchstep_monitor.http.calls import CheckedRoute, Shared, Who, call
from watchstep_monitor.http.context import Context
from watchstep_monitor.service.errors import OverCapError
from watchstep_monitor.service.events import Happening
from watchstep_monitor.service.json_values import plain
from watchstep_monitor.service.run_state.records import TimelineEntry

PING_S = 15.0
"""Between comments on a quiet stream; proxies close after 60 s of silence."""

MOST_BEHIND = 1_000
"""Happenings that wait for a slow listener; then it is cut off, and takes up where it was."""

CATCH_UP = 1_000


routes = APIRouter(tags=["service"], route_class=CheckedRoute)


@routes.get(
    "/events",
    **call(
        "Server-sent events.",
        "read",
        response_class=StreamingResponse,
        response_model=None,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    ),
)
async def events(request: Request, context: Shared, who: Who) -> StreamingResponse:
    bus = context.run_service.bus
    if bus.listening() >= context.limits.event_streams:
        raise OverCapError("too many event streams are open", retry_after_s=10)
    after = _last_event_id(request)
    stream = _Stream(asyncio.get_running_loop(), who.projects)

    async def body() -> AsyncIterator[bytes]:
        recent, complete = bus.listen(stream.offer, after)
        try:
            missed: list[Happening] = []
            if after is not None and not complete:
                missed = await run_in_threadpool(_missed, context, after)
            stored = {happening.id for happening in missed}
            first = [*missed, *(each for each in recent if each.id not in stored)]
            first.sort(key=lambda happening: happening.id)
            async for text in stream.texts(first, context.stopping):
                yield text
        finally:
            bus.leave(stream.offer)

    return StreamingResponse(
        body(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


class _Stream:
    """One listener's queue, filled from publishing threads and emptied by the event loop.

    It holds a bounded number of happenings. A listener that does not read is cut off: the server
    stops asking for more text while its socket is full, and the queue says that it is over.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, projects: tuple[str, ...] | None) -> None:
        self._loop = loop
        self._projects = projects
        self._queue: asyncio.Queue[Happening] = asyncio.Queue(MOST_BEHIND)
        self._is_behind = False

    def offer(self, happening: Happening) -> None:
        if not self._may_hear(happening) or self._is_behind:
            return
        # The loop may have ended while a commit was under way.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._put, happening)

    def _put(self, happening: Happening) -> None:
        try:
            self._queue.put_nowait(happening)
        except asyncio.QueueFull:
            self._is_behind = True

    def _may_hear(self, happening: Happening) -> bool:
        return self._projects is None or happening.project in self._projects

    async def texts(self, first: list[Happening], stopping: asyncio.Event) -> AsyncIterator[bytes]:
        yield b"retry: 2000\n\n"
        for happening in first:
            if self._may_hear(happening):
                yield _text(happening)
        stopped = asyncio.ensure_future(stopping.wait())
        try:
            while not stopping.is_set() and not self._is_behind:
                following = asyncio.ensure_future(self._queue.get())
                await asyncio.wait(
                    {following, stopped}, timeout=PING_S, return_when=asyncio.FIRST_COMPLETED
                )
                if following.done():
                    yield _text(following.result())
                    continue
                following.cancel()
                if not stopping.is_set():
                    yield b": quiet\n\n"
        finally:
            stopped.cancel()


def _last_event_id(request: Request) -> int | None:
    header = request.headers.get("last-event-id", "")
    return int(header) if header.isascii() and header.isdigit() and len(header) < 18 else None


def _text(happening: Happening) -> bytes:
    shown = {"run": happening.run, "project": happening.project, **happening.detail}
    if happening.kind == "event":
        shown = {"run": happening.run, "project": happening.project, "event": happening.detail}
    document = json.dumps(plain(shown), allow_nan=False, separators=(",", ":"))
    return f"id: {happening.id}\nevent: {happening.kind}\ndata: {document}\n\n".encode()


def _from_entry(entry: TimelineEntry, project: str) -> Happening:
    detail = {**entry.detail, "attempt": entry.attempt, "seq": entry.seq}
    return Happening(entry.at_us, entry.kind, entry.run, project, detail)


def _missed(context: Context, after: int) -> list[Happening]:
    """What timelines hold of the time since a listener went away."""
    store = context.run_service.store
    entries = store.timeline_since(after, CATCH_UP)
    records = {run: store.run(run) for run in {entry.run for entry in entries}}
    return [
        _from_entry(entry, record.project)
        for entry in entries
        if (record := records[entry.run]) is not None
    ]
