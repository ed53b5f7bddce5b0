"""What each hot statement reads: by an index, and no more of the table than it needs.

On PostgreSQL the planner chooses for itself, on tables of tens of thousands of rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from service.kit import START, Bench, bench, grad, postgres_database, update
from watchstep_monitor.service.alerting.notice import notice_to_json
from watchstep_monitor.service.clock import to_us
from watchstep_monitor.service.run_state.records import NewDelivery
from watchstep_monitor.service.run_state.storage import AlertFilter, DeliveryFilter, RunFilter
from watchstep_monitor.store import transaction
from watchstep_monitor.store.postgres import pipeline

pytestmark = pytest.mark.long

RUNS, UPDATES = 10, 320
COPIES = 20_000
MOST_ROWS = 500
"""Of one table that a statement may read; what is asked for here is less."""

MOST_PAGES = 50
"""Of an index, to find where it begins; all of one has hundreds."""

Asking = Callable[[Bench], object]

READS: dict[str, Asking] = {
    "a run": lambda at: at.opened.store.run("run-7"),
    "runs, newest first": lambda at: at.opened.store.runs(RunFilter(), 10, None),
    "a series": lambda at: list(
        at.opened.store.series("run-7", "train/grad_norm", 10, 50, 7).points
    ),
    "all updates of a run": lambda at: list(at.opened.store.updates("run-7")),
    "alerts of a run": lambda at: at.opened.store.alerts(AlertFilter(run="run-7"), 10, None),
    "alerts, newest first": lambda at: at.opened.store.alerts(AlertFilter(), 10, None),
    "an alert": lambda at: at.opened.store.alert("no such alert"),
    "incidents, newest first": lambda at: at.opened.store.incidents(None, None, 10, None),
    "due incidents": lambda at: at.opened.store.due_incidents(START, 10),
    "a timeline": lambda at: at.opened.store.timeline("run-7", 10, None),
    "the newest of all timelines": lambda at: at.opened.store.timeline_since(2**60, 10),
    "deliveries, newest first": lambda at: at.opened.store.deliveries(DeliveryFilter(), 10, None),
    "the next delivery": lambda at: at.opened.outbox.next_due(),
    "runs past retention": lambda at: at.opened.store.ended_with_updates(START, 10),
    "runs of a project": lambda at: at.opened.store.runs(RunFilter(("default",)), 10, None),
    "attempts of a run": lambda at: at.opened.store.attempts("run-7"),
    "deliveries of a run": lambda at: at.opened.store.deliveries(
        DeliveryFilter(run="run-7"), 10, None
    ),
    "a timeline's later page": lambda at: at.opened.store.timeline(
        "run-7", 2, at.opened.store.timeline("run-7", 2, None).next_cursor
    ),
    "what replicas told": lambda at: at.opened.store.timeline_since(to_us(START), 10),
    "weeks past retention": lambda at: at.opened.store.over_weeks(START),
    "deliveries to send": lambda at: at.opened.outbox.claim(at.clock.now(), 10, 60.0, []),
}


WRITES: dict[str, Asking] = {
    "a batch": lambda at: at.send(grad(UPDATES + 1, 50.0), run="run-2"),
    # The newest update needs no look.
    "an earlier batch sent again": lambda at: at.send(grad(UPDATES - 1, 1.0), run="run-4"),
    "a batch that brings a roll-up": lambda at: at.send(
        *[grad(n, 1.0) for n in range(UPDATES + 1, 700)], run="run-6"
    ),
    "the first batch of a run": lambda at: at.send(grad(1, 50.0), run="new"),
    "a batch of a run that was forgotten": lambda at: [
        at.run_service.fleet.forget("run-8"),
        at.send(grad(UPDATES + 1, 50.0), run="run-8"),
    ],
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def at(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with ExitStack() as stack:
        is_postgres = request.param == "postgresql"
        url = stack.enter_context(postgres_database()) if is_postgres else None
        made = stack.enter_context(bench(tmp_path_factory.mktemp("store"), database_url=url))
        live(made)
        if is_postgres:
            copy(made)
        yield made


def live(at: Bench) -> None:
    for name in (f"run-{n}" for n in range(RUNS)):
        for first in range(1, UPDATES, 32):
            seqs = range(first, first + 32)
            at.send(*[grad(seq, 50.0 if seq == 40 else 1.0) for seq in seqs], run=name)
        at.run_service.command(name, "halt", "by hand", None)
    for n in range(1, RUNS, 2):
        at.send(update(UPDATES + 1, event={"kind": "finished"}), run=f"run-{n}")


OWN_RUN = "'run_key', g * 461168601842, 'run', 'copy-' || g"
OWN_ID = f"{OWN_RUN}, 'id', 'id-' || g"
COPIED = {
    "runs": f"{OWN_RUN}, 'heard_us', {{now}} - g * 60000000, 'thinned', least(mod(g, 10), 1),"
    " 'status', CASE mod(g, 100) WHEN 0 THEN 'running' ELSE 'finished' END,"
    " 'ended_us', CASE mod(g, 100) WHEN 0 THEN NULL ELSE {now} - g * 60000000 END",
    "attempts": OWN_RUN,
    "shapes": OWN_RUN,
    "updates": f"{OWN_RUN}, 'week', CASE mod(g, 2) WHEN 0 THEN 0 ELSE (one.r).week END",
    "rollups": OWN_RUN,
    "run_states": OWN_RUN,
    "alerts": f"{OWN_ID}, 'since_us', {{now}} - g * 60000000,"
    " 'state', CASE mod(g, 100) WHEN 0 THEN 'firing' ELSE 'resolved' END",
    "incidents": f"{OWN_ID}, 'opened_us', {{now}} - g * 60000000,"
    " 'state', CASE mod(g, 100) WHEN 0 THEN 'open' ELSE 'closed' END,"
    " 'due_us', CASE mod(g, 100) WHEN 0 THEN {now} + g * 1000 END",
    "commands": f"{OWN_ID}, 'state', 'done'",
    "timeline": f"{OWN_RUN}, 'at_us', {{now}} - g * 1000000",
    "outbox": f"{OWN_ID}, 'created_us', {{now}} - g * 60000000,"
    " 'state', CASE mod(g, 100) WHEN 0 THEN 'waiting' ELSE 'delivered' END,"
    " 'next_us', {now} + g * 1000000",
}
"""By table, what the copies have of their own; they lived in the time before the real runs."""


def copy(at: Bench) -> None:
    """Fill every table with copies of a row of a run that ended."""
    with at.opened._engines[0].connect() as connection:
        for table, changes in COPIED.items():
            connection.exec_driver_sql(
                f"INSERT INTO {table} SELECT made.* FROM"
                f" (SELECT t AS r FROM {table} t JOIN runs USING (run_key)"
                f" WHERE runs.run = 'run-7' LIMIT 1) AS one,"
                f" generate_series(1::bigint, {COPIES}) AS g,"
                " LATERAL jsonb_populate_record(one.r,"
                f" jsonb_build_object({changes.format(now=to_us(START))})) AS made"
            )
        # Has no run to be copied with.
        connection.exec_driver_sql(
            "INSERT INTO deleted_runs SELECT g * 461168601842, 'gone-' || g, 'default', '[]',"
            f" {to_us(START)} FROM generate_series(1::bigint, {COPIES}) AS g"
        )
        connection.exec_driver_sql("ANALYZE")


class Plans:
    """Explains each statement just before it runs, on the connection that it runs on.

    Attributes:
        found: Statements, and how they were carried out.
        wasteful: Those that read a table from end to end or too much of it, but for those
            that ask for all.
    """

    def __init__(self, at: Bench) -> None:
        self._engines = at.opened._engines
        self._sent = pipeline.send_together
        self.found: list[tuple[str, str]] = []
        self.wasteful: list[tuple[str, str]] = []

    def __enter__(self) -> Plans:
        transaction.send_together = self._send_together
        for engine in self._engines:
            event.listen(engine, "before_cursor_execute", self._before)
        return self

    def __exit__(self, *_: object) -> None:
        transaction.send_together = self._sent
        for engine in self._engines:
            event.remove(engine, "before_cursor_execute", self._before)

    def _send_together(self, connection: Any, statements: Sequence[pipeline.Statement]) -> None:
        for statement, parameters in statements:
            self._before(connection, None, statement, parameters)
        self._sent(connection, statements)

    def _before(self, connection: Any, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        if not re.match(
            r"\s*(SELECT|WITH|UPDATE|DELETE)\b.*\b(FROM|UPDATE)\b", statement, re.DOTALL
        ):
            return
        if connection.dialect.name == "sqlite":
            lines = explained(connection, "EXPLAIN QUERY PLAN", statement, parameters)
            plan = "\n".join(str(row[3]) for row in lines)
            is_wasteful = re.search(r"\bSCAN (?!CONSTANT)\w+(?! USING)(?:$|\n)", plan) is not None
        else:
            # Carried out where that changes nothing, so that it shows what was really read.
            is_read = statement.lstrip().startswith("SELECT")
            how = f"EXPLAIN (FORMAT JSON, ANALYZE {is_read}, BUFFERS {is_read})"
            ((nodes,),) = explained(connection, how, statement, parameters or None)
            plan = json.dumps(nodes, indent=1)
            is_wasteful = any(reads_too_much(node) for node in scans(nodes[0]["Plan"]))
        self.found.append((statement, plan))
        asks_for_some = re.search(r"WHERE|ORDER BY", statement)
        is_own = re.search(r"pragma|pg_|alembic_version|silences", statement) is None
        if is_wasteful and asks_for_some and is_own:
            self.wasteful.append((statement, plan))


def explained(connection: Any, how: str, statement: str, parameters: Any) -> list[Any]:
    asking = connection.connection.driver_connection.cursor()
    asking.execute(f"{how} {statement}", parameters)
    rows = asking.fetchall()
    asking.close()
    return list(rows)


def scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Relation Name" in node and node["Node Type"] != "ModifyTable":
        yield node
    for child in node.get("Plans", ()):
        yield from scans(child)


def reads_too_much(node: dict[str, Any]) -> bool:
    rows = node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)
    rows *= node.get("Actual Loops", 1)
    pages = node.get("Shared Hit Blocks", 0) + node.get("Shared Read Blocks", 0)
    # Of a partition in which nothing is there is nothing to skip.
    is_whole = node["Node Type"] == "Seq Scan" and (rows > 0 or "Actual Rows" not in node)
    # An index that is read from end to end finds few rows in many pages.
    return is_whole or rows > MOST_ROWS or pages > MOST_PAGES + 4 * rows


@pytest.mark.parametrize("name", READS)
def test_a_question_is_answered_from_an_index(at: Bench, name: str) -> None:
    with Plans(at) as plans:
        READS[name](at)

    assert plans.found or (name == "weeks past retention" and at.opened.store.exclusive)
    assert plans.wasteful == []


@pytest.mark.parametrize("name", WRITES)
def test_a_batch_looks_for_nothing_in_a_whole_table(at: Bench, name: str) -> None:
    with Plans(at) as plans:
        WRITES[name](at)

    assert plans.found
    assert plans.wasteful == []


def test_a_claim_in_an_alert_storm_reads_no_more_than_it_picks_from(tmp_path: Path) -> None:
    with postgres_database() as url, bench(tmp_path, database_url=url) as storm:
        outbox, now = storm.opened.outbox, storm.clock.now()
        storm.send(grad(1, 50.0))
        notice = notice_to_json(outbox.claim(now, 1, 60, [])[0].notice)
        many = [
            NewDelivery(f"d{n}", "a", f"i{n}", "ops", 1, notice, now + timedelta(microseconds=n))
            for n in range(5_000)
        ]
        with storm.opened._engines[0].connect() as connection:
            # Statistics of before, as a storm always meets them.
            connection.exec_driver_sql("ALTER TABLE outbox SET (autovacuum_enabled = off)")
            connection.exec_driver_sql("ANALYZE outbox")
        storm.opened.store.write("a", lambda t: t.enqueue(many)).result(60)

        with Plans(storm) as plans:
            claimed = outbox.claim(now + timedelta(seconds=1), 4, 60, [])

    assert len(claimed) == 4
    assert plans.wasteful == []


def test_the_plans_that_are_looked_for_are_seen_where_there_are_any(at: Bench) -> None:
    engine = at.opened._engines[1]
    with Plans(at) as plans, engine.connect() as connection:
        connection.exec_driver_sql("SELECT run FROM runs WHERE trainer = 'x'").all()

    assert len(plans.wasteful) == 1
