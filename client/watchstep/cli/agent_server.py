"""`watchstep mcp`: the REST API as tools for agents, by the Model Context Protocol."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal

import typer
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

import watchstep
from watchstep.cli import agent_answers as answers
from watchstep.cli.calling import DEFAULT_URL, Service, run_path
from watchstep.cli.remote import acknowledged
from watchstep.errors import WatchstepError

PAGE_ITEMS = 20
SERIES_POINTS = 40
INSTRUCTIONS = (
    "Training runs as watchstep judges them. list_runs finds the bad one, run_status says how it"
    " stands, incident and postmortem say why with evidence and confidence. A verdict is as old"
    " as last_heard and covers nothing named in not_judged; where enough_evidence is false the"
    " cause is not known. A flat loss is no fault: halt only on a critical alert whose evidence"
    " you have read, or because a person asks. Where an answer has a"
    " next_cursor, the same tool takes it as cursor for the rest."
)


class Tools:
    """The tools, each a method: its signature is its schema, its first sentence its description.

    Args:
        url: The service's origin.
        token: Sent where a client does not send one of its own.
    """

    def __init__(self, url: str, token: str) -> None:
        self._token = token
        self._connection = lru_cache(maxsize=16)(lambda bearer: Service(url, bearer))

    @contextmanager
    def _service(self, context: Context) -> Iterator[Service]:
        """The service, as the client that calls may use it; refusals are told to the client."""
        headers = context.headers or {}
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        own = bearer.strip() if scheme.lower() == "bearer" else ""
        try:
            yield self._connection(own or self._token)
        except (WatchstepError, ValueError) as error:
            raise ToolError(str(error)[: answers.MOST_BYTES]) from None

    def _page(
        self,
        context: Context,
        name: str,
        line: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        cursor: str,
        query: Mapping[str, str],
    ) -> str:
        """One page of a list of the service's, as far as it fits into an answer."""
        with self._service(context) as service:
            skip, page = answers.place(cursor)
            listed = service.get(f"/{name}", **query, limit=PAGE_ITEMS, cursor=page)
            lines = [line(item) for item in listed["items"]]
            following = listed["next_cursor"]
            return answers.answer({}, name, lines, skip=skip, page=page, next_page=following)

    def list_runs(
        self,
        context: Context,
        health: Literal["", "healthy", "suspicious", "exploded", "diverged", "unjudged"] = "",
        status: Literal[
            "", "running", "finished", "halted", "preempted", "failed", "stalled", "lost"
        ] = "",
        project: str = "",
        cursor: str = "",
    ) -> str:
        """List runs, newest heard of first."""
        query = {"health": health, "status": status, "project": project}
        return self._page(context, "runs", answers.run_line, cursor, query)

    def run_status(self, context: Context, run: str, cursor: str = "") -> str:
        """How a run stands: status, health, age of the news, diagnosis, firing alerts."""
        with self._service(context) as service:
            detail = service.get(run_path(run))
            alerts = answers.worst_first(detail["alerts"])
            skip, _ = answers.place(cursor)
            return answers.answer(answers.run_head(detail), "alerts", alerts, skip=skip)

    def incident(self, context: Context, run: str, cursor: str = "") -> str:
        """A run's newest incident: likely causes with confidence, evidence for and against."""
        with self._service(context) as service:
            skip, _ = answers.place(cursor)
            bounds = answers.bounds(service.get(run_path(run)))
            listed = service.get("/incidents", run=run, limit=1)["items"]
            if not listed:
                return answers.answer({"run": run, "incident": None, **bounds}, "causes", [])
            causes = [answers.cause_line(cause) for cause in listed[0]["causes"]]
            head = {**answers.incident_head(listed[0]), **bounds}
            return answers.answer(head, "causes", causes, skip=skip)

    def series(
        self,
        context: Context,
        run: str,
        metric: str,
        from_step: int | None = None,
        to_step: int | None = None,
        cursor: str = "",
    ) -> str:
        """A metric's course as [step, value], thinned so that extremes, NaN and inf stay."""
        with self._service(context) as service:
            skip, _ = answers.place(cursor)
            steps = {"from_step": from_step, "to_step": to_step}
            query = {name: step for name, step in steps.items() if step is not None}
            path = f"{run_path(run)}/series"
            course = service.get(path, metric=metric, points=SERIES_POINTS, **query)
            head = {"run": run, "metric": metric, "thinned": course["thinned"]}
            if not course["points"]:
                names = sorted(service.get(run_path(run))["readings"])
                return answers.answer({**head, "points": []}, "metrics_there_are", names, skip=skip)
            points = [answers.point(reading) for reading in course["points"]]
            return answers.answer(head, "points", points, skip=skip)

    def alerts(
        self,
        context: Context,
        run: str = "",
        state: Literal["", "pending", "firing", "resolved"] = "firing",
        severity: Literal["", "info", "warning", "critical"] = "",
        cursor: str = "",
    ) -> str:
        """List alerts with their evidence, newest first."""
        query = {"run": run, "state": state, "severity": severity}
        return self._page(context, "alerts", answers.alert_line, cursor, query)

    def postmortem(self, context: Context, run: str, cursor: str = "") -> str:
        """Examine all stored updates of a run again: verdict, first bad update, causes."""
        with self._service(context) as service:
            skip, _ = answers.place(cursor)
            bounds = answers.bounds(service.get(run_path(run)))
            runs = service.get(f"{run_path(run)}/postmortem")["runs"]
            if not runs:
                return answers.answer({"run": run, "verdict": "unjudged", **bounds}, "causes", [])
            worst = runs[0]
            causes = [answers.cause_line(cause) for cause in worst["causes"]]
            head = {"run": run, **bounds, **answers.examined(worst)}
            return answers.answer(head, "causes", causes, skip=skip)

    def halt(
        self, context: Context, run: str, reason: str, without_critical_alert: bool = False
    ) -> str:
        """Stop a training for good, at its next update.

        Refused where no critical alert fires, unless without_critical_alert is true, which is for
        when a person asks for the halt. Needs a token with scope admin.
        """
        with self._service(context) as service:
            detail = service.get(run_path(run))
            critical = any(alert["severity"] == "critical" for alert in detail["alerts"])
            if not critical and not without_critical_alert:
                raise ToolError(f"not halted: {answers.advice(detail)}")
            body = {"kind": "halt", "reason": reason}
            command = service.send("POST", f"{run_path(run)}/commands", body)
            head = {"run": run, "asked": "halt", "until": command["expires_at"]}
            return answers.answer(head, "alerts", [])

    def acknowledge(self, context: Context, alert_or_run: str, by: str = "agent") -> str:
        """Say that somebody looks after an alert, or after all that fire for a run."""
        with self._service(context) as service:
            alerts = acknowledged(service, alert_or_run, by)
            names = [f"{alert['rule']} of {alert['run']}" for alert in alerts]
            return answers.answer({"alerts": len(names)}, "acknowledged", names)


