"""`runs`, `status`, `alerts`, `halt`, `silence`: the REST API from a shell."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import quote

import typer

from watchstep.errors import SettingsError, UnreachableError, WatchstepError

DEFAULT_URL = "http://127.0.0.1:8420"
TIMEOUT_S = 10.0
MOST_ANSWER_BYTES = 16_777_216
PIPED_WIDTH = 200
"""Columns where there is no window, so that one row stays one line for grep."""

Url = Annotated[str, typer.Option("--url", help="The service; default WATCHSTEP_URL.")]
Token = Annotated[str, typer.Option("--token", help="Bearer token; default WATCHSTEP_TOKEN.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FAILED, USAGE, UNREACHABLE = 1, 2, 3

_COLOURS = {
    "critical": "bold red",
    "diverged": "bold red",
    "failed": "bold red",
    "halted": "yellow",
    "warning": "yellow",
    "stalled": "yellow",
    "running": "green",
    "finished": "green",
}


class RefusedError(WatchstepError):
    """The service answered, and said no."""


def register(app: typer.Typer) -> None:
    """Add the commands to `watchstep`."""
    for command in (runs, status, alerts, halt, silence):
        app.command()(command)


def runs(
    state: Annotated[str, typer.Option("--status", help="Only runs with this status.")] = "",
    project: Annotated[str, typer.Option(help="Only runs of this project.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    url: Url = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """List runs, newest heard of first."""
    with _answers(url, token) as service:
        found = service.get("/runs", status=state, project=project, limit=limit)
    if as_json:
        _print_json(found)
        return
    rows = [
        (run["run"], run["status"], run["attempt"], run["step"], run["last_update_at"] or "")
        for run in found["items"]
    ]
    _print_table(("RUN", "STATUS", "ATTEMPT", "STEP", "LAST HEARD"), rows)


def status(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    url: Url = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Show a run: its readings, its alerts, its incident."""
    with _answers(url, token) as service:
        found = service.get(f"/runs/{quote(run, safe='')}")
    if as_json:
        _print_json(found)
        return
    rows = [("status", found["status"]), ("attempt", found["attempt"]), ("step", found["step"])]
    rows += [("update", found["last_seq"]), ("lost", found["counts"]["lost"])]
    incident = found["incident"]
    if incident:
        rows += [("stage", incident["stage"]), ("diagnosis", incident["diagnosis"])]
        rows += [("first bad update", incident["first_bad_update"])]
        rows += [("last good update", incident["last_good_update"])]
    rows += [("trainer", found["trainer_did"])] if found["trainer_did"] else []
    pinned = found["checkpoint"]
    rows += [("pinned checkpoint", pinned.get("path", ""))] if pinned else []
    _print_table(("", found["run"]), rows)
    readings = [
        (name, reading["value"], reading["zone"] or "")
        for name, reading in sorted(found["readings"].items())
    ]
    _print_table(("METRIC", "READING", "ZONE"), readings)
    if found["alerts"]:
        _print_alerts(found["alerts"])


