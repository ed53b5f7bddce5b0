"""The tokens of a store for a command: beside a running service too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from watchstep.errors import SettingsError
from watchstep_monitor.service.tokens import TokenRecord
from watchstep_monitor.store import schema
from watchstep_monitor.store.opening import (
    FILE_NAME,
    FolderInUseError,
    StoreOptions,
    engines_for,
    open_store,
    opening,
    revision_in,
)
from watchstep_monitor.store.sqlite_file_check import Footing
from watchstep_monitor.store.tokens import Tokens, read_tokens
from watchstep_monitor.store.writer import Writer

FIRST_WITH_TOKENS = "0003"


@contextmanager
def tokens_of(options: StoreOptions) -> Iterator[Tokens]:
    """The tokens, to read and change; the store is made or upgraded if no one uses it.

    A running service with an embedded store remembers much of it, but of its tokens nothing for
    longer than a second, and SQLite lets two processes write by turns.

    Raises:
        SettingsError: One line: it cannot be opened, or belongs to a service of another version.
    """
    try:
        opened = open_store(options)
    except FolderInUseError:
        with _beside(options) as tokens:
            yield tokens
        return
    try:
        yield opened.tokens
    finally:
        opened.close()


@contextmanager
def _beside(options: StoreOptions) -> Iterator[Tokens]:
    write, read = engines_for(options)
    with opening(read) as connection:
        have = revision_in(connection)
    if have != schema.HEAD:
        raise SettingsError(
            f"data_dir {options.data_dir}: the service that runs there is for schema {have}, "
            f"this is for {schema.HEAD}: restart it with this version first"
        )
    writer = Writer(
        write,
        None,
        threads=1,
        group=options.group,
        footing=Footing(options.data_dir / FILE_NAME),
    )
    try:
        yield Tokens(read, writer)
    finally:
        writer.close()
        write.dispose()
        read.dispose()


def stored_tokens(options: StoreOptions) -> list[TokenRecord]:
    """The tokens, only read; none where there is no store, or one from before they were kept there.

    Raises:
        SettingsError: It cannot be reached.
    """
    if options.database_url is None and not (options.data_dir / FILE_NAME).exists():
        return []
    write, read = engines_for(options)
    try:
        with opening(read) as connection:
            have = revision_in(connection)
            return read_tokens(connection) if have and have >= FIRST_WITH_TOKENS else []
    finally:
        write.dispose()
        read.dispose()
