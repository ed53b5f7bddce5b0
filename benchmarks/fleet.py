"""A fleet of simulated trainers: the real client's bodies and patience, without its threads.

What `fleet_load.py`, `fleet_storm.py` and `fleet_capacity.py` share. A simulated trainer sends
what `watchstep.wire` makes, waits as `watchstep.sender` waits, and remembers what the service
acknowledged; in the end every run of the service is held against that.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from log_cost import NAMES, readings

from watchstep.sender.config import Patience
from watchstep.sender.loop import Pacer
from watchstep.wire.rows import ROWS_TYPE, Parcel, encode_rows

TABLE = "\n".join(NAMES).encode()
ROW = struct.Struct(f"<Qqd{len(NAMES)}d")
MOST_A_REQUEST = 500
"""As the real client's BATCH_UPDATES."""

_DRAWN = [tuple(readings(random.Random(seed)).values()) for seed in range(256)]


def body(first: int, count: int, salt: int) -> bytes:
    """The updates `first` to `first + count - 1` of one run, as the client sends them."""
    parcels = []
    for seq in range(first, first + count):
        values = _DRAWN[(seq * 31 + salt) % len(_DRAWN)]
        parcels.append(Parcel(seq, ROW.pack(seq, seq, 1.7e9 + seq, *values), TABLE))
    return encode_rows(1, parcels)


@dataclass(slots=True)
class Answered:
    """One answer: its status, what it held, and how long the service asks to wait."""

    status: int
    told: dict[str, Any]
    retry_after_s: float | None


class Line:
    """One kept connection, one request at a time."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self._port = port
        self._source = source
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, run: str, content: bytes, patience: Patience) -> Answered:
        """Send one body.

        Raises:
            OSError: No whole answer in time.
        """
        head = (
            f"POST /api/v1/runs/{run}/updates HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: {ROWS_TYPE}\r\nContent-Length: {len(content)}\r\n\r\n"
        ).encode()
        try:
            async with asyncio.timeout(patience.total_s):
                return await self._exchange(head + content, patience)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self.hang_up()
            raise OSError(type(error).__name__) from error

    def hang_up(self) -> None:
        """Close the connection; the next request makes another."""
        if self._streams is not None:
            with suppress(OSError, RuntimeError):
                self._streams[1].transport.abort()
        self._streams = None

    async def _exchange(self, request: bytes, patience: Patience) -> Answered:
        if self._streams is None:
            self._streams = await self._connected(patience)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(header.lower().split(": ", 1) for header in head[1:] if ": " in header)
        content = await reader.readexactly(int(fields.get("content-length", "0")))
        if fields.get("connection") == "close":
            self.hang_up()
        retry_after = fields.get("retry-after")
        is_json = "json" in fields.get("content-type", "")
        return Answered(
            int(head[0].split(" ", 2)[1]),
            json.loads(content) if is_json else {},
            float(retry_after) if retry_after else None,
        )

    async def _connected(
        self, patience: Patience
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(patience.connect_s):
                return await asyncio.open_connection(
                    "127.0.0.1", self._port, local_addr=(self._source, 0)
                )
        except TimeoutError:
            raise NoConnectionError from None


class NoConnectionError(OSError):
    """The connection was not accepted in time."""


@dataclass(slots=True)
class Simulated:
    """One run: what it has put, what the service acknowledged, what was stored twice.

    Attributes:
        put: Number of the newest update that the trainer made.
        acked: What the service has, by its own word.
    """

    name: str
    salt: int
    put: int = 0
    acked: int = 0
    accepted: int = 0
    duplicates: int = 0
    pacer: Pacer = field(default_factory=lambda: Pacer(Patience()))


@dataclass
class Counts:
    """What the fleet saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    without_retry_after: int = 0
    took_s: list[float] = field(default_factory=list)
    acked_at: Counter[int] = field(default_factory=Counter)
    asked_at: Counter[int] = field(default_factory=Counter)
    begun: float = field(default_factory=time.monotonic)

    def note(self, status: str, updates: int = 0) -> None:
        """Count one request, and the second in which it ended."""
        second = int(time.monotonic() - self.begun)
        self.statuses[status] += 1
        self.asked_at[second] += 1
        self.acked_at[second] += updates

    def quantile_ms(self, share: float) -> float:
        """Of the requests that were acknowledged."""
        durations = sorted(self.took_s)
        return (
            durations[min(int(len(durations) * share), len(durations) - 1)] * 1e3
            if durations
            else 0.0
        )


