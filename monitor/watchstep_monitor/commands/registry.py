"""The service's commands on the command line; heavy imports wait until one runs."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from watchstep.cli.tables import print_json
from watchstep.errors import SettingsError

Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file; default watchstep.yaml.")
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the store.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NAMES = {"list_tokens": "list", "migrate_from": "migrate-from"}
"""Commands whose name is no name of a function here."""


def register(app: typer.Typer) -> None:
    """Add the service's commands to `watchstep`."""
    app.command()(serve)
    app.command()(doctor)
    for name, about, commands in (
        ("token", "Bearer tokens.", (create, revoke, list_tokens)),
        ("config", "Settings.", (show,)),
        ("db", "The store.", (upgrade, backup, migrate_from)),
    ):
        group = typer.Typer(help=about, no_args_is_help=True)
        for command in commands:
            group.command(NAMES.get(command.__name__, command.__name__))(command)
        app.add_typer(group, name=name)


def serve(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 picks one.")] = None,
    data_dir: DataDir = None,
    rules: Annotated[
        list[str] | None, typer.Option(help="Pack or rule file; may be repeated.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes; 1, more go on other ports.")] = 1,
) -> None:
    """Run the service until SIGTERM or Ctrl-C."""
    from watchstep_monitor.commands.serving import serve_until_stopped

    if workers != 1:
        raise SettingsError(
            "--workers: one process is one writer; for more, start more on PostgreSQL"
        )
    loaded = _load(config, host=host, port=port, data_dir=data_dir, rules=rules)
    serve_until_stopped(loaded.settings)
    # All is committed and closed. Python would free what it kept of each run, 9 ms a run: with
    # 5,000 of them it was killed before it had ended.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def create(
    name: Annotated[str, typer.Argument(help="For people and logs.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="ingest, read or admin; may be repeated.")
    ] = None,
    project: Annotated[
        list[str] | None, typer.Option(help="Limit to this project; may be repeated.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0.0, max=36_500.0, help="Void after so many days.")
    ] = None,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create a token and print it: it is shown only now. Good at once, on every replica."""
    from watchstep_monitor.service.tokens import new_token
    from watchstep_monitor.settings import TokenSettings

    scopes = scope or ["ingest", "read"]
    now = datetime.now(UTC)
    ends = None if days is None else now + timedelta(days=days)
    _check_token(TokenSettings, name, scopes)
    secret, token = new_token(name, scopes, project or [], now, ends)
    with _tokens(_load(config, data_dir=data_dir).settings) as tokens:
        if not tokens.create(token):
            raise SettingsError(f"a token named {name} exists already; revoke it first")
    if as_json:
        print_json({**_shown(token, now), "token": secret, "sha256": token.sha256})
    else:
        typer.echo(secret)
        typer.echo(f"sha256 {token.sha256}, for auth.tokens of other services", err=True)


def revoke(
    name: Annotated[str, typer.Argument(help="As it was created.")],
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Make a token void, within a second and on every replica."""
    with _tokens(_load(config, data_dir=data_dir).settings) as tokens:
        if not tokens.revoke(name, datetime.now(UTC)):
            raise SettingsError(f"there is no token named {name}")
    typer.echo(f"revoked {name}")


def list_tokens(config: Config = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List tokens and the day on which each was last used; the tokens themselves are not kept."""
    from watchstep.cli.tables import print_page
    from watchstep_monitor.commands.checkup import all_tokens

    tokens = all_tokens(_load(config, data_dir=data_dir).settings)
    rows = [_shown(token, datetime.now(UTC)) for token in tokens]
    columns: dict[str, Any] = {
        "NAME": "name",
        "STATE": "state",
        "SCOPES": lambda row: ",".join(row["scopes"]),
        "PROJECTS": lambda row: ",".join(row["projects"]) or "all",
        "EXPIRES": lambda row: row["expires_at"] or "never",
        "LAST USED": lambda row: row["used_on"] or "-",
    }
    print_page({"items": rows}, columns, as_json=as_json, wide="NAME,PROJECTS")


@contextmanager
def _tokens(settings: Any) -> Iterator[Any]:
    """The store's tokens, those of an older version's file among them."""
    from watchstep_monitor.app import store_options
    from watchstep_monitor.store.offline_tokens import tokens_of
    from watchstep_monitor.store.tokens import adopt_filed

    with tokens_of(store_options(settings)) as tokens:
        adopt_filed(tokens, settings.data_dir)
        yield tokens


def _shown(token: Any, now: datetime) -> dict[str, Any]:
    from watchstep_monitor.service.json_values import plain

    row = asdict(token)
    del row["sha256"]
    shown: dict[str, Any] = plain(row)
    return {**shown, "state": token.state(now), "used_on": token.used_on and str(token.used_on)}


def show(
    config: Config = None,
    data_dir: DataDir = None,
    origin: Annotated[bool, typer.Option(help="Say where each came from.")] = True,
    as_json: AsJson = False,
) -> None:
    """Print every setting with its value and where that came from."""
    loaded = _load(config, data_dir=data_dir)
    rows = list(loaded.shown())
    if as_json:
        print_json({key: {"value": value, "origin": came} for key, value, came in rows})
        return
    for key, value, came in rows:
        typer.echo(f"{key} = {json.dumps(value)}" + (f"  # {came}" if origin else ""))


def upgrade(config: Config = None, data_dir: DataDir = None) -> None:
    """Bring the store's schema up to date, with a backup first; `serve` does so too."""
    from watchstep_monitor.app import store_options
    from watchstep_monitor.store import open_store
    from watchstep_monitor.store.schema import HEAD

    open_store(store_options(_load(config, data_dir=data_dir).settings)).close()
    typer.echo(f"schema {HEAD}")


def backup(
    target: Annotated[Path, typer.Argument(help="File to write.")],
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Copy the embedded store, while it is in use or not."""
    from watchstep_monitor.store import backup_sqlite

    settings = _load(config, data_dir=data_dir).settings
    if settings.database_url is not None:
        raise SettingsError("db backup: use pg_dump for PostgreSQL")
    if target.exists():
        raise SettingsError(f"{target}: exists already")
    backup_sqlite(settings.data_dir, target)
    typer.echo(str(target))


def migrate_from(
    source: Annotated[str, typer.Argument(help="sqlite:///PATH of an embedded store.")],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Move an embedded store into the empty PostgreSQL of the settings, and verify the copy."""
    from watchstep_monitor.app import store_options
    from watchstep_monitor.store.import_sqlite import move_embedded

    settings = _load(config).settings
    if settings.database_url is None:
        raise SettingsError("db migrate-from: set database_url to where it shall go")
    moved = move_embedded(source, store_options(settings))
    if as_json:
        tables = {each.table: {"rows": each.rows, "sha256": each.sha256} for each in moved}
        print_json({"verified": True, "tables": tables})
        return
    for each in moved:
        typer.echo(f"{each.table:<12}{each.rows:>12}  {each.sha256}")
    typer.echo("verified: rows and hashes are the same on both sides")


def doctor(config: Config = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Check settings, rules, tokens, store, disk and receivers; exit 1 if something is wrong."""
    from watchstep.cli.tables import print_table
    from watchstep_monitor.commands.checkup import check_up

    settings = _load(config, data_dir=data_dir).settings
    findings = check_up(settings)
    if as_json:
        checks = [{"check": each.name, "ok": each.good, "says": each.says} for each in findings]
        print_json({"ok": all(each.good for each in findings), "checks": checks})
    else:
        rows = [("ok" if each.good else "BAD", each.name, each.says) for each in findings]
        print_table(("", "", ""), rows)
    if not all(each.good for each in findings):
        raise typer.Exit(1)


def _load(config: Path | None, **options: Any) -> Any:
    from watchstep_monitor.settings import load_settings

    rules = options.pop("rules", None)
    overrides = {**options, "rules.paths": rules or None}
    loaded = load_settings(config, overrides=overrides)
    for warning in loaded.warnings:
        typer.echo(f"watchstep: {warning}", err=True)
    return loaded


def _check_token(model: Any, name: str, scopes: list[str]) -> None:
    from pydantic import ValidationError

    try:
        model(name=name, sha256="0" * 64, scopes=tuple(scopes))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise SettingsError(f"{first['loc'][0]}: {first['msg']}") from None
