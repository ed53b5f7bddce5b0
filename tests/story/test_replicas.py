"""Three replicas on one PostgreSQL, as processes: what they share, and what their deaths cost."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.http_kit import Running, until, upd
from service.kit import postgres_database
from story.postgres_kit import Inbox, inbox
from story.replica_kit import Trainer, leaders, progress, replicas, tally, to_any, training

pytestmark = pytest.mark.long

RUNS = 6
UPDATES = 1_500
"""Of each run: some seconds of load on two busy cores."""


@dataclass
class Cluster:
    """What the tests here share, in their order: the last one kills a replica."""

    url: str
    received: Inbox
    running: list[Running]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with (
        postgres_database() as url,
        inbox() as received,
        replicas(folder, 3, url, **received.settings()) as running,
    ):
        yield Cluster(url, received, running)


def test_orders_and_events_reach_trainers_and_listeners_of_other_replicas(
    cluster: Cluster,
) -> None:
    first, second, _ = cluster.running
    first.client.send("a", upd(1, train__grad_norm=1.0))
    with listening(second.client.port) as lines:
        order = second.client.post("/runs/a/commands", {"kind": "halt", "reason": "enough"})
        taken = first.client.send("a", upd(2, train__grad_norm=50.0))
        heard = heard_of(lines, "transition")
    shown = [
        "watchstep_run_step{" in client.ask("GET", "/metrics").body.decode()
        for client in (first.client, second.client)
    ]

    assert order.status == 202
    assert [command["kind"] for command in taken.json["commands"]] == ["halt"]
    assert (heard["rule"], heard["run"], heard["seq"]) == ("GradHigh", "a", 2)
    assert shown == [True, False], "a run shows once, at whoever committed its newest update"


def test_a_reload_reaches_every_replica_that_has_a_good_file(cluster: Cluster) -> None:
    files = [service.folder / "rules.yaml" for service in cluster.running]
    good = files[0].read_text()
    for file in files[:2]:
        file.write_text(good.replace("> 10\n", "> 20\n"))
    files[2].write_text("no rules")

    assert cluster.running[0].client.ask("POST", "/-/reload").status == 200

    until(lambda: limit_of(cluster.running[1]) == "train/grad_norm > 20")
    log = cluster.running[2].folder / "log"
    until(lambda: "the rules stay as they were" in log.read_text())
    assert limit_of(cluster.running[2]) == "train/grad_norm > 10"
    for file in files:
        file.write_text(good)
    cluster.running[0].client.ask("POST", "/-/reload")
    until(lambda: {limit_of(service) for service in cluster.running} == {"train/grad_norm > 10"})


def limit_of(service: Running) -> str:
    rules = {rule["name"]: rule["expr"] for rule in service.client.get("/rules").json["items"]}
    return str(rules["GradHigh"])


def test_a_replica_killed_under_load_costs_no_update_no_alert_and_no_order(
    cluster: Cluster,
) -> None:
    clients = [service.client for service in cluster.running]
    trainers = [Trainer(f"run-{at}", to_any(clients, at), 0.0) for at in range(RUNS)]
    with training(trainers):
        progress(trainers, UPDATES // 3)
        cluster.running[0].kill()
        progress(trainers, 2 * UPDATES // 3)
    totals = tally(clients[1], trainers, cluster.received)

    assert [trainer.problems for trainer in trainers] == [[]] * RUNS
    assert sum(trainer.unanswered for trainer in trainers) > 0, "nobody noticed the death"
    assert totals.clean(), totals
    assert totals.edges >= RUNS * 4
    assert totals.messages_repeated <= 4, "more than the dead replica can have had under way"
    assert max(trainer.longest_wait_s for trainer in trainers) < 5.0


def test_a_run_that_falls_silent_is_seen_although_the_replica_that_kept_the_clock_died(
    tmp_path: Path,
) -> None:
    with (
        postgres_database() as url,
        replicas(tmp_path, 2, url, WATCHSTEP_STALL__TIMEOUT_S="3") as running,
    ):
        until(lambda: leaders(running))
        (leader,) = leaders(running)
        (other,) = [service for service in running if service is not leader]
        leader.client.send("a", upd(1, train__grad_norm=1.0))
        leader.kill()

        until(lambda: other.client.get("/alerts?run=a&state=firing").json["items"], 20)

        assert leaders(running) == [leader, other] or leaders(running) == [other, leader]
        assert other.client.get("/runs/a").json["status"] == "lost"


def test_what_a_dead_replica_was_sending_goes_out_within_seconds(tmp_path: Path) -> None:
    with (
        postgres_database() as url,
        inbox() as received,
        replicas(tmp_path, 2, url, **received.settings()) as running,
    ):
        received.answers.clear()
        running[0].client.send("a", upd(1, train__grad_norm=50.0))
        until(lambda: received.got)
        (sender,) = [each for each in running if connected(each.process.pid, received.port)]
        # Past the second in which the lease is new, so that renewals count.
        time.sleep(1.5)
        sender.kill()
        died = time.monotonic()
        until(lambda: len(received.got) == 2)
        took_s = time.monotonic() - died
        received.answers.set()

    assert received.ids() == [received.ids()[0]] * 2
    # Five on a machine with nothing else to do.
    assert took_s < 20.0


def connected(pid: int, port: int) -> bool:
    """Whether a process has a connection to a port of this machine, by what Linux lists."""
    own = {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return any(f"socket:[{row[9]}]" in own and row[2].endswith(f":{port:04X}") for row in rows)


def test_a_silence_made_at_one_replica_holds_at_all_at_the_very_next_alert(tmp_path: Path) -> None:
    with (
        postgres_database() as url,
        inbox() as received,
        replicas(tmp_path, 3, url, **received.settings()) as running,
    ):
        first, *others = (service.client for service in running)
        for at, client in enumerate(others):
            # What they know of silences is fresh before the silence is made.
            client.send(f"loud-{at}", upd(1, train__grad_norm=50.0))
        until(lambda: len(received.got) == len(others))
        made = first.post(
            "/silences", {"matchers": ['run=~"quiet.*"'], "duration_s": 600, "comment": "known"}
        )
        taken = [
            client.send(f"quiet-{at}", upd(1, train__grad_norm=50.0))
            for at, client in enumerate(others)
        ]
        alerts = [first.get(f"/alerts?run=quiet-{at}").json["items"] for at in range(len(others))]
        promised = first.get("/deliveries").json["items"]

    assert made.status == 201
    assert [answer.status for answer in taken] == [202, 202]
    assert all(alert["silenced"] for own in alerts for alert in own)
    assert {item["run"] for item in promised} == {"loud-0", "loud-1"}


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
