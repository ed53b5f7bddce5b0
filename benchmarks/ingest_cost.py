"""Updates a second that one service process takes, rules evaluated, every commit synced.

    python benchmarks/ingest_cost.py [--batch 100] [--runs 4] [--seconds 8] [--rows]

Updates of 20 metrics, the default packs, SQLite with synchronous=FULL or the database that
WATCHSTEP_DATABASE_URL names, HTTP on the loopback interface, several connections at once. The
client shares the machine's cores and sends bodies that were made before the clock started.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import statistics
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from log_cost import readings, service

from watchstep.wire.rows import ROWS_TYPE, Parcel, encode_rows


def batches(run: int, batch: int, count: int) -> Iterator[list[tuple[int, dict[str, float]]]]:
    """Number and readings of the updates of each request of one run, in order."""
    generator = random.Random(run)
    for first in range(1, batch * count + 1, batch):
        yield [(seq, readings(generator)) for seq in range(first, first + batch)]


def bodies(run: int, batch: int, count: int) -> list[bytes]:
    """The request bodies of one run, in order."""
    made = []
    for numbered in batches(run, batch, count):
        updates = [
            {"seq": seq, "step": seq, "time": 1.7e9 + seq, "metrics": metrics}
            for seq, metrics in numbered
        ]
        made.append(json.dumps({"attempt": 1, "updates": updates}).encode())
    return made


def row_bodies(run: int, batch: int, count: int) -> list[bytes]:
    """The same as rows of doubles."""
    return [
        encode_rows(1, [_row(seq, metrics) for seq, metrics in numbered])
        for numbered in batches(run, batch, count)
    ]


def _row(seq: int, metrics: dict[str, float]) -> Parcel:
    values = metrics.values()
    row = struct.pack(f"<Qqd{len(values)}d", seq, seq, 1.7e9 + seq, *values)
    return Parcel(seq, row, "\n".join(metrics).encode())


def drive(
    url: str, run: str, todo: tuple[str, list[bytes]], until: float, took: list[float]
) -> None:
    """Post one run's batches of a content type over one connection until the time is over."""
    kind, waiting = todo
    place = urlsplit(url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port)
    for body in waiting:
        if time.perf_counter() > until:
            break
        begun = time.perf_counter()
        connection.request("POST", f"/api/v1/runs/{run}/updates", body, {"content-type": kind})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 202:
            raise SystemExit(f"status {answer.status}")
        took.append(time.perf_counter() - begun)
    connection.close()


def gauges(url: str) -> dict[str, float]:
    """What the service says of itself; histograms by their buckets' names."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    pairs = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def cpu_s(url: str) -> float:
    """Seconds of processor time that the service has spent so far."""
    return gauges(url)["process_cpu_seconds_total"]


def memory_mb(url: str) -> float:
    """Megabytes that the service holds."""
    return gauges(url)["process_resident_memory_bytes"] / 1e6


def commit_ms(url: str, share: float) -> float:
    """Below which a share of the commits stayed, within a bucket of the histogram."""
    buckets = [
        (float(name.split('le="')[1].split('"')[0]), count)
        for name, count in gauges(url).items()
        if name.startswith("watchstep_commit_seconds_bucket")
    ]
    wanted = buckets[-1][1] * share
    below, counted = 0.0, 0.0
    for edge, count in buckets:
        if count >= wanted:
            return (below + (edge - below) * (wanted - counted) / (count - counted)) * 1e3
        below, counted = edge, count
    return below * 1e3


def stored_bytes(folder: Path) -> int:
    """Size of the embedded store in a folder, or of the database that the service has instead."""
    url = os.environ.get("WATCHSTEP_DATABASE_URL")
    if url is None:
        return sum(path.stat().st_size for path in folder.glob("*.db*"))
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        (size,) = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(size)


def main() -> None:
    """Print the rate, the latencies, and what it takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rows", action="store_true", help="Rows of doubles instead of JSON.")
    chosen = parser.parse_args()
    count = int(chosen.seconds * 40_000 / chosen.batch / chosen.runs) + 1
    kind, make = (ROWS_TYPE, row_bodies) if chosen.rows else ("application/json", bodies)
    todo = [(kind, make(run, chosen.batch, count)) for run in range(chosen.runs)]
    took: list[float] = []
    with tempfile.TemporaryDirectory() as name, service(Path(name)) as url:
        idle_mb, empty = memory_mb(url), stored_bytes(Path(name))
        spent = cpu_s(url)
        begun = time.perf_counter()
        until = begun + chosen.seconds
        threads = [
            threading.Thread(target=drive, args=(url, f"run-{at}", todo[at], until, took))
            for at in range(chosen.runs)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lasted = time.perf_counter() - begun
        spent = cpu_s(url) - spent
        size = stored_bytes(Path(name)) - empty
        commits = f"p50 {commit_ms(url, 0.5):.1f} ms, p99 {commit_ms(url, 0.99):.1f} ms"
    updates = len(took) * chosen.batch
    took.sort()
    print(
        f"{chosen.runs} runs, batches of {chosen.batch}: {updates / lasted:,.0f} updates/s"
        f" ({updates * 20 / lasted:,.0f} readings/s), batch p50"
        f" {statistics.median(took) * 1e3:.1f} ms, p99 {took[int(len(took) * 0.99)] * 1e3:.1f} ms,"
        f" the commit itself {commits},"
        f" {size / max(updates * 20, 1):.1f} bytes a reading on disk (log of SQLite included),"
        f" {spent / max(updates, 1) * 1e6:.0f} us of the service's processor time an update,"
        f" {idle_mb:.0f} MB of memory when idle"
    )


if __name__ == "__main__":
    main()
