"""How often a writer asks PostgreSQL for one batch: what a fleet's first contact costs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from service.kit import Bench, bench, grad, postgres_database, update
from watchstep_monitor.store import transaction
from watchstep_monitor.store.postgres import pipeline


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Bench]:
    with postgres_database() as url, bench(tmp_path, database_url=url) as made:
        made.send(grad(1, 1.0), run="warms-up")
        yield made


@pytest.fixture
def trips(at: Bench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each round trip of a writer was for, from now on."""
    purposes: list[str] = []
    sent = pipeline.send_together

    def send_together(connection: Any, statements: Any) -> None:
        purposes.append("; ".join(kind(statement) for statement, _ in statements))
        sent(connection, statements)

    def note(connection: Any, _: Any, statement: str, *__: Any) -> None:
        purposes.append(kind(statement))

    monkeypatch.setattr(transaction, "send_together", send_together)
    event.listen(at.opened._engines[0], "before_cursor_execute", note)
    return purposes


def kind(statement: str) -> str:
    table = re.search(r"(?:FROM|INTO|UPDATE) (\w+)", statement)
    return f"{statement.split(None, 1)[0]} {table.group(1) if table else ''}".strip()


def test_the_first_batch_of_a_run_is_looked_up_and_then_written_in_one_flight(
    at: Bench, trips: list[str]
) -> None:
    at.send(grad(1, 50.0))

    # Once in a run's life: whether one of its name was deleted decides if it may be written.
    assert trips[:3] == ["BEGIN", "SELECT runs", "SELECT deleted_runs"]
    assert len(trips) == 4
    written = trips[3].split("; ")
    assert {
        "DELETE deleted_runs",
        "INSERT runs",
        "INSERT shapes",
        "INSERT updates",
        "INSERT outbox",
    } <= set(written)
    assert written[-1] == "COMMIT"


def test_a_later_batch_is_one_flight(at: Bench, trips: list[str]) -> None:
    at.send(grad(1, 1.0))
    trips.clear()

    at.send(grad(2, 1.0))

    assert len(trips) == 1


def test_new_names_are_written_with_the_rest(at: Bench, trips: list[str]) -> None:
    at.send(grad(1, 1.0))
    trips.clear()

    at.send(update(2, loss=1.0), update(3, loss=1.0, entropy=1.0))

    assert len(trips) == 1
    assert trips[0].count("INSERT shapes") == 2


def test_names_that_another_replica_stored_meanwhile_keep_their_number(
    replica_pair: tuple[Bench, Bench],
) -> None:
    first, second = replica_pair
    first.send(grad(1, 1.0))
    second.send(update(2, loss=1.0))

    first.send(update(3, loss=2.0), update(4, entropy=3.0))

    updates = [(each.seq, dict(each.readings)) for each in first.opened.store.updates("a")]
    numbers = [row[0] for row in asking(first, "SELECT shape FROM shapes ORDER BY shape")]
    assert updates == [
        (1, {"train/grad_norm": 1.0}),
        (2, {"loss": 1.0}),
        (3, {"loss": 2.0}),
        (4, {"entropy": 3.0}),
    ]
    assert numbers == [1, 2, 3]


def asking(at: Bench, statement: str) -> list[Any]:
    with at.opened._engines[1].connect() as connection:
        return list(connection.exec_driver_sql(statement))