async def send_once(line: Line, run: Simulated, counts: Counts) -> bool:
    """One request with what is not acknowledged yet; whether it was taken. Paces the run."""
    first, count = run.acked + 1, min(run.put - run.acked, MOST_A_REQUEST)
    begun = time.monotonic()
    try:
        answer = await line.post(run.name, body(first, count, run.salt), Patience())
    except OSError as error:
        counts.note(str(error))
        run.pacer.failed()
        return False
    if answer.status != 202:
        counts.note(str(answer.status))
        counts.without_retry_after += answer.status in {429, 503} and answer.retry_after_s is None
        run.pacer.failed(answer.retry_after_s)
        return False
    run.pacer.succeeded()
    run.acked = first + count - 1
    run.accepted += answer.told["accepted"]
    run.duplicates += answer.told["duplicates"]
    counts.took_s.append(time.monotonic() - begun)
    counts.note("202", count)
    return True


@dataclass
class Service:
    """`watchstep serve` as a process of its own, which may be killed and started again."""

    folder: Path
    settings: dict[str, str]
    port: int = 0
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.port = self.port or free_port()
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "watchstep_monitor", "serve", "--port", str(self.port)]
        command += ["--data-dir", str(self.folder / "data")]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("WATCHSTEP")}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**kept, **self.settings},
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("watchstep ready"):
            raise SystemExit((self.folder / "log").read_text())

    def kill(self) -> None:
        """End it without a word."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(20)

    def cpu_s(self) -> float:
        """Processor time so far."""
        assert self.process is not None
        return cpu_of(self.process.pid)

    def memory_bytes(self) -> int:
        """Resident now."""
        assert self.process is not None
        pages = Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1]
        return int(pages) * resource.getpagesize()

    def get(self, path: str) -> Any:
        """One answer of the API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", f"/api/v1{path}")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


def cpu_of(pid: int) -> float:
    """Seconds of processor time of one process, and of children that it has buried."""
    parts = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(") ", 1)[1].split()
    return sum(int(part) for part in parts[11:15]) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """One that nobody listens on, and that no outgoing connection is given by the system.

    Else a trainer that knocks while the service is away may be connected to itself.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Service]:
    """A service until the end of the block."""
    service = Service(folder, settings)
    service.start()
    try:
        yield service
    finally:
        service.kill()


def allow_files(wanted: int) -> None:
    """Raise the limit on open files as far as it may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (least, hard))


@dataclass
class Verdict:
    """Every run of the fleet, held against what it was told.

    Attributes:
        lost: Acknowledged updates that are not there.
        doubled: Updates that are there more often than they were made.
        holes: Numbers that the service counts as lost.
    """

    runs: int = 0
    acknowledged: int = 0
    stored: int = 0
    missing_runs: int = 0
    lost: int = 0
    doubled: int = 0
    holes: int = 0

    @property
    def clean(self) -> bool:
        """Whether everything acknowledged is there, once."""
        return not (self.missing_runs or self.lost or self.doubled or self.holes)


def verdict(service: Service, fleet: list[Simulated]) -> Verdict:
    """Ask the service for all of its runs."""
    seqs: dict[str, Any] = {}
    cursor = ""
    while cursor is not None:
        page = service.get(f"/runs?limit=500{cursor}")
        seqs.update((item["run"], item) for item in page["items"])
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
    outcome = Verdict(runs=len(fleet))
    for run in fleet:
        there = seqs.get(run.name)
        outcome.acknowledged += run.acked
        if there is None:
            outcome.missing_runs += run.acked > 0
            outcome.lost += run.acked
            continue
        stored = there["counts"]["updates"]
        outcome.stored += stored
        outcome.lost += max(run.acked - there["last_seq"], 0)
        # More than was made, or more rows than the last number allows.
        outcome.doubled += max(stored - min(run.put, there["last_seq"]), 0)
        outcome.holes += there["counts"]["lost"] + max(there["last_seq"] - stored, 0)
    return outcome
