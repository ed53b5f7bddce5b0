"""The tables. Every key begins with the run, so that a run's rows can live together.

Moments are microseconds since the epoch; documents are JSON texts, which both databases keep
byte for byte (PostgreSQL's own JSON type refuses some legal texts).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Float, Index, Integer, LargeBinary, MetaData, Table, Text

from watchstep_monitor.store.columns import added, filled, key, optional, where

HEAD = "0008"
"""Revision that this code reads and writes; the newest file in `migrations/versions`."""

APPLICATION_ID = 0x57535450
"""SQLite's mark of whose file it is: "WSTP"."""

metadata = MetaData()

runs = Table(
    "runs",
    metadata,
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
    # 1 once retention has removed updates.
    *added(Integer, "0", "thinned"),
    *added(Text, "'unjudged'", "health"),
    *optional(BigInteger, "updated_us"),
    *optional(Text, "hung"),
    *added(Integer, "0", "archived"),
    *added(Text, "''", "notes"),
)
Index("runs_heard", runs.c.heard_us, runs.c.run_key)
Index("runs_ended", runs.c.ended_us)

attempts = Table(
    "attempts",
    metadata,
    *key("run_key"),
    *key("attempt", kind=Integer),
    *optional(Text, "session"),
    *filled(BigInteger, "last_seq", "started_us"),
    # Of other sources than the training.
    *added(Text, "'{}'", "last_seqs"),
)

shapes = Table(
    "shapes",
    metadata,
    *key("run_key"),
    *key("shape", kind=Integer),
    *filled(Text, "names"),
    sqlite_with_rowid=False,
)

# One row holds a stretch of consecutive updates that report the same metrics: a batch is one
# row, a lone update is one too. Against a row an update this takes a third less room and a
# fifth of the time; readings stay whole doubles either way. `attempt` tells the source too, see
# `blocks`.
updates = Table(
    "updates",
    metadata,
    *key("run_key"),
    *key("attempt", kind=Integer),
    *key("first_seq"),
    *filled(BigInteger, "last_seq", "least_step", "greatest_step"),
    *filled(Integer, "shape"),
    *filled(LargeBinary, "steps", "times", "readings"),
    *optional(Text, "events"),
    # See `damage`; NULL in rows of older code.
    *optional(BigInteger, "crc"),
    # Which partition holds the row on PostgreSQL, see `partitions`; 0 on SQLite.
    *added(Integer, "0", "week"),
)

# What a chart needs of a stretch of updates of one shape, see `rollups`.
rollups = Table(
    "rollups",
    metadata,
    *key("run_key"),
    *key("attempt", kind=Integer),
    *key("first_seq"),
    *filled(BigInteger, "last_seq", "least_step", "greatest_step"),
    *filled(Integer, "shape"),
    *filled(LargeBinary, "points"),
    *optional(BigInteger, "crc"),
)

run_states = Table(
    "run_states",
    metadata,
    *key("run_key"),
    *filled(Integer, "attempt"),
    *filled(BigInteger, "seq"),
    *filled(Text, "engine", "latest"),
    *added(Text, "'{}'", "reports", "sources"),
)

alerts = Table(
    "alerts",
    metadata,
    *key("run_key"),
    *key("id", kind=Text),
    *filled(Text, "run", "project", "state", "severity"),
    *filled(BigInteger, "since_us"),
    *optional(Text, "incident"),
    *filled(Text, "document"),
    # Beside the document, which code of the schema before reads whole.
    *added(Text, "''", "subject", "answer", "answered_by"),
    *added(Text, "'training'", "source"),
)
Index("alerts_since", alerts.c.since_us, alerts.c.id)
Index("alerts_id", alerts.c.id)
Index("alerts_open", alerts.c.run_key, **where("state <> 'resolved'"))
Index("alerts_answered", alerts.c.answer, **where("answer <> ''"))

incidents = Table(
    "incidents",
    metadata,
    *key("run_key"),
    *key("id", kind=Text),
    *filled(Text, "run", "project", "state"),
    *filled(BigInteger, "opened_us"),
    *optional(BigInteger, "due_us"),
    *filled(Text, "document"),
)
Index("incidents_opened", incidents.c.opened_us, incidents.c.id)
Index("incidents_due", incidents.c.due_us, **where("due_us IS NOT NULL"))

commands = Table(
    "commands",
    metadata,
    *key("run_key"),
    *key("id", kind=Text),
    *filled(Text, "state"),
    *filled(BigInteger, "created_us"),
    *filled(Text, "document"),
)

timeline = Table(
    "timeline",
    metadata,
    *key("run_key", "at_us"),
    *filled(Text, "kind"),
    *filled(Integer, "attempt"),
    *filled(BigInteger, "seq", "step"),
    *optional(Float(53), "time"),
    *filled(Text, "detail"),
    *added(Text, "'training'", "source"),
)
Index("timeline_at", timeline.c.at_us)

outbox = Table(
    "outbox",
    metadata,
    *key("run_key"),
    *key("id", kind=Text),
    *filled(Text, "run", "incident", "receiver"),
    *filled(Integer, "number"),
    *filled(Text, "edge", "notice", "state"),
    *filled(Integer, "attempts"),
    *filled(BigInteger, "created_us", "next_us", "lease_us"),
    *optional(BigInteger, "settled_us"),
    *filled(Text, "reason"),
    # What code of the schema before does not know of a notice, which it reads whole.
    *added(Text, "'{}'", "details"),
)
Index("outbox_waiting", outbox.c.next_us, **where("state = 'waiting'"))
Index("outbox_incident", outbox.c.run_key, outbox.c.incident, outbox.c.receiver, outbox.c.number)
Index("outbox_created", outbox.c.created_us, outbox.c.id)

# What was deleted must not rise again by what its trainer still sends.
deleted_runs = Table(
    "deleted_runs",
    metadata,
    *key("run_key"),
    *filled(Text, "run", "project", "sessions"),
    *filled(BigInteger, "deleted_us"),
)

# Secrets that all replicas share, such as the one that signs links.
keys = Table("keys", metadata, *key("name", kind=Text), *filled(Text, "value"))

silences = Table(
    "silences",
    metadata,
    *key("id", kind=Text),
    *filled(BigInteger, "created_us"),
    *filled(Text, "document"),
)

tokens = Table(
    "tokens",
    metadata,
    *key("sha256", kind=Text),
    *filled(Text, "name", "scopes", "projects"),
    *optional(BigInteger, "created_us", "expires_us", "revoked_us"),
    # Days since the epoch.
    *optional(Integer, "used_day"),
)
