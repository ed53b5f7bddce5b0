"""What each hot statement reads: by an index, and no more of the table than it needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from service.kit import START, Bench, bench, grad, postgres_database, update
from watchstep_monitor.service.storage import AlertFilter, DeliveryFilter, RunFilter

RUNS, UPDATES = 40, 60

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
}

WRITES: dict[str, Asking] = {
    "a batch": lambda at: at.send(grad(UPDATES + 1, 50.0), run="run-8"),
    "a batch sent again": lambda at: at.send(grad(UPDATES, 1.0), run="run-8"),
    "a batch that brings a roll-up": lambda at: at.send(
        *[grad(n, 1.0) for n in range(UPDATES + 1, 400)], run="run-8"
    ),
}


@pytest.fixture(params=["sqlite", "postgresql"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "sqlite":
        with bench(tmp_path) as made:
            yield filled(made)
        return
    with postgres_database() as url, bench(tmp_path, database_url=url) as made:
        yield filled(made)


def filled(at: Bench) -> Bench:
    for run in range(RUNS):
        for n in range(1, UPDATES + 1, 20):
            seqs = range(n, n + 20)
            bad = [grad(seq, 50.0 if seq == 30 else 1.0) for seq in seqs]
            at.send(*bad, run=f"run-{run}")
        if run % 2:
            at.send(update(UPDATES + 1, event={"kind": "finished"}), run=f"run-{run}")
    return at


class Plans:
    """Explains each statement just before it runs, on the connection that it runs on."""

    def __init__(self, engines: tuple[Engine, ...]) -> None:
        self._engines = engines
        self.found: list[tuple[str, str]] = []

    def __enter__(self) -> Plans:
        for engine in self._engines:
            event.listen(engine, "before_cursor_execute", self._explain)
        return self

    def __exit__(self, *_: object) -> None:
        for engine in self._engines:
            event.remove(engine, "before_cursor_execute", self._explain)

    def _explain(self, connection: Any, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        if not re.match(
            r"\s*(SELECT|WITH|UPDATE|DELETE)\b.*\b(FROM|UPDATE)\b", statement, re.DOTALL
        ):
            return
        asking = connection.connection.driver_connection.cursor()
        if connection.dialect.name == "sqlite":
            asking.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            lines = [str(row[3]) for row in asking.fetchall()]
        else:
            # A table of a few rows is read whole however it is indexed.
            asking.execute("SET enable_seqscan = off")
            asking.execute(f"EXPLAIN {statement}", parameters or None)
            lines = [str(row[0]) for row in asking.fetchall()]
            asking.execute("RESET enable_seqscan")
        asking.close()
        self.found.append((statement, "\n".join(lines)))

    def whole_tables(self) -> list[tuple[str, str]]:
        """Statements that read a table from end to end, but for those that ask for all of it."""
        return [
            (statement, plan)
            for statement, plan in self.found
            if re.search(r"Seq Scan|\bSCAN (?!CONSTANT)\w+(?! USING)(?:$|\n)", plan)
            and re.search(r"WHERE|ORDER BY", statement)
            and not re.search(r"pragma|pg_|alembic_version|silences", statement)
        ]


def plans_of(at: Bench) -> Plans:
    return Plans(at.opened._engines)


@pytest.mark.parametrize("name", READS)
def test_a_question_is_answered_from_an_index(at: Bench, name: str) -> None:
    with plans_of(at) as plans:
        READS[name](at)

    assert plans.found
    assert plans.whole_tables() == []


@pytest.mark.parametrize("name", WRITES)
def test_a_batch_looks_for_nothing_in_a_whole_table(at: Bench, name: str) -> None:
    with plans_of(at) as plans:
        WRITES[name](at)

    assert plans.found
    assert plans.whole_tables() == []


def test_the_plans_that_are_looked_for_are_seen_where_there_are_any(at: Bench) -> None:
    engine = at.opened._engines[1]
    with plans_of(at) as plans, engine.connect() as connection:
        connection.exec_driver_sql("SELECT run FROM runs WHERE trainer = 'x'").all()

    assert len(plans.whole_tables()) == 1