def server(url: str, token: str) -> MCPServer:
    """The server with its tools; nothing is asked of the service before a tool is called."""
    made = MCPServer(
        "watchstep", instructions=INSTRUCTIONS, version=watchstep.__version__, log_level="WARNING"
    )
    tools = Tools(url, token)
    looks = (tools.list_runs, tools.run_status, tools.incident, tools.series, tools.alerts)
    reads = ToolAnnotations(read_only_hint=True)
    for tool in (*looks, tools.postmortem):
        made.add_tool(tool, annotations=reads, structured_output=False)
    harmless = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True)
    made.add_tool(tools.acknowledge, annotations=harmless, structured_output=False)
    final = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True)
    made.add_tool(tools.halt, annotations=final, structured_output=False)
    return made


def serve(url: str, token: str, port: int | None) -> None:
    """Serve until the client goes: over stdio, or over HTTP on this machine alone."""
    address = url or os.environ.get("WATCHSTEP_URL") or DEFAULT_URL
    made = server(address, token or os.environ.get("WATCHSTEP_TOKEN", ""))
    if port is None:
        made.run("stdio")
        return
    typer.echo(f"watchstep mcp http://127.0.0.1:{port}/mcp", err=True)
    # On the loopback alone, where the library refuses foreign Host and Origin headers too.
    made.run("streamable-http", host="127.0.0.1", port=port, stateless_http=True)
