"""An outage, and ten thousand trainers that come back with full spools, all at once.

    python benchmarks/fleet_storm.py [--trainers 10000] [--spooled 60] [--outage 20] [--json]

Every trainer has a connection of its own and the real client's patience (`watchstep.sender`'s
own `Pacer`). The service is killed, the trainers go on making updates and knocking, and after
`--outage` seconds it is started again. `--spooled` is what each has made by then: 60 are ten
minutes of an update every ten seconds. Then all of it drains, and every run is asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import tempfile
import time
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

from fleet import (
    MOST_A_REQUEST,
    Counts,
    Line,
    Service,
    Simulated,
    allow_files,
    send_once,
    serving,
    verdict,
)

SOURCES = 8
"""Addresses of this machine that trainers call from: one has ports for 28,000 only."""

START_AT_ONCE = 200


async def begin(fleet: list[Simulated], lines: list[Line]) -> Counts:
    """Every trainer's first update, over the connection that it keeps."""
    counts = Counts()
    gate = asyncio.Semaphore(START_AT_ONCE)

    async def one(run: Simulated, line: Line) -> None:
        run.put = 1
        while run.acked < 1:
            async with gate:
                await send_once(line, run, counts)
            await asyncio.sleep(max(run.pacer.not_before - time.monotonic(), 0.0))

    await asyncio.gather(*(one(run, line) for run, line in zip(fleet, lines, strict=True)))
    return counts


async def knock(run: Simulated, line: Line, counts: Counts) -> None:
    """One trainer until everything that it made is acknowledged."""
    while run.acked < run.put:
        await send_once(line, run, counts)
        await asyncio.sleep(max(run.pacer.not_before - time.monotonic(), 0.0))


async def storm(service: Service, fleet: list[Simulated], chosen: argparse.Namespace) -> dict:
    """The whole story; times are seconds since the service was started again."""
    lines = [Line(service.port, f"127.0.0.{at % SOURCES + 1}") for at in range(len(fleet))]
    begun = await begin(fleet, lines)
    service.kill()
    for run in fleet:
        run.put += chosen.spooled
    counts = Counts()
    tasks = [
        asyncio.create_task(knock(run, line, counts))
        for run, line in zip(fleet, lines, strict=True)
    ]
    await asyncio.sleep(chosen.outage)
    before = counts.statuses.copy()
    await asyncio.to_thread(service.start)
    back = time.monotonic() - counts.begun
    peak_bytes = 0
    while not all(task.done() for task in tasks):
        peak_bytes = max(peak_bytes, service.memory_bytes())
        await asyncio.sleep(0.25)
    for line in lines:
        line.hang_up()
    return _told(counts, before, back, {"begin_p99_ms": begun.quantile_ms(0.99), "mb": peak_bytes})


def _told(counts: Counts, before: Any, back: float, more: dict[str, float]) -> dict[str, Any]:
    seconds = range(int(back) + 1, max(counts.acked_at) + 1)
    rates = [counts.acked_at[at] for at in seconds] or [sum(counts.acked_at.values())]
    done = sum(counts.acked_at.values())
    grown = list(accumulate(rates))
    tail = next(at for at, reached in enumerate(grown) if reached >= 0.95 * grown[-1])
    return {
        "drained_s": len(rates),
        "drained_95_percent_s": tail + 1,
        "updates": done,
        "updates_per_s_until_95_percent": round(grown[tail] / (tail + 1)),
        "slowest_second_until_95_percent": min(rates[: tail + 1]),
        "requests_while_away": before.total(),
        "requests_after": counts.statuses.total() - before.total(),
        "busiest_second_requests": max(counts.asked_at.values()),
        "statuses_after": dict(counts.statuses - before),
        "without_retry_after": counts.without_retry_after,
        "p50_ms": round(counts.quantile_ms(0.5)),
        "p99_ms": round(counts.quantile_ms(0.99)),
        "first_start_p99_ms": round(more["begin_p99_ms"]),
        "service_peak_mb": round(more["mb"] / 1e6),
    }


def main() -> None:
    """Print the report; exit code 1 if anything was lost or doubled, or knocking never paid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trainers", type=int, default=10_000)
    parser.add_argument("--spooled", type=int, default=60)
    parser.add_argument("--outage", type=float, default=20.0)
    parser.add_argument("--database-url")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    allow_files(chosen.trainers + 512)
    url = {"WATCHSTEP_DATABASE_URL": chosen.database_url} if chosen.database_url else {}
    fleet = [Simulated(f"storm-{at}", at) for at in range(chosen.trainers)]
    with tempfile.TemporaryDirectory() as name, serving(Path(name), **url) as service:
        counts = asyncio.run(storm(service, fleet, chosen))
        counts["needed_requests"] = len(fleet) * math.ceil(chosen.spooled / MOST_A_REQUEST)
        held = verdict(service, fleet)
    counts["verdict"], counts["clean"] = asdict(held), held.clean
    if chosen.json:
        print(json.dumps(counts))
    else:
        for key, value in counts.items():
            print(f"{key:>32}: {value}")
    sys.exit(0 if held.clean else 1)


if __name__ == "__main__":
    main()
