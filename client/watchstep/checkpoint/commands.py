"""`watchstep checkpoint`: verify, list and restore checkpoints from a shell."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from watchstep.checkpoint.durable import copy_synced, sync_directory
from watchstep.checkpoint.folder import Folder
from watchstep.checkpoint.reading import UNPACKED_TIMES, read_kept, refused_by_name
from watchstep.checkpoint.record import Checkpoint, manifest_path
from watchstep.checkpoint.verify import is_kept, verify
from watchstep.errors import CheckpointError

BAD = 1
"""Exit code when a checkpoint is not intact, complete and finite, or there is none."""

SECONDS = 60.0
BYTES_A_SECOND = 10 << 20
"""A tenth of what a slow disk reads: a file that takes longer than that is no file of weights."""
MEMORY_BYTES = 2 << 30
"""Besides what the file's size explains: torch's own threads and buffers."""

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
        with _bounded(path):
            checkpoint = verify(path)
    except CheckpointError as error:
        _fail(path, error, json_=json_)
    _show(checkpoint, "intact, complete, finite", json_=json_)


@app.command("list")
def list_command(path: PathArgument, json_: JsonOption = False) -> None:
    """List a directory's checkpoints, newest first, each verified. Exit 1 if one is bad."""
    if not path.is_dir() or not is_kept(path):
        _fail(path, CheckpointError(f"{path}: no directory of kept checkpoints"), json_=json_)
    folder = Folder(path)
    with _bounded(path):
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
        with _bounded(path):
            checkpoint = _best(path)
        if to is not None:
            checkpoint = _copied(checkpoint, to)
    except (CheckpointError, OSError) as error:
        _fail(path, error, json_=json_)
    _show(checkpoint, "restorable" if to is None else "restored", json_=json_)


def _best(path: Path) -> Checkpoint:
    if not path.is_dir() or not is_kept(path):
        return verify(path)
    folder, reasons = Folder(path), []
    for candidate in folder.good():
        try:
            with refused_by_name(candidate.path):
                read_kept(candidate.path)
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
        with refused_by_name(checkpoint.path):
            read_kept(checkpoint.path)
    except (CheckpointError, OSError) as error:
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


@contextlib.contextmanager
def _bounded(path: Path) -> Iterator[None]:
    """End a block with an error when it takes more time or memory than the file's size explains.

    For a process of its own, such as a command: it sets a timer and a limit of the process.

    Raises:
        CheckpointError: After 60 s and one more for each 10 MiB.
        MemoryError: At 16 times the size, and 2 GiB, more than the process has now.
    """
    size_bytes = _size(path)
    with _timer(path, SECONDS + size_bytes / BYTES_A_SECOND):
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = _data_bytes() + UNPACKED_TIMES * size_bytes + MEMORY_BYTES
        if soft in (-1, resource.RLIM_INFINITY) or most < soft:
            resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextlib.contextmanager
def _timer(path: Path, seconds: float) -> Iterator[None]:
    # Python takes handlers of signals in the main thread only.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(_number: int, _frame: Any) -> None:
        raise CheckpointError(f"{path}: not done within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())


def _data_bytes() -> int:
    """What the process has of the memory that the limit counts."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return int(status.partition("VmData:")[2].split()[0]) << 10
