"""Replicas on one database, trainers that never stop, and the count of what became of it all."""

from __future__ import annotations

import http.client
import logging
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from service.http_kit import Answer, Client, Running, accepts, served, until, upd
from story.postgres_kit import Inbox
from watchstep.core.updates import Update
from watchstep.sender import Outbound
from watchstep_monitor.service.run_state.records import short_id

log = logging.getLogger(__name__)

KEEPS_CLOCK = "this replica keeps the clock"
NGINX_CONF = Path(__file__).parents[2] / "deploy/nginx/watchstep.conf"

LENGTH = float(os.environ.get("WATCHSTEP_STORY_LENGTH", "1"))
"""How much longer than in everyday tests the stories of failures are told."""

BATCH = 10
MOST = 9_500
"""Updates of one run: the longest series that one answer holds unthinned."""


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
        yield [future.result() for future in entering]


def leaders(running: Sequence[Running]) -> list[Running]:
    """Those that said so, dead ones included."""
    return [service for service in running if KEEPS_CLOCK in (service.folder / "log").read_text()]


def free_port() -> int:
    """Below those that the system gives to outgoing connections: a service that comes back must
    find its port free, and nobody may be connected to himself meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


class Replica:
    """One place behind the proxy, where a service can die and come back under the same port."""

    def __init__(self, folder: Path, url: str, **settings: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._settings = {"WATCHSTEP_DATABASE_URL": url, **settings}
        self._stack = ExitStack()
        self.running: Running | None = None

    def start(self) -> None:
        self.running = self._stack.enter_context(
            served(self._folder, "--port", str(self.port), **self._settings)
        )

    def kill(self) -> None:
        self._stack.close()

    def pause(self) -> None:
        assert self.running is not None
        self.running.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.running is not None
        self.running.process.send_signal(signal.SIGCONT)


@contextmanager
def standing(places: Sequence[Replica]) -> Iterator[Sequence[Replica]]:
    """All of them running; all gone at the end."""
    try:
        with ThreadPoolExecutor(len(places)) as pool:
            list(pool.map(lambda place: place.start(), places))
        yield places
    finally:
        for place in places:
            place.kill()


@contextmanager
def nginx(folder: Path, ports: Sequence[int]) -> Iterator[int]:
    """Debian's nginx with the configuration that is shipped, before these ports; its own port."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    folder.mkdir()
    port = free_port()
    shipped = NGINX_CONF.read_text()
    servers = "".join(
        f"server 127.0.0.1:{service_port} max_fails=1 fail_timeout=5s;\n" for service_port in ports
    )
    here, count = re.subn(r"( *server replica-\d:8420 [^;]*;\n)+", servers, shipped)
    assert count == 1
    here = here.replace("listen 80;", f"listen 127.0.0.1:{port};")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\npid {folder}/pid;\nerror_log {folder}/log warn;\nworker_processes 1;\n"
        f"events {{ worker_connections 512; }}\n"
        f"http {{\naccess_log off;\n{temporary}{here}}}\n"
    )
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        until(lambda: process.poll() is not None or accepts(port))
        assert process.poll() is None, (folder / "out").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(10)


def value_of(seq: int) -> float:
    """High, and with that alerting, for four updates in every 500, from the 700th on.

    Few enough that the shipped rules about levels, which judge beside these, see no growth.
    """
    return 50.0 if seq % 500 in range(200, 204) and seq > 500 else seq / 1_000


def edges_of(last_seq: int) -> list[tuple[int, str]]:
    """The transitions that the updates up to a number must have made, in order."""
    edges = []
    for start in range(700, last_seq + 1, 500):
        edges += [(start, "firing")] + [(start + 4, "resolved")] * (start + 4 <= last_seq)
    return edges


