"""Stories of a service that is killed with -9, told as often as asked."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from service.http_kit import Client, Running, served, until, upd

BATCH = 20
METRICS = {"training": "x", "otlp": "y"}
"""By source, what it reports."""


@dataclass
class Loads:
    """What became of updates sent while the service was killed again and again."""

    kills: int = 0
    acknowledged: int = 0
    stored: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0


class Trainer(threading.Thread):
    """Sends one run's updates, of two sources, until the service dies.

    Remembers the number up to which both were acknowledged.
    """

    def __init__(self, client: Client, run: str, from_seq: int) -> None:
        super().__init__(daemon=True)
        self.client, self.run_name, self.acknowledged = client, run, from_seq
        self.has_one = threading.Event()

    def run(self) -> None:
        try:
            while True:
                first = self.acknowledged + 1
                batch = [
                    {**upd(n, **{metric: float(n)}), "source": source}
                    for n in range(first, first + BATCH)
                    for source, metric in METRICS.items()
                ]
                if self.client.send(self.run_name, *batch).status != 202:
                    return
                self.acknowledged += BATCH
                self.has_one.set()
        except (OSError, ValueError, HTTPException):
            # Cut off in flight: it may be stored or not, and is sent again.
            return


def killed_under_load(folder: Path, kills: int, runs: int = 3, seed: int = 7) -> Loads:
    """Kill the service under load; count what was acknowledged and is not there, or twice."""
    chance = random.Random(seed)
    acknowledged = {f"run-{n}": 0 for n in range(runs)}
    loads = Loads(kills=kills)
    for _ in range(kills):
        with served(folder) as running:
            trainers = [Trainer(running.client, run, last) for run, last in acknowledged.items()]
            for trainer in trainers:
                trainer.start()
            trainers[0].has_one.wait(30)
            threading.Event().wait(chance.uniform(0.0, 0.2))
            running.kill()
            for trainer in trainers:
                trainer.join()
                acknowledged[trainer.run_name] = trainer.acknowledged
    with served(folder) as running:
        for run, last in acknowledged.items():
            _count(running, run, last, loads)
    return loads


def _count(running: Running, run: str, last: int, loads: Loads) -> None:
    status = running.client.get(f"/runs/{run}").json
    newest = {"training": status["last_seq"], **status["last_seqs"]}
    for source, metric in METRICS.items():
        seen = _seen(running, f"/runs/{run}/series?metric={metric}", newest[source], loads)
        loads.acknowledged += last
        loads.stored += len(seen)
        loads.lost += sum(n not in seen for n in range(1, last + 1))
        loads.doubled += sum(count > 1 for count in seen.values())
    loads.doubled += status["counts"]["lost"] > 0
    loads.doubled += status["counts"]["updates"] != sum(newest.values())


def _seen(running: Running, path: str, newest: int, loads: Loads) -> Counter[int]:
    seen: Counter[int] = Counter()
    for start in range(1, newest + 1, 9_000):
        steps = f"&points=10000&from_step={start * 10}&to_step={(start + 8_999) * 10}"
        for point in running.client.get(path + steps).json["points"]:
            seen[point["seq"]] += 1
            loads.wrong += point["value"] != float(point["seq"])
    return seen


@dataclass
class Pager:
    """A receiver that remembers each message, and when its answer was on its way."""

    server: ThreadingHTTPServer
    taken: list[tuple[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def pager() -> Pager:
    """A receiver on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body: Any = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.taken.append((body["watchstep"]["run"], str(self.headers["webhook-id"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    made = Pager(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    return made


@dataclass
class Alerts:
    """What became of alerts whose service was killed right after it had acknowledged them."""

    alerts: int = 0
    lost: int = 0
    repeated: int = 0
    with_another_id: int = 0


def killed_after_alerts(
    folder: Path, kills: int, at_once: int = 5, seed: int = 11, *, after_answer_s: float = 0.0
) -> Alerts:
    """Kill the service between the commit of alerts and their delivery; count who was told.

    With `after_answer_s` it is killed so long after the receiver has answered for all of them.
    """
    chance = random.Random(seed)
    receiver = pager()
    settings = {
        "WATCHSTEP_RECEIVERS__OPS__KIND": "webhook",
        "WATCHSTEP_RECEIVERS__OPS__URL": receiver.url,
        "WATCHSTEP_NOTIFY__ALLOW_PRIVATE_CIDRS": "127.0.0.0/8",
        "WATCHSTEP_NOTIFY__RETRY_BASE_S": "0.05",
        "WATCHSTEP_NOTIFY__RATE_PER_MINUTE": "100000",
    }
    try:
        for kill in range(kills):
            with served(folder, **settings) as running:
                _send_bad(running.client, [f"run-{kill}-{n}" for n in range(at_once)])
                if after_answer_s:
                    until(lambda: len(receiver.taken) >= (kill + 1) * at_once)  # noqa: B023
                pause_s = after_answer_s or chance.choice([0.0, 0.0, 0.001, 0.003, 0.006])
                threading.Event().wait(pause_s)
                running.kill()
        with served(folder, **settings) as running:
            until(lambda: not running.client.get("/deliveries?state=waiting").json["items"], 60)
    finally:
        receiver.close()
    ids: dict[str, list[str]] = {
        f"run-{kill}-{n}": [] for kill in range(kills) for n in range(at_once)
    }
    for run, identity in receiver.taken:
        ids[run].append(identity)
    return Alerts(
        alerts=len(ids),
        lost=sum(not each for each in ids.values()),
        repeated=sum(len(each) > 1 for each in ids.values()),
        with_another_id=sum(len(set(each)) > 1 for each in ids.values()),
    )


def _send_bad(client: Client, runs: list[str]) -> None:
    """A diverged update for each run, all at once; each one acknowledged."""
    with ThreadPoolExecutor(len(runs)) as pool:
        sent = pool.map(lambda run: client.send(run, upd(1, train__loss="NaN")).status, runs)
        assert set(sent) == {202}
