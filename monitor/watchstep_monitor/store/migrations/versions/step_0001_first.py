"""The first schema."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Float, Integer, LargeBinary, Text

from watchstep_monitor.store.columns import added, filled, key, optional, where

revision = "0001"
down_revision = None


def upgrade() -> None:
    _create_runs()
    _create_updates()
    _create_alerts()
    _create_outbox()


def _create_runs() -> None:
    op.create_table(
        "runs",
        *key("run_key"),
        *filled(Text, "run", "project", "tags", "config", "trainer"),
        *filled(Integer, "attempt"),
        *filled(BigInteger, "last_seq", "version"),
        *filled(Text, "status"),
        *filled(BigInteger, "step"),
        *filled(Float(53), "time"),
        *filled(BigInteger, "updates", "lost", "created_us"),
        *optional(BigInteger, "heard_us", "ended_us"),
        *filled(BigInteger, "timeline_us"),
        *optional(Text, "checkpoint"),
        *filled(Text, "trainer_did", "error"),
        *added(Integer, "0", "thinned"),
    )
    op.create_index("runs_ended", "runs", ["ended_us"])
    op.create_index("runs_heard", "runs", ["heard_us", "run_key"])
    op.create_table(
        "attempts",
        *key("run_key"),
        *key("attempt", kind=Integer),
        *optional(Text, "session"),
        *filled(BigInteger, "last_seq", "started_us"),
    )


def _create_updates() -> None:
    op.create_table(
        "shapes",
        *key("run_key"),
        *key("shape", kind=Integer),
        *filled(Text, "names"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "updates",
        *key("run_key"),
        *key("attempt", kind=Integer),
        *key("first_seq"),
        *filled(BigInteger, "last_seq", "least_step", "greatest_step"),
        *filled(Integer, "shape"),
        *filled(LargeBinary, "steps", "times", "readings"),
        *optional(Text, "events"),
    )
    op.create_table(
        "run_states",
        *key("run_key"),
        *filled(Integer, "attempt"),
        *filled(BigInteger, "seq"),
        *filled(Text, "engine", "latest"),
    )


def _create_alerts() -> None:
    op.create_table(
        "alerts",
        *key("run_key"),
        *key("id", kind=Text),
        *filled(Text, "run", "project", "state", "severity"),
        *filled(BigInteger, "since_us"),
        *optional(Text, "incident"),
        *filled(Text, "document"),
    )
    op.create_index("alerts_since", "alerts", ["since_us", "id"])
    op.create_index("alerts_id", "alerts", ["id"])
    op.create_index("alerts_open", "alerts", ["run_key"], **where("state <> 'resolved'"))
    op.create_table(
        "incidents",
        *key("run_key"),
        *key("id", kind=Text),
        *filled(Text, "run", "project", "state"),
        *filled(BigInteger, "opened_us"),
        *optional(BigInteger, "due_us"),
        *filled(Text, "document"),
    )
    op.create_index("incidents_opened", "incidents", ["opened_us", "id"])
    op.create_index("incidents_due", "incidents", ["due_us"], **where("due_us IS NOT NULL"))
    op.create_table(
        "commands",
        *key("run_key"),
        *key("id", kind=Text),
        *filled(Text, "state"),
        *filled(BigInteger, "created_us"),
        *filled(Text, "document"),
    )


def _create_outbox() -> None:
    op.create_table(
        "timeline",
        *key("run_key", "at_us"),
        *filled(Text, "kind"),
        *filled(Integer, "attempt"),
        *filled(BigInteger, "seq", "step"),
        *optional(Float(53), "time"),
        *filled(Text, "detail"),
    )
    op.create_index("timeline_at", "timeline", ["at_us"])
    op.create_table(
        "outbox",
        *key("run_key"),
        *key("id", kind=Text),
        *filled(Text, "run", "incident", "receiver"),
        *filled(Integer, "number"),
        *filled(Text, "edge", "notice", "state"),
        *filled(Integer, "attempts"),
        *filled(BigInteger, "created_us", "next_us", "lease_us"),
        *optional(BigInteger, "settled_us"),
        *filled(Text, "reason"),
    )
    op.create_index("outbox_waiting", "outbox", ["next_us"], **where("state = 'waiting'"))
    op.create_index("outbox_incident", "outbox", ["run_key", "incident", "receiver", "number"])
    op.create_index("outbox_created", "outbox", ["created_us", "id"])
    op.create_table(
        "silences",
        *key("id", kind=Text),
        *filled(BigInteger, "created_us"),
        *filled(Text, "document"),
    )