@dataclass
class Trainer:
    """Sends one run's batches, each again until it is acknowledged, until told to stop.

    Attributes:
        acknowledged: Sequence number up to which the service has said that it has everything.
        refusals: Answers other than 202, by status.
        longest_wait_s: The longest that one batch waited for its acknowledgement.
    """

    run: str
    ask: Callable[[str, Sequence[dict]], Answer]
    pause_s: float = 0.02
    acknowledged: int = 0
    stored: int = 0
    duplicates: int = 0
    unanswered: int = 0
    refusals: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0
    longest_wait_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    def train(self, stop: threading.Event) -> None:
        while not stop.is_set() and self.acknowledged + BATCH <= MOST:
            first = self.acknowledged + 1
            updates = [
                upd(seq, train__grad_norm=value_of(seq)) for seq in range(first, first + BATCH)
            ]
            begun = time.monotonic()
            while not self._sent(updates):
                if time.monotonic() - begun > 60:
                    self.problems.append(f"{self.run}: no replica took update {first}")
                    return
                stop.wait(0.05)
            self.longest_wait_s = max(self.longest_wait_s, time.monotonic() - begun)
            self.acknowledged += BATCH
            stop.wait(self.pause_s)

    def _sent(self, updates: Sequence[dict]) -> bool:
        try:
            answer = self.ask(self.run, updates)
        except (OSError, http.client.HTTPException):
            self.unanswered += 1
            return False
        if answer.status in {429, 503}:
            self.refusals[answer.status] += 1
            self.without_retry_after += "retry-after" not in answer.headers
            return False
        if answer.status != 202 or answer.json["rejected"]:
            self.problems.append(f"{answer.status} {answer.body[:300]!r}")
            return True
        self.stored += answer.json["accepted"]
        self.duplicates += answer.json["duplicates"]
        return True


@dataclass
class Spooling:
    """One run's real client, which trains on whatever the service does.

    Attributes:
        longest_put_s: The longest that training was held up by one update.
    """

    run: str
    outbound: Outbound
    acknowledged: int = 0
    longest_put_s: float = 0.0

    def train(self, stop: threading.Event) -> None:
        seq = 0
        while not stop.wait(0.01):
            seq += 1
            readings = {"train/grad_norm": value_of(seq)}
            begun = time.monotonic()
            self.outbound.put(Update(seq, seq * 10, 1_700_000_000.5 + seq, readings))
            self.longest_put_s = max(self.longest_put_s, time.monotonic() - begun)
        self.acknowledged = seq


def to_any(clients: Sequence[Client], seed: int) -> Callable[[str, Sequence[dict]], Answer]:
    """Each batch to a client picked at random."""
    chance = random.Random(seed)
    return lambda run, updates: chance.choice(clients).send(run, *updates)


@contextmanager
def training(trainers: Sequence[Any], within_s: float = 90) -> Iterator[Sequence[Any]]:
    """All at work inside the block; each is done with its last batch after it."""
    stop = threading.Event()
    threads = [threading.Thread(target=trainer.train, args=(stop,)) for trainer in trainers]
    for thread in threads:
        thread.start()
    try:
        yield trainers
    finally:
        stop.set()
        for thread in threads:
            thread.join(within_s)


def progress(trainers: Sequence[Trainer], updates: int, seconds: float = 60) -> None:
    """Wait until every run has moved on by so many acknowledged updates."""
    goals = [min(trainer.acknowledged + updates, MOST - BATCH) for trainer in trainers]
    until(
        lambda: all(
            trainer.acknowledged >= goal for trainer, goal in zip(trainers, goals, strict=True)
        ),
        seconds,
    )


