"""Opening a store: whose it is, which version, and that no one else writes to it."""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from watchstep.errors import SettingsError
from watchstep_monitor.service.clock import SharedClock
from watchstep_monitor.store import schema
from watchstep_monitor.store.circuit_breaker import Reach
from watchstep_monitor.store.outbox import Outbox
from watchstep_monitor.store.postgres.compatibility import (
    PROGRAM,
    note_oldest,
    noted_oldest,
    oldest_after,
    refuse_newer,
    wait_for_no_older,
)
from watchstep_monitor.store.postgres.notify import VOICE, Voice
from watchstep_monitor.store.postgres.partitions import make_partitions
from watchstep_monitor.store.postgres.replicas import Replicas
from watchstep_monitor.store.postgres.session_settings import (
    PATIENCE,
    limit_silence,
    prepare_writing,
)
from watchstep_monitor.store.read_connection import guard, reason_of
from watchstep_monitor.store.sql_store import SqlStore
from watchstep_monitor.store.sqlite_file_check import Footing
from watchstep_monitor.store.tokens import Tokens
from watchstep_monitor.store.writer import GroupCommit, Writer

if TYPE_CHECKING:
    from watchstep_monitor.gauges.instruments import Instruments

log = logging.getLogger(__name__)

FILE_NAME = "watchstep.db"
MIGRATION_LOCK = 0x57535450
"""Key of PostgreSQL's advisory lock around migrations."""

WAL_BYTES = 67_108_864
"""Size to which SQLite cuts its write-ahead log; a commit of ten batches is 200 kB."""


IDLE_MS = 60_000
"""How long one that upgrades the schema may think in a transaction; a slow machine takes seconds,
and one that was stopped must not keep the others out for good."""


