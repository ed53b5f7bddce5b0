"""Three replicas on one PostgreSQL, as processes: what they share, and what their deaths cost."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.http_kit import Client, Running, served, until, upd
from service.kit import postgres_database
from story.postgres_kit import inbox, postgres_server

RUNS = 6
BATCH = 10
BATCHES = 150
"""6 runs of 1,500 updates: some seconds of load on two busy cores."""

KEEPS_CLOCK = "this replica keeps the clock"


@contextmanager
def replicas(folder: Path, count: int, url: str, **settings: str) -> Iterator[list[Running]]:
    """So many services, started at once."""
    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        entering = [
            pool.submit(
                stack.enter_context,
                served(folder / f"r{at}", WATCHSTEP_DATABASE_URL=url, **settings),
            )
            for at in range(count)
        ]
        yield [one.result() for one in entering]


def leaders(running: list[Running]) -> list[Running]:
    return [one for one in running if KEEPS_CLOCK in (one.folder / "log").read_text()]


@dataclass
class Trainer:
    """Sends one run's batches to any replica, again until one acknowledges."""

    run: str
    clients: list[Client]
    chance: random.Random
    stored: int = 0
    duplicates: int = 0
    failures: int = 0
    longest_wait_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    def train(self) -> None:
        for number in range(BATCHES):
            first = number * BATCH + 1
            updates = [
                upd(seq, train__grad_norm=value_of(seq)) for seq in range(first, first + BATCH)
            ]
            begun = time.monotonic()
            while not self._sent(updates):
                self.failures += 1
                if time.monotonic() - begun > 30:
                    self.problems.append(f"{self.run}: no replica took update {first}")
                    return
            self.longest_wait_s = max(self.longest_wait_s, time.monotonic() - begun)

    def _sent(self, updates: list[dict]) -> bool:
        try:
            answer = self.chance.choice(self.clients).send(self.run, *updates)
        except (OSError, http.client.HTTPException):
            return False
        if answer.status in {429, 503}:
            return False
        if answer.status != 202 or answer.json["rejected"]:
            self.problems.append(f"{answer.status} {answer.body[:300]!r}")
        self.stored += answer.json["accepted"]
        self.duplicates += answer.json["duplicates"]
        return True


def value_of(seq: int) -> float:
    """High, and with that alerting, from 700 to 709 and from 1,200 to 1,209."""
    return 50.0 if seq % 500 in range(200, 210) and seq > 500 else seq / 1_000


def test_a_replica_killed_under_load_costs_no_update_no_alert_and_no_order(tmp_path: Path) -> None:
    with (
        postgres_database() as url,
        inbox() as received,
        replicas(tmp_path, 3, url, **received.settings()) as running,
    ):
        clients = [one.client for one in running]
        trainers = [Trainer(f"run-{at}", clients, random.Random(at)) for at in range(RUNS)]
        threads = [threading.Thread(target=one.train) for one in trainers]
        for thread in threads:
            thread.start()
        until(lambda: sum(one.stored for one in trainers) > RUNS * BATCH * BATCHES / 3, 60)
        running[0].kill()
        for thread in threads:
            thread.join(90)
        left = clients[1]

        assert [one.problems for one in trainers] == [[]] * RUNS
        assert sum(one.failures for one in trainers) > 0, "nobody noticed the death"
        for one in trainers:
            status = left.get(f"/runs/{one.run}").json
            points = left.get(f"/runs/{one.run}/series?metric=train/grad_norm&points=10000").json
            found = [(point["seq"], point["value"]) for point in points["points"]]
            assert found == [(seq, value_of(seq)) for seq in range(1, BATCH * BATCHES + 1)]
            assert status["last_seq"] == BATCH * BATCHES
            assert status["counts"]["updates"] == BATCH * BATCHES
            edges = [
                (entry["seq"], entry["change"])
                for entry in left.get(f"/runs/{one.run}/timeline").json["items"]
                if entry["kind"] == "transition" and entry["rule"] == "GradHigh"
            ]
            assert edges == [
                (700, "firing"),
                (710, "resolved"),
                (1200, "firing"),
                (1210, "resolved"),
            ]
        # What the dead replica had claimed is free again when its lease ends.
        promised = RUNS * 4
        until(lambda: len(set(received.ids())) == promised, 60)
        waiting = left.get("/deliveries?state=waiting").json["items"]
        repeated = {one: count for one, count in Counter(received.ids()).items() if count > 1}

    assert waiting == []
    assert all(count == 2 for count in repeated.values())
    assert len(repeated) <= 4, "more than the dead replica can have had under way"
    assert max(one.longest_wait_s for one in trainers) < 5.0


