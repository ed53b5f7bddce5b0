"""Requests a second of many trainers, beside the least that could serve them, and where time goes.

    python benchmarks/request_cost.py [--seconds 5] [--rounds 3] [--connections 64]
    python benchmarks/request_cost.py --profile      # needs py-spy
    python benchmarks/request_cost.py --replicas
    python benchmarks/request_cost.py --crowd 20000

Single updates of 20 metrics as the real client sends them, each connection a run of its own; the
same update again and again; a run's first `PUT`; that and the run's first update. The embedded
store, PostgreSQL (a database of its own on the server that the tests use) and a bare ASGI
application that appends to a file and syncs once a group, in turns: each served by one core, with
client and database on the other. The default packs judge every update. `--profile` prints the
shares of the service's processor time, for single updates, batches of a hundred and first
contacts; `--replicas` what it costs two of them when a run's updates go to both in turn;
`--crowd` how long so many new runs take two replicas, each with its first update, and counts them.
"""

from __future__ import annotations

import argparse
import math
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fleet import allow_files, body, cpu_of, free_port, serving
from sqlalchemy import create_engine

from watchstep.wire.rows import ROWS_TYPE

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from service.kit import postgres_database

Make = Callable[[int, int], bytes]
"""The bytes of a connection's request, by its number."""


def posted(updates: int, *, again: bool = False) -> Make:
    """Batches of a run, each the next one, or the first one again and again."""

    def make(connection: int, number: int) -> bytes:
        first = 1 if again else number * updates + 1
        content = body(first, updates, connection)
        head = f"POST /api/v1/runs/run-{connection}/updates HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Type: {ROWS_TYPE}\r\nContent-Length: {len(content)}\r\n\r\n"
        return head.encode() + content

    return make


def put(connection: int, number: int) -> bytes:
    """The first contact of one run after the other."""
    content = b'{"trainer":"bench","session":"s","tags":{"host":"node-1"},"config":{"lr":0.001}}'
    head = f"PUT /api/v1/runs/run-{connection}-{number} HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def first_contact(connection: int, number: int) -> bytes:
    """The `PUT` of one run after the other, each followed by its first update."""
    run, of_the_run = divmod(number, 2)
    if not of_the_run:
        return put(connection, run)
    content = body(1, 1, connection)
    head = f"POST /api/v1/runs/run-{connection}-{run}/updates HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Content-Type: {ROWS_TYPE}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


KINDS: dict[str, Make] = {
    "single updates": posted(1),
    "the same update again": posted(1, again=True),
    "runs begun": put,
    "runs begun, each with its first update": first_contact,
}

PROFILED: dict[str, Make] = {
    "single updates": posted(1),
    "batches of 100": posted(100),
    "runs begun, each with its first update": first_contact,
}


@dataclass
class Load:
    """Many trainers in one thread, each with one request under way.

    Attributes:
        ports: Of the replicas; a trainer stays at one of them, or goes to each in turn.
    """

    ports: tuple[int, ...]
    make: Make
    trainers: int
    alternates: bool = False
    took_s: list[float] = field(default_factory=list)

    def run(self, seconds: float, most: int | None = None) -> float:
        """Requests a second, until so many were answered or the time is over."""
        with selectors.DefaultSelector() as selector, ExitStack() as open_sockets:
            begun = time.perf_counter()
            for at in range(self.trainers):
                ports = self.ports if self.alternates else [self.ports[at % len(self.ports)]]
                lines = [
                    open_sockets.enter_context(socket.create_connection(("127.0.0.1", port)))
                    for port in ports
                ]
                state = [at, 0, time.perf_counter(), lines]
                for line in lines:
                    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(line, selectors.EVENT_READ, state)
                lines[0].sendall(self.make(at, 0))
            while time.perf_counter() - begun < seconds and len(self.took_s) < (most or math.inf):
                for key, _ in selector.select(1.0):
                    self._answered(key.fileobj, key.data)
            return len(self.took_s) / (time.perf_counter() - begun)

    def _answered(self, line: socket.socket, state: list) -> None:
        answer = line.recv(65_536)
        # An answer of the service is small, and comes in one or two pieces.
        head, _, content = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        while len(content) < length:
            content += line.recv(65_536)
        if not head.startswith((b"HTTP/1.1 202", b"HTTP/1.1 200")):
            raise SystemExit(f"{head.decode()}\n{content.decode()}")
        now = time.perf_counter()
        self.took_s.append(now - state[2])
        state[1:3] = state[1] + 1, now
        lines = state[3]
        lines[state[1] % len(lines)].sendall(self.make(state[0], state[1]))


