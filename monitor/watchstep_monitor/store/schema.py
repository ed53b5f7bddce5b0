"""The tables. Every key begins with the run, so that a run's rows can live together.

Moments are microseconds since the epoch; documents are JSON texts, which both databases keep
byte for byte (PostgreSQL's own JSON type refuses some legal texts).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

HEAD = "0008"
"""Revision that this code reads and writes; the newest file in `migrations/versions`."""

APPLICATION_ID = 0x57535450
"""SQLite's mark of whose file it is: "WSTP"."""

metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("run_key", BigInteger, primary_key=True, autoincrement=False),
    Column("run", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("trainer", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("time", Float(53), nullable=False),
    Column("updates", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("heard_us", BigInteger),
    Column("ended_us", BigInteger),
    Column("timeline_us", BigInteger, nullable=False),
    Column("checkpoint", Text),
    Column("trainer_did", Text, nullable=False),
    Column("error", Text, nullable=False),
    # 1 once retention has removed updates.
    Column("thinned", Integer, nullable=False, server_default=text("0")),
    Column("health", Text, nullable=False, server_default=text("'unjudged'")),
    Column("updated_us", BigInteger),
    Column("hung", Text),
    Column("archived", Integer, nullable=False, server_default=text("0")),
    Column("notes", Text, nullable=False, server_default=text("''")),
)
Index("runs_heard", runs.c.heard_us, runs.c.run_key)
Index("runs_ended", runs.c.ended_us)

attempts = Table(
    "attempts",
    metadata,
    Column("run_key", BigInteger, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("session", Text),
    Column("last_seq", BigInteger, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    # Of other sources than the training.
    Column("last_seqs", Text, nullable=False, server_default=text("'{}'")),
)

shapes = Table(
    "shapes",
    metadata,
    Column("run_key", BigInteger, primary_key=True, autoincrement=False),
    Column("shape", Integer, primary_key=True, autoincrement=False),
    Column("names", Text, nullable=False),
    sqlite_with_rowid=False,
)

# One row holds a stretch of consecutive updates that report the same metrics: a batch is one
# row, a lone update is one too. Against a row an update this takes a third less room and a
# fifth of the time; readings stay whole doubles either way. `attempt` tells the source too, see
# `blocks`.
updates = Table(
    "updates",
    metadata,
    Column("run_key", BigInteger, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("least_step", BigInteger, nullable=False),
    Column("greatest_step", BigInteger, nullable=False),
    Column("shape", Integer, nullable=False),
    Column("steps", LargeBinary, nullable=False),
    Column("times", LargeBinary, nullable=False),
    Column("readings", LargeBinary, nullable=False),
    Column("events", Text),
    # See `damage`; NULL in rows of older code.
    Column("crc", BigInteger),
    # Which partition holds the row on PostgreSQL, see `partitions`; 0 on SQLite.
    Column("week", Integer, nullable=False, server_default=text("0")),
)

# What a chart needs of a stretch of updates of one shape, see `rollups`.
rollups = Table(
    "rollups",
    metadata,
    Column("run_key", BigInteger, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("least_step", BigInteger, nullable=False),
    Column("greatest_step", BigInteger, nullable=False),
    Column("shape", Integer, nullable=False),
    Column("points", LargeBinary, nullable=False),
    Column("crc", BigInteger),
)

run_states = Table(
    "run_states",
    metadata,
    Column("run_key", BigInteger, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("engine", Text, nullable=False),
    Column("latest", Text, nullable=False),
    Column("reports", Text, nullable=False, server_default=text("'{}'")),
    Column("sources", Text, nullable=False, server_default=text("'{}'")),
)

alerts = Table(
    "alerts",
    metadata,
    Column("run_key", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, primary_key=True),
    Column("run", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("incident", Text),
    Column("document", Text, nullable=False),
    # Beside the document, which code of the schema before reads whole.
    Column("subject", Text, nullable=False, server_default=text("''")),
    Column("answer", Text, nullable=False, server_default=text("''")),
    Column("answered_by", Text, nullable=False, server_default=text("''")),
    Column("source", Text, nullable=False, server_default=text("'training'")),
)
Index("alerts_since", alerts.c.since_us, alerts.c.id)
Index("alerts_id", alerts.c.id)
Index(
    "alerts_open",
    alerts.c.run_key,
    sqlite_where=text("state <> 'resolved'"),
    postgresql_where=text("state <> 'resolved'"),
)

Index(
    "alerts_answered",
    alerts.c.answer,
    sqlite_where=text("answer <> ''"),
    postgresql_where=text("answer <> ''"),
)

incidents = Table(
    "incidents",
    metadata,
    Column("run_key", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, primary_key=True),
    Column("run", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("opened_us", BigInteger, nullable=False),
    Column("due_us", BigInteger),
    Column("document", Text, nullable=False),
)
Index("incidents_opened", incidents.c.opened_us, incidents.c.id)
Index(
    "incidents_due",
    incidents.c.due_us,
    sqlite_where=text("due_us IS NOT NULL"),
    postgresql_where=text("due_us IS NOT NULL"),
)

commands = Table(
    "commands",
    metadata,
    Column("run_key", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)

timeline = Table(
    "timeline",
    metadata,
    Column("run_key", BigInteger, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("time", Float(53)),
    Column("detail", Text, nullable=False),
    Column("source", Text, nullable=False, server_default=text("'training'")),
)
Index("timeline_at", timeline.c.at_us)

outbox = Table(
    "outbox",
    metadata,
    Column("run_key", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, primary_key=True),
    Column("run", Text, nullable=False),
    Column("incident", Text, nullable=False),
    Column("receiver", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("edge", Text, nullable=False),
    Column("notice", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("next_us", BigInteger, nullable=False),
    Column("lease_us", BigInteger, nullable=False),
    Column("settled_us", BigInteger),
    Column("reason", Text, nullable=False),
    # What code of the schema before does not know of a notice, which it reads whole.
    Column("details", Text, nullable=False, server_default=text("'{}'")),
)
Index(
    "outbox_waiting",
    outbox.c.next_us,
    sqlite_where=text("state = 'waiting'"),
    postgresql_where=text("state = 'waiting'"),
)
Index("outbox_incident", outbox.c.run_key, outbox.c.incident, outbox.c.receiver, outbox.c.number)
Index("outbox_created", outbox.c.created_us, outbox.c.id)

# What was deleted must not rise again by what its trainer still sends.
deleted_runs = Table(
    "deleted_runs",
    metadata,
    Column("run_key", BigInteger, primary_key=True, autoincrement=False),
    Column("run", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("sessions", Text, nullable=False),
    Column("deleted_us", BigInteger, nullable=False),
)

# Secrets that all replicas share, such as the one that signs links.
keys = Table(
    "keys",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

silences = Table(
    "silences",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_us", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("projects", Text, nullable=False),
    Column("created_us", BigInteger),
    Column("expires_us", BigInteger),
    Column("revoked_us", BigInteger),
    # Days since the epoch.
    Column("used_day", Integer),
)
