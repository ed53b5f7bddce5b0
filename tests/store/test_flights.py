"""What waits for a writer of PostgreSQL goes in one flight: transactions of their own, one trip."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from service.kit import Bench, bench, grad, update
from store.kit_runs import one_run_a_transaction
from watchstep_monitor.service.errors import GoneError, StorageTroubleError
from watchstep_monitor.service.ingest import ingest
from watchstep_monitor.service.ingest.batch import Batch, Receipt
from watchstep_monitor.service.run_state.records import run_key
from watchstep_monitor.store import writer
from watchstep_monitor.store.opening import StoreOptions

WRITERS = StoreOptions(Path()).writers
RUNS = [run for run in (f"r{n}" for n in range(200)) if run_key(run) % WRITERS == 0][:20]
"""Of one writing thread, each with an update in the store."""
FRESH = [run for run in (f"f{n}" for n in range(200)) if run_key(run) % WRITERS == 0][:4]
"""Of the same thread, not in the store."""


@pytest.fixture
def at(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    # Runs are counted once, with the first.
    monkeypatch.setattr(ingest, "ROOM_SHARE", 1)
    with bench(tmp_path, database_url=url) as made:
        for run in RUNS:
            made.send(grad(1, 1.0), run=run)
        yield made


@pytest.fixture
def flights(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many transactions were in each flight of several, from now on."""
    sizes: list[int] = []
    sent = writer.send_flight

    def send_flight(connection: Any, transactions: Any) -> Any:
        sizes.append(len(transactions))
        return sent(connection, transactions)

    monkeypatch.setattr(writer, "send_flight", send_flight)
    return sizes


@contextmanager
def held_up(at: Bench) -> Iterator[None]:
    """The writer of `RUNS` is busy until the end of the block."""
    free = threading.Event()
    busy = at.opened.store.write(RUNS[0], lambda _: free.wait(10))
    try:
        yield
    finally:
        free.set()
        busy.result(10)


def sent(at: Bench, run: str, seq: int) -> Future[Receipt]:
    return at.run_service.accept(Batch(run, 1, [(0, grad(seq, 1.0))]))


def stored(at: Bench, run: str) -> list[int]:
    return [update.seq for update in at.opened.store.updates(run)]


def in_the_database(at: Bench, change: str) -> None:
    with at.opened._engines[1].connect() as connection:
        connection.exec_driver_sql("SET default_transaction_read_only = off")
        connection.exec_driver_sql("SET transaction_read_only = off")
        connection.exec_driver_sql(change)


def test_batches_that_wait_go_sixteen_at_a_time_each_in_its_own_transaction(
    at: Bench, url: str, flights: list[int]
) -> None:
    with one_run_a_transaction(url):
        with held_up(at):
            waiting = [sent(at, run, 2) for run in RUNS]

        assert [each.result(10).accepted for each in waiting] == [1] * 20
    assert flights == [16, 4]
    assert [stored(at, run) for run in RUNS] == [[1, 2]] * 20


def test_two_batches_of_one_run_are_never_in_one_flight(at: Bench, flights: list[int]) -> None:
    first, other = RUNS[0], RUNS[1]
    with held_up(at):
        waiting = [sent(at, run, seq) for seq in (2, 3, 4) for run in (first, other)]

    assert [each.result(10).last_seq for each in waiting] == [2, 2, 3, 3, 4, 4]
    assert flights == [2, 2, 2]
    assert stored(at, first) == stored(at, other) == [1, 2, 3, 4]


def test_a_batch_that_was_overtaken_is_done_again_and_those_behind_it_are_stored(
    at: Bench, url: str, tmp_path: Path, flights: list[int]
) -> None:
    with bench(tmp_path / "other", database_url=url) as other:
        other.send(grad(2, 1.0), run=RUNS[1])
    with held_up(at):
        waiting = [sent(at, run, 3) for run in RUNS[:4]]

    assert [each.result(10).accepted for each in waiting] == [1] * 4
    assert flights == [4, 2]
    assert stored(at, RUNS[1]) == [1, 2, 3]
    assert at.run_service.view(RUNS[1], None).record.lost == 0
    assert [stored(at, run) for run in (RUNS[0], RUNS[2], RUNS[3])] == [[1, 3]] * 3


@pytest.mark.parametrize("trouble", ["RAISE EXCEPTION 'no'", "PERFORM pg_terminate_backend(pid)"])
def test_a_batch_that_the_database_refuses_is_refused_alone_unless_the_connection_is_lost(
    at: Bench, trouble: str, flights: list[int]
) -> None:
    refuse: Callable[[str], None] = lambda body: in_the_database(  # noqa: E731
        at,
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.run_key = {run_key(RUNS[1])} AND NEW.first_seq = 2 THEN {body}; END IF;"
        " RETURN NEW; END $$",
    )
    refuse(trouble.replace("pid", "pg_backend_pid()"))
    in_the_database(
        at,
        "CREATE TRIGGER refuse BEFORE INSERT ON updates FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    with held_up(at):
        waiting = [sent(at, run, 2) for run in RUNS[:4]]

    failures = [each.exception(10) for each in waiting]
    is_lost = "terminate" in trouble
    assert isinstance(failures[1], StorageTroubleError)
    # Its commit came first, but the end of the connection may be noticed before its answer.
    assert failures[0] is None or is_lost
    assert [failure is not None for failure in failures[2:]] == [is_lost] * 2
    refuse("NULL")
    again = [sent(at, run, 2).result(10) for run in RUNS[:4]]
    assert [(each.accepted, each.duplicates) for each in again] == (
        [(0, 1), (1, 0), (1, 0), (1, 0)] if is_lost else [(0, 1), (1, 0), (0, 1), (0, 1)]
    )
    assert [stored(at, run) for run in RUNS[:4]] == [[1, 2]] * 4


def test_new_runs_are_looked_up_together_and_stored_in_one_flight(
    at: Bench, url: str, flights: list[int]
) -> None:
    with one_run_a_transaction(url):
        with held_up(at):
            waiting = [sent(at, RUNS[0], 2), *(sent(at, run, 1) for run in FRESH)]

        assert [each.result(10).accepted for each in waiting] == [1] * 5
    assert flights == [5]
    assert [stored(at, run) for run in FRESH] == [[1]] * 4


def test_a_new_run_that_another_replica_begins_after_the_look_is_done_again(
    at: Bench, url: str, tmp_path: Path, flights: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench(tmp_path / "other", database_url=url) as other:
        other.send(grad(1, 1.0), run=FRESH[1])
    monkeypatch.setattr(writer, "find_absent", lambda _connection, _trace, keys: frozenset(keys))
    with held_up(at):
        waiting = [sent(at, run, 2) for run in (RUNS[0], *FRESH[:3])]

    assert [each.result(10).accepted for each in waiting] == [1] * 4
    assert flights == [4, 1]
    assert stored(at, FRESH[1]) == [1, 2]


def test_a_run_that_was_deleted_is_refused_in_a_flight_too(at: Bench, flights: list[int]) -> None:
    at.send(update(2, event={"kind": "finished"}), run=RUNS[1])
    at.run_service.delete(RUNS[1], None)
    with held_up(at):
        waiting = [sent(at, run, 3) for run in RUNS[:3]]

    assert isinstance(waiting[1].exception(10), GoneError)
    assert [waiting[at].result(10).accepted for at in (0, 2)] == [1, 1]
