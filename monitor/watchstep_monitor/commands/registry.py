"""The service's commands on the command line; heavy imports wait until one runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from watchstep.errors import RuleError, SettingsError

Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file; default watchstep.yaml.")
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the store.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
USAGE = 2
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

    with _one_line():
        if workers != 1:
            raise SettingsError(
                "--workers: one process is one writer; for more, start more on PostgreSQL"
            )
        loaded = _load(config, host=host, port=port, data_dir=data_dir, rules=rules)
        serve_until_stopped(loaded.settings)


def create(
    name: Annotated[str, typer.Argument(help="For people and logs.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="ingest, read or admin; may be repeated.")
    ] = None,
    project: Annotated[
        list[str] | None, typer.Option(help="Limit to this project; may be repeated.")
    ] = None,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create a token and print it: it is shown only now."""
    from watchstep_monitor.http.tokens import create_token
    from watchstep_monitor.settings import TokenSettings

    scopes = scope or ["ingest", "read"]
    with _one_line():
        _check_token(TokenSettings, name, scopes)
        folder = _load(config, data_dir=data_dir).settings.data_dir
        secret, token = create_token(folder, name, scopes, project or [])
    if as_json:
        _print_json({"name": name, "token": secret, "sha256": token.sha256, "scopes": scopes})
    else:
        typer.echo(secret)
        typer.echo(f"sha256 {token.sha256}, for auth.tokens of other machines", err=True)


def revoke(
    name: Annotated[str, typer.Argument(help="As it was created.")],
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Make a token void at once."""
    from watchstep_monitor.http.tokens import revoke_token

    with _one_line():
        folder = _load(config, data_dir=data_dir).settings.data_dir
        if not revoke_token(folder, name):
            raise SettingsError(f"there is no token named {name}")
    typer.echo(f"revoked {name}")


def list_tokens(config: Config = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List tokens; the tokens themselves are not kept."""
    from watchstep.cli.tables import print_table
    from watchstep_monitor.http.tokens import Keyring

    with _one_line():
        settings = _load(config, data_dir=data_dir).settings
        tokens = Keyring(settings.auth.tokens, settings.data_dir).tokens()
    if as_json:
        rows = [
            {
                "name": token.name,
                "scopes": token.scopes,
                "projects": token.projects,
                "created_at": token.created_at,
                "revoked_at": token.revoked_at,
            }
            for token in tokens
        ]
        _print_json({"items": rows})
        return
    table = [
        (
            token.name,
            "revoked" if token.revoked_at else "good",
            ",".join(token.scopes),
            ",".join(token.projects) or "all",
        )
        for token in tokens
    ]
    print_table(("NAME", "STATE", "SCOPES", "PROJECTS"), table, wide="NAME,PROJECTS")


def show(
    config: Config = None,
    data_dir: DataDir = None,
    origin: Annotated[bool, typer.Option(help="Say where each came from.")] = True,
    as_json: AsJson = False,
) -> None:
    """Print every setting with its value and where that came from."""
    with _one_line():
        loaded = _load(config, data_dir=data_dir)
    rows = list(loaded.shown())
    if as_json:
        _print_json({key: {"value": value, "origin": came} for key, value, came in rows})
        return
    for key, value, came in rows:
        typer.echo(f"{key} = {json.dumps(value)}" + (f"  # {came}" if origin else ""))


def upgrade(config: Config = None, data_dir: DataDir = None) -> None:
    """Bring the store's schema up to date, with a backup first; `serve` does so too."""
    from watchstep_monitor.app import store_options
    from watchstep_monitor.store import open_store
    from watchstep_monitor.store.schema import HEAD

    with _one_line():
        open_store(store_options(_load(config, data_dir=data_dir).settings)).close()
    typer.echo(f"schema {HEAD}")


def backup(
    target: Annotated[Path, typer.Argument(help="File to write.")],
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Copy the embedded store, while it is in use or not."""
    from watchstep_monitor.store import backup_sqlite

    with _one_line():
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
    from watchstep_monitor.store.moving import move_embedded

    with _one_line():
        settings = _load(config).settings
        if settings.database_url is None:
            raise SettingsError("db migrate-from: set database_url to where it shall go")
        moved = move_embedded(source, store_options(settings))
    if as_json:
        tables = {one.table: {"rows": one.rows, "sha256": one.sha256} for one in moved}
        _print_json({"verified": True, "tables": tables})
        return
    for one in moved:
        typer.echo(f"{one.table:<12}{one.rows:>12}  {one.sha256}")
    typer.echo("verified: rows and hashes are the same on both sides")


def doctor(config: Config = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Check settings, rules, tokens, store, disk and receivers; exit 1 if something is wrong."""
    from watchstep.cli.tables import print_table
    from watchstep_monitor.commands.checkup import check_up

    with _one_line():
        settings = _load(config, data_dir=data_dir).settings
    findings = check_up(settings)
    if as_json:
        _print_json(
            {
                "ok": all(one.good for one in findings),
                "checks": [
                    {"check": one.name, "ok": one.good, "says": one.says} for one in findings
                ],
            }
        )
    else:
        rows = [("ok" if one.good else "BAD", one.name, one.says) for one in findings]
        print_table(("", "", ""), rows)
    if not all(one.good for one in findings):
        raise typer.Exit(1)


def _load(config: Path | None, **options: Any) -> Any:
    from watchstep_monitor.settings import load_settings

    rules = options.pop("rules", None)
    overrides = {**options, "rules.paths": rules or None}
    return load_settings(config, overrides=overrides)


def _check_token(model: Any, name: str, scopes: list[str]) -> None:
    from pydantic import ValidationError

    try:
        model(name=name, sha256="0" * 64, scopes=tuple(scopes))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise SettingsError(f"{first['loc'][0]}: {first['msg']}") from None


def _print_json(document: object) -> None:
    typer.echo(json.dumps(document, indent=2))


@contextmanager
def _one_line() -> Iterator[None]:
    """A wrong setting or rule file is one line on stderr and exit code 2."""
    try:
        yield
    except (SettingsError, RuleError) as error:
        line = " ".join(str(error).split())
        print(f"watchstep: {line}", file=sys.stderr)  # noqa: T201 - the command's own voice
        raise typer.Exit(USAGE) from None
