"""Routes about runs: begin, status, series, timeline, commands."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from watchstep.core.health import Health
from watchstep_monitor.http.bodies import (
    METRIC_PATTERN,
    PROJECT_PATTERN,
    RUN_PATTERN,
    BeginBody,
    CommandBody,
    EditBody,
)
from watchstep_monitor.http.calls import CheckedRoute, Service, Shared, Who, call
from watchstep_monitor.http.ingest_route import begin
from watchstep_monitor.http.models import Alert, Command, Listed, listed
from watchstep_monitor.http.run_models import Begun, Entry, Run, RunDetail, RunRules, Series
from watchstep_monitor.service.errors import NotFoundError
from watchstep_monitor.service.ingest.batch import RunEdit
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

routes = APIRouter(tags=["runs"], route_class=CheckedRoute)


@routes.put("/runs/{run}", **call("Begin or resume an attempt.", "ingest", response_model=Begun))
async def begin_run(
    context: Shared, who: Who, run: RunName, body: BeginBody | None = None
) -> Response:
    answer = await begin(context, who, run, body or BeginBody())
    return Response(answer, media_type="application/json")


@routes.get("/runs/{run}/rules", **call("The rules that judge a run, as text.", "ingest"))
def run_rules(service: Service, who: Who, run: RunName) -> RunRules:
    return RunRules.of(service.book, service.view(run, who.projects).record.tags)


@routes.get("/runs", **call("List runs, newest heard of first.", "read"))
def list_runs(
    context: Shared,
    who: Who,
    status: RunStatus | None = None,
    health: Health | None = None,
    project: Annotated[str | None, Query(pattern=PROJECT_PATTERN)] = None,
    archived: bool = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Listed[Run]:
    service = context.run_service
    now, hearing = service.clock.now(), service.policy.hearing
    projects = _narrowed(who.projects, project)
    selection = RunFilter(projects, status, health, archived, hearing.silent_before(now))
    page = service.store.runs(selection, min(limit, context.limits.page), cursor)
    return listed(page, lambda record: Run.of(record, shown_status(record, now, hearing)))


@routes.get("/runs/{run}", **call("A run's status, readings and alerts.", "read"))
def run_status(service: Service, who: Who, run: RunName) -> RunDetail:
    view = service.view(run, who.projects)
    status = shown_status(view.record, service.clock.now(), service.policy.hearing)
    alerts = [
        Alert.of(
            alert,
            view.record.last_seq if alert.attempt == view.record.attempt else None,
            silenced=service.is_silenced(alert),
        )
        for alert in view.alerts
        if alert.state == "firing"
    ]
    return RunDetail.of_view(view, status, alerts)


@routes.patch("/runs/{run}", **call("Notes, tags, archive, close an ended run.", "admin"))
def edit_run(service: Service, who: Who, run: RunName, body: EditBody) -> RunDetail:
    closed_by = who.name if body.closed else None
    edit = RunEdit(body.notes, body.tags, body.archived, closed_by)
    service.edit(run, edit, who.projects)
    return run_status(service, who, run)


@routes.delete("/runs/{run}", **call("Delete an ended run.", "admin", status_code=204))
def delete_run(service: Service, who: Who, run: RunName) -> None:
    service.delete(run, who.projects)


@routes.post(
    "/runs/{run}/commands", **call("Ask the trainer for something.", "admin", status_code=202)
)
def command_run(service: Service, who: Who, run: RunName, body: CommandBody) -> Command:
    command = service.command(run, body.kind, body.reason, who.projects)
    return Command.model_validate(command)


@routes.get("/runs/{run}/series", **call("Readings of one metric, thinned.", "read"))
def run_series(
    context: Shared,
    who: Who,
    run: RunName,
    metric: Annotated[str, Query(pattern=METRIC_PATTERN)],
    from_step: Step = None,
    to_step: Step = None,
    points: Annotated[
        int,
        Query(ge=1, description=f"At least {LEAST_POINTS}, at most `limits.series_points`."),
    ] = 1_000,
) -> Series:
    context.run_service.view(run, who.projects)
    most = min(points, context.limits.series_points)
    thinned_points, thinned = context.run_service.series(run, metric, (from_step, to_step), most)
    return Series.of(metric, thinned_points, thinned=thinned)


@routes.get("/runs/{run}/timeline", **call("What happened, in order.", "read"))
def run_timeline(
    context: Shared,
    who: Who,
    run: RunName,
    limit: Limit = 500,
    cursor: Cursor = None,
    newest_first: bool = False,
) -> Listed[Entry]:
    context.run_service.view(run, who.projects)
    page = context.run_service.store.timeline(
        run, min(limit, context.limits.page), cursor, newest_first=newest_first
    )
    signs = first_signs(page.items[::-1] if newest_first else page.items)
    return listed(page, lambda entry: Entry.of(entry, signs.get(entry.attempt)))


def first_signs(entries: tuple[TimelineEntry, ...]) -> dict[int, TimelineEntry]:
    """The first firing transition of every attempt."""
    signs: dict[int, TimelineEntry] = {}
    for entry in entries:
        if entry.kind == "transition" and entry.detail.get("change") == "firing":
            signs.setdefault(entry.attempt, entry)
    return signs


def _narrowed(allowed: tuple[str, ...] | None, asked_for: str | None) -> tuple[str, ...] | None:
    if asked_for is None:
        return allowed
    if allowed is not None and asked_for not in allowed:
        raise NotFoundError("no such project")
    return (asked_for,)
