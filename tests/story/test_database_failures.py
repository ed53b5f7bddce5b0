"""A PostgreSQL that restarts, cuts its connections, fills up, or is replaced by its standby."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.http_kit import Running, until, upd
from story.postgres_kit import Inbox, Server, inbox, postgres_server, standby_of
from story.replica_kit import (
    LENGTH,
    Spooling,
    Trainer,
    progress,
    replicas,
    tally,
    to_any,
    training,
)
from watchstep.sender import Outbound, OutboundConfig

pytestmark = pytest.mark.long

RUNS = 4
CUTS = round(5 * LENGTH)


def trainers_of(running: list[Running], name: str = "run") -> list[Trainer]:
    clients = [service.client for service in running]
    return [Trainer(f"{name}-{at}", to_any(clients, at)) for at in range(RUNS)]


@dataclass
class Cluster:
    """What the tests share that leave the database as it was."""

    database: Server
    received: Inbox
    running: list[Running]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with (
        postgres_server() as database,
        inbox() as received,
        replicas(
            tmp_path_factory.mktemp("cluster"), 2, database.url, **received.settings()
        ) as running,
    ):
        yield Cluster(database, received, running)


@contextmanager
def spooling(folder: Path, running: list[Running]) -> Iterator[list[Spooling]]:
    """Real clients at work inside the block, with everything acknowledged after it."""
    made = []
    for at in range(RUNS):
        url = f"http://127.0.0.1:{running[at % len(running)].client.port}"
        config = OutboundConfig(f"spool-{at}", url, directory=folder / str(at))
        made.append(Spooling(config.run, Outbound(config)))
    try:
        with training(made, within_s=20):
            yield made
        assert [trainer.outbound.flush(30.0) for trainer in made] == [True] * RUNS
    finally:
        for trainer in made:
            trainer.outbound.close(0.0)


def test_a_restart_of_the_database_costs_nothing_and_real_clients_spool_over_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    database, running = cluster.database, cluster.running
    client = running[0].client
    trainers = trainers_of(running, "restart")
    with spooling(tmp_path, running) as clients, training(trainers):
        progress(trainers, 650)
        database.stop("immediate")
        until(lambda: all(trainer.refusals[503] > 2 for trainer in trainers))
        until(lambda: all(client.outbound.stats().http_failures for client in clients))
        began = time.monotonic()
        away = [client.send(f"new-{at}", upd(1, x=1.0)) for at in range(20)]
        away += [client.get("/runs/restart-0"), client.ask("GET", "/readyz")]
        answered_s = time.monotonic() - began
        lives = client.ask("GET", "/healthz").status
        database.start()
        back = time.monotonic()
        progress(trainers, 10)
        recovery_s = time.monotonic() - back
        until(lambda: client.ask("GET", "/readyz").status == 200)
        progress(trainers, 200)
    totals = tally(client, trainers, cluster.received)
    spooled = tally(running[1].client, clients)
    lost = [client.outbound.losses() for client in clients]

    assert [trainer.problems for trainer in trainers] == [[]] * RUNS
    assert totals.clean(), totals
    assert totals.edges >= RUNS * 2
    assert spooled.clean(), spooled
    assert spooled.acknowledged > 0
    assert lost == [{}] * RUNS
    assert sum(trainer.without_retry_after for trainer in trainers) == 0
    assert recovery_s < 5.0
    assert {trainer.status for trainer in away} == {503}
    assert lives == 200
    assert answered_s < 5.0, "no one waits for a database that is away"


def test_connections_that_the_database_cuts_under_load_cost_nothing(cluster: Cluster) -> None:
    trainers = trainers_of(cluster.running, "cut")
    cut = 0
    with training(trainers):
        for _ in range(CUTS):
            progress(trainers, 150)
            cut += len(
                cluster.database.ask(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'watchstep/%'"
                )
            )
        progress(trainers, 100)
    totals = tally(cluster.running[0].client, trainers, cluster.received)

    assert cut >= CUTS * 4
    assert totals.clean(), totals
    assert totals.edges >= RUNS * 2
    assert sum(trainer.without_retry_after for trainer in trainers) == 0


def test_a_full_disk_under_the_database_refuses_and_loses_nothing(tmp_path: Path) -> None:
    small = "-c min_wal_size=32MB -c max_wal_size=48MB -c checkpoint_timeout=30s"
    with (
        postgres_server(small, disk_bytes=160 * 1024 * 1024) as database,
        inbox() as received,
        replicas(tmp_path, 2, database.url, **received.settings()) as running,
    ):
        trainers = trainers_of(running)
        with training(trainers):
            progress(trainers, 650)
            ballast = database.folder / "ballast"
            fill(ballast)
            until(lambda: all(trainer.refusals[503] > 2 for trainer in trainers), 60)
            ready = until(lambda: running[0].client.ask("GET", "/readyz").status == 503)
            lives = running[0].client.ask("GET", "/healthz").status
            ballast.unlink()
            restart_if_dead(database)
            progress(trainers, 200)
        totals = tally(running[0].client, trainers, received)

    assert (ready, lives) == (True, 200)
    assert totals.clean(), totals
    assert totals.edges >= RUNS * 2
    assert sum(trainer.without_retry_after for trainer in trainers) == 0


def test_a_failover_to_a_synchronous_standby_loses_nothing(tmp_path: Path) -> None:
    with ExitStack() as stack:
        primary = stack.enter_context(postgres_server())
        standby = stack.enter_context(standby_of(primary))
        received = stack.enter_context(inbox())
        hosts = f"host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}"
        url = f"postgresql+psycopg://postgres@/postgres?{hosts}&target_session_attrs=read-write"
        running = stack.enter_context(replicas(tmp_path, 2, url, **received.settings()))
        trainers = trainers_of(running)
        with training(trainers):
            progress(trainers, 650)
            primary.stop("immediate")
            standby.promote()
            begun = time.monotonic()
            progress(trainers, 10)
            recovery_s = time.monotonic() - begun
            progress(trainers, 200)
        totals = tally(running[0].client, trainers, received)
        order = running[1].client.post("/runs/run-0/commands", {"kind": "halt"})
        taken = running[0].client.send("run-0", upd(trainers[0].acknowledged + 50, x=1.0))
        leader = until(lambda: clock_keepers(standby))

    assert totals.clean(), totals
    assert totals.edges >= RUNS * 2
    assert sum(trainer.without_retry_after for trainer in trainers) == 0
    assert recovery_s < 5.0
    assert order.status == 202
    assert [command["kind"] for command in taken.json["commands"]] == ["halt"]
    assert len(leader) == 1


def fill(ballast: Path) -> None:
    """Until not a byte is left, while the database writes beside it."""
    block = bytes(64 * 1024)
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(block)


def restart_if_dead(database: Server) -> None:
    """As whoever keeps a database does: without room for its log it may have given up."""
    until(lambda: not database.runs() or answers(database), 30)
    if not database.runs():
        (database.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        database.start()


def answers(database: Server) -> bool:
    import psycopg

    try:
        return bool(database.ask("SELECT 1"))
    except psycopg.OperationalError:
        return False


def clock_keepers(database: Server) -> list[object]:
    return database.ask("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted")
