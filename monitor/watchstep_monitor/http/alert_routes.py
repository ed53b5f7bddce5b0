"""Routes about alerts, incidents and silences."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from watchstep_monitor.http.bodies import (
    RUN_PATTERN,
    AcknowledgeBody,
    AnswerBody,
    MatcherBody,
    SilenceBody,
)
from watchstep_monitor.http.calls import CheckedRoute, Service, Shared, Who, call
from watchstep_monitor.http.models import Alert, Incident, Listed, RuleAnswers, Silence, listed
from watchstep_monitor.http.run_routes import Cursor, Limit
from watchstep_monitor.service.alerting.silences import check_matcher, parse_matcher
from watchstep_monitor.service.errors import InvalidError, NotFoundError
from watchstep_monitor.service.run_service import RunService
from watchstep_monitor.service.run_state.records import AlertRecord, Matcher, SilenceRecord
from watchstep_monitor.service.run_state.storage import AlertFilter

Id = Annotated[str, Path(pattern=r"^[a-z]{2}_[0-9a-f]{20}$")]
RunQuery = Annotated[str | None, Query(pattern=RUN_PATTERN)]

routes = APIRouter(tags=["alerts"], route_class=CheckedRoute)


@routes.get("/alerts", **call("List alerts, newest first.", "read"))
def list_alerts(
    context: Shared,
    who: Who,
    state: Literal["pending", "firing", "resolved"] | None = None,
    run: RunQuery = None,
    severity: Literal["info", "warning", "critical"] | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Listed[Alert]:
    service = context.run_service
    selection = AlertFilter(who.projects, state, run, severity)
    page = service.store.alerts(selection, min(limit, context.limits.page), cursor)
    return listed(page, lambda alert: _shown(service, alert))


@routes.get("/alerts/{alert_id}", **call("One alert.", "read"))
def get_alert(service: Service, who: Who, alert_id: Id) -> Alert:
    return _shown(service, service.alert(alert_id, who.projects))


@routes.post(
    "/alerts/{alert_id}/ack", **call("Someone looks after it: no more reminders.", "admin")
)
def acknowledge(
    service: Service, who: Who, alert_id: Id, body: AcknowledgeBody | None = None
) -> Alert:
    by = (body.by if body is not None else "") or who.name
    return _shown(service, service.acknowledge(alert_id, by, who.projects))


@routes.post("/alerts/{alert_id}/answer", **call("Call it right, or a false alarm.", "admin"))
def answer_alert(service: Service, who: Who, alert_id: Id, body: AnswerBody) -> Alert:
    """Anyone may answer again; the newest answer counts."""
    answered = service.answer(alert_id, body.answer, body.by or who.name, who.projects)
    return _shown(service, answered)


@routes.get("/answers", **call("How often each rule was called right or false.", "read"))
def list_answers(service: Service, who: Who) -> Listed[RuleAnswers]:
    counts = service.store.answers(who.projects)
    return Listed(items=[RuleAnswers.model_validate(each) for each in counts])


@routes.get("/incidents", **call("List incidents, newest first.", "read"))
def list_incidents(
    context: Shared, who: Who, run: RunQuery = None, limit: Limit = 100, cursor: Cursor = None
) -> Listed[Incident]:
    store = context.run_service.store
    page = store.incidents(who.projects, run, min(limit, context.limits.page), cursor)
    return listed(page, Incident.model_validate)


@routes.get("/silences", **call("List silences, newest first.", "read"))
def list_silences(service: Service, who: Who) -> Listed[Silence]:
    now = service.clock.now()
    own = [each for each in service.store.silences() if _is_within(each, who.projects)]
    return Listed(items=[Silence.of(silence, now) for silence in own])


@routes.post("/silences", **call("Silence alerts.", "admin", status_code=201))
def make_silence(service: Service, who: Who, body: SilenceBody) -> Silence:
    now = service.clock.now()
    start = body.starts_at or now
    end = body.ends_at or start + timedelta(seconds=body.duration_s or 0.0)
    if end <= max(now, start):
        raise InvalidError("is over already", loc=("body", "ends_at"), kind="range")
    matchers = [_matcher(written, at) for at, written in enumerate(body.matchers)]
    if who.projects is not None:
        matchers.append(_own_projects(who.projects))
    by = body.created_by or who.name
    return Silence.of(service.silence(matchers, (start, end), body.comment, by), now)


@routes.delete("/silences/{silence_id}", **call("End a silence.", "admin", status_code=204))
def end_silence(service: Service, who: Who, silence_id: Id) -> None:
    same = (each for each in service.store.silences() if each.id == silence_id)
    if not all(_is_within(silence, who.projects) for silence in same):
        raise NotFoundError("no such silence")
    service.end_silence(silence_id)


def _shown(service: RunService, alert: AlertRecord) -> Alert:
    return Alert.of(alert, service.newest_seq(alert), silenced=service.is_silenced(alert))


def _matcher(written: MatcherBody | str, at: int) -> Matcher:
    if isinstance(written, str):
        return parse_matcher(written, loc=("body", "matchers", at))
    op = (
        ("=~" if written.is_equal else "!~")
        if written.is_regex
        else "="
        if written.is_equal
        else "!="
    )
    matcher = Matcher(written.name, op, written.value)
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