@dataclass(frozen=True)
class Figure:
    """Of one load."""

    rate: float
    cpu_us: float
    p99_ms: float


@contextmanager
def bare(folder: Path) -> Iterator[tuple[int, int]]:
    """Port and process of the peer."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("bare_asgi.py"))]
    with subprocess.Popen([*command, str(folder / "bodies"), str(port)]) as process:
        until = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < until:
            time.sleep(0.05)
        try:
            yield port, process.pid
        finally:
            process.kill()


@contextmanager
def embedded(folder: Path) -> Iterator[tuple[int, int]]:
    """The service with the embedded store."""
    with serving(folder, WATCHSTEP_LIMITS__RUNS="1000000") as service:
        assert service.process is not None
        yield service.port, service.process.pid


@contextmanager
def postgres(folder: Path) -> Iterator[tuple[int, int]]:
    """The service with a database of its own."""
    limit = {"WATCHSTEP_LIMITS__RUNS": "1000000"}
    with (
        postgres_database() as url,
        serving(folder, WATCHSTEP_DATABASE_URL=url, **limit) as service,
    ):
        assert service.process is not None
        yield service.port, service.process.pid


SERVERS = {"bare ASGI, fsync": bare, "embedded": embedded, "PostgreSQL": postgres}


@contextmanager
def served(name: str) -> Iterator[tuple[int, int]]:
    """A fresh server, alone on the first core."""
    before = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        os.sched_setaffinity(0, {min(before)})
        try:
            place = stack.enter_context(SERVERS[name](Path(folder)))
            os.sched_setaffinity(0, {max(before)})
            yield place
        finally:
            os.sched_setaffinity(0, before)


def measured(name: str, make: Make, chosen: argparse.Namespace) -> Figure:
    """One load on a fresh server."""
    with served(name) as (port, pid):
        load = Load((port,), make, chosen.connections)
        before = cpu_of(pid)
        rate = load.run(chosen.seconds)
        cpu_us = (cpu_of(pid) - before) / len(load.took_s) * 1e6
    load.took_s.sort()
    return Figure(rate, cpu_us, load.took_s[int(len(load.took_s) * 0.99)] * 1e3)


SHARES = (
    # Where rules are compiled they have no frames, and their time stands at who calls them.
    ("rules", ("watchstep/core/", "._fold (")),
    ("reading the body", ("http/batches", "http/strict_json", "watchstep/wire/")),
    ("database driver", ("sqlalchemy/", "psycopg", "sqlite3")),
    ("store", ("watchstep_monitor/store/",)),
    ("hand-over between threads", ("service/outcomes", "concurrent/futures", "threading.py")),
    ("run, alerts, incidents", ("watchstep_monitor/service/",)),
    ("gauges", ("prometheus_client", "watchstep_monitor/gauges/")),
    (
        "HTTP, ours and the framework",
        ("watchstep_monitor/http/", "starlette/", "fastapi/", "pydantic"),
    ),
    ("HTTP, the server", ("uvicorn/", "asyncio/")),
)
"""What a stack belongs to: its innermost frame in a file that is named here."""


def share_of(stack: str) -> str:
    """The share that a line of py-spy's raw format counts for."""
    for frame in reversed(stack.split(";")):
        for share, files in SHARES:
            if any(file in frame for file in files):
                return share
    return "other"


def profile(name: str, kind: str, make: Make, chosen: argparse.Namespace) -> None:
    """Print the shares of one load, the largest first."""
    with served(name) as (port, pid), tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "stacks"
        command = [
            "py-spy",
            "record",
            "--gil",
            "--full-filenames",
            "--format",
            "raw",
            "--rate",
            "250",
        ]
        command += ["--duration", str(int(chosen.seconds)), "--output", str(out), "--pid", str(pid)]
        spy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = cpu_of(pid)
        load = Load((port,), make, chosen.connections)
        rate = load.run(chosen.seconds)
        cpu_us = (cpu_of(pid) - before) / len(load.took_s) * 1e6
        spy.wait(60)
        counts: Counter[str] = Counter()
        for line in out.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            counts[share_of(stack)] += int(count)
        if chosen.stacks:
            Path(f"{chosen.stacks}-{name}-{kind}").write_text(out.read_text())
    print(f"{name}, {kind}: {rate:,.0f} requests/s, {cpu_us:.0f} us each")
    for share, count in counts.most_common():
        part = count / counts.total()
        print(f"  {share:<30} {part:6.1%} {part * cpu_us:8.0f} us")


