"""A store that the version before filled, opened by this one: nothing is lost, nobody is called."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine

from service.kit import Bench, MovedClock, bench, grad, postgres_database, update
from watchstep_monitor.service.run_state.status import shown_status
from watchstep_monitor.service.run_state.storage import AlertFilter, RunFilter
from watchstep_monitor.store import schema
from watchstep_monitor.store.opening import FILE_NAME

FIXTURES = Path(__file__).parent / "fixtures"
RUNS = ("base", "warm", "nan", "nan-done", "done", "died")


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    """The old store; its URL, None for the folder's."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / FILE_NAME
    old = sqlite3.connect(path)
    old.executescript(gzip.decompress((FIXTURES / "store_0003.sql.gz").read_bytes()).decode())
    old.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
    old.commit()
    if request.param == "sqlite":
        old.close()
        yield None
        return
    with postgres_database() as url:
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            first_steps(connection)
            copy(old, connection)
        engine.dispose()
        old.close()
        yield url


def first_steps(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "watchstep_monitor.store:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "0003")


def copy(old: sqlite3.Connection, new: Connection) -> None:
    for (table,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        if table == "alembic_version":
            continue
        names = [row[1] for row in old.execute(f"PRAGMA table_info({table})")]
        rows = old.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall()
        marks = ", ".join(["%s"] * len(names))
        if rows:
            new.exec_driver_sql(
                f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", [*map(tuple, rows)]
            )


def opened(tmp_path: Path, url: str | None, clock: MovedClock | None = None):
    rules = (FIXTURES / "store_0003_rules.yaml").read_text()
    return bench(tmp_path, database_url=url, rules=rules, packs=("ppo", "generic"), clock=clock)


def words(at: Bench, run: str) -> tuple[str, str]:
    record = at.run_service.view(run, None).record
    return (
        shown_status(record, at.clock.now(), at.run_service.policy.hearing),
        record.health,
    )


def alerts(at: Bench) -> set[tuple[str, str, str]]:
    page = at.opened.store.alerts(AlertFilter(), 100, None)
    return {(alert.id, alert.run, alert.state) for alert in page.items}


def test_opening_it_sends_no_message_and_every_alert_goes_on(
    store: str | None, tmp_path: Path
) -> None:
    with opened(tmp_path, store) as at:
        before = at.notices()
        ids = alerts(at)
        for run in RUNS:
            at.run_service.tick(run)
        after_a_look = alerts(at)
        at.send(update(15, train__loss=1.0, train__grad_norm=50.0), run="warm")
        at.send(update(13, train__loss=float("nan")), run="nan")

        assert len(before) == 4
        assert at.notices() == before
        assert after_a_look == ids
        assert alerts(at) >= ids


def test_status_and_health_are_two_words_from_the_first_look_on(
    store: str | None, tmp_path: Path
) -> None:
    with opened(tmp_path, store) as at:
        assert {run: words(at, run) for run in RUNS} == {
            "base": ("running", "healthy"),
            "warm": ("running", "suspicious"),
            "nan": ("running", "diverged"),
            "nan-done": ("finished", "diverged"),
            "done": ("finished", "healthy"),
            "died": ("failed", "exploded"),
        }
        runs = at.opened.store.runs(RunFilter(health="diverged"), 10, None).items
        assert {record.run for record in runs} == {"nan", "nan-done"}


def test_a_baseline_and_a_streak_go_on(store: str | None, tmp_path: Path) -> None:
    with opened(tmp_path, store) as at:
        assert at.alerts("base")["LossLeaps"] == "pending"

        at.send(update(42, train__loss=50.0), run="base")

        assert at.alerts("base")["LossLeaps"] == "firing"


def test_code_of_the_version_before_can_go_on_reading_and_writing(
    store: str | None, tmp_path: Path
) -> None:
    """Of a rolling upgrade: old code reads documents whole, and writes one word for two."""
    with opened(tmp_path, store) as at:
        at.send(*[grad(n, 60.0) for n in range(1, 4)], run="new")
        documents = [
            json.loads(row.document) for row in at.opened.store._blocks(schema.alerts.select())
        ]

        def old_word(transaction) -> None:
            transaction.connection.exec_driver_sql(
                "UPDATE runs SET status = 'diverged', version = version + 1 WHERE run = 'new'"
            )

        at.opened.store.write("new", old_word).result(10)
        at.run_service.fleet.forget("new")

        assert all("subject" not in document for document in documents)
        record = at.opened.store.run("new")
        assert (record.status, record.health) == ("running", "diverged")
        listed = at.opened.store.runs(RunFilter(status="running", health="diverged"), 10, None)
        assert "new" in {each.run for each in listed.items}
        assert at.send(grad(4, 60.0), run="new").accepted == 1


def test_alerts_of_one_metric_come_back_with_it(store: str | None, tmp_path: Path) -> None:
    rules = """
groups:
  - name: each
    rules:
      - alert: LossHigh
        each: loss
        expr: metric > 10
        labels: {severity: warning}
"""
    with bench(tmp_path / "own", database_url=store, rules=rules) as at:
        at.send(update(1, critic__loss=50.0, actor__q1_loss=60.0, train__lr=1.0), run="sac")
        first = {alert.key[:2] for alert in at.run_service.view("sac", None).alerts}
        clock = at.clock
    with bench(tmp_path / "own", database_url=store, rules=rules, clock=clock) as at:
        at.send(update(2, critic__loss=1.0, actor__q1_loss=60.0), run="sac")
        left = {alert.key[:2] for alert in at.run_service.view("sac", None).alerts}

    assert first == {("LossHigh", "critic/loss"), ("LossHigh", "actor/q1_loss")}
    assert left == {("LossHigh", "actor/q1_loss")}


def test_an_alert_goes_on_under_its_rules_new_name_and_nobody_is_told(
    store: str | None, tmp_path: Path
) -> None:
    def rules(name: str, extra: str = "") -> str:
        return f"""
groups:
  - name: named
    rules:
      - alert: {name}
        expr: train/loss > 10
        labels: {{severity: warning}}
{extra}"""

    with bench(tmp_path / "own", database_url=store, rules=rules("LossBig")) as at:
        at.send(update(1, train__loss=50.0), run="renamed")
        (before,) = at.run_service.view("renamed", None).alerts
        notices, clock = at.notices(), at.clock
    new = rules("LossHigh", "        formerly: [LossBig]\n")
    with bench(tmp_path / "own", database_url=store, rules=new, clock=clock) as at:
        at.send(update(2, train__loss=50.0), run="renamed")
        (after,) = at.run_service.view("renamed", None).alerts

        assert (after.id, after.rule, after.state) == (before.id, "LossHigh", "firing")
        assert at.notices() == notices
