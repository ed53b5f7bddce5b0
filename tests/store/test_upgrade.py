"""A store that the first version filled, brought to the schema of today."""

from __future__ import annotations

import math
import re
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine

from service.kit import Bench, bench, grad, postgres_database, update
from watchstep_monitor.service.run_state.records import run_key
from watchstep_monitor.store import open_store, schema
from watchstep_monitor.store.opening import FILE_NAME, StoreOptions
from watchstep_monitor.store.postgres.partitions import partition, week_partitions

FIRST_TABLES = (
    "runs", "attempts", "shapes", "updates", "run_states", "alerts", "incidents", "commands",
    "timeline", "outbox", "silences",
)  # fmt: skip
"""Of the schema 0001; no roll-ups, and updates without a week."""

ADDED_SINCE = {
    "health",
    "updated_us",
    "hung",
    "reports",
    "subject",
    "archived",
    "notes",
    "answer",
    "answered_by",
    "details",
    "crc",
}
"""Columns that the tables of 0001 did not have."""

UPDATES_OF_0001 = (
    "run_key", "attempt", "first_seq", "last_seq", "least_step", "greatest_step", "shape",
    "steps", "times", "readings", "events",
)  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def first_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    """A store of schema 0001 that holds the runs of `lived`; its URL, None for the folder's."""
    lived(tmp_path / "source")
    if request.param == "sqlite":
        (tmp_path / "data").mkdir()
        make_first(f"sqlite:///{tmp_path / 'data' / FILE_NAME}", tmp_path / "source")
        yield None
        return
    with postgres_database() as url:
        make_first(url, tmp_path / "source")
        yield url


def lived(folder: Path) -> None:
    """Runs with alerts, attempts, gaps, events and odd numbers; `b` is one breach from halting."""
    with bench(folder, snapshot_every=7) as at:
        for first in range(1, 3_001, 300):
            seqs = range(first, first + 300)
            at.send(*[update(n, x=math.sin(n / 50), y=-0.0) for n in seqs], run="long")
        at.send(update(3_001, x=math.nan), update(3_005, x=math.inf, y=1e-300), run="long")
        for n in range(1, 12):
            at.send(grad(n, 50.0 if n == 5 else 1.0))
        at.send(*[grad(n, 2.0, attempt=2) for n in range(1, 4)], attempt=2)
        at.send(update(4, attempt=2, event={"kind": "log", "text": "\U0001f600 '"}), attempt=2)
        at.send(*[grad(n, 1.0) for n in range(1, 10)], grad(10, 500.0), run="b")