@dataclass
class Tally:
    """What became of acknowledged updates, of alerts and of messages.

    Attributes:
        messages_lost: In the outbox, and never received.
        messages_missing: Edges of alerts for which no message was even written.
        messages_foreign: Received under an id that is not in the outbox.
        messages_repeated: Received again, under the id that they had the first time.
    """

    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    out_of_order: int = 0
    edges: int = 0
    edges_wrong: int = 0
    messages: int = 0
    messages_lost: int = 0
    messages_missing: int = 0
    messages_repeated: int = 0
    messages_foreign: int = 0

    def clean(self) -> bool:
        """Whether nothing was lost, doubled, wrong or out of order, repeats aside."""
        bad = (self.lost, self.doubled, self.wrong, self.out_of_order, self.edges_wrong)
        untold = (self.messages_lost, self.messages_missing, self.messages_foreign)
        return not any((*bad, *untold))


def tally(
    client: Client,
    trainers: Sequence[Trainer | Spooling],
    received: Inbox | None = None,
) -> Tally:
    """Look at every run, and wait until everything that was to be told was told.

    Args:
        client: Of any replica.
        trainers: Whose runs.
        received: Where messages went; None to leave them out.
    """
    totals = Tally()
    for trainer in trainers:
        _count_updates(client, trainer, totals)
        _count_edges(client, trainer, totals)
    if received is not None:
        # What a replica that died had under way waits for the end of its lease.
        until(lambda: not client.get("/deliveries?state=waiting").json["items"], 60)
        _count_messages(client, {trainer.run for trainer in trainers}, received, totals)
    # Shown by --log-cli-level=INFO; the docs quote them.
    log.info("%s", totals)
    longest = max((getattr(trainer, "longest_wait_s", 0.0) for trainer in trainers), default=0.0)
    log.info("the longest wait for an acknowledgement: %.2f s", longest)
    return totals


def _count_updates(client: Client, trainer: Trainer, totals: Tally) -> None:
    answer = client.get(f"/runs/{trainer.run}")
    assert answer.status == 200, answer.body
    status = answer.json
    points = client.get(f"/runs/{trainer.run}/series?metric=train/grad_norm&points=10000").json
    assert not points["thinned"]
    seqs = [point["seq"] for point in points["points"]]
    totals.acknowledged += trainer.acknowledged
    totals.lost += sum(seq not in set(seqs) for seq in range(1, trainer.acknowledged + 1))
    totals.doubled += len(seqs) - len(set(seqs)) + (status["counts"]["updates"] != len(seqs))
    totals.wrong += sum(point["value"] != value_of(point["seq"]) for point in points["points"])
    totals.out_of_order += seqs != sorted(seqs)
    # A batch that was under way at the end may be there too.
    assert trainer.acknowledged <= status["last_seq"] <= trainer.acknowledged + BATCH


def _count_edges(client: Client, trainer: Trainer, totals: Tally) -> None:
    last_seq = client.get(f"/runs/{trainer.run}").json["last_seq"]
    items, cursor = [], ""
    while cursor is not None:
        page = client.get(f"/runs/{trainer.run}/timeline?limit=500{cursor}").json
        items += page["items"]
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
    edges = [
        (entry["seq"], entry["change"])
        for entry in items
        if entry["kind"] == "transition" and entry["rule"] == "GradHigh"
    ]
    totals.edges += len(edges)
    totals.edges_wrong += edges != edges_of(last_seq)


def _count_messages(client: Client, runs: set[str], received: Inbox, totals: Tally) -> None:
    promised, others, cursor = set(), set(), ""
    while cursor is not None:
        page = client.get(f"/deliveries?limit=500{cursor}").json
        promised |= {delivery["id"] for delivery in page["items"] if delivery["run"] in runs}
        others |= {item["id"] for item in page["items"] if item["run"] not in runs}
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
    # Ids of deliveries are made of webhook ids, since one message may go to several.
    ids = [short_id("dl", webhook_id, "ops") for webhook_id in received.ids()]
    ids = [delivery_id for delivery_id in ids if delivery_id not in others]
    totals.messages = len(promised)
    totals.messages_missing = max(totals.edges - len(promised), 0)
    totals.messages_lost = len(promised - set(ids))
    totals.messages_foreign = len(set(ids) - promised)
    totals.messages_repeated = len(ids) - len(set(ids))
