"""The page's routes: a shell for every view, its files, and what only a page asks for.

Everything else that a view shows comes from the public API under `/api/v1`, with the caller's
token: see `http.tokens` for the cookie that holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi import Path as PathParameter
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from watchstep.core.health import Health
from watchstep_monitor.service.chart_scales import scales
from watchstep_monitor.service.errors import NotFoundError
from watchstep_monitor.service.json_values import plain
from watchstep_monitor.service.ports import RunStatus
from watchstep_monitor.service.run_service import Projects, RunService
from watchstep_monitor.web.assets import Assets
from watchstep_monitor.web.overview import Overview, Question, words_of
from watchstep_monitor.web.rule_history import RuleHistory, backtested
from watchstep_monitor.web.run_previews import previews

MayRead = Callable[[Request], Projects]
"""Which projects a request may read; raises what the application answers with otherwise."""

View = Literal["runs", "run", "alerts", "rules", "receivers", "compare", "postmortem"]
_PATHS: dict[str, View] = {
    "/": "runs",
    "/runs/{run}": "run",
    "/runs/{run}/postmortem": "postmortem",
    "/alerts": "alerts",
    "/rules": "rules",
    "/receivers": "receivers",
    "/compare": "compare",
    "/postmortem": "postmortem",
}
_CHARTS = ("charts.js", "chart.js", "layers.js", "series.js")
_RUNS_BESIDE = (*_CHARTS, "config.js", "groups.js", "pick.js")
_SCRIPTS: dict[View, tuple[str, ...]] = {
    "runs": ("runs.js", "spark.js", "manage.js"),
    "run": ("run.js", "incident.js", "silences.js", "timeline.js", "manage.js", *_RUNS_BESIDE),
    "alerts": ("alerts.js", "incident.js", "silences.js", "pick.js"),
    "rules": ("rules.js",),
    "receivers": ("receivers.js",),
    "compare": ("compare.js", *_RUNS_BESIDE),
    "postmortem": ("postmortem.js", "report.js", "incident.js", "silences.js", *_CHARTS),
}
_SHARED_SCRIPTS = (
    "main.js",
    "api.js",
    "dom.js",
    "format.js",
    "live.js",
    "dialog.js",
    "link.js",
    "notify.js",
)
_MOST_NAMES = 200
Names = Annotated[list[str], Query(max_length=_MOST_NAMES)]
Columns = Annotated[list[str], Query(max_length=12)]


def page_routes(run_service: RunService, may_read: MayRead, version: str) -> APIRouter:
    """The routes, to be mounted at the root.

    Args:
        version: Of watchstep, shown at the foot of the page.
    """
    routes = APIRouter(include_in_schema=False)
    assets = Assets()
    _add_shells(routes, assets, version)
    _add_files(routes, assets)
    _add_list(routes, Overview(run_service), may_read)
    _add_answers(routes, run_service, may_read)
    return routes


def _add_shells(routes: APIRouter, assets: Assets, version: str) -> None:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    template = environment.get_template("shell.html")
    for path, view in _PATHS.items():
        text = template.render(
            view=view,
            title="Post-mortem" if view == "postmortem" else view.capitalize(),
            base=f"/static/{assets.fingerprint}",
            scripts=(*_SHARED_SCRIPTS, *_SCRIPTS[view]),
            has_charts="charts.js" in _SCRIPTS[view],
            version=version,
        )
        routes.add_api_route(path, _shell(text), methods=["GET"])


def _shell(text: str) -> Callable[[], Response]:
    def shell() -> Response:
        # The name of the run is read by the script from the address: the shell holds nothing
        # that a caller wrote, and nothing that needs a token.
        return HTMLResponse(text, headers={"Cache-Control": "no-cache"})

    return shell


def _add_files(routes: APIRouter, assets: Assets) -> None:
    @routes.get("/static/{fingerprint}/{name}")
    def static_file(fingerprint: str, name: str) -> Response:
        response = assets.response(name, fingerprint)
        if response is None:
            raise NotFoundError("no such file")
        return response

    @routes.get("/favicon.ico")
    def favicon() -> Response:
        return static_file("", "icon.svg")


def _add_list(routes: APIRouter, overview: Overview, may_read: MayRead) -> None:
    @routes.get("/page/runs")
    def list_runs(
        request: Request,
        q: Annotated[str, Query(max_length=200)] = "",
        status: RunStatus | None = None,
        health: Health | None = None,
        project: Annotated[str | None, Query(max_length=64)] = None,
        tag: Annotated[list[str], Query(max_length=8)] = [],  # noqa: B006 - FastAPI copies it
        archived: bool = False,
        column: Columns = [],  # noqa: B006 - FastAPI copies it
        sort: Annotated[str, Query(max_length=140)] = "attention",
        descending: bool = False,
        hold: Names = [],  # noqa: B006 - FastAPI copies it
        page: Annotated[int, Query(ge=1, le=100_000)] = 1,
        size: Annotated[int, Query(ge=1, le=200)] = 50,
        anew: bool = False,
    ) -> Response:
        projects = may_read(request)
        if anew:
            overview.forget()
        words = tuple(words_of(q))
        question = Question(
            *(words, status, health, project, tuple(tag), archived),
            *(tuple(column), sort, descending, tuple(hold), page, size),
        )
        return _json(overview.answer(question, projects))

    @routes.get("/page/columns")
    def list_columns(request: Request, run: Names) -> Response:
        return _json({"items": overview.columns(run, may_read(request))})


def _add_answers(routes: APIRouter, run_service: RunService, may_read: MayRead) -> None:
    history = RuleHistory(run_service)

    @routes.get("/page/previews")
    def list_previews(request: Request, run: Names) -> Response:
        return _json({"items": previews(run_service, run, may_read(request))})

    @routes.get("/page/rules/record")
    def rules_record(request: Request) -> Response:
        projects = may_read(request)
        shipped = backtested(run_service.book.rules.rules)
        return _json({"backtest": shipped, "here": history.here(projects)})

    @routes.get("/page/runs/{run}/scales")
    def run_scales(
        request: Request, run: Annotated[str, PathParameter(max_length=128)]
    ) -> Response:
        view = run_service.view(run, may_read(request))
        drawn = scales(view.rules, view.latest)
        nothing: Mapping[str, Any] = {"zones": [], "thresholds": []}
        return _json(
            {
                name: {
                    **drawn.get(name, nothing),
                    "role": view.rules.role(name),
                    "canonical": view.rules.canonical(name),
                }
                for name in view.latest
            }
        )


def _json(document: Any) -> Response:
    return JSONResponse(plain(document))
