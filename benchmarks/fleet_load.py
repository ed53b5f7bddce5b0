"""A day's load of a large fleet, pressed into a minute, and a count of what became of it.

    python benchmarks/fleet_load.py [--runs 100000] [--seconds 90] [--every 90] [--json]

Each run makes an update of 20 metrics every `--every` seconds, at a phase of its own. One in
fifty comes with a burst of a hundred at once; one in twenty is a straggler, ten times slower.
Requests go over `--connections` kept connections, as through a proxy. The service is started on
its own folder, or on `--database-url`; afterwards every run is asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import random
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fleet import Counts, Line, Service, Simulated, allow_files, send_once, serving, verdict

BURST_SHARE, BURST_UPDATES = 0.02, 100
STRAGGLER_SHARE, STRAGGLER_TIMES = 0.05, 10


class Driver:
    """Lets every run make and send its updates when they fall due."""

    def __init__(self, port: int, fleet: list[Simulated], every_s: float) -> None:
        self.counts = Counts()
        self._port = port
        self._fleet = fleet
        self._every_s = every_s
        self._chance = random.Random(1)
        self._due = [(self._chance.uniform(0, every_s), at) for at in range(len(fleet))]
        heapq.heapify(self._due)
        self._ready: asyncio.Queue[int] = asyncio.Queue()
        self._waiting: set[int] = set()

    async def drive(self, seconds: float, connections: int) -> None:
        """Go on until the time is over, and what was under way by then has its answer."""
        carriers = [asyncio.create_task(self._carry()) for _ in range(connections)]
        while (now := time.monotonic() - self.counts.begun) < seconds:
            self._call_up(now)
            await asyncio.sleep(0.005)
        while self._ready.qsize():
            # What no carrier has taken up by now stays with its trainer.
            self._ready.get_nowait()
        for _ in carriers:
            self._ready.put_nowait(-1)
        await asyncio.gather(*carriers)

    def _call_up(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, at = heapq.heappop(self._due)
            if at in self._waiting:
                heapq.heappush(self._due, (now + 1.0, at))
                continue
            run = self._fleet[at]
            if run.put == run.acked:
                run.put += BURST_UPDATES if self._chance.random() < BURST_SHARE else 1
                slow = STRAGGLER_TIMES if at % round(1 / STRAGGLER_SHARE) == 0 else 1
                heapq.heappush(self._due, (now + self._every_s * slow, at))
            self._waiting.add(at)
            self._ready.put_nowait(at)

    async def _carry(self) -> None:
        line = Line(self._port)
        while (at := await self._ready.get()) >= 0:
            run = self._fleet[at]
            while run.acked < run.put and await send_once(line, run, self.counts):
                pass
            self._waiting.discard(at)
            if run.acked < run.put:
                heapq.heappush(self._due, (run.pacer.not_before - self.counts.begun, at))
        line.hang_up()


def report(
    service: Service, fleet: list[Simulated], counts: Counts, spent: float
) -> dict[str, Any]:
    """Everything that is worth a line."""
    lasted = time.monotonic() - counts.begun
    requests, updates = counts.statuses.total(), sum(run.accepted for run in fleet)
    outcome = verdict(service, fleet)
    return {
        "runs": sum(run.acked > 0 for run in fleet),
        "seconds": round(lasted, 1),
        "requests": requests,
        "requests_per_s": round(requests / lasted),
        "updates_per_s": round(updates / lasted),
        "statuses": dict(counts.statuses),
        "p50_ms": round(counts.quantile_ms(0.5), 1),
        "p99_ms": round(counts.quantile_ms(0.99), 1),
        "service_cpu_us_a_request": round(spent / max(requests, 1) * 1e6),
        "service_memory_mb": round(service.memory_bytes() / 1e6),
        "verdict": asdict(outcome),
        "clean": outcome.clean,
    }


def main() -> None:
    """Print the report; exit code 1 if anything acknowledged was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--every", type=float, default=90.0)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--database-url")
    parser.add_argument("--cached-runs", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    allow_files(chosen.connections + 256)
    settings = {
        "WATCHSTEP_LIMITS__RUNS": "1000000",
        "WATCHSTEP_STORE__CACHED_RUNS": str(chosen.cached_runs),
        **({"WATCHSTEP_DATABASE_URL": chosen.database_url} if chosen.database_url else {}),
    }
    fleet = [Simulated(f"run-{at}", at) for at in range(chosen.runs)]
    with tempfile.TemporaryDirectory() as name, serving(Path(name), **settings) as service:
        before = service.cpu_s()
        driver = Driver(service.port, fleet, chosen.every)
        asyncio.run(driver.drive(chosen.seconds, chosen.connections))
        summary = report(service, fleet, driver.counts, service.cpu_s() - before)
    if chosen.json:
        print(json.dumps(summary))
    else:
        for key, value in summary.items():
            print(f"{key:>26}: {value}")
    sys.exit(0 if summary["clean"] else 1)


if __name__ == "__main__":
    main()
