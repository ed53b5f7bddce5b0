"""Readings a second into this service and into InfluxDB, in turns on the same machine.

    apt-get install influxdb
    python benchmarks/ingest_peers.py [--seconds 5] [--rounds 3]

Each server has one core to itself and the client has the other. Both sync before they answer:
InfluxDB (1.6, of Debian) as it is configured out of the box, watchstep with SQLite at
synchronous=FULL. watchstep judges every update by the default packs as well; InfluxDB judges
nothing. The same 20 metrics an update: JSON and rows of doubles here, line protocol there; four
connections, one run or series each; bodies are made before the clock starts.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ingest_cost import batches, bodies, row_bodies
from log_cost import service

from watchstep.wire.rows import ROWS_TYPE

CONNECTIONS = 4
FASTEST_S = 80_000
"""Updates a second for which bodies are made beforehand."""


@dataclass(frozen=True)
class Way:
    """One way of sending updates: how bodies are made and where each connection posts them."""

    name: str
    make: Callable[[int, int, int], list[bytes]]
    content_type: str
    path: str
    status: int


WAYS = (
    Way("watchstep, JSON", bodies, "application/json", "/api/v1/runs/{run}/updates", 202),
    Way("watchstep, rows", row_bodies, ROWS_TYPE, "/api/v1/runs/{run}/updates", 202),
)


def lines(run: int, batch: int, count: int) -> list[bytes]:
    """The same updates in InfluxDB's line protocol, one point an update."""
    made = []
    for numbered in batches(run, batch, count):
        points = []
        for seq, metrics in numbered:
            fields = ",".join(f"{name}={value!r}" for name, value in metrics.items())
            points.append(f"train,run=run-{run} {fields} {1_700_000_000 + seq}000000000")
        made.append("\n".join(points).encode())
    return made


INFLUX = Way("InfluxDB, lines", lines, "text/plain", "/write?db=bench", 204)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def influx(folder: Path) -> Iterator[str]:
    """A real InfluxDB on a free port, empty."""
    port = free_port()
    config = folder / "influxdb.conf"
    config.write_text(
        "reporting-enabled = false\n"
        f'bind-address = "127.0.0.1:{free_port()}"\n'
        f'[meta]\n  dir = "{folder}/meta"\n'
        f'[data]\n  dir = "{folder}/data"\n  wal-dir = "{folder}/wal"\n'
        f'[http]\n  bind-address = "127.0.0.1:{port}"\n  log-enabled = false\n'
        "[monitor]\n  store-enabled = false\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["influxd", "-config", str(config)], stdout=log, stderr=log)
        try:
            _created(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def _created(port: int) -> None:
    """Make the database as soon as the server answers."""
    until = time.monotonic() + 30
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.request("POST", "/query?q=CREATE+DATABASE+bench")
            if connection.getresponse().status == 200:
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        finally:
            connection.close()


def drive(url: str, run: int, way: Way, waiting: list[bytes], until: float) -> list[float]:
    """Post bodies over one connection until the time is over; seconds that each took."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port)
    path, took = way.path.format(run=f"run-{run}"), []
    for body in waiting:
        begun = time.perf_counter()
        if begun > until:
            break
        connection.request("POST", path, body, {"content-type": way.content_type})
        answer = connection.getresponse()
        answer.read()
        if answer.status != way.status:
            raise SystemExit(f"{way.name}: status {answer.status}")
        took.append(time.perf_counter() - begun)
    connection.close()
    return took


def load(url: str, way: Way, batch: int, seconds: float) -> tuple[float, float]:
    """Readings a second, and the 99th percentile of a request in milliseconds."""
    count = int(seconds * FASTEST_S / batch / CONNECTIONS / (1 if batch > 1 else 8)) + 1
    todo = [way.make(run, batch, count) for run in range(CONNECTIONS)]
    took: list[float] = []
    begun = time.perf_counter()
    threads = [
        threading.Thread(
            target=lambda run=run: took.extend(drive(url, run, way, todo[run], begun + seconds))
        )
        for run in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lasted = time.perf_counter() - begun
    took.sort()
    return len(took) * batch * 20 / lasted, took[int(len(took) * 0.99)] * 1e3


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Pin this thread, and what it starts within, to a core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measured(way: Way, batch: int, seconds: float) -> tuple[float, float]:
    """One way against a fresh server of its own."""
    server = influx if way is INFLUX else service
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "data").mkdir()
        starting = on_core(0)
        starting.__enter__()
        with server(Path(name)) as url:
            starting.__exit__(None, None, None)
            with on_core(1):
                return load(url, way, batch, seconds)


def main() -> None:
    """Print rates and ratios, medians over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    for batch in (1, 50, 100):
        figures: dict[str, list[tuple[float, float]]] = {}
        for _ in range(chosen.rounds):
            for way in (INFLUX, *WAYS):
                figures.setdefault(way.name, []).append(measured(way, batch, chosen.seconds))
        print(f"{batch} update{'s' if batch > 1 else ''} of 20 metrics a request:")
        peer = statistics.median(rate for rate, _ in figures[INFLUX.name])
        late = statistics.median(p99 for _, p99 in figures[INFLUX.name])
        for name, pairs in figures.items():
            rate = statistics.median(rate for rate, _ in pairs)
            p99 = statistics.median(p99 for _, p99 in pairs)
            print(
                f"  {name:<18} {rate:>10,.0f} readings/s {rate / peer:5.2f}x"
                f"   p99 {p99:7.1f} ms {p99 / late:5.2f}x"
            )


if __name__ == "__main__":
    main()
