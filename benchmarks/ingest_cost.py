"""Updates a second that one service process takes, rules evaluated, every commit synced.

    python benchmarks/ingest_cost.py [--batch 100] [--runs 4] [--seconds 8]

Updates of 20 metrics, the default packs, SQLite with synchronous=FULL, HTTP on the loopback
interface, several connections at once. The client shares the machine's cores and sends bodies
that were made before the clock started.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from log_cost import readings, service


def bodies(run: int, batch: int, count: int) -> list[bytes]:
    """The request bodies of one run, in order."""
    generator = random.Random(run)
    made, seq = [], 0
    for _ in range(count):
        updates = []
        for _ in range(batch):
            seq += 1
            updates.append(
                {"seq": seq, "step": seq, "time": 1.7e9 + seq, "metrics": readings(generator)}
            )
        made.append(json.dumps({"attempt": 1, "updates": updates}).encode())
    return made


def drive(url: str, run: str, todo: list[bytes], until: float, took: list[float]) -> None:
    """Post one run's batches over one connection until the time is over."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port)
    for body in todo:
        if time.perf_counter() > until:
            break
        begun = time.perf_counter()
        connection.request(
            "POST", f"/api/v1/runs/{run}/updates", body, {"content-type": "application/json"}
        )
        answer = connection.getresponse()
        answer.read()
        if answer.status != 202:
            raise SystemExit(f"status {answer.status}")
        took.append(time.perf_counter() - begun)
    connection.close()


def main() -> None:
    """Print the rate and the latencies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0)
    chosen = parser.parse_args()
    count = int(chosen.seconds * 40_000 / chosen.batch / chosen.runs) + 1
    todo = [bodies(run, chosen.batch, count) for run in range(chosen.runs)]
    took: list[float] = []
    with tempfile.TemporaryDirectory() as name, service(Path(name)) as url:
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
        size = sum(path.stat().st_size for path in Path(name).glob("*.db*"))
    updates = len(took) * chosen.batch
    took.sort()
    print(
        f"{chosen.runs} runs, batches of {chosen.batch}: {updates / lasted:,.0f} updates/s"
        f" ({updates * 20 / lasted:,.0f} readings/s), batch p50"
        f" {statistics.median(took) * 1e3:.1f} ms, p99 {took[int(len(took) * 0.99)] * 1e3:.1f} ms,"
        f" {size / max(updates * 20, 1):.1f} bytes a reading on disk (log included)"
    )


if __name__ == "__main__":
    main()
