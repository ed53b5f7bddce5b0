"""Weeks of updates on PostgreSQL: dropped whole once nobody needs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from service.kit import Bench, bench, grad, update
from watchstep_monitor.service.retention import Retention
from watchstep_monitor.service.run_state.records import run_key
from watchstep_monitor.settings.schema import RetentionSettings
from watchstep_monitor.store.postgres.partitions import partition, week_partitions

FINISHED = {"kind": "finished"}


@pytest.fixture
def at(url: str, tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path, database_url=url) as made:
        yield made


class Weeks:
    """Moves what is stored to weeks that are long over, as if it had been written then."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with self._engine.connect() as connection:
            self.this_week = week_partitions(connection)[0]

    def put(self, run: str, ago: int) -> int:
        week = self.this_week - ago
        with self._engine.connect() as connection:
            if week not in week_partitions(connection):
                connection.exec_driver_sql(
                    f"CREATE TABLE {partition(week)} PARTITION OF updates"
                    f" FOR VALUES FROM ({week}) TO ({week + 1})"
                )
            connection.exec_driver_sql(
                "UPDATE updates SET week = %s WHERE run_key = %s", (week, run_key(run))
            )
        return week

    def there(self) -> list[int]:
        with self._engine.connect() as connection:
            return week_partitions(connection)

    def close(self) -> None:
        self._engine.dispose()


@pytest.fixture
def weeks(at: Bench, url: str) -> Iterator[Weeks]:
    made = Weeks(url)
    yield made
    made.close()


def stored(at: Bench, run: str) -> list[int]:
    return [update.seq for update in at.opened.store.updates(run)]


def look(at: Bench, older_than_s: float | None = 50.0, size_bytes: int | None = None) -> int:
    return Retention(
        at.run_service,
        RetentionSettings(updates_s=older_than_s, size_bytes=size_bytes, incident_window_updates=2),
    ).look()


def ended(at: Bench, run: str, *, bad: int = 0) -> None:
    for n in range(1, 21):
        at.send(grad(n, 50.0 if n == bad else 1.0), run=run)
    at.send(update(21, event=FINISHED), run=run)


def test_a_week_whose_runs_all_ended_long_ago_is_dropped_but_for_what_surrounds_incidents(
    at: Bench, weeks: Weeks
) -> None:
    ended(at, "healthy")
    ended(at, "bad", bad=10)
    week = weeks.put("healthy", 5)
    weeks.put("bad", 5)
    at.clock.move(100)

    look(at)

    assert week not in weeks.there()
    assert stored(at, "healthy") == []
    assert stored(at, "bad") == [8, 9, 10, 11, 12]


def test_dropping_a_week_deletes_no_row_of_it(
    at: Bench, weeks: Weeks, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(at, "healthy")
    weeks.put("healthy", 5)
    at.clock.move(100)
    monkeypatch.setattr(Retention, "_thin", lambda *_: 0)

    removed = look(at)

    assert removed == 21
    assert stored(at, "healthy") == []


def test_a_week_stays_while_one_of_its_runs_goes_on_and_the_others_lose_their_rows(
    at: Bench, weeks: Weeks
) -> None:
    ended(at, "over")
    at.send(*[grad(n, 1.0) for n in range(1, 4)], run="going-on")
    week = weeks.put("over", 5)
    weeks.put("going-on", 5)
    at.clock.move(100)

    look(at)

    assert week in weeks.there()
    assert stored(at, "over") == []
    assert stored(at, "going-on") == [1, 2, 3]


def test_a_run_that_goes_on_again_before_its_week_is_dropped_keeps_it(
    at: Bench, weeks: Weeks
) -> None:
    ended(at, "a")
    week = weeks.put("a", 5)
    at.clock.move(100)
    before = at.clock.now()
    (past,) = at.opened.store.over_weeks(before)
    at.send(grad(1, 1.0, attempt=2), attempt=2)

    dropped = at.opened.store.drop_week(past.week, before)

    assert dropped == 0
    assert week in weeks.there()
    assert stored(at, "a") == [*range(1, 22), 1]


def test_this_week_and_the_last_one_are_never_dropped(at: Bench, weeks: Weeks) -> None:
    ended(at, "a")
    ended(at, "b")
    weeks.put("b", 1)
    at.clock.move(100)

    look(at)

    assert {weeks.this_week, weeks.this_week - 1} <= set(weeks.there())


def test_what_a_full_store_drops_first_is_its_oldest_week(at: Bench, weeks: Weeks) -> None:
    for run, ago in (("old", 9), ("older", 12)):
        ended(at, run)
        weeks.put(run, ago)
    at.clock.move(1)
    size = at.opened.store.size_bytes()

    look(at, None, size - 1)

    assert stored(at, "older") == []
    assert stored(at, "old") == list(range(1, 22))
    assert weeks.this_week - 12 not in weeks.there()


def test_a_rule_state_survives_the_drop_of_the_week_that_it_was_built_in(
    at: Bench, weeks: Weeks
) -> None:
    ended(at, "a")
    weeks.put("a", 5)
    at.clock.move(100)
    look(at)

    receipt = at.send(grad(1, 500.0, attempt=2), grad(2, 500.0, attempt=2), attempt=2)

    assert receipt.accepted == 2
    assert at.alerts()["GradExploded"] == "firing"


def test_a_full_store_takes_no_rows_where_that_gives_no_room_back(at: Bench, weeks: Weeks) -> None:
    ended(at, "lately")
    at.clock.move(1)

    assert look(at, None, 1) == 0
    assert stored(at, "lately") == list(range(1, 22))
    assert weeks.this_week in weeks.there()