class FolderInUseError(SettingsError):
    """Another process has the embedded store."""


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How to open a store.

    Attributes:
        database_url: None for SQLite in `data_dir`.
        busy_timeout_s: How long a statement waits for a lock.
        writers, readers: Connections; SQLite always has one writer.
    """

    data_dir: Path
    database_url: str | None = None
    busy_timeout_s: float = 5.0
    writers: int = 4
    readers: int = 4
    group: GroupCommit = field(default_factory=lambda: GroupCommit(0.005, 1_024))


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """An open store, its outbox and its tokens.

    Attributes:
        replicas: What connects this process with others on the same PostgreSQL; None on SQLite.
    """

    store: SqlStore
    outbox: Outbox
    tokens: Tokens
    writer: Writer
    replicas: Replicas | None
    _engines: tuple[Engine, ...]
    _reach: Reach | None
    _lock: IO[bytes] | None

    def close(self) -> None:
        """Commit what is queued, close all connections, and let another process in."""
        if self.replicas is not None:
            self.replicas.stop()
        self.writer.close()
        if self.replicas is not None:
            self.replicas.voice.close()
        if self._reach is not None:
            self._reach.close()
        for engine in self._engines:
            engine.dispose()
        if self._lock is not None:
            self._lock.close()


def open_store(
    options: StoreOptions,
    metrics: Instruments | None = None,
    clock: SharedClock | None = None,
) -> OpenedStore:
    """Open the store, creating or upgrading it first.

    Args:
        clock: Set to the database's time where that is shared with other processes.

    Raises:
        SettingsError: One line: the folder cannot be written, another process has it, the
            file is someone else's or damaged, or its schema is newer than this code.
    """
    lock = None
    if options.database_url is None:
        lock = own_folder(options.data_dir)
    try:
        if lock is not None:
            (options.data_dir / FILE_NAME).touch(0o600)
            refuse_foreign(options.data_dir / FILE_NAME)
        engines = engines_for(options)
        with opening(engines[0]) as connection:
            _prepare(connection, options)
    except SettingsError:
        if lock is not None:
            lock.close()
        raise
    write_engine, read_engine = engines
    exclusive = options.database_url is None
    footing = Footing(options.data_dir / FILE_NAME) if exclusive else None
    reach = None if exclusive else Reach()
    guard(read_engine, footing, reach)
    writer = Writer(
        write_engine,
        reach,
        threads=1 if exclusive else options.writers,
        group=options.group,
        metrics=metrics,
        footing=footing,
    )
    store = SqlStore(read_engine, writer, footing)
    outbox = Outbox(read_engine, writer, exclusive=exclusive)
    replicas = None if exclusive else _replicas(write_engine, read_engine, clock or SharedClock())
    tokens = Tokens(read_engine, writer)
    return OpenedStore(store, outbox, tokens, writer, replicas, engines, reach, lock)


def backup_sqlite(data_dir: Path, target: Path) -> None:
    """Copy the store while it may be in use, complete and consistent.

    Raises:
        SettingsError: There is no store, or the target cannot be written.
    """
    source = data_dir / FILE_NAME
    if not source.is_file():
        raise SettingsError(f"{source}: there is no store here")
    try:
        target.touch(0o600)
        with sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True) as old:
            with sqlite3.connect(target) as new:
                old.backup(new)
            new.close()
        old.close()
    except (sqlite3.Error, OSError) as error:
        raise SettingsError(f"{target}: the backup failed: {error}") from None


def own_folder(folder: Path) -> IO[bytes]:
    """Take the folder's lock, which the kernel frees when this process ends, however it does."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("ab")
    except OSError as error:
        raise SettingsError(
            f"data_dir {folder}: {(error.strerror or 'cannot be used').lower()}"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise FolderInUseError(f"data_dir {folder}: another watchstep process uses it") from None
    if not os.access(folder, os.W_OK):
        lock.close()
        raise SettingsError(f"data_dir {folder}: permission denied")
    _make_private(folder)
    return lock


def _make_private(folder: Path) -> None:
    """Keep everyone else out of the folder and its files, also where they were there before.

    What SQLite adds later has the permissions of the database beside it.
    """
    files = [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
    for path, mode in ((folder, 0o700), *((path, 0o600) for path in files)):
        try:
            if path.stat().st_mode & 0o777 & ~mode:
                path.chmod(mode)
        except OSError as error:
            # A volume of a cluster may belong to another user; its own rules then hold.
            log.warning("permissions stay as they are", extra={"reason": error.strerror})
            return


def refuse_foreign(path: Path) -> None:
    """Look whose file it is before anything of it is changed, be it only the journal mode."""
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        raw = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
        try:
            application_id = raw.execute("PRAGMA application_id").fetchone()[0]
            tables = raw.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        finally:
            raw.close()
    except sqlite3.Error as error:
        raise SettingsError(f"{path}: the store cannot be opened: {error}") from None
    if application_id != schema.APPLICATION_ID and (application_id or tables):
        raise SettingsError(f"{path}: another program's database, not watchstep's")


def engines_for(options: StoreOptions) -> tuple[Engine, Engine]:
    """One engine that writes, one that only reads; both begin transactions by hand."""
    if options.database_url is None:
        url = f"sqlite:///{options.data_dir / FILE_NAME}"
        write = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1)
        read = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=options.readers)
        wait_ms = round(options.busy_timeout_s * 1000)
        event.listen(write, "connect", lambda raw, _: _tune(raw, wait_ms, reads_only=False))
        event.listen(read, "connect", lambda raw, _: _tune(raw, wait_ms, reads_only=True))
        return write, read
    try:
        parsed = make_url(options.database_url)
    except ArgumentError:
        raise SettingsError("database_url: not a database URL") from None
    if parsed.get_backend_name() != "postgresql":
        raise SettingsError("database_url: must begin with postgresql+psycopg://")
    parsed = parsed.set(drivername="postgresql+psycopg")
    common: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "pool_pre_ping": True}
    # Server-side prepared plans do not survive a failover behind a connection pooler.
    arguments = {**PATIENCE, "application_name": f"{PROGRAM}{schema.HEAD}"}
    write = create_engine(parsed, pool_size=options.writers + 1, connect_args=arguments, **common)
    read = create_engine(parsed, pool_size=options.readers, connect_args=arguments, **common)
    voice, wait_ms = Voice(), round(options.busy_timeout_s * 1000)

    def prepare_reader(raw: Any, _: Any) -> None:
        with raw.cursor() as cursor:
            limit_silence(cursor)

    def prepare_writer(raw: Any, record: Any) -> None:
        record.info[VOICE] = voice
        with raw.cursor() as cursor:
            limit_silence(cursor)
            prepare_writing(cursor, wait_ms)
            refuse_newer(cursor)

    event.listen(read, "connect", prepare_reader)
    event.listen(write, "connect", prepare_writer)
    return write, read


def _replicas(write: Engine, read: Engine, clock: SharedClock) -> Replicas:
    with opening(write) as connection:
        voice: Voice = connection.info[VOICE]
        asked_at = time.monotonic()
        database_time = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        clock.told(database_time, asked_at, time.monotonic())
    # As the engine connects: a URL with several hosts reads differently to libpq.
    _, named = write.dialect.create_connect_args(write.url)
    target = {name: value for name, value in named.items() if name != "context"}
    arguments = {**target, **PATIENCE, "application_name": f"{PROGRAM}{schema.HEAD}"}
    voice.target = arguments
    return Replicas(arguments, read, voice, clock)


