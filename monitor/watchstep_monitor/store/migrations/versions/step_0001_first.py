"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table."""
    _create_runs()
    _create_updates()
    _create_alerts()
    _create_outbox()


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("trainer", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("time", sa.Float(53), nullable=False),
        sa.Column("updates", sa.BigInteger, nullable=False),
        sa.Column("lost", sa.BigInteger, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("heard_us", sa.BigInteger),
        sa.Column("ended_us", sa.BigInteger),
        sa.Column("timeline_us", sa.BigInteger, nullable=False),
        sa.Column("checkpoint", sa.Text),
        sa.Column("trainer_did", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("thinned", sa.Integer, nullable=False, server_default=sa.text("0")),
    )
    op.create_index("runs_ended", "runs", ["ended_us"])
    op.create_index("runs_heard", "runs", ["heard_us", "run_key"])
    op.create_table(
        "attempts",
        sa.Column("run_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("session", sa.Text),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("started_us", sa.BigInteger, nullable=False),
    )


def _create_updates() -> None:
    op.create_table(
        "shapes",
        sa.Column("run_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("shape", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("names", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "updates",
        sa.Column("run_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("first_seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("least_step", sa.BigInteger, nullable=False),
        sa.Column("greatest_step", sa.BigInteger, nullable=False),
        sa.Column("shape", sa.Integer, nullable=False),
        sa.Column("steps", sa.LargeBinary, nullable=False),
        sa.Column("times", sa.LargeBinary, nullable=False),
        sa.Column("readings", sa.LargeBinary, nullable=False),
        sa.Column("events", sa.Text),
    )
    op.create_table(
        "run_states",
        sa.Column("run_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("latest", sa.Text, nullable=False),
    )


def _create_alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("run_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("since_us", sa.BigInteger, nullable=False),
        sa.Column("incident", sa.Text),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("alerts_since", "alerts", ["since_us", "id"])
    op.create_index("alerts_id", "alerts", ["id"])
    op.create_index(
        "alerts_open",
        "alerts",
        ["run_key"],
        sqlite_where=sa.text("state <> 'resolved'"),
        postgresql_where=sa.text("state <> 'resolved'"),
    )
    op.create_table(
        "incidents",
        sa.Column("run_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("opened_us", sa.BigInteger, nullable=False),
        sa.Column("due_us", sa.BigInteger),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index("incidents_opened", "incidents", ["opened_us", "id"])
    op.create_index(
        "incidents_due",
        "incidents",
        ["due_us"],
        sqlite_where=sa.text("due_us IS NOT NULL"),
        postgresql_where=sa.text("due_us IS NOT NULL"),
    )
    op.create_table(
        "commands",
        sa.Column("run_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )


def _create_outbox() -> None:
    op.create_table(
        "timeline",
        sa.Column("run_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at_us", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("time", sa.Float(53)),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("timeline_at", "timeline", ["at_us"])
    op.create_table(
        "outbox",
        sa.Column("run_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("incident", sa.Text, nullable=False),
        sa.Column("receiver", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("edge", sa.Text, nullable=False),
        sa.Column("notice", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("next_us", sa.BigInteger, nullable=False),
        sa.Column("lease_us", sa.BigInteger, nullable=False),
        sa.Column("settled_us", sa.BigInteger),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index(
        "outbox_waiting",
        "outbox",
        ["next_us"],
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index("outbox_incident", "outbox", ["run_key", "incident", "receiver", "number"])
    op.create_index("outbox_created", "outbox", ["created_us", "id"])
    op.create_table(
        "silences",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