def make_first(url: str, source: Path) -> None:
    """Run the first step alone, and write what that version's code would have written."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        first_step(connection)
        old = create_engine(f"sqlite:///{source / 'data' / FILE_NAME}")
        with old.connect() as filled:
            for name in FIRST_TABLES:
                names = [column.name for column in schema.metadata.tables[name].columns]
                columns = [column for column in names if column not in ADDED_SINCE]
                if name == "updates":
                    columns = list(UPDATES_OF_0001)
                rows = filled.exec_driver_sql(f"SELECT {', '.join(columns)} FROM {name}").all()
                # That version ended no rule state with a checksum.
                insert(connection, name, columns, [tuple(map(unchecked, row)) for row in rows])
        old.dispose()
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA application_id={schema.APPLICATION_ID}")
    engine.dispose()


def unchecked(value: Any) -> Any:
    return re.sub(r',"crc":\d+}$', "}", value) if isinstance(value, str) else value


def first_step(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "watchstep_monitor.store:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")


def insert(
    connection: Connection, table: str, columns: list[str], rows: list[tuple[Any, ...]]
) -> None:
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    marks = ", ".join(mark for _ in columns)
    if rows:
        connection.exec_driver_sql(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows
        )


def story_of(at: Bench) -> dict[str, Any]:
    """All that can be read of each run: updates, series, rule state, alerts, timeline."""
    story: dict[str, Any] = {}
    for run in ("long", "a", "b"):
        story[run] = (
            [repr(update) for update in at.opened.store.updates(run)],
            [repr(at.run_service.series(run, name, (None, None), 9_999)) for name in ("x", "y")],
            # Health was no column then: the upgrade tells it by alerts.
            replace(at.run_service.view(run, None).record, health="unjudged"),
            at.alerts(run),
            [repr(item) for item in at.opened.store.timeline(run, 1_000, None).items],
            at.opened.store.attempts(run),
            replace(at.opened.store.write(run, snapshot_of(run)).result(10), reports={}),
        )
    return story


def snapshot_of(run: str) -> Callable[[Any], Any]:
    return lambda transaction: transaction.snapshot(run)


def test_everything_in_a_store_of_the_first_version_is_there_after_the_upgrade(
    first_store: str | None, tmp_path: Path
) -> None:
    with bench(tmp_path / "source", snapshot_every=7) as at:
        before = story_of(at)

    with bench(tmp_path, database_url=first_store, snapshot_every=7) as at:
        after = story_of(at)

    assert len(after["long"][0]) == 3_002
    assert len(after["a"][0]) == 15
    assert after == before


def test_a_rule_that_had_seen_one_breach_fires_at_the_second_after_the_upgrade(
    first_store: str | None, tmp_path: Path
) -> None:
    with bench(tmp_path, database_url=first_store, snapshot_every=7) as at:
        assert at.alerts("b")["GradExploded"] == "pending"

        receipt = at.send(grad(11, 600.0), run="b")
        again = at.send(grad(10, 500.0), grad(11, 600.0), run="b")

        assert receipt.accepted == 1
        assert (again.accepted, again.duplicates) == (0, 2)
        assert at.alerts("b")["GradExploded"] == "firing"
        assert len(list(at.opened.store.updates("b"))) == 11


def test_a_run_from_before_roll_ups_goes_on_with_them_and_its_chart_has_no_hole(
    first_store: str | None, tmp_path: Path
) -> None:
    with bench(tmp_path, database_url=first_store) as at:
        for first in range(3_006, 9_006, 300):
            seqs = range(first, first + 300)
            at.send(*[update(n, x=2.0 if n == 8_000 else 0.5) for n in seqs], run="long")

        coarse = at.opened.store.series("long", "x", None, None, 20)
        places = [point.seq for point in coarse.points]

    assert not coarse.whole
    assert places == sorted(set(places))
    assert {1, 3_001, 3_005, 8_000, 9_005} <= set(places)


def test_the_old_file_is_kept_beside_an_upgraded_embedded_store(tmp_path: Path) -> None:
    lived(tmp_path / "source")
    (tmp_path / "data").mkdir()
    make_first(f"sqlite:///{tmp_path / 'data' / FILE_NAME}", tmp_path / "source")

    open_store(StoreOptions(tmp_path / "data")).close()

    (backup,) = (tmp_path / "data").glob("before-*.db")
    engine = create_engine(f"sqlite:///{backup}")
    with engine.connect() as old:
        assert old.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "0001"
        assert old.exec_driver_sql("SELECT sum(last_seq - first_seq + 1) FROM updates").scalar()
    engine.dispose()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A PostgreSQL of schema 0001 that holds the runs of `lived`."""
    lived(tmp_path / "source")
    with postgres_database() as made:
        make_first(made, tmp_path / "source")
        yield made


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def updates_in(url: str) -> dict[str, int]:
    """By table, how many updates it holds."""
    with connected(url) as connection:
        rows = connection.exec_driver_sql(
            "SELECT tableoid::regclass::text, sum(last_seq - first_seq + 1)::int"
            " FROM updates GROUP BY 1"
        )
        return {row[0]: row[1] for row in rows}


def test_what_was_stored_stays_in_the_partition_of_week_0_and_what_comes_goes_to_its_week(
    url: str, tmp_path: Path
) -> None:
    with bench(tmp_path, database_url=url) as at:
        stored = updates_in(url)
        at.send(grad(11, 1.0), grad(12, 1.0), run="b")
        with connected(url) as connection:
            this_week = partition(week_partitions(connection)[0])

    assert set(stored) == {"updates_kept"}
    assert updates_in(url) == {**stored, this_week: 2}


