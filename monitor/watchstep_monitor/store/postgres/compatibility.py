"""Which code works on which schema, so that replicas can be replaced one by one.

A step of the schema that only adds (expand) leaves older code working. One that takes away what
older code uses (contract) waits until no such code is connected, and locks it out from then on.
Each step names the oldest code that works after it, as the revision that code is for; the
database remembers it as a comment on the table of versions, so that older code, which does not
know the step, can read it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from watchstep.errors import SettingsError
from watchstep_monitor.store import schema

if TYPE_CHECKING:
    from alembic.config import Config

PROGRAM = "watchstep/"
"""How sessions on PostgreSQL call themselves, followed by the revision that their code is for."""

_COMMENTED = "SELECT obj_description(to_regclass('alembic_version')::oid, 'pg_class')"
_PREFIX = "oldest code: "


def oldest_after(config: Config) -> str:
    """Revision of the oldest code that works once all steps are done."""
    from alembic.script import ScriptDirectory

    steps = ScriptDirectory.from_config(config).walk_revisions()
    # A step that does not say is one that older code has not been tried with.
    return max(str(getattr(step.module, "oldest_code", step.revision)) for step in steps)


def note_oldest(connection: Connection, oldest: str) -> None:
    """Write it down, in the transaction of the step."""
    assert oldest.isalnum()
    connection.execute(text(f"COMMENT ON TABLE alembic_version IS '{_PREFIX}{oldest}'"))


def noted_oldest(connection: Connection) -> str | None:
    """What was written down; None in a database whose last step is from before this."""
    return _read(connection.exec_driver_sql(_COMMENTED).scalar())


def wait_for_no_older(connection: Connection, oldest: str) -> None:
    """Refuse a step while code is connected that would not survive it.

    Raises:
        SettingsError: Some is.
    """
    older = older_at_work(connection, oldest)
    if older:
        raise SettingsError(
            f"replicas of schema {', '.join(older)} still use this database, and the schema "
            f"{schema.HEAD} would break them: stop them first"
        )


def older_at_work(connection: Connection, oldest: str) -> list[str]:
    """The revisions before one whose code is connected, oldest first."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT application_name FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE :program"
        ),
        {"program": f"{PROGRAM}%"},
    )
    return sorted(code for (name,) in rows if (code := name.removeprefix(PROGRAM)) < oldest)


def refuse_newer(cursor: Any) -> None:
    """Keep a session of this code out of a schema that has gone beyond it.

    Args:
        cursor: Of psycopg.

    Raises:
        psycopg.OperationalError: It has.
    """
    import psycopg

    cursor.execute(_COMMENTED)
    oldest = _read(cursor.fetchone()[0])
    if oldest is not None and oldest > schema.HEAD:
        raise psycopg.OperationalError(
            f"the store needs code for schema {oldest} or newer, this is for {schema.HEAD}: "
            "install the newer watchstep"
        )


def _read(comment: Any) -> str | None:
    if not isinstance(comment, str) or not comment.startswith(_PREFIX):
        return None
    return comment.removeprefix(_PREFIX)
