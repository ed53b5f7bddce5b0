"""Networks that are cut without a word: no connection ends, packets just never arrive."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from service.http_kit import Answer, Client, Running, served, until, upd
from story.network_kit import Network, network
from story.postgres_kit import Inbox, Server, inbox, postgres_server
from story.replica_kit import LENGTH, Spooling, Trainer, progress, tally, to_any, training
from watchstep.sender import Outbound, OutboundConfig

pytestmark = pytest.mark.long

log = logging.getLogger(__name__)

TOKEN = "wst_0123456789abcdef"
TOKENS = [
    {
        "name": "story",
        "sha256": hashlib.sha256(TOKEN.encode()).hexdigest(),
        "scopes": ["ingest", "read", "admin"],
    }
]
RUNS = 4
CUTS = round(3 * LENGTH)
REPLICAS = ("one", "two")


@dataclass
class Site:
    """Machines of their own for trainers, replicas, database and receiver."""

    net: Network
    database: Server
    received: Inbox
    running: dict[str, Running] = field(default_factory=dict)

    def client(self, place: str) -> Client:
        return Client(self.running[place].client.port, TOKEN, self.net.address(place))

    def trainers(self, name: str) -> list[Trainer]:
        clients = [self.client(replica) for replica in REPLICAS]
        return [Trainer(f"{name}-{at}", to_any(clients, at)) for at in range(RUNS)]

    def sessions_of(self, place: str) -> int:
        """Connections that the database believes to have with a replica."""
        query = f"SELECT 1 FROM pg_stat_activity WHERE client_addr = '{self.net.address(place)}'"
        return len(self.database.ask(query))

    def clock_keeper(self) -> str | None:
        """The replica whose session holds the lock, as the database sees it."""
        rows = self.database.ask(
            "SELECT host(client_addr) FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE locktype = 'advisory' AND granted"
        )
        return next((name for name in REPLICAS if (self.net.address(name),) in rows), None)


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        net = stack.enter_context(network("trainers", "receiver", "database", *REPLICAS))
        with net.inside("database"):
            database = stack.enter_context(postgres_server(host=net.address("database")))
        with net.inside("receiver"):
            received = stack.enter_context(inbox(net.address("receiver")))
        made = Site(net, database, received)
        settings = {
            "WATCHSTEP_DATABASE_URL": database.url,
            "WATCHSTEP_AUTH__TOKENS": json.dumps(TOKENS),
            **received.settings(),
        }

        def start(place: str) -> Running:
            with net.inside(place):
                return stack.enter_context(served(folder / place, "--host", "0.0.0.0", **settings))

        with ThreadPoolExecutor() as pool:
            made.running.update(zip(REPLICAS, pool.map(start, REPLICAS), strict=True))
        yield made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture
def at(made: Site) -> Iterator[Site]:
    """All of it at work; the test lives where the trainers do."""
    with made.net.inside("trainers"):
        yield made


def timed(ask: Callable[..., Answer], *words: Any) -> tuple[Answer, float]:
    begun = time.monotonic()
    return ask(*words), time.monotonic() - begun


def test_a_replica_that_loses_the_database_says_so_and_another_takes_over(at: Site) -> None:
    trainers = at.trainers("lost")
    lost = until(at.clock_keeper)
    (other,) = set(REPLICAS) - {lost}
    client = at.client(lost)
    new = [(client.send, f"new-{n}", upd(1, x=1.0)) for n in range(8)]
    asking = [*new, *[(client.get, "/runs/lost-0")] * 8]
    with training(trainers), ThreadPoolExecutor(16) as pool:
        progress(trainers, 650)
        at.net.cut(lost, "database")
        cut = time.monotonic()
        futures = [pool.submit(timed, *question) for question in asking]
        until(lambda: at.clock_keeper() == other)
        handed_over_s = time.monotonic() - cut
        until(lambda: at.sessions_of(lost) == 0)
        forgotten_s = time.monotonic() - cut
        first = [future.result() for future in futures]
        later = [timed(*question) for question in asking]
        lives, ready = (client.ask("GET", path).status for path in ("/healthz", "/readyz"))
        progress(trainers, 50)
        at.net.mend(lost, "database")
        mended = time.monotonic()
        until(lambda: all(ask(*words).status in {200, 202} for ask, *words in asking))
        recovered_s = time.monotonic() - mended
        progress(trainers, 100)
    totals = tally(client, trainers, at.received)
    log.info("the lock passed on after %.1f s, sessions ended %.1f s", handed_over_s, forgotten_s)
    log.info("refused in %.1f s, later in %.3f s", longest(first), longest(later))
    log.info("recovered in %.1f s", recovered_s)

    assert [trainer.problems for trainer in trainers] == [[]] * RUNS
    assert totals.clean(), totals
    assert totals.edges >= RUNS * 2
    assert sum(trainer.without_retry_after for trainer in trainers) == 0
    answers = [answer for answer, _ in first + later]
    assert {answer.status for answer in answers} == {503}
    assert all("retry-after" in answer.headers for answer in answers)
    assert (ready, lives) == (503, 200)
    assert longest(first) < 9.0
    assert longest(later) < 1.0
    assert handed_over_s < 10.0
    assert forgotten_s < 10.0
    assert recovered_s < 5.0
    assert max(trainer.longest_wait_s for trainer in trainers) < 12.0


def longest(timings: Sequence[tuple[Answer, float]]) -> float:
    return max(seconds for _, seconds in timings)


def test_a_network_that_comes_and_goes_costs_nothing(at: Site) -> None:
    chance = random.Random(8)
    trainers = at.trainers("flaky")
    recovered_s = []
    with training(trainers):
        progress(trainers, 650)
        for _ in range(CUTS):
            place = chance.choice(REPLICAS)
            at.net.cut(place, "database")
            # Sleeps are the story's own course here; nothing is waited for.
            time.sleep(chance.uniform(0.2, 4.0))
            at.net.mend(place, "database")
            mended = time.monotonic()
            client = at.client(place)
            until(lambda client=client: client.send("flaky", upd(1, x=1.0)).status == 202)
            recovered_s.append(time.monotonic() - mended)
            progress(trainers, 50)
    totals = tally(at.client("one"), trainers, at.received)

    assert [trainer.problems for trainer in trainers] == [[]] * RUNS
    assert totals.clean(), totals
    assert totals.edges >= RUNS * 2
    assert sum(trainer.without_retry_after for trainer in trainers) == 0
    assert max(recovered_s) < 5.0


def test_a_trainer_that_is_cut_off_trains_on_and_catches_up(at: Site, tmp_path: Path) -> None:
    client = at.client("one")
    url = f"http://{client.host}:{client.port}"
    trainer = Spooling("alone", Outbound(OutboundConfig("alone", url, TOKEN, directory=tmp_path)))
    stop = threading.Event()
    thread = threading.Thread(target=trainer.train, args=(stop,))
    thread.start()
    try:
        until(lambda: trainer.outbound.stats().sent > 50)
        at.net.cut("trainers", "one")
        until(lambda: trainer.outbound.stats().http_failures)
        behind = trainer.outbound.stats().queue_len
        at.net.mend("trainers", "one")
        mended = time.monotonic()
        until(lambda: trainer.outbound.stats().queue_len < behind // 4)
        caught_up_s = time.monotonic() - mended
    finally:
        stop.set()
        thread.join(20)
        flushed = trainer.outbound.flush(20.0)
        trainer.outbound.close(0.0)
    totals = tally(client, [trainer], at.received)
    log.info("caught up in %.1f s, longest put %.4f s", caught_up_s, trainer.longest_put_s)

    assert flushed
    assert behind > 100
    assert trainer.outbound.losses() == {}
    assert totals.clean(), totals
    assert trainer.longest_put_s < 0.5
    assert caught_up_s < 5.0
