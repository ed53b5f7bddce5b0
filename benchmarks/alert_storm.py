"""Every run of a fleet goes bad at once: how long until all of it is told, and what that costs.

    python benchmarks/alert_storm.py [--runs 2000] [--replicas 1] [--embedded]

A PostgreSQL cluster of its own with real fsync, or the embedded store; the default packs; one
webhook receiver that answers at once and has no rate cap. Each run has reported one healthy update
before; then each reports a NaN loss, over sixteen connections. The clock runs from the first of
these until the receiver has had a message for every run. Trainers, services, database and
receiver share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from fleet import ROW, TABLE, Line, Service, serving
from fleet_capacity import database_cpu_s
from log_cost import NAMES

from watchstep.sender.config import Patience
from watchstep.wire import Parcel, encode_rows

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from story.postgres_kit import Server, postgres_server

CONNECTIONS = 16
LONGEST_S = 240.0


class Receiver(threading.Thread):
    """Takes every message at once, and counts them by their `webhook-id`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.got: Counter[bytes] = Counter()
        self.port = 0
        self._ready = threading.Event()
        self.start()
        self._ready.wait()

    def run(self) -> None:
        """See the class."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0, backlog=256)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                fields = dict(header.split(b": ", 1) for header in head[1:] if b": " in header)
                await reader.readexactly(int(fields[b"content-length"]))
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                self.got[fields[b"webhook-id"]] += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def body(seq: int, loss: float) -> bytes:
    """One update as the client sends it."""
    values = [loss if name == "train/policy_loss" else 0.1 for name in NAMES]
    return encode_rows(1, [Parcel(seq, ROW.pack(seq, seq, 1.7e9 + seq, *values), TABLE)])


async def each_run_sends(services: list[Service], runs: int, content: bytes) -> None:
    """One body for every run, each at its own replica, again until it is taken."""
    left = iter(range(runs))

    async def carry() -> None:
        lines = [Line(service.port) for service in services]
        for at in left:
            line = lines[at % len(lines)]
            while (await line.post(f"run-{at}", content, Patience())).status != 202:
                await asyncio.sleep(0.1)
        for line in lines:
            line.hang_up()

    await asyncio.gather(*(carry() for _ in range(CONNECTIONS)))


def storm(services: list[Service], database: Server | None, receiver: Receiver, runs: int) -> bool:
    """Let it happen, and print what came of it; whether every run was told of."""

    def spent() -> tuple[float, float]:
        theirs = 0.0 if database is None else database_cpu_s(database)
        return sum(service.cpu_s() for service in services), theirs

    asyncio.run(each_run_sends(services, runs, body(1, 0.1)))
    before, begun = spent(), time.monotonic()
    asyncio.run(each_run_sends(services, runs, body(2, math.nan)))
    acknowledged_s, told_by_then = time.monotonic() - begun, len(receiver.got)
    while len(receiver.got) < runs and time.monotonic() - begun < LONGEST_S:
        time.sleep(0.01)
    told_s = time.monotonic() - begun
    service_s, database_s = (new - old for new, old in zip(spent(), before, strict=True))
    messages = len(receiver.got)
    rows = {
        "runs, each with one bad update": f"{runs:,}",
        "all updates acknowledged after": f"{acknowledged_s:.1f} s",
        "runs told of by then": f"{told_by_then:,}",
        "every run told of after": f"{told_s:.1f} s",
        "messages: received, sent twice": f"{messages:,}, {receiver.got.total() - messages:,}",
        "services, ms of a core a run": f"{service_s / runs * 1e3:.2f}",
    }
    if database is not None:
        rows["database, ms of a core a run"] = f"{database_s / runs * 1e3:.2f}"
    for name, shown in rows.items():
        print(f"  {name:<34} {shown}")
    return messages == runs


def main() -> None:
    """Print the table; exit code 1 if a run was not told of."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--embedded", action="store_true")
    chosen = parser.parse_args()
    receiver = Receiver()
    settings = {
        "WATCHSTEP_RECEIVERS__OPS__KIND": "webhook",
        "WATCHSTEP_RECEIVERS__OPS__URL": f"http://127.0.0.1:{receiver.port}/",
        "WATCHSTEP_NOTIFY__ALLOW_PRIVATE_CIDRS": "127.0.0.0/8",
        "WATCHSTEP_NOTIFY__RATE_PER_MINUTE": "1000000",
    }
    with ExitStack() as stack:
        database = None
        if not chosen.embedded:
            database = stack.enter_context(postgres_server("-c max_connections=200"))
            settings["WATCHSTEP_DATABASE_URL"] = database.url
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        services = [
            stack.enter_context(serving(folder / str(at), **settings))
            for at in range(1 if chosen.embedded else chosen.replicas)
        ]
        if not storm(services, database, receiver, chosen.runs):
            sys.exit(1)


if __name__ == "__main__":
    main()
