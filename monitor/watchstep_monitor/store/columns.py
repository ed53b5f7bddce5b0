"""Columns by their kind, for the tables and for the steps that make them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, text
from sqlalchemy.types import TypeEngine

Kind = type[TypeEngine[Any]] | TypeEngine[Any]


def key(*names: str, kind: Kind = BigInteger) -> list[Column[Any]]:
    """Parts of the primary key, which are never counted up by the database."""
    return [Column(name, kind, primary_key=True, autoincrement=False) for name in names]


def filled(kind: Kind, *names: str) -> list[Column[Any]]:
    """Columns that every row fills."""
    return [Column(name, kind, nullable=False) for name in names]


def optional(kind: Kind, *names: str) -> list[Column[Any]]:
    """Columns that may be NULL."""
    return [Column(name, kind) for name in names]


def added(kind: Kind, value: str, *names: str) -> list[Column[Any]]:
    """Columns that older code does not fill: the database puts this SQL value there."""
    return [Column(name, kind, nullable=False, server_default=text(value)) for name in names]


def where(condition: str) -> dict[str, Any]:
    """Arguments of an index that holds only some rows, on either database."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}