def _tune(raw: Any, wait_ms: int, *, reads_only: bool) -> None:
    # A damaged text must not fail the whole statement: its checksum tells, or its parser.
    raw.text_factory = functools.partial(str, encoding="utf-8", errors="replace")
    cursor = raw.cursor()
    cursor.execute(f"PRAGMA busy_timeout={wait_ms}")
    if reads_only:
        cursor.execute("PRAGMA query_only=ON")
    else:
        cursor.execute("PRAGMA journal_mode=WAL")
        # An acknowledged update survives a power cut, not only a crash of the process.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
    cursor.execute("PRAGMA cache_size=-65536")
    cursor.close()


@contextmanager
def opening(engine: Engine) -> Iterator[Connection]:
    """A connection, the failure to get which is one line for whoever starts the program."""
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise SettingsError(f"the store cannot be opened: {reason_of(error)}") from None


def _prepare(connection: Connection, options: StoreOptions) -> None:
    if connection.dialect.name != "sqlite":
        wait_ms = round(options.busy_timeout_s * 1000)
        try:
            # However long another replica's migration takes, this one waits for it.
            connection.exec_driver_sql("SET lock_timeout = 0")
            connection.exec_driver_sql(f"SET idle_in_transaction_session_timeout = {IDLE_MS}")
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.exec_driver_sql(f"SET lock_timeout = {wait_ms}")
            _upgrade(connection, options)
            make_partitions(connection)
        finally:
            # Ends the session, and with it the lock and these settings.
            connection.invalidate()
        return
    _upgrade(connection, options)
    connection.exec_driver_sql(f"PRAGMA application_id={schema.APPLICATION_ID}")


def _upgrade(connection: Connection, options: StoreOptions) -> None:
    """Bring the schema to `schema.HEAD`, with a backup first where that is a file copy."""
    have = revision_in(connection)
    if have == schema.HEAD:
        return
    if have is not None and have > schema.HEAD:
        # What the newest code says of older one; a file is never shared, so never looked at.
        if connection.dialect.name == "sqlite" or noted_oldest(connection) is None:
            raise SettingsError(
                f"the store has schema {have}, newer than {schema.HEAD}: "
                "install the newer watchstep"
            )
        log.warning("newer replicas share this store", extra={"schema": have, "own": schema.HEAD})
        return
    if have is not None and connection.dialect.name == "sqlite":
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        backup_sqlite(options.data_dir, options.data_dir / f"before-{schema.HEAD}-{stamp}.db")
    _run_migrations(connection)
    log.info("schema upgraded", extra={"from": have or "nothing", "to": schema.HEAD})


def revision_of(options: StoreOptions) -> str | None:
    """The schema that a store has; None for an empty one. Only reads.

    Raises:
        SettingsError: It cannot be reached.
    """
    _, read = engines_for(options)
    try:
        with opening(read) as connection:
            return revision_in(connection)
    finally:
        read.dispose()


def revision_in(connection: Connection) -> str | None:
    """The schema of what it is connected to; None for an empty one."""
    if "alembic_version" not in inspect(connection).get_table_names():
        return None
    version: str | None = connection.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar()
    return version


_MIGRATION_TRIES = 5
_DEADLOCK = "40P01"
"""PostgreSQL's deadlock_detected."""


def _run_migrations(connection: Connection) -> None:
    # Imported here: it takes a second, and a store that is up to date needs none of it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "watchstep_monitor.store:migrations")
    config.attributes["connection"] = connection
    is_shared = connection.dialect.name != "sqlite"
    oldest = oldest_after(config)
    if is_shared:
        wait_for_no_older(connection, oldest)
    for tries_left in reversed(range(_MIGRATION_TRIES)):
        connection.exec_driver_sql("BEGIN" if is_shared else "BEGIN IMMEDIATE")
        try:
            if is_shared and revision_in(connection) is not None:
                # As every writer does, the runs first: in another order the two could wait for
                # each other.
                connection.exec_driver_sql("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
            command.upgrade(config, schema.HEAD)
            if is_shared:
                note_oldest(connection, oldest)
            connection.exec_driver_sql("COMMIT")
        except DBAPIError as error:
            connection.exec_driver_sql("ROLLBACK")
            # Who reads has an order of its own, and PostgreSQL ends one of two that wait.
            if not tries_left or getattr(error.orig, "sqlstate", "") != _DEADLOCK:
                raise
        else:
            return