def test_two_replicas_that_open_an_old_store_at_once_upgrade_it_once(
    url: str, tmp_path: Path
) -> None:
    before = updates_before(url)
    with ThreadPoolExecutor(3) as pool:
        opened = list(
            pool.map(lambda at: open_store(StoreOptions(tmp_path / str(at), url)), range(3))
        )

    try:
        assert [each.store.ready() for each in opened] == [None] * 3
        assert sum(updates_in(url).values()) == before
    finally:
        for each in opened:
            each.close()


def updates_before(url: str) -> int:
    with connected(url) as connection:
        query = "SELECT sum(last_seq - first_seq + 1)::int FROM updates"
        return int(connection.exec_driver_sql(query).scalar_one())


class FirstVersion:
    """A replica of the first version that writes one run, a transaction an update.

    Its session says which schema its code is for, and its statements are the ones that it sent.
    """

    def __init__(self, url: str) -> None:
        named = {"application_name": "watchstep/0001"}
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT", connect_args=named)
        self._connection = self._engine.connect()
        self._key = run_key("b")
        self.seq = 10

    def append(self) -> None:
        sql, seq = self._connection.exec_driver_sql, self.seq + 1
        sql("BEGIN")
        sql("SELECT last_seq FROM runs WHERE run_key = %s FOR UPDATE", (self._key,))
        content = (struct.pack("<q", seq * 10), struct.pack("<d", 1.7e9 + seq))
        row = (self._key, 1, seq, seq, seq * 10, seq * 10, 1, *content, struct.pack("<d", 1.0))
        columns, marks = ", ".join(UPDATES_OF_0001), ", ".join(["%s"] * 11)
        sql(f"INSERT INTO updates ({columns}) VALUES ({marks})", (*row, None))
        sql(
            "UPDATE runs SET last_seq = %s, version = version + 1, updates = updates + 1"
            " WHERE run_key = %s",
            (seq, self._key),
        )
        sql("COMMIT")
        self.seq = seq

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()


def test_a_replica_of_the_first_version_writes_before_while_and_after_another_upgrades(
    url: str, tmp_path: Path
) -> None:
    ended, upgraded = threading.Event(), threading.Event()
    with closing(FirstVersion(url)) as old:

        def write() -> None:
            after = 0
            while after < 20:
                old.append()
                after += upgraded.is_set()
            ended.set()

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            with bench(tmp_path, database_url=url) as at:
                upgraded.set()
                assert ended.wait(30), writing.exception(0)
                receipt = at.send(grad(old.seq + 1, 1.0), run="b")
                stored = [update.seq for update in at.opened.store.updates("b")]
            writing.result(10)

    assert receipt.accepted == 1
    assert stored == list(range(1, old.seq + 2))


def test_a_writer_that_finds_no_partition_makes_it_and_stores_the_batch(
    url: str, tmp_path: Path
) -> None:
    with bench(tmp_path, database_url=url) as at:
        with connected(url) as connection:
            weeks = week_partitions(connection)
            # As after six weeks in which no replica was started: the newest week there is, is over.
            for week in weeks:
                connection.exec_driver_sql(f"DROP TABLE {partition(week)}")

        receipt = at.send(grad(11, 1.0), run="b")

        with connected(url) as connection:
            assert week_partitions(connection) == weeks
    assert receipt.accepted == 1
    assert updates_in(url)[partition(weeks[0])] == 1


def test_writers_of_two_replicas_that_find_no_partition_make_it_once(
    replica_pair: tuple[Bench, Bench], url: str
) -> None:
    first, second = replica_pair
    with ThreadPoolExecutor(8) as pool:
        with connected(url) as connection:
            for week in week_partitions(connection):
                connection.exec_driver_sql(f"DROP TABLE {partition(week)}")

        def send(at: int) -> int:
            return (first, second)[at % 2].send(grad(1, 1.0), run=f"new-{at}").accepted

        assert list(pool.map(send, range(8))) == [1] * 8