def test_orders_and_events_reach_trainers_and_listeners_of_other_replicas(tmp_path: Path) -> None:
    with postgres_database() as url, replicas(tmp_path, 2, url) as (one, two):
        one.client.send("a", upd(1, train__grad_norm=1.0))
        with listening(two.client.port) as lines:
            order = two.client.post("/runs/a/commands", {"kind": "halt", "reason": "enough"})
            taken = one.client.send("a", upd(2, train__grad_norm=50.0))
            heard = heard_of(lines, "transition")
        shown = [
            "watchstep_run_step{" in client.ask("GET", "/metrics").body.decode()
            for client in (one.client, two.client)
        ]

    assert order.status == 202
    assert [command["kind"] for command in taken.json["commands"]] == ["halt"]
    assert (heard["rule"], heard["run"], heard["seq"]) == ("GradHigh", "a", 2)
    assert shown == [True, False], "a run shows once, at whoever committed its newest update"


def test_a_run_that_falls_silent_is_seen_although_the_replica_that_kept_the_clock_died(
    tmp_path: Path,
) -> None:
    with (
        postgres_database() as url,
        replicas(tmp_path, 2, url, WATCHSTEP_STALL__TIMEOUT_S="3") as running,
    ):
        until(lambda: leaders(running))
        (leader,) = leaders(running)
        (other,) = [one for one in running if one is not leader]
        leader.client.send("a", upd(1, train__grad_norm=1.0))
        leader.kill()

        until(lambda: other.client.get("/alerts?run=a&state=firing").json["items"], 20)

        assert leaders(running) == [leader, other] or leaders(running) == [other, leader]
        assert other.client.get("/runs/a").json["status"] == "stalled"


def test_while_the_database_is_away_trainers_are_asked_to_come_back_and_then_all_goes_on(
    tmp_path: Path,
) -> None:
    with (
        postgres_server() as database,
        replicas(tmp_path, 1, database.url) as (service,),
    ):
        client = service.client
        assert client.send("a", upd(1, train__grad_norm=1.0)).status == 202

        database.stop("immediate")
        away = client.send("a", upd(2, train__grad_norm=1.0))
        readings = client.get("/runs/a")
        ready, lives = client.ask("GET", "/readyz"), client.ask("GET", "/healthz")
        database.start()
        again = until(
            lambda: (a := client.send("a", upd(2, train__grad_norm=1.0))).status == 202 and a
        )

        assert (away.status, "retry-after" in away.headers) == (503, True)
        assert (readings.status, ready.status, lives.status) == (503, 503, 200)
        assert again.json["last_seq"] == 2
        assert until(lambda: client.ask("GET", "/readyz").status == 200)
        assert client.get("/runs/a").json["counts"]["updates"] == 2


@contextmanager
def listening(port: int) -> Iterator[Iterator[str]]:
    """The lines of an event stream that is open and heard by the service."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        lines = (line.decode().strip() for line in connection.makefile("rb"))
        assert any(line.startswith("retry:") for line in lines)
        yield lines


def heard_of(lines: Iterator[str], kind: str) -> dict:
    """The first event of a kind."""
    for line in itertools.islice(lines, 500):
        if line == f"event: {kind}":
            return json.loads(next(lines).removeprefix("data: "))
    pytest.fail(f"no {kind} was told")
