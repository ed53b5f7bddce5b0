"""Routes about runs: begin, status, series, timeline, commands."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from watchstep_monitor.http.answer_types import Begun, Command, Entry, Run, RunDetail, Series
from watchstep_monitor.http.answers import (
    answer,
    begun_json,
    command_json,
    entry_json,
    page,
    point_json,
    run_json,
    status_json,
)
from watchstep_monitor.http.bodies import (
    METRIC_PATTERN,
    PROJECT_PATTERN,
    RUN_PATTERN,
    BeginBody,
    CommandBody,
    body_of,
    size_of,
)
from watchstep_monitor.http.context import Context, caller
from watchstep_monitor.http.openapi import documented
from watchstep_monitor.http.problems import Flaw, ProblemError
from watchstep_monitor.service.errors import NotFoundError
from watchstep_monitor.service.ingest.ingest import Beginning
from watchstep_monitor.service.ports import RunStatus
from watchstep_monitor.service.run_state.records import TimelineEntry
from watchstep_monitor.service.run_state.status import shown_status
from watchstep_monitor.service.run_state.storage import RunFilter
from watchstep_monitor.service.series import LEAST_POINTS

RunName = Annotated[str, Path(pattern=RUN_PATTERN, description="The run's name.")]
Step = Annotated[int | None, Query(ge=0, le=2**53, description="Inclusive.")]
Cursor = Annotated[
    str | None, Query(max_length=512, description="`next_cursor` of the page before.")
]
Limit = Annotated[int, Query(ge=1, le=100_000, description="Items of a page; capped.")]


def run_routes(context: Context) -> APIRouter:
    """Routes about a run's present, to be mounted under `/api/v1`."""
    routes = APIRouter(tags=["runs"])
    run_service = context.run_service

    @routes.put("/runs/{run}", **documented(BeginBody, "Begin or resume an attempt.", Begun))
    async def begin_run(request: Request, run: RunName) -> Response:
        who = caller(request, context, "ingest")
        body = await body_of(request, BeginBody, optional=True)
        if size_of([body.tags, body.config]) > context.config_bytes:
            flaw = Flaw(("body", "config"), "too_long", f"at most {context.config_bytes} bytes")
            raise ProblemError(413, "The run's description is too large.", flaws=[flaw])
        beginning = Beginning(run=run, projects=who.projects, **dict(body))
        record = await run_in_threadpool(run_service.begin, beginning)
        return answer(begun_json(record, run_service.book.for_tags(record.tags)))

    @routes.get("/runs", **documented(None, "List runs, newest heard of first.", Run, listed=True))
    def list_runs(
        request: Request,
        status: RunStatus | None = None,
        project: Annotated[str | None, Query(pattern=PROJECT_PATTERN)] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response:
        projects = _narrowed(caller(request, context, "read").projects, project)
        now, hearing = run_service.clock.now(), run_service.policy.hearing
        wanted = RunFilter(projects, status, hearing.silent_before(now))
        found = run_service.store.runs(wanted, min(limit, context.page), cursor)
        return page(found, lambda record: run_json(record, shown_status(record, now, hearing)))

    @routes.get(
        "/runs/{run}", **documented(None, "A run's status, readings and alerts.", RunDetail)
    )
    def run_status(request: Request, run: RunName) -> Response:
        view = run_service.view(run, caller(request, context, "read").projects)
        status = shown_status(view.record, run_service.clock.now(), run_service.policy.hearing)
        return answer(status_json(view, status, run_service.is_silenced))

    @routes.post(
        "/runs/{run}/commands",
        **documented(CommandBody, "Ask the trainer for something.", Command, status=202),
    )
    async def command_run(request: Request, run: RunName) -> Response:
        who = caller(request, context, "admin")
        body = await body_of(request, CommandBody)
        kind: Literal["halt", "checkpoint"] = body.kind
        command = await run_in_threadpool(run_service.command, run, kind, body.reason, who.projects)
        return answer(command_json(command), 202)

    return routes


def history_routes(context: Context) -> APIRouter:
    """Routes about a run's past, to be mounted under `/api/v1`."""
    routes = APIRouter(tags=["runs"])
    run_service = context.run_service

    @routes.get(
        "/runs/{run}/series", **documented(None, "Readings of one metric, thinned.", Series)
    )
    def run_series(
        request: Request,
        run: RunName,
        metric: Annotated[str, Query(pattern=METRIC_PATTERN)],
        from_step: Step = None,
        to_step: Step = None,
        points: Annotated[
            int, Query(ge=1, le=1_000_000, description=f"At least {LEAST_POINTS} are kept.")
        ] = 1_000,
    ) -> Response:
        run_service.view(run, caller(request, context, "read").projects)
        most = min(points, context.series_points)
        kept, thinned = run_service.series(run, metric, (from_step, to_step), most)
        shown = [point_json(point) for point in kept]
        return answer({"metric": metric, "points": shown, "thinned": thinned})

    @routes.get(
        "/runs/{run}/timeline", **documented(None, "What happened, in order.", Entry, listed=True)
    )
    def run_timeline(
        request: Request, run: RunName, limit: Limit = 500, cursor: Cursor = None
    ) -> Response:
        run_service.view(run, caller(request, context, "read").projects)
        found = run_service.store.timeline(run, min(limit, context.page), cursor)
        signs = first_signs(found.items)
        return page(found, lambda entry: entry_json(entry, signs.get(entry.attempt)))

    return routes


def first_signs(entries: tuple[TimelineEntry, ...]) -> dict[int, TimelineEntry]:
    """The first firing transition of every attempt."""
    found: dict[int, TimelineEntry] = {}
    for entry in entries:
        if entry.kind == "transition" and entry.detail.get("change") == "firing":
            found.setdefault(entry.attempt, entry)
    return found


def _narrowed(allowed: tuple[str, ...] | None, wanted: str | None) -> tuple[str, ...] | None:
    if wanted is None:
        return allowed
    if allowed is not None and wanted not in allowed:
        raise NotFoundError("no such project")
    return (wanted,)
