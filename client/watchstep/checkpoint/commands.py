"""`watchstep checkpoint`: verify, list and restore checkpoints from a shell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from watchstep.checkpoint.durable import copy_synced, sync_directory
from watchstep.checkpoint.folder import Folder, is_kept
from watchstep.checkpoint.reading import verify
from watchstep.checkpoint.record import Checkpoint, manifest_path
from watchstep.checkpoint.untrusted import bounded
from watchstep.errors import CheckpointError

BAD = 1
"""Exit code when a checkpoint is not intact, complete and finite, or there is none."""

app = typer.Typer(
    name="checkpoint",
    help="Verify, list and restore checkpoints, without executing anything in them.",
    no_args_is_help=True,
)

PathArgument = Annotated[Path, typer.Argument(help="A checkpoint file or a directory of them.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
ToOption = Annotated[
    Path | None, typer.Option("--to", help="Directory to copy into; default: only name it.")
]


@app.command("verify")
def verify_command(path: PathArgument, json_: JsonOption = False) -> None:
    """Exit 0 only if PATH is intact, complete and finite. Understands others' files too."""
    try:
        with bounded(path):
            checkpoint = verify(path)
    except (CheckpointError, ImportError) as error:
        _fail(path, error, json_=json_)
    _show(checkpoint, "intact, complete, finite", json_=json_)


@app.command("list")
def list_command(path: PathArgument, json_: JsonOption = False) -> None:
    """List a directory's checkpoints, newest first, each verified. Exit 1 if one is bad."""
    if not path.is_dir() or not is_kept(path):
        _fail(path, CheckpointError(f"{path}: no directory of kept checkpoints"), json_=json_)
    folder = Folder(path)
    with bounded(path):
        rows = [_checked(c) for c in folder.checkpoints()]
        rows += [_checked(Checkpoint(broken, finite=False)) for broken in folder.broken()]
    if json_:
        typer.echo(json.dumps({"checkpoints": [{**c.as_json(), "bad": bad} for c, bad in rows]}))
    else:
        _print_table(rows)
    if any(bad for _, bad in rows):
        raise typer.Exit(BAD)


@app.command("restore")
def restore_command(path: PathArgument, to: ToOption = None, json_: JsonOption = False) -> None:
    """Find the newest intact, complete, finite and good checkpoint; copy it with --to.

    Reads only: bad files stay where they are.
    """
    try:
        with bounded(path):
            checkpoint = _best(path)
        if to is not None:
            checkpoint = _copied(checkpoint, to)
    except (CheckpointError, OSError, ImportError) as error:
        _fail(path, error, json_=json_)
    _show(checkpoint, "restorable" if to is None else "restored", json_=json_)


def _best(path: Path) -> Checkpoint:
    if not path.is_dir() or not is_kept(path):
        return verify(path)
    folder, reasons = Folder(path), []
    for candidate in folder.good():
        try:
            verify(candidate.path)
        except CheckpointError as error:
            reasons.append(str(error))
        else:
            return candidate
    raise CheckpointError("; ".join([f"{path}: no good checkpoint", *reasons]))


def _copied(checkpoint: Checkpoint, directory: Path) -> Checkpoint:
    """The checkpoint at its new place, verified there."""
    if checkpoint.path.is_dir() and not checkpoint.parts:
        raise CheckpointError(f"{checkpoint.path}: a folder; copy it with your own tools")
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / checkpoint.path.name
    if target.exists():
        raise CheckpointError(f"{target}: is there already")
    for source in (checkpoint.path, manifest_path(checkpoint.path)):
        if source.is_dir():
            (directory / source.name).mkdir()
        for part in source.iterdir() if source.is_dir() else [source]:
            if part.exists():
                copy_synced(part, directory / part.relative_to(source.parent))
    sync_directory(directory)
    return verify(target)


def _checked(checkpoint: Checkpoint) -> tuple[Checkpoint, str]:
    try:
        verify(checkpoint.path)
    except CheckpointError as error:
        return checkpoint, str(error)
    return checkpoint, ""


def _show(checkpoint: Checkpoint, claim: str, *, json_: bool) -> None:
    if json_:
        typer.echo(json.dumps({"ok": True, **checkpoint.as_json()}))
        return
    pin = ", pinned" if checkpoint.pinned else ""
    where = f"step {checkpoint.step}{pin}, " if checkpoint.serial else ""
    size = f"{checkpoint.size_bytes:,} bytes, {checkpoint.tensors} tensors"
    typer.echo(f"{checkpoint.path}: {claim} ({where}{size})")


def _print_table(rows: list[tuple[Checkpoint, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("step", "update", "bytes", "sha256", "state", "file")
    for checkpoint, bad in rows:
        marks = [("BAD", bad), ("pinned", checkpoint.pinned), ("suspect", checkpoint.suspect)]
        state = ", ".join(word for word, holds in marks if holds) or "ok"
        numbers = (checkpoint.step, checkpoint.update, f"{checkpoint.size_bytes:,}")
        table.add_row(*map(str, numbers), checkpoint.sha256[:12], state, checkpoint.path.name)
    Console().print(table)
    for _, bad in rows:
        if bad:
            typer.echo(bad, err=True)


def _fail(path: Path, error: Exception, *, json_: bool) -> NoReturn:
    if json_:
        typer.echo(json.dumps({"ok": False, "path": str(path), "reason": str(error)}))
    else:
        typer.echo(str(error), err=True)
    raise typer.Exit(BAD)
