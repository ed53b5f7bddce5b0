"""Routes about alerts, incidents and silences."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from watchstep_monitor.http.answer_types import Alert, Incident, Silence
from watchstep_monitor.http.answers import (
    alert_json,
    answer,
    incident_json,
    page,
    silence_json,
)
from watchstep_monitor.http.bodies import (
    RUN_PATTERN,
    AcknowledgeBody,
    MatcherBody,
    SilenceBody,
    body_of,
)
from watchstep_monitor.http.context import Context, caller
from watchstep_monitor.http.openapi import documented
from watchstep_monitor.http.run_routes import Cursor, Limit
from watchstep_monitor.service.alerting.silences import check_matcher, parse_matcher
from watchstep_monitor.service.errors import InvalidError, NotFoundError
from watchstep_monitor.service.run_state.records import AlertRecord, Matcher, SilenceRecord
from watchstep_monitor.service.run_state.storage import AlertFilter

Id = Annotated[str, Path(pattern=r"^[a-z]{2}_[0-9a-f]{20}$")]
RunQuery = Annotated[str | None, Query(pattern=RUN_PATTERN)]


def alert_routes(context: Context) -> APIRouter:
    """The routes, to be mounted under `/api/v1`."""
    routes = APIRouter(tags=["alerts"])
    run_service = context.run_service

    def shown(alert: AlertRecord) -> Alert:
        return alert_json(
            alert, run_service.newest_seq(alert), silenced=run_service.is_silenced(alert)
        )

    @routes.get("/alerts", **documented(None, "List alerts, newest first.", Alert, listed=True))
    def list_alerts(
        request: Request,
        state: Literal["pending", "firing", "resolved"] | None = None,
        run: RunQuery = None,
        severity: Literal["info", "warning", "critical"] | None = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Response:
        projects = caller(request, context, "read").projects
        wanted = AlertFilter(projects, state, run, severity)
        return page(run_service.store.alerts(wanted, min(limit, context.page), cursor), shown)

    @routes.get("/alerts/{alert_id}", **documented(None, "One alert.", Alert))
    def one_alert(request: Request, alert_id: Id) -> Response:
        projects = caller(request, context, "read").projects
        return answer(shown(run_service.alert(alert_id, projects)))

    @routes.post(
        "/alerts/{alert_id}/ack",
        **documented(AcknowledgeBody, "Someone looks after it: no more reminders.", Alert),
    )
    async def acknowledge(request: Request, alert_id: Id) -> Response:
        who = caller(request, context, "admin")
        body = await body_of(request, AcknowledgeBody, optional=True)
        by = body.by or who.name
        alert = await run_in_threadpool(run_service.acknowledge, alert_id, by, who.projects)
        return answer(shown(alert))

    @routes.get(
        "/incidents", **documented(None, "List incidents, newest first.", Incident, listed=True)
    )
    def list_incidents(
        request: Request, run: RunQuery = None, limit: Limit = 100, cursor: Cursor = None
    ) -> Response:
        projects = caller(request, context, "read").projects
        found = run_service.store.incidents(projects, run, min(limit, context.page), cursor)
        return page(found, incident_json)

    return routes


def silence_routes(context: Context) -> APIRouter:
    """The routes, to be mounted under `/api/v1`."""
    routes = APIRouter(tags=["alerts"])
    run_service = context.run_service

    @routes.get(
        "/silences", **documented(None, "List silences, newest first.", Silence, listed=True)
    )
    def list_silences(request: Request) -> Response:
        projects = caller(request, context, "read").projects
        now = run_service.clock.now()
        found = (one for one in run_service.store.silences() if _is_within(one, projects))
        items = [silence_json(silence, now) for silence in found]
        return answer({"items": items, "next_cursor": None})

    @routes.post("/silences", **documented(SilenceBody, "Silence alerts.", Silence, status=201))
    async def make_silence(request: Request) -> Response:
        who = caller(request, context, "admin")
        body = await body_of(request, SilenceBody)
        now = run_service.clock.now()
        start = body.starts_at or now
        end = body.ends_at or start + timedelta(seconds=body.duration_s or 0.0)
        if end <= max(now, start):
            raise InvalidError("is over already", loc=("body", "ends_at"), kind="range")
        matchers = [_matcher(one, at) for at, one in enumerate(body.matchers)]
        if who.projects is not None:
            matchers.append(_own_projects(who.projects))
        silence = await run_in_threadpool(
            run_service.silence, matchers, (start, end), body.comment, body.created_by or who.name
        )
        return answer(silence_json(silence, now), 201)

    @routes.delete("/silences/{silence_id}", **documented(None, "End a silence.", None, status=204))
    def end_silence(request: Request, silence_id: Id) -> Response:
        projects = caller(request, context, "admin").projects
        known = (one for one in run_service.store.silences() if one.id == silence_id)
        if not all(_is_within(one, projects) for one in known):
            raise NotFoundError("no such silence")
        run_service.end_silence(silence_id)
        return Response(status_code=204)

    return routes


def _matcher(given: MatcherBody | str, at: int) -> Matcher:
    if isinstance(given, str):
        return parse_matcher(given, loc=("body", "matchers", at))
    op = ("=~" if given.is_equal else "!~") if given.is_regex else "=" if given.is_equal else "!="
    matcher = Matcher(given.name, op, given.value)  # type: ignore[arg-type]
    check_matcher(matcher, loc=("body", "matchers", at, "value"))
    return matcher


def _own_projects(projects: tuple[str, ...]) -> Matcher:
    """A limited caller silences its own projects only."""
    return Matcher("project", "=~", "|".join(map(re.escape, projects)))


def _is_within(silence: SilenceRecord, projects: tuple[str, ...] | None) -> bool:
    """Whether a silence can only concern projects of the caller's."""
    if projects is None:
        return True
    own = {re.escape(project) for project in projects}
    return any(
        (matcher.op == "=" and matcher.value in projects)
        or (matcher.op == "=~" and own.issuperset(matcher.value.split("|")))
        for matcher in silence.matchers
        if matcher.name == "project"
    )