def alternation(chosen: argparse.Namespace) -> None:
    """Print what it costs two replicas when runs do not stay at one of them."""
    for alternates in (False, True) * chosen.rounds:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            url = stack.enter_context(postgres_database())
            replicas = [
                stack.enter_context(serving(Path(folder) / name, WATCHSTEP_DATABASE_URL=url))
                for name in ("one", "two")
            ]
            load = Load(
                tuple(each.port for each in replicas), posted(1), chosen.connections, alternates
            )
            before = sum(each.cpu_s() for each in replicas)
            rate = load.run(chosen.seconds)
            spent = (sum(each.cpu_s() for each in replicas) - before) / len(load.took_s)
        way = "each run in turn at both" if alternates else "each run at one of them"
        print(f"two replicas, {way}: {rate:,.0f} requests/s, {spent * 1e6:,.0f} us of a core each")


def crowd(chosen: argparse.Namespace) -> None:
    """Print how long a crowd of new runs takes two replicas; exit where one is not there."""
    limit = {"WATCHSTEP_LIMITS__RUNS": "1000000"}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        url = stack.enter_context(postgres_database())
        replicas = [
            stack.enter_context(serving(Path(folder) / name, WATCHSTEP_DATABASE_URL=url, **limit))
            for name in ("one", "two")
        ]
        load = Load(tuple(each.port for each in replicas), first_contact, chosen.connections)
        before = sum(each.cpu_s() for each in replicas)
        rate = load.run(600.0, 2 * chosen.crowd)
        spent = (sum(each.cpu_s() for each in replicas) - before) / len(load.took_s)
        with create_engine(url).connect() as connection:
            runs, begun = connection.exec_driver_sql(
                "SELECT count(*), count(*) FILTER (WHERE last_seq = 1) FROM runs"
            ).one()
    print(
        f"two replicas: {runs:,} runs in {len(load.took_s) / rate:.0f} s, {begun:,} with an update"
    )
    print(f"  {rate / 2:,.0f} runs/s, {spent * 2e6:,.0f} us of the services' cores each")
    if begun < chosen.crowd - chosen.connections:
        raise SystemExit("some are missing")


def compare(kind: str, make: Make, chosen: argparse.Namespace) -> None:
    """Print what each server does of one kind of request, beside the bare one."""
    figures: dict[str, list[Figure]] = {}
    for _ in range(chosen.rounds):
        for name in SERVERS:
            figures.setdefault(name, []).append(measured(name, make, chosen))
    print(f"{kind}, {chosen.connections} connections:")
    peer = statistics.median(each.rate for each in figures["bare ASGI, fsync"])
    for name, rounds in figures.items():
        rate = statistics.median(each.rate for each in rounds)
        cpu_us = statistics.median(each.cpu_us for each in rounds)
        late = statistics.median(each.p99_ms for each in rounds)
        print(
            f"  {name:<18} {rate:>8,.0f} requests/s {rate / peer:5.2f}x"
            f" {cpu_us:6.0f} us of a core each   p99 {late:6.1f} ms"
        )


def main() -> None:
    """Print rates and ratios, medians over the rounds; or the profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--replicas", action="store_true")
    parser.add_argument("--crowd", type=int, help="How many new runs.")
    parser.add_argument("--only", default="", help="A word of the kinds of requests wanted.")
    parser.add_argument("--stacks", help="Where to keep what py-spy wrote.")
    chosen = parser.parse_args()
    allow_files(chosen.connections + 256)
    if chosen.crowd:
        crowd(chosen)
        return
    if chosen.replicas:
        alternation(chosen)
        return
    kinds = PROFILED if chosen.profile else KINDS
    for kind, make in kinds.items():
        if chosen.only in kind and chosen.profile:
            for name in ("embedded", "PostgreSQL"):
                profile(name, kind, make, chosen)
        elif chosen.only in kind:
            compare(kind, make, chosen)


if __name__ == "__main__":
    main()
