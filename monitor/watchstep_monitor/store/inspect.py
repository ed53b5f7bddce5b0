"""A look at a store from outside: nothing of it is made, changed or upgraded."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from watchstep.errors import SettingsError
from watchstep_monitor.store import schema
from watchstep_monitor.store.opening import FILE_NAME, StoreOptions, refuse_foreign, revision_of
from watchstep_monitor.store.sqlite_file_check import structure_trouble


def look_at(options: StoreOptions) -> str:
    """Say what is there, for people.

    Raises:
        SettingsError: It could not be used: one line says why.
    """
    if options.database_url is not None:
        return f"PostgreSQL, {_stage(revision_of(options))}"
    path = options.data_dir / FILE_NAME
    if not path.exists():
        _refuse_unwritable(options.data_dir)
        return f"none yet, made in {options.data_dir} at the first start"
    if not os.access(path, os.W_OK):
        raise SettingsError(f"{path}: read-only")
    refuse_foreign(path)
    size = path.stat().st_size
    trouble = structure_trouble(path)
    if trouble is not None:
        raise SettingsError(f"{path}: {trouble}")
    words = f"SQLite, {size / 1e6:.1f} MB, {_stage(revision_of(options))}"
    return f"{words}, in use by a running service" if _is_in_use(options.data_dir) else words


def _stage(revision: str | None) -> str:
    if revision is None:
        return "empty"
    if revision > schema.HEAD:
        raise SettingsError(
            f"the store has schema {revision}, newer than {schema.HEAD}: install the newer "
            "watchstep"
        )
    if revision < schema.HEAD:
        return f"schema {revision}, upgraded to {schema.HEAD} at the next start"
    return f"schema {revision}"


def _refuse_unwritable(folder: Path) -> None:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise SettingsError(f"data_dir {folder}: cannot be made, {there} is no folder to write in")


def _is_in_use(folder: Path) -> bool:
    try:
        with (folder / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
