"""Tokens in SQL, and those of `tokens.json`, where they were kept before the schema 0003."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, func, insert, or_, select, update

from watchstep.errors import SettingsError
from watchstep_monitor.service.clock import from_us, to_us
from watchstep_monitor.service.tokens import TokenRecord
from watchstep_monitor.store import schema
from watchstep_monitor.store.postgres.notify import tell_of_tokens
from watchstep_monitor.store.read_connection import reading
from watchstep_monitor.store.transaction import SqlTransaction
from watchstep_monitor.store.writer import Writer

log = logging.getLogger(__name__)

T = TypeVar("T")
TIMEOUT_S = 60.0
EPOCH = date(1970, 1, 1)
FILE_NAME = "tokens.json"


class Tokens:
    """See `service.tokens.Tokens`."""

    def __init__(self, engine: Engine, writer: Writer) -> None:
        self._engine = engine
        self._writer = writer

    def tokens(self) -> list[TokenRecord]:
        with reading(self._engine) as connection:
            return read_tokens(connection)

    def create(self, token: TokenRecord) -> bool:
        """Insert a token; False if one of that name is not revoked.

        Of two callers at the same moment both may succeed; revoking then revokes both.
        """
        table = schema.tokens.c
        good = select(func.count()).where(table.name == token.name, table.revoked_us.is_(None))

        def job(connection: Connection) -> bool:
            if connection.execute(good).scalar_one():
                return False
            connection.execute(insert(schema.tokens), _row(token))
            return True

        return self._write(job)

    def adopt(self, tokens: Sequence[TokenRecord]) -> int:
        def job(connection: Connection) -> int:
            stored = set(connection.execute(select(schema.tokens.c.sha256)).scalars())
            new = [_row(token) for token in tokens if token.sha256 not in stored]
            if new:
                connection.execute(insert(schema.tokens), new)
            return len(new)

        return self._write(job)

    def revoke(self, name: str, now: datetime) -> bool:
        table = schema.tokens.c
        change = (
            update(schema.tokens)
            .where(table.name == name, table.revoked_us.is_(None))
            .values(revoked_us=to_us(now))
        )

        def job(connection: Connection) -> bool:
            return connection.execute(change).rowcount > 0

        return self._write(job)

    def note_used(self, used: Mapping[str, date]) -> None:
        table = schema.tokens.c

        def job(connection: Connection) -> None:
            for sha256, day in sorted(used.items()):
                number = (day - EPOCH).days
                older = or_(table.used_day.is_(None), table.used_day < number)
                connection.execute(
                    update(schema.tokens)
                    .where(table.sha256 == sha256, older)
                    .values(used_day=number)
                )

        self._write(job)

    def _write(self, job: Callable[[Connection], T]) -> T:
        def within(transaction: SqlTransaction) -> T:
            connection = transaction.connection
            transaction.on_commit(lambda: tell_of_tokens(connection))
            return job(connection)

        return self._writer.submit("", within).result(TIMEOUT_S)


def read_tokens(connection: Connection) -> list[TokenRecord]:
    query = select(schema.tokens).order_by(schema.tokens.c.name, schema.tokens.c.created_us)
    return [_token(row) for row in connection.execute(query)]


def _row(token: TokenRecord) -> dict[str, Any]:
    return {
        "sha256": token.sha256,
        "name": token.name,
        "scopes": json.dumps(token.scopes),
        "projects": json.dumps(token.projects),
        "created_us": _us(token.created_at),
        "expires_us": _us(token.expires_at),
        "revoked_us": _us(token.revoked_at),
        "used_day": None if token.used_on is None else (token.used_on - EPOCH).days,
    }


def _token(row: Any) -> TokenRecord:
    return TokenRecord(
        name=row.name,
        sha256=row.sha256,
        scopes=tuple(json.loads(row.scopes)),
        projects=tuple(json.loads(row.projects)),
        created_at=_moment(row.created_us),
        expires_at=_moment(row.expires_us),
        revoked_at=_moment(row.revoked_us),
        used_on=None if row.used_day is None else EPOCH + timedelta(days=row.used_day),
    )


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(moment)


def _moment(us: int | None) -> datetime | None:
    return None if us is None else from_us(us)


def adopt_filed(tokens: Tokens, folder: Path) -> None:
    """Store the tokens of a folder's file that are not stored yet.

    The file stays, for replicas of the version before, which know no other place; a token that was
    revoked since stays revoked.

    Raises:
        SettingsError: The file is damaged; then no one is let in by mistake.
    """
    filed = filed_tokens(folder)
    if filed and (count := tokens.adopt(filed)):
        log.info("tokens taken over from their file", extra={"count": count})


def filed_tokens(folder: Path) -> list[TokenRecord]:
    """The tokens in a folder's file; none if there is no file.

    Raises:
        SettingsError: The file is damaged; then no one is let in by mistake.
    """
    path = folder / FILE_NAME
    try:
        return [_filed_token(entry) for entry in json.loads(path.read_text("utf-8"))]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    except (ValueError, TypeError, KeyError):
        raise SettingsError(f"{path}: damaged; remove it and create the tokens anew") from None


def _filed_token(entry: Mapping[str, Any]) -> TokenRecord:
    return TokenRecord(
        name=str(entry["name"]),
        sha256=str(entry["sha256"]),
        scopes=tuple(entry["scopes"]),
        projects=tuple(entry["projects"]),
        created_at=_filed_moment(entry.get("created_at")),
        revoked_at=_filed_moment(entry.get("revoked_at")),
    )


def _filed_moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
