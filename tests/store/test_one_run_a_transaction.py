"""Rows that can live apart: every key begins with the run, and no transaction spans two."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from service.kit import Bench, bench, grad, postgres_database, update
from store.kit_runs import SpanningError, one_run_a_transaction
from watchstep_monitor.service.ports import Delivered, ReceiverGone
from watchstep_monitor.service.retention import Retention
from watchstep_monitor.service.run_state.records import run_key
from watchstep_monitor.settings.schema import RetentionSettings
from watchstep_monitor.store import schema, transaction
from watchstep_monitor.store.postgres import pipeline

RUNS = [f"run-{at}" for at in range(12)]
KEYS = {run_key(run) for run in RUNS}
OF_NO_RUN = {"keys", "silences", "tokens"}


def test_every_key_begins_with_the_run() -> None:
    tables = [table for table in schema.metadata.sorted_tables if table.name not in OF_NO_RUN]

    firsts = {table.name: next(iter(table.primary_key.columns)).name for table in tables}

    assert set(firsts.values()) == {"run_key"}
    assert len(firsts) == 12


def test_the_shipped_distribution_knows_every_table_and_no_other() -> None:
    path = Path(__file__).parents[2] / "deploy/citus/distribute.sql"
    calls = re.findall(r"^SELECT (\w+)\('(\w+)'(?:, '(\w+)')?", path.read_text(), re.MULTILINE)

    apart = {
        table
        for call, table, key in calls
        if (call, key) == ("create_distributed_table", "run_key")
    }
    copied = {table for call, table, _ in calls if call == "create_reference_table"}

    assert apart | copied == set(schema.metadata.tables)
    assert copied == OF_NO_RUN


class Recorded:
    """Of every transaction of a writer that ended, the runs that its statements name."""

    def __init__(self) -> None:
        self.open: dict[int, list[tuple[str, set[int]]]] = {}
        self.ended: list[list[tuple[str, set[int]]]] = []

    def note(self, connection: int, statement: str, parameters: Any) -> None:
        word = statement.split(None, 1)[0].upper()
        # On SQLite several jobs share a commit, each between its own savepoint and its release.
        if word in {"BEGIN", "SAVEPOINT"}:
            self.open[connection] = []
        elif word in {"COMMIT", "ROLLBACK", "RELEASE"}:
            if connection in self.open:
                self.ended.append(self.open.pop(connection))
        elif connection in self.open:
            named = numbers(parameters) & KEYS
            self.open[connection].append((statement, named))


def numbers(parameters: Any) -> set[int]:
    if isinstance(parameters, dict):
        return numbers(list(parameters.values()))
    if isinstance(parameters, (list, tuple)):
        return set().union(*[numbers(parameter) for parameter in parameters])
    return {parameters} if isinstance(parameters, int) else set()


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorder = Recorded()
    sent = pipeline.send_together

    def send_together(connection: Any, statements: Any) -> None:
        for statement, parameters in statements:
            recorder.note(id(connection), statement, parameters)
        sent(connection, statements)

    monkeypatch.setattr(transaction, "send_together", send_together)
    return recorder


@pytest.fixture(params=["sqlite", "postgresql"])
def at(request: pytest.FixtureRequest, recorded: Recorded, tmp_path: Path) -> Iterator[Bench]:
    from sqlalchemy import event

    with ExitStack() as stack:
        url = None
        if request.param == "postgresql":
            url = stack.enter_context(postgres_database())
        made = stack.enter_context(bench(tmp_path, database_url=url))
        if url is not None:
            stack.enter_context(one_run_a_transaction(url))

        def note(connection: Any, _: Any, statement: str, parameters: Any, *__: Any) -> None:
            recorded.note(id(connection), statement, parameters)

        event.listen(made.opened._engines[0], "before_cursor_execute", note)
        yield made


def test_no_transaction_of_updates_alerts_commands_deliveries_or_retention_names_two_runs(
    at: Bench, recorded: Recorded
) -> None:
    for first in range(1, 601, 100):
        for run in RUNS:
            seqs = range(first, first + 100)
            at.send(*[grad(n, 500.0 if n == 250 else 1.0) for n in seqs], run=run)
    at.run_service.command(RUNS[0], "halt", "by hand", None)
    for run in RUNS:
        at.send(update(601, event={"kind": "finished"}), run=run)
    due = at.opened.outbox.claim(at.clock.now(), 100, 60, [])
    for delivery in due[:6]:
        at.opened.outbox.settle(delivery, Delivered(), at.clock.now())
    at.opened.outbox.settle(due[-1], ReceiverGone(), at.clock.now())
    at.opened.outbox.resend(due[-1].id, at.clock.now(), None)
    at.clock.move(100)
    Retention(at.run_service, RetentionSettings(updates_s=50.0, incident_window_updates=2)).look()
    at.run_service.delete(RUNS[1], None)

    spanning = [
        [statement for statement, _ in each]
        for each in recorded.ended
        if len(set().union(*[named for _, named in each])) > 1
    ]
    tables = {
        table
        for each in recorded.ended
        for statement, _ in each
        for table in re.findall(r"(?:INTO|UPDATE|DELETE FROM) (\w+)", statement)
    }
    assert len(due) == 12
    assert spanning == []
    # One that tells makes every other commit wait for its own sync.
    assert not [
        each for each in recorded.ended if any("pg_notify" in statement for statement, _ in each)
    ]
    assert len(recorded.ended) > 12 * 7
    assert tables >= set(schema.metadata.tables) - OF_NO_RUN


def test_what_names_two_runs_would_be_seen(at: Bench, recorded: Recorded) -> None:
    at.opened.store.write(RUNS[0], lambda t: [t.load_run(RUNS[0]), t.load_run(RUNS[1])]).result(10)

    assert [len(set().union(*[named for _, named in each])) for each in recorded.ended] == [2]


def test_what_writes_to_two_runs_would_be_seen(tmp_path: Path) -> None:
    with postgres_database() as url, bench(tmp_path, database_url=url) as at:
        at.send(grad(1, 50.0), run="a")
        at.send(grad(1, 50.0), run="b")

        def release_all(transaction: Any) -> None:
            transaction.connection.exec_driver_sql("UPDATE outbox SET lease_us = 0")

        with pytest.raises(SpanningError, match="outbox"), one_run_a_transaction(url):
            at.opened.store.write("a", release_all).result(10)
