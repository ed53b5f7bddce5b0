"""Sessions on PostgreSQL: how soon either end gives up one that the network lost without a word."""

from __future__ import annotations

from typing import Any

_SILENCE = {"keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 2}
_UNHEARD_MS = 3_000
"""Without a sign of life from the other machine a connection counts as lost after these three
seconds, not after the system's 15 minutes to two hours: a batch that waits for it has another
try, or its 503, before its trainer gives up at five."""

PATIENCE = {**_SILENCE, "tcp_user_timeout": _UNHEARD_MS, "connect_timeout": 3}
"""Of this end, as libpq takes it."""


def limit_silence(cursor: Any) -> None:
    """Have the server end the session of a client that is cut off, and free its locks.

    Args:
        cursor: Of psycopg, or its connection. A session through a file ignores the settings.
    """
    for name, value in _SILENCE.items():
        cursor.execute(f"SET tcp_{name} = {value}")
    cursor.execute(f"SET tcp_user_timeout = {_UNHEARD_MS}")


def prepare_writing(cursor: Any, wait_ms: int) -> None:
    """Settings of a session that writes, which a database may have set otherwise.

    Args:
        cursor: Of psycopg.
        wait_ms: How long a statement may wait for a lock.
    """
    cursor.execute(f"SET lock_timeout = {wait_ms}")
    # A process that was stopped or cut off in a transaction lets its run go before those
    # that wait for it give up.
    cursor.execute(f"SET idle_in_transaction_session_timeout = {max(wait_ms // 2, 1)}")
    # Cut short, a commit that waits for a standby would look like one that succeeded.
    cursor.execute("SET statement_timeout = 0")
    # Acknowledged means synced, also by standbys that the cluster calls synchronous;
    # anything above "on" is left as it is.
    cursor.execute(
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') IN ('off', 'local')"
    )
