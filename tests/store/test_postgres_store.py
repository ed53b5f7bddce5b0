"""What only PostgreSQL needs: replicas that hear each other, one clock, sessions, the move."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from service.http_kit import until
from service.kit import Bench, bench, grad, update
from watchstep.errors import SettingsError
from watchstep_monitor.service.errors import StorageTroubleError
from watchstep_monitor.service.ports import Delivered
from watchstep_monitor.service.run_state.records import Matcher
from watchstep_monitor.service.tokens import new_token
from watchstep_monitor.store import open_store
from watchstep_monitor.store.import_sqlite import move_embedded
from watchstep_monitor.store.opening import StoreOptions
from watchstep_monitor.store.postgres import replicas

TABLES = {
    "runs", "attempts", "shapes", "updates", "rollups", "run_states", "alerts", "incidents",
    "commands", "timeline", "outbox", "deleted_runs", "silences", "tokens", "keys",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "WAIT_S", 0.05)
    monkeypatch.setattr(replicas, "SWEEP_S", 0.05)


@contextmanager
def executing(url: str) -> Iterator:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection.exec_driver_sql
    engine.dispose()


def listened(at: Bench) -> list[tuple[str, str, int]]:
    """(run, kind, sequence number) of all that this replica hears of others from now on."""
    heard: list[tuple[str, str, int]] = []
    assert at.opened.replicas is not None
    at.opened.replicas.start(
        lambda news: heard.append((news.run, news.kind, news.detail.get("seq", 0)))
    )
    return heard


def listens(url: str, count: int) -> bool:
    with executing(url) as sql:
        stored = sql(
            "SELECT count(DISTINCT pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND query NOT LIKE '%%pg_stat_activity%%'"
            " AND (query LIKE 'LISTEN%%' OR query LIKE '%%advisory%%'"
            " OR query = 'SELECT clock_timestamp()')"
        ).scalar_one()
    return stored >= count


def both_listened(first: Bench, second: Bench, url: str) -> tuple[list, list]:
    """What each hears from now on."""
    heard = listened(first), listened(second)
    until(lambda: listens(url, 2))
    return heard


def test_each_replica_hears_once_of_what_another_committed_and_not_of_its_own(
    replica_pair: tuple[Bench, Bench], url: str
) -> None:
    first, second = replica_pair
    heard_first, heard_second = both_listened(first, second, url)
    first.send(grad(1, 50.0))
    second.send(grad(2, 1.0))

    until(lambda: ("a", "transition", 2) in heard_first)
    until(lambda: ("a", "transition", 1) in heard_second)

    assert ("a", "transition", 1) not in heard_first
    assert ("a", "transition", 2) not in heard_second
    assert heard_first.count(("a", "transition", 2)) == 1


def test_a_replica_whose_voice_was_cut_off_is_heard_again(
    replica_pair: tuple[Bench, Bench], url: str
) -> None:
    first, second = replica_pair
    with executing(url) as sql:
        heard = listened(second)
        until(lambda: listens(url, 1))
        first.send(grad(1, 50.0))
        until(lambda: ("a", "transition", 1) in heard)
        cut = sql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE query LIKE 'SELECT pg_notify%%' AND datname = current_database()"
        ).scalar_one()

        first.send(grad(2, 1.0))

        until(lambda: ("a", "transition", 2) in heard)
        assert cut == 1


def test_how_a_delivery_went_is_heard_at_the_other_replica(
    replica_pair: tuple[Bench, Bench], url: str
) -> None:
    first, second = replica_pair
    heard_first, heard_second = both_listened(first, second, url)
    first.send(grad(1, 50.0))
    (claimed,) = first.opened.outbox.claim(first.clock.now(), 10, 60, [])
    first.opened.outbox.settle(claimed, Delivered(), first.clock.now())

    until(lambda: ("a", "delivery", 0) in heard_second)

    assert ("a", "delivery", 0) not in heard_first


def test_two_replicas_that_claim_at_once_share_what_is_due_and_leave_nothing(
    replica_pair: tuple[Bench, Bench],
) -> None:
    first, second = replica_pair
    with ThreadPoolExecutor(2) as pool:
        for n in range(100):
            first.send(grad(1, 50.0), run=f"r{n}")

        def claim_all(at: Bench) -> list[str]:
            ids = []
            while deliveries := at.opened.outbox.claim(first.clock.now(), 3, 60, []):
                ids += [delivery.id for delivery in deliveries]
            return ids

        claimed_first, claimed_second = pool.map(claim_all, (first, second))

    assert len(claimed_first) + len(claimed_second) == len({*claimed_first, *claimed_second}) == 100
    assert min(len(claimed_first), len(claimed_second)) > 10


def test_what_no_notification_told_is_found_by_looking(url: str, tmp_path: Path) -> None:
    with bench(tmp_path, database_url=url) as at:
        at.send(grad(1, 1.0))
        heard = listened(at)
        assert at.opened.replicas is not None
        until(at.opened.replicas.leads)
        until(lambda: at.opened.replicas._swept)

        with executing(url) as sql:
            sql(
                "INSERT INTO timeline SELECT run_key,"
                " (extract(epoch FROM now()) * 1e6)::bigint - 5000000,"
                " 'event', 1, 7, 70, NULL, '{}' FROM runs"
            )

        until(lambda: ("a", "event", 7) in heard)


def test_one_keeps_the_clock_and_hands_it_over_when_it_ends(url: str, tmp_path: Path) -> None:
    with bench(tmp_path / "two", database_url=url) as second:
        with bench(tmp_path / "one", database_url=url) as first:
            assert first.opened.replicas is not None
            assert second.opened.replicas is not None
            listened(first)
            until(first.opened.replicas.leads)
            listened(second)
            until(lambda: listens(url, 2))
            assert not second.opened.replicas.leads()

        until(second.opened.replicas.leads)


def test_a_replica_that_hangs_loses_the_clock(
    replica_pair: tuple[Bench, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "FROZEN_MS", 400)
    first, second = replica_pair
    assert first.opened.replicas is not None
    assert second.opened.replicas is not None
    free = threading.Event()
    first.opened.replicas.start(lambda *_: bool(free.wait(30)))
    until(first.opened.replicas.leads)
    until(lambda: first.opened.replicas._swept)
    listened(second)
    second.send(grad(1, 50.0))

    try:
        until(second.opened.replicas.leads)
    finally:
        free.set()


def test_an_acknowledged_update_is_synced_although_the_database_was_told_not_to(
    url: str, tmp_path: Path
) -> None:
    with executing(url) as sql:
        name = url.rsplit("/", 1)[1]
        sql(f"ALTER DATABASE {name} SET synchronous_commit = off")

    with bench(tmp_path, database_url=url) as at:
        result = at.opened.store.write(
            "a", lambda t: t.connection.exec_driver_sql("SHOW synchronous_commit").scalar_one()
        ).result(10)

    assert result == "on"


def test_a_run_that_someone_else_holds_is_trouble_and_not_a_hang(url: str, tmp_path: Path) -> None:
    options = StoreOptions(tmp_path, url, busy_timeout_s=0.2)
    opened = open_store(options)
    engine = create_engine(url)
    with bench(tmp_path / "kit", database_url=url) as at:
        at.send(grad(1, 1.0))
    try:
        with engine.connect() as holder:
            holder.exec_driver_sql("SELECT 1 FROM runs FOR UPDATE")
            with pytest.raises(StorageTroubleError):
                opened.store.write("a", lambda t: t.load_run("a")).result(10)

        assert opened.store.write("a", lambda t: t.load_run("a")).result(10).last_seq == 1
    finally:
        engine.dispose()
        opened.close()


def test_replicas_that_start_at_once_on_an_empty_database_migrate_it_once(
    url: str, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(3) as pool:
        opened = list(
            pool.map(lambda at: open_store(StoreOptions(tmp_path / str(at), url)), range(3))
        )

    try:
        assert [each.store.ready() for each in opened] == [None] * 3
        with executing(url) as sql:
            assert sql("SELECT count(*) FROM alembic_version").scalar_one() == 1
    finally:
        for each in opened:
            each.close()


def filled(folder: Path) -> Path:
    """An embedded store with something of everything; its file."""
    with bench(folder, snapshot_every=2) as at:
        for n in range(1, 31):
            at.send(
                update(2 * n, train__grad_norm=50.0 if n == 15 else 1.0, x=math.nan),
                grad(2 * n + 1, -0.0),
                run=f"r{n % 7}",
            )
        at.send(update(1, event={"kind": "log", "text": "\x00 \t \\N \U0001f600"}), run="odd")
        at.send(*[grad(n, float(n)) for n in range(1, 600)], run="long")
        at.send(update(1, event={"kind": "finished"}), run="gone")
        at.run_service.delete("gone", None)
        at.run_service.command("r1", "halt", "tab\tand \\ and 'quote'", None)
        now = at.clock.now()
        at.run_service.silence([Matcher("run", "=", "r1")], (now, now.replace(year=2030)), "", "me")
        at.opened.tokens.create(new_token("ada", ["read"], ["mine"], now)[1])
        at.opened.store.shared_key("links")
    return folder / "data" / "watchstep.db"


def test_an_embedded_store_moves_whole_and_goes_on_where_it_was(url: str, tmp_path: Path) -> None:
    source = filled(tmp_path / "old")
    with bench(tmp_path / "old") as at:
        before = {run: at.run_service.view(run, None).record for run in ("r1", "odd")}
        series, _ = at.run_service.series("r1", "x", (None, None), 1_000)

    moved = move_embedded(f"sqlite:///{source}", StoreOptions(tmp_path, url))

    assert {each.table for each in moved} == TABLES
    assert all(each.rows > 0 and len(each.sha256) == 64 for each in moved)
    with bench(tmp_path / "new", database_url=url) as at:
        assert {run: at.run_service.view(run, None).record for run in before} == before
        assert repr(at.run_service.series("r1", "x", (None, None), 1_000)[0]) == repr(series)
        assert at.send(grad(500, 50.0), run="r1").accepted == 1
        with at.opened._engines[1].connect() as connection:
            gone = connection.exec_driver_sql("SELECT run FROM deleted_runs").scalars().all()
        assert gone == ["gone"]


def test_a_copy_that_differs_is_refused_and_leaves_nothing(url: str, tmp_path: Path) -> None:
    source = filled(tmp_path / "old")
    open_store(StoreOptions(tmp_path, url)).close()
    with executing(url) as sql:
        sql(
            "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN NEW.state := 'resolved'; RETURN NEW; END $$"
        )
        sql("CREATE TRIGGER spoil BEFORE INSERT ON alerts FOR EACH ROW EXECUTE FUNCTION spoil()")
        sql("UPDATE pg_trigger SET tgenabled = 'A' WHERE tgname = 'spoil'")

    with bench(tmp_path / "old") as at:
        at.send(grad(600, 50.0), run="r1")
    with pytest.raises(SettingsError, match="table alerts"):
        move_embedded(f"sqlite:///{source}", StoreOptions(tmp_path, url))

    with executing(url) as sql:
        assert sql("SELECT count(*) FROM runs").scalar_one() == 0


def test_a_database_that_holds_something_is_refused(url: str, tmp_path: Path) -> None:
    source = filled(tmp_path / "old")
    with bench(tmp_path / "new", database_url=url) as at:
        at.send(grad(1, 1.0))

    with pytest.raises(SettingsError, match="is not empty"):
        move_embedded(f"sqlite:///{source}", StoreOptions(tmp_path, url))


def test_a_store_in_use_is_not_moved(url: str, tmp_path: Path) -> None:
    source = tmp_path / "old" / "data" / "watchstep.db"
    with bench(tmp_path / "old") as at:
        at.send(grad(1, 1.0))
        with pytest.raises(SettingsError, match="another watchstep process"):
            move_embedded(f"sqlite:///{source}", StoreOptions(tmp_path, url))


@pytest.mark.parametrize(
    ("source", "says"),
    [("postgresql://x", "sqlite:///PATH"), ("sqlite:///nowhere.db", "there is no store here")],
)
def test_a_source_that_is_none_is_one_line(
    source: str, says: str, url: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=says):
        move_embedded(source, StoreOptions(tmp_path, url))


def test_a_replica_that_is_overtaken_again_and_again_keeps_its_connections(
    replica_pair: tuple[Bench, Bench], url: str
) -> None:
    first, second = replica_pair
    first.send(grad(1, 1.0))
    with executing(url) as sql:
        pids = "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity"
        pids += " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        before = sql(pids).scalar_one()
        for n in range(2, 62, 2):
            second.send(grad(n, 1.0))
            first.send(grad(n + 1, 1.0))

        assert set(before) <= set(sql(pids).scalar_one())
    assert second.run_service.view("a", None).record.updates == 61
