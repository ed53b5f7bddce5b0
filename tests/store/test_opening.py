"""Opening a store: one owner, its own files only, its own schema only."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from service.kit import bench, grad
from watchstep.errors import SettingsError
from watchstep_monitor.store import backup_sqlite, open_store
from watchstep_monitor.store.opening import FILE_NAME, StoreOptions


def test_a_second_process_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    opened = open_store(StoreOptions(tmp_path))
    try:
        with pytest.raises(SettingsError, match="another watchstep process"):
            open_store(StoreOptions(tmp_path))
    finally:
        opened.close()

    open_store(StoreOptions(tmp_path)).close()


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()

    with pytest.raises(SettingsError, match="another program"):
        open_store(StoreOptions(tmp_path))

    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database at all, " * 100)

    with pytest.raises(SettingsError, match="not a database"):
        open_store(StoreOptions(tmp_path))


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    open_store(StoreOptions(tmp_path)).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()

    with pytest.raises(SettingsError, match="newer"):
        open_store(StoreOptions(tmp_path))


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match="data_dir"):
        open_store(StoreOptions(tmp_path / "file" / "below"))


def test_the_migrated_schema_is_the_one_that_the_code_uses(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine

    from watchstep_monitor.store.schema import metadata

    open_store(StoreOptions(tmp_path)).close()
    engine = create_engine(f"sqlite:///{tmp_path / FILE_NAME}")
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()

    assert differences == []


def test_commits_are_synced_and_the_log_is_written_ahead(tmp_path: Path) -> None:
    opened = open_store(StoreOptions(tmp_path))
    try:

        def pragmas(transaction) -> tuple:
            run = transaction.connection.exec_driver_sql
            return tuple(
                run(f"PRAGMA {name}").scalar_one() for name in ("journal_mode", "synchronous")
            )

        assert opened.store.write("", pragmas).result(10) == ("wal", 2)
    finally:
        opened.close()


def test_a_backup_of_a_store_in_use_is_complete(tmp_path: Path) -> None:
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0), grad(2, 2.0))

        (tmp_path / "copy").mkdir()
        backup_sqlite(tmp_path / "data", tmp_path / "copy" / FILE_NAME)

    opened = open_store(StoreOptions(tmp_path / "copy"))
    try:
        record = opened.store.run("a")
        assert record is not None
        assert record.last_seq == 2
    finally:
        opened.close()


def test_nobody_else_can_read_the_folder_or_its_files_also_where_they_were_there_before(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    with bench(tmp_path) as at:
        at.send(grad(1, 1.0))
    for path in folder.iterdir():
        path.chmod(0o644)
    folder.chmod(0o755)

    with bench(tmp_path) as at:
        at.send(grad(2, 1.0))
        backup_sqlite(folder, tmp_path / "copy.db")
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}

    assert folder.stat().st_mode & 0o777 == 0o700
    assert modes == dict.fromkeys(modes, 0o600)
    assert f"{FILE_NAME}-wal" in modes
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