def alerts(  # noqa: PLR0913, PLR0917 - one parameter an option
    state: Annotated[str, typer.Option(help="pending, firing or resolved.")] = "firing",
    run: Annotated[str, typer.Option(help="Only this run's.")] = "",
    severity: Annotated[str, typer.Option(help="info, warning or critical.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 50,
    url: Url = "",
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """List alerts, newest first; --state '' shows all."""
    with _answers(url, token) as service:
        found = service.get("/alerts", state=state, run=run, severity=severity, limit=limit)
    if as_json:
        _print_json(found)
    else:
        _print_alerts(found["items"])


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
    with _answers(url, token) as service:
        path = f"/runs/{quote(run, safe='')}/commands"
        found = service.send("POST", path, {"kind": kind, "reason": reason})
    if as_json:
        _print_json(found)
    else:
        typer.echo(f"{kind} asked of attempt {found['attempt']}, until {found['expires_at']}")


def silence(  # noqa: PLR0913, PLR0917 - one parameter an option
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
    with _answers(url, token) as service:
        if end:
            service.send("DELETE", f"/silences/{quote(end, safe='')}", None)
            found: Any = {"id": end, "state": "expired"}
        elif matchers:
            body = {"matchers": matchers, "duration_s": minutes * 60.0, "comment": comment}
            found = service.send("POST", "/silences", body)
        else:
            found = service.get("/silences")
    if as_json:
        _print_json(found)
        return
    shown = found.get("items", [found])
    _print_table(
        ("SILENCE", "STATE", "UNTIL"),
        [(one["id"], one["state"], one.get("ends_at", "")) for one in shown],
    )


class _Service:
    """The REST API with one connection."""

    def __init__(self, url: str, token: str) -> None:
        import httpx

        self._errors = httpx.HTTPError
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            # The answer goes to the service that was named, and to no proxy or redirect.
            self._client = httpx.Client(
                base_url=url.rstrip("/") + "/api/v1",
                headers=headers,
                timeout=TIMEOUT_S,
                trust_env=False,
                follow_redirects=False,
            )
        except (httpx.InvalidURL, ValueError):
            raise SettingsError("--url: is no address such as http://127.0.0.1:8420") from None

    def get(self, path: str, **query: object) -> Any:
        """A GET; empty query values are left out."""
        wanted = {name: str(value) for name, value in query.items() if value not in {"", None}}
        return self._ask("GET", path, params=wanted)

    def send(self, method: str, path: str, body: Mapping[str, object] | None) -> Any:
        """Another request."""
        return self._ask(method, path, **({} if body is None else {"json": dict(body)}))

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def _ask(self, method: str, path: str, **how: Any) -> Any:
        try:
            reply = self._client.request(method, path, **how)
        except self._errors as error:
            raise UnreachableError(
                f"the service at {self._client.base_url.host} does not answer: "
                f"{type(error).__name__}"
            ) from None
        if len(reply.content) > MOST_ANSWER_BYTES:
            raise UnreachableError("the answer is larger than any of watchstep's")
        document = _document(reply.content)
        if reply.is_success and (document is not None or reply.status_code == 204):
            return document
        if isinstance(document, dict) and "title" in document:
            raise RefusedError(_refusal(reply.status_code, document))
        raise UnreachableError(f"HTTP {reply.status_code}, but not from watchstep's service")


@contextmanager
def _answers(url: str, token: str) -> Iterator[_Service]:
    """A connection; what goes wrong is one line on stderr and an exit code."""
    service: _Service | None = None
    try:
        service = _Service(
            url or os.environ.get("WATCHSTEP_URL") or DEFAULT_URL,
            token or os.environ.get("WATCHSTEP_TOKEN", ""),
        )
        yield service
    except RefusedError as error:
        _fail(str(error), FAILED)
    except UnreachableError as error:
        _fail(str(error), UNREACHABLE)
    except SettingsError as error:
        _fail(str(error), USAGE)
    finally:
        if service is not None:
            service.close()


def _document(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _refusal(code: int, problem: Mapping[str, Any]) -> str:
    flaws = problem.get("errors") or []
    first = flaws[0] if flaws and isinstance(flaws[0], dict) else {}
    place = ".".join(str(part) for part in first.get("loc", ()))
    more = f" ({place}: {first.get('msg')})" if place else ""
    return f"HTTP {code}: {problem.get('detail') or problem['title']}{more}"


def _fail(reason: str, code: int) -> None:
    typer.echo(f"watchstep: {reason}", err=True)
    raise typer.Exit(code)


def _print_json(document: object) -> None:
    typer.echo(json.dumps(document, indent=2))


def _print_alerts(found: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (one["severity"], one["rule"], one["run"], one["first_update"], one["summary"])
        for one in found
    ]
    _print_table(("SEVERITY", "RULE", "RUN", "SINCE UPDATE", "SUMMARY"), rows)


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table that fits the window; plain columns where no one looks at colours."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Rich itself leaves colours off for a pipe, a dumb terminal and NO_COLOR.
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else PIPED_WIDTH)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        # As Text, so that brackets in names are not taken for markup.
        table.add_row(*(Text(str(cell), style=_COLOURS.get(str(cell), "")) for cell in row))
    console.print(table)
