"""Whether an update costs the same with many runs and in a long run, and how fast a long one draws.

    python benchmarks/ingest_flat.py [--most-runs 10000] [--most-updates 1000000]

SQLite with synchronous=FULL, or the database that WATCHSTEP_DATABASE_URL names, which should be
empty. Updates of 20 metrics, the default packs, batches of 10 for many runs and of 100 for the
long one, one connection, rows of doubles. "us" is the service's processor time an update. A
run counts as active once a first update has been stored; that is not in the cost.
"""

from __future__ import annotations

import argparse
import http.client
import random
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from ingest_cost import cpu_s, memory_mb
from log_cost import NAMES, readings, service

from watchstep.wire.rows import ROWS_TYPE, Parcel, encode_rows

MARKS = (1_000, 10_000, 100_000, 1_000_000)
MEASURED = 20_000
"""Updates behind each figure."""

POINTS, TIMES = 1_600, 9

_generator = random.Random(0)
_WORDS = "\n".join(NAMES).encode()
_VALUES = [struct.pack(f"<{len(NAMES)}d", *readings(_generator).values()) for _ in range(1_000)]


class Line:
    """One connection to the service."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._connection = http.client.HTTPConnection(str(place.hostname), place.port)

    def send(self, run: str, seqs: range) -> None:
        """One batch."""
        parcels = [
            Parcel(seq, struct.pack("<Qqd", seq, seq, 1.7e9 + seq) + _VALUES[seq % 1_000], _WORDS)
            for seq in seqs
        ]
        path = f"/api/v1/runs/{run}/updates"
        headers = {"content-type": ROWS_TYPE}
        self._connection.request("POST", path, encode_rows(1, parcels), headers)
        self._answered(202)

    def get(self, path: str) -> bytes:
        """The body of an answer."""
        self._connection.request("GET", path)
        return self._answered(200)

    def _answered(self, wanted: int) -> bytes:
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != wanted:
            raise SystemExit(f"status {answer.status}: {body[:200]!r}")
        return body


def batches(first: int, last: int, size: int) -> Iterator[range]:
    """Numbers first to last, a batch at a time."""
    for start in range(first, last + 1, size):
        yield range(start, min(start + size, last + 1))


def many_runs(url: str, line: Line, most: int) -> None:
    """Cost and memory with ten runs, and ten times as many, and so on."""
    idle_mb, begun, runs = memory_mb(url), 0, 10
    next_seq: dict[int, int] = {}
    while runs <= most:
        for run in range(begun, runs):
            line.send(f"run-{run}", range(1, 11))
            next_seq[run] = 11
        begun = runs
        spent, clock = cpu_s(url), time.perf_counter()
        for at in range(MEASURED // 10):
            # Every active run in turn; a fleet does not favour some.
            run = at * runs // (MEASURED // 10) if runs > MEASURED // 10 else at % runs
            line.send(f"run-{run}", range(next_seq[run], next_seq[run] + 10))
            next_seq[run] += 10
        us = (cpu_s(url) - spent) / MEASURED * 1e6
        wall = (time.perf_counter() - clock) / MEASURED * 1e6
        held = memory_mb(url)
        print(
            f"{runs:>9,} active runs: {us:5.0f} us, {wall:5.0f} us by the clock,"
            f" {held:5.0f} MB held, {(held - idle_mb) * 1e3 / runs:8.1f} kB a run above idle"
            f" ({idle_mb:.0f} MB)",
            flush=True,
        )
        runs *= 10


def long_run(url: str, line: Line, most: int) -> None:
    """Cost at the end of a run that grows, and how long its charts take."""
    stored = 0
    for mark in MARKS:
        if mark > most:
            break
        for seqs in batches(stored + 1, mark, 1_000):
            line.send("long", seqs)
        spent, clock = cpu_s(url), time.perf_counter()
        for seqs in batches(mark + 1, mark + MEASURED, 100):
            line.send("long", seqs)
        stored = mark + MEASURED
        us = (cpu_s(url) - spent) / MEASURED * 1e6
        wall = (time.perf_counter() - clock) / MEASURED * 1e6
        print(
            f"{mark:>9,} stored updates of a run: {us:5.0f} us, {wall:5.0f} us by the clock;"
            f" series {asked(line, 'series?metric=train/loss&points=1600')},"
            f" of its last tenth {asked(line, tenth(stored))},"
            f" the page's first call {asked(line, '')}",
            flush=True,
        )


def tenth(stored: int) -> str:
    """A series of the newest tenth of a run, as one zooms in."""
    return f"series?metric=train/loss&points={POINTS}&from_step={stored - stored // 10}"


def asked(line: Line, what: str) -> str:
    """Median and worst time of a call about the long run."""
    took = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        line.get(f"/api/v1/runs/long/{what}".rstrip("/"))
        took.append((time.perf_counter() - begun) * 1e3)
    return f"{statistics.median(took):.0f} ms (worst {max(took):.0f})"


def main() -> None:
    """Print a line for each number of runs, and one for each length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most-runs", type=int, default=10_000)
    parser.add_argument("--most-updates", type=int, default=1_000_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, service(Path(name)) as url:
        line = Line(url)
        many_runs(url, line, chosen.most_runs)
        long_run(url, line, chosen.most_updates)


if __name__ == "__main__":
    main()
