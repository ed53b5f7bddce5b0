"""The API from a shell: runs, alerts, silences, receivers and what the service sent them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any
from urllib.parse import quote

import typer

from watchstep.cli.calling import RefusedError, Service, answers, run_path
from watchstep.cli.tables import (
    LEAST_FOR_SENTENCES,
    Column,
    ago,
    moment,
    print_json,
    print_page,
    print_table,
    width,
)
from watchstep.wire.names import legal_run_name

Url = Annotated[str, typer.Option("--url", help="The service; default WATCHSTEP_URL.")]
Token = Annotated[str, typer.Option("--token", help="Bearer token; default WATCHSTEP_TOKEN.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `watchstep`."""
    for command in (runs, status, alerts, ack, answer, halt, silence, deliveries, delete, mcp):
        app.command()(command)
    for name, (change, text) in CHANGES.items():
        app.command(name, help=text)(change)
    group = typer.Typer(invoke_without_command=True)
    group.callback(help=receivers.__doc__)(receivers)
    # A function named test would be taken for one by pytest.
    group.command("test")(try_out)
    app.add_typer(group, name="receivers")


def runs(
    state: Annotated[str, typer.Option("--status", help="Only runs with this status.")] = "",
    project: Annotated[str, typer.Option(help="Only runs of this project.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    url: Url = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """List runs that are not archived, newest heard of first."""
    with answers(url, token) as service:
        page = service.get("/runs", status=state, project=project, limit=limit)
    if page["items"] or as_json:
        print_page(page, _RUN, as_json=as_json, wide="RUN,PROJECT")
    else:
        typer.echo("no such run is listed; archived ones are not")


_RUN: Mapping[str, Column] = {
    "RUN": "run",
    "PROJECT": "project",
    "STATUS": "status",
    # A service of the version before has one word for both.
    "HEALTH": lambda run: run.get("health", ""),
    "ATTEMPT": "attempt",
    "STEP": "step",
    "HEARD AGO": lambda run: ago(run.get("last_heard_at", run["last_update_at"])),
}

Names = Annotated[list[str], typer.Argument(help="Runs; * and ? stand for any characters.")]
OnlyStatus = Annotated[str, typer.Option("--status", help="Only those with this status.")]
OnlyProject = Annotated[str, typer.Option("--project", help="Only those of this project.")]


def _changing(
    done: str, fields: Mapping[str, bool], *, archived: bool = False
) -> Callable[..., None]:
    """The command that patches runs with these fields, and says what it has done to each."""

    def command(
        names: Names,
        state: OnlyStatus = "",
        project: OnlyProject = "",
        url: Url = "",
        token: Token = "",
        as_json: AsJson = False,
    ) -> None:
        changed: list[str] = []
        with answers(url, token) as service:
            for run in _matching(service, names, state, project, archived=archived):
                service.send("PATCH", run_path(run), fields)
                changed.append(run)
                if not as_json:
                    typer.echo(f"{done} {run}")
        if as_json:
            print_json({done: changed})

    return command


CHANGES = {
    "close": (
        _changing("closed", {"closed": True}),
        "End the incident and the alerts of runs that have ended.",
    ),
    "archive": (
        _changing("archived", {"archived": True}),
        "Leave runs out of lists; nothing of them is lost.",
    ),
    "unarchive": (
        _changing("unarchived", {"archived": False}, archived=True),
        "Put archived runs back into lists.",
    ),
}


def delete(
    names: Names,
    state: OnlyStatus = "",
    project: OnlyProject = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Delete runs that have ended, with all that is kept of them."""
    with answers(url, token) as service:
        matching = _matching(service, names, state, project)
        if not yes:
            typer.confirm(f"Delete {', '.join(matching)} for good?", abort=True, err=True)
        for run in matching:
            service.send("DELETE", run_path(run), None)
            if not as_json:
                typer.echo(f"deleted {run}")
    if as_json:
        print_json({"deleted": matching})


def _matching(
    service: Service, names: Sequence[str], state: str, project: str, *, archived: bool = False
) -> list[str]:
    """The runs that are meant; a plain name is itself, whether it is listed or not."""
    patterns = [name for name in names if set(name) & set("*?[")]
    if not patterns and not state and not project:
        return list(names)
    listed = _listed(service, state, project, archived=archived)
    matching = [run for run in listed if any(fnmatchcase(run, name) for name in names)]
    if not matching:
        raise RefusedError(f"no run matches {' '.join(names)}")
    return matching


def _listed(service: Service, state: str, project: str, *, archived: bool) -> Iterator[str]:
    cursor = ""
    while cursor is not None:
        query = {"status": state, "project": project, "archived": str(archived).lower()}
        page = service.get("/runs", limit=500, cursor=cursor, **query)
        yield from (run["run"] for run in page["items"])
        cursor = page["next_cursor"]


def receivers(
    context: typer.Context, url: Url = "", token: Token = "", as_json: AsJson = False
) -> None:
    """List receivers and how they fare; or test one."""
    if context.invoked_subcommand is not None:
        return
    with answers(url, token) as service:
        page = service.get("/receivers")
    print_page(page, _RECEIVER, as_json=as_json, wide="RECEIVER,TROUBLE")


_RECEIVER: Mapping[str, Column] = {
    "RECEIVER": "name",
    "KIND": "kind",
    "DELIVERED": "delivered",
    "DEAD": "dead",
    "TROUBLE": lambda receiver: receiver["disabled"] or receiver["last_error"],
}


def try_out(
    name: Annotated[str, typer.Argument(help="The receiver's name in the settings.")],
    url: Url = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Have the service send a test message now; exit 1 if it does not arrive."""
    with answers(url, token) as service:
        result = service.send("POST", f"/receivers/{quote(name, safe='')}/test", {})
        if as_json:
            print_json(result)
            raise typer.Exit(0 if result["delivered"] else 1)
        if not result["delivered"]:
            raise RefusedError(f"{name} did not take the message: {result['reason']}")
    typer.echo(f"{name} took the message in {result['took_s']:.1f} s")


def status(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    url: Url = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Show a run: its readings, its alerts, its incident."""
    with answers(url, token) as service:
        detail = service.get(run_path(run))
    if as_json:
        print_json(detail)
        return
    print_table(("RUN", detail["run"]), _told_of(detail), wide=detail["run"])
    readings = [
        (name, reading["value"], reading["zone"] or "")
        for name, reading in sorted(detail["readings"].items())
    ]
    if readings:
        typer.echo()
        print_table(("METRIC", "READING", "ZONE"), readings, wide="METRIC")
    if detail["alerts"]:
        typer.echo()
        _print_alerts({"items": detail["alerts"]}, as_json=False)


def _told_of(run: Mapping[str, Any]) -> list[tuple[str, object]]:
    """What a person asks about a run, without what there is nothing to say about."""
    incident, pinned = run["incident"] or {}, run["checkpoint"] or {}
    hung = run.get("hung") or {}
    heard = run.get("last_heard_at", run["last_update_at"])
    sure = f" ({incident['confidence']:.0%} sure)" if incident.get("diagnosis") else ""
    commands = [
        f"{command['kind']}, until {moment(command['expires_at'])}" for command in run["commands"]
    ]
    rows: list[tuple[str, object]] = [
        ("status", run["status"]),
        ("health", run.get("health", "")),
        ("project", run["project"]),
        ("attempt", run["attempt"]),
        ("step", run["step"]),
        ("update", run["last_seq"]),
        ("heard", f"{ago(heard)} ago" if heard else "never"),
        ("hangs", _hanging(hung) if hung else ""),
        ("lost updates", run["counts"]["lost"] or ""),
        ("error", run["error"]),
        ("trainer", run["trainer_did"]),
        ("asked of it", ", ".join(commands)),
        ("stage", incident.get("stage", "")),
        ("likely cause", f"{incident.get('diagnosis', '')}{sure}"),
        ("first bad update", _first_bad(incident)),
        ("last good update", incident.get("last_good_update") or ""),
        ("pinned checkpoint", pinned.get("path", "")),
    ]
    return [(name, text) for name, text in rows if text != ""]


def _first_bad(incident: Mapping[str, Any]) -> str:
    """The update's number, and the trainer's own step, by which messages count."""
    update, step = incident.get("first_bad_update"), incident.get("first_bad_step")
    if not update:
        return ""
    return f"{update:,}" + ("" if step in {None, update} else f" (step {step:,})")


def _hanging(hung: Mapping[str, Any]) -> str:
    place = f"in {hung['innermost']}" if hung.get("innermost") else ""
    return ", ".join(part for part in (hung.get("seen"), place) if part) or "in an unknown line"


def alerts(
    state: Annotated[str, typer.Option(help="pending, firing or resolved.")] = "firing",
    run: Annotated[str, typer.Option(help="Only this run's.")] = "",
    severity: Annotated[str, typer.Option(help="info, warning or critical.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    url: Url = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """List alerts, newest first; --state '' shows all."""
    with answers(url, token) as service:
        name = run and legal_run_name(run)
        page = service.get("/alerts", state=state, run=name, severity=severity, limit=limit)
    _print_alerts(page, as_json=as_json)


def ack(
    alert: Annotated[str, typer.Argument(help="An alert's id, or a run: all that fires for it.")],
    by: Annotated[str, typer.Option(help="Who looks after it.")] = "",
    url: Url = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Say that someone looks after an alert: no more reminders of it."""
    with answers(url, token) as service:
        page = {"items": acknowledged(service, alert, by)}
    _print_alerts(page, as_json=as_json)


def acknowledged(service: Service, alert_or_run: str, by: str) -> list[Any]:
    """Acknowledge one alert, or all that fire for a run.

    Raises:
        RefusedError: There is none, or the token may not.
    """
    ids = [alert_or_run]
    if not alert_or_run.startswith("al_"):
        name = legal_run_name(alert_or_run)
        firing = service.get("/alerts", state="firing", run=name, limit=500)["items"]
        ids = [alert["id"] for alert in firing]
        if not ids:
            raise RefusedError(f"no alert fires for a run named {alert_or_run}")
    return [service.send("POST", f"/alerts/{quote(each, safe='')}/ack", {"by": by}) for each in ids]


def answer(
    alert: Annotated[str, typer.Argument(help="An alert's id, see `watchstep alerts --json`.")],
    verdict: Annotated[str, typer.Argument(help="right or false-alarm.")],
    by: Annotated[str, typer.Option(help="Who says so.")] = "",
    url: Url = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Call an alert right or a false alarm; the newest answer counts."""
    with answers(url, token) as service:
        body = {"answer": verdict.replace("-", " "), "by": by}
        answered = service.send("POST", f"/alerts/{quote(alert, safe='')}/answer", body)
    if as_json:
        print_json(answered)
    else:
        typer.echo(f"{answered['rule']} of {answered['run']}: {answered['answer']}")


def halt(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    reason: Annotated[str, typer.Option(help="For the trainer's log.")] = "",
    checkpoint: Annotated[
        bool, typer.Option("--checkpoint", help="Ask for a checkpoint instead.")
    ] = False,
    url: Url = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Ask a run's trainer to stop; it hears of it with its next updates."""
    kind = "checkpoint" if checkpoint else "halt"
    with answers(url, token) as service:
        path = f"{run_path(run)}/commands"
        command = service.send("POST", path, {"kind": kind, "reason": reason})
    if as_json:
        print_json(command)
    else:
        typer.echo(
            f"{kind} asked of attempt {command['attempt']}, until {moment(command['expires_at'])}"
        )


def silence(
    matchers: Annotated[
        list[str] | None, typer.Argument(help="""Such as 'rule="Slow"' or 'run=~"ppo-.*"'.""")
    ] = None,
    minutes: Annotated[float, typer.Option(help="For how long.", min=0.01)] = 60.0,
    comment: Annotated[str, typer.Option(help="Why.")] = "",
    end: Annotated[str, typer.Option(help="End the silence of this id.")] = "",
    url: Url = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Silence alerts, end a silence, or list silences when nothing is given."""
    with answers(url, token) as service:
        if end:
            service.send("DELETE", f"/silences/{quote(end, safe='')}", None)
            reply: Any = {"id": end, "state": "expired"}
        elif matchers:
            body = {"matchers": matchers, "duration_s": minutes * 60.0, "comment": comment}
            reply = service.send("POST", "/silences", body)
        else:
            reply = service.get("/silences")
    if as_json:
        print_json(reply)
    else:
        page = reply if "items" in reply else {"items": [reply]}
        print_page(page, _SILENCE, as_json=False, wide="MATCHERS,WHY")


_SILENCE: Mapping[str, Column] = {
    "SILENCE": "id",
    "STATE": "state",
    "UNTIL": lambda silence: moment(silence.get("ends_at")),
    "MATCHERS": lambda silence: ", ".join(map(_written, silence.get("matchers", ()))),
    "WHY": lambda silence: silence.get("comment", ""),
}


def deliveries(
    state: Annotated[str, typer.Option(help="waiting, delivered or dead.")] = "",
    run: Annotated[str, typer.Option(help="Only this run's.")] = "",
    resend: Annotated[
        str, typer.Option(help="Send the dead one of this id again, or all dead ones.")
    ] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    url: Url = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """List messages to receivers, newest first, or send dead ones again."""
    run = run and legal_run_name(run)
    with answers(url, token) as service:
        if resend == "all":
            dead = service.get("/deliveries", state="dead", run=run, limit=500)["items"]
            page: Any = {"items": [_resent(service, each["id"]) for each in dead]}
        elif resend:
            page = {"items": [_resent(service, resend)]}
        else:
            page = service.get("/deliveries", state=state, run=run, limit=limit)
    if resend and not as_json:
        typer.echo(f"{len(page['items'])} sent again")
    else:
        print_page(page, _DELIVERY, as_json=as_json, wide="RECEIVER,RUN,REASON")


_DELIVERY: Mapping[str, Column] = {
    "STATE": "state",
    "RECEIVER": "receiver",
    "RUN": "run",
    "EDGE": "edge",
    "TRIES": "attempts",
    "AGE": lambda delivery: ago(delivery["created_at"]),
    "REASON": "reason",
}


def mcp(
    url: Url = "",
    token: Token = "",
    http: Annotated[
        int | None, typer.Option("--http", help="A port of this machine's, instead of stdio.")
    ] = None,
) -> None:
    """Let agents ask: a Model Context Protocol server, over stdio unless --http says otherwise."""
    from watchstep.cli.agent_server import serve

    serve(url, token, http)


def _resent(service: Service, delivery: str) -> Any:
    return service.send("POST", f"/deliveries/{quote(delivery, safe='')}/resend", None)


def _written(matcher: Mapping[str, Any]) -> str:
    op = ("=" if matcher["isEqual"] else "!") + ("~" if matcher["isRegex"] else "")
    return f'{matcher["name"]}{op if op != "!" else "!="}"{matcher["value"]}"'


def _print_alerts(page: Mapping[str, Any], *, as_json: bool) -> None:
    columns: dict[str, Column] = {
        "SEVERITY": "severity",
        "RULE": "rule",
        "RUN": "run",
        "UPDATE": "first_update",
        "STATE": _standing,
        "SUMMARY": "summary",
    }
    if width() < LEAST_FOR_SENTENCES:
        del columns["SUMMARY"]
    print_page(page, columns, as_json=as_json, wide="RUN,SUMMARY")


def _standing(alert: Mapping[str, Any]) -> str:
    """An alert's state, or why nobody is reminded of it."""
    if alert["state"] == "firing":
        return "silenced" if alert["silenced"] else "acked" if alert["acknowledged"] else "firing"
    return str(alert["state"])
