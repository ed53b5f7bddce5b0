"""Three replicas on one PostgreSQL, as processes: what they share, and what their deaths cost."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.http_kit import Running, until, upd
from service.kit import postgres_database
from story.postgres_kit import inbox, postgres_server
from story.replica_kit import Trainer, leaders, progress, replicas, tally, to_any, training

RUNS = 6
UPDATES = 1_500
"""Of each run: some seconds of load on two busy cores."""


def test_a_replica_killed_under_load_costs_no_update_no_alert_and_no_order(tmp_path: Path) -> None:
    with (
        postgres_database() as url,
        inbox() as received,
        replicas(tmp_path, 3, url, **received.settings()) as running,
    ):
        clients = [one.client for one in running]
        trainers = [Trainer(f"run-{at}", to_any(clients, at), 0.0) for at in range(RUNS)]
        with training(trainers):
            progress(trainers, UPDATES // 3)
            running[0].kill()
            progress(trainers, 2 * UPDATES // 3)
        # What the dead replica had claimed is free again when its lease ends.
        told = tally(clients[1], trainers, received)

    assert [one.problems for one in trainers] == [[]] * RUNS
    assert sum(one.unanswered for one in trainers) > 0, "nobody noticed the death"
    assert told.clean(), told
    assert told.edges >= RUNS * 4
    assert told.messages_repeated <= 4, "more than the dead replica can have had under way"
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


def test_a_reload_reaches_every_replica_that_has_a_good_file(tmp_path: Path) -> None:
    with postgres_database() as url, replicas(tmp_path, 3, url) as running:
        for one in running[:2]:
            path = one.folder / "rules.yaml"
            path.write_text(path.read_text().replace("> 10\n", "> 20\n"))
        (running[2].folder / "rules.yaml").write_text("no rules")

        assert running[0].client.ask("POST", "/-/reload").status == 200

        until(lambda: limit_of(running[1]) == "train/grad_norm > 20")
        until(lambda: "the rules stay as they were" in (running[2].folder / "log").read_text())
        assert limit_of(running[2]) == "train/grad_norm > 10"


def limit_of(one: Running) -> str:
    rules = {rule["name"]: rule["expr"] for rule in one.client.get("/rules").json["items"]}
    return str(rules["GradHigh"])


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
