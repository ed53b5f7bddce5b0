"""What one update costs on PostgreSQL, with 1, 2 and 4 replicas, and what that means for a fleet.

    python benchmarks/fleet_capacity.py [--replicas 1,2,4] [--seconds 8] [--runs 200]

A cluster of its own with real fsync; runs spread over the replicas by their name, as the shipped
nginx configuration does; updates of 20 metrics, the default packs. Measured once with a request
for each update, as trainers send while they train, and once with a hundred a request, as they
catch up. Processor time is read from /proc, log and size from PostgreSQL. Client, services and
database share this machine, so rates say little and costs much; what stands below "machines" is
an extrapolation from the costs.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fleet import Counts, Line, Service, Simulated, cpu_of, send_once, serving, verdict

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from story.postgres_kit import Server, postgres_server

EVERY_S = 10.0
"""Between two updates of one run, in the extrapolation: PPO of a common size."""

BUSY = 0.6
"""Share of a core that is planned with: the rest is for bursts, a dead replica and catching up."""

CORES = 8
"""Of one machine of the extrapolation."""

COMMITS_A_DATABASE = 10_000
"""Commits a second that one PostgreSQL on a good disk is planned for; measure your own with
`pgbench -N`."""


@dataclass
class Cost:
    """Of one update, and of one request."""

    replicas: int
    batch: int
    updates: int
    requests: int
    seconds: float
    service_us: float
    database_us: float
    wal_bytes: float
    stored_bytes: float
    locks_held: float
    locks_waited_for: int
    deadlocks: int
    p50_ms: float
    p99_ms: float
    clean: bool


class Locks(threading.Thread):
    """Looks at the database's locks again and again while the load runs."""

    def __init__(self, database: Server) -> None:
        super().__init__(daemon=True)
        self._database = database
        self._done = threading.Event()
        self._held: list[int] = []
        self.waited_for = 0

    def run(self) -> None:
        """See the class."""
        while not self._done.wait(0.25):
            ((held, waiting),) = self._database.ask(
                "SELECT count(*) FILTER (WHERE granted), count(*) FILTER (WHERE NOT granted)"
                " FROM pg_locks WHERE locktype NOT IN ('virtualxid', 'advisory')"
                " AND pid <> pg_backend_pid()"
            )
            self._held.append(held)
            self.waited_for = max(self.waited_for, waiting)

    def stop(self) -> float:
        """End; locks held at a time, on average."""
        self._done.set()
        self.join()
        return sum(self._held) / max(len(self._held), 1)


def database_cpu_s(database: Server) -> float:
    """Processor time of the cluster's processes."""
    head = int((database.folder / "data/postmaster.pid").read_text().split()[0])
    total = cpu_of(head)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text("ascii").rsplit(") ", 1)[1].split()[1])
            total += cpu_of(int(stat.parent.name)) if parent == head else 0.0
        except (OSError, ValueError, IndexError):
            # It ended while we looked.
            continue
    return total


async def load(
    services: list[Service], fleet: list[Simulated], batch: int, seconds: float
) -> Counts:
    """A closed loop: sixteen requests under way, each run at its own replica."""
    counts = Counts()
    free: asyncio.Queue[int] = asyncio.Queue()
    for at in range(len(fleet)):
        free.put_nowait(at)

    async def carry() -> None:
        lines = [Line(service.port) for service in services]
        while time.monotonic() - counts.begun < seconds:
            at = await free.get()
            fleet[at].put = fleet[at].acked + batch
            await send_once(lines[at % len(lines)], fleet[at], counts)
            free.put_nowait(at)
        for line in lines:
            line.hang_up()

    await asyncio.gather(*(carry() for _ in range(16)))
    return counts


def measure(replicas: int, batch: int, chosen: argparse.Namespace) -> Cost:
    """One row of the table."""
    with ExitStack() as stack:
        database = stack.enter_context(postgres_server("-c max_connections=200"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        services = [
            stack.enter_context(serving(folder / str(at), WATCHSTEP_DATABASE_URL=database.url))
            for at in range(replicas)
        ]
        fleet = [Simulated(f"run-{at}", at) for at in range(chosen.runs)]
        # Once for the runs to exist: that costs more, and is no part of what is measured.
        asyncio.run(load(services, fleet, batch, chosen.seconds / 4))
        return _measured(database, services, fleet, batch, chosen.seconds)


def _measured(
    database: Server, services: list[Service], fleet: list[Simulated], batch: int, seconds: float
) -> Cost:
    def now() -> tuple[float, float, int, int]:
        ((wal, size),) = database.ask(
            "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0'),"
            " pg_database_size(current_database())"
        )
        return (
            sum(service.cpu_s() for service in services),
            database_cpu_s(database),
            int(wal),
            int(size),
        )

    before, locks, begun = now(), Locks(database), time.monotonic()
    locks.start()
    counts = asyncio.run(load(services, fleet, batch, seconds))
    lasted, held = time.monotonic() - begun, locks.stop()
    spent = [new - old for new, old in zip(now(), before, strict=True)]
    updates = sum(counts.acked_at.values())
    ((deadlocks,),) = database.ask("SELECT sum(deadlocks)::int FROM pg_stat_database")
    return Cost(
        replicas=len(services),
        batch=batch,
        updates=updates,
        requests=counts.statuses["202"],
        seconds=lasted,
        service_us=spent[0] / updates * 1e6,
        database_us=spent[1] / updates * 1e6,
        wal_bytes=spent[2] / updates,
        stored_bytes=spent[3] / updates,
        locks_held=held,
        locks_waited_for=locks.waited_for,
        deadlocks=deadlocks,
        p50_ms=counts.quantile_ms(0.5),
        p99_ms=counts.quantile_ms(0.99),
        clean=verdict(services[0], fleet).clean,
    )


def show(costs: list[Cost]) -> None:
    """The measured part."""
    print(
        "replicas batch  updates/s  requests/s  service us  database us  wal bytes  stored bytes"
        "  locks held/waiting  p50 ms  p99 ms"
    )
    for cost in costs:
        print(
            f"{cost.replicas:>8} {cost.batch:>5} {cost.updates / cost.seconds:>10,.0f}"
            f" {cost.requests / cost.seconds:>11,.0f} {cost.service_us:>11,.0f}"
            f" {cost.database_us:>12,.0f} {cost.wal_bytes:>10,.0f} {cost.stored_bytes:>13,.0f}"
            f" {cost.locks_held:>13.1f}/{cost.locks_waited_for}"
            f" {cost.p50_ms:>9.1f} {cost.p99_ms:>7.1f}"
            + ("" if cost.clean else "  NOT CLEAN")
            + (f"  {cost.deadlocks} DEADLOCKS" if cost.deadlocks else "")
        )
    single = [cost for cost in costs if cost.batch == 1]
    if single:
        service = sum(cost.service_us for cost in single) / len(single)
        database = sum(cost.database_us for cost in single) / len(single)
        first = "the services' processors" if service > database else "the database's processors"
        print(f"\nwith a request an update {first} saturate first: {service:,.0f} us against")
        print(f"{database:,.0f} us of one core an update; replicas add the former, not the latter")


def extrapolate(costs: list[Cost]) -> None:
    """The machines of whole fleets, from the costs of the largest number of replicas."""
    single = [cost for cost in costs if cost.batch == 1]
    if not single:
        return
    cost = max(single, key=lambda cost: cost.replicas)
    print(f"\nextrapolated, not measured: an update and a request every {EVERY_S:.0f} s, cores at")
    print(f"{BUSY:.0%}, machines of {CORES} cores, {COMMITS_A_DATABASE:,} commits/s a cluster")
    print(
        "     runs  requests/s  service cores  machines  database cores  clusters  wal MB/s  GB/day"
    )
    for runs in (1_000, 100_000, 1_000_000):
        rate = runs / EVERY_S
        service = rate * cost.service_us / 1e6 / BUSY
        database = rate * cost.database_us / 1e6 / BUSY
        clusters = max(-(-rate // COMMITS_A_DATABASE), -(-database // (4 * CORES)))
        print(
            f"{runs:>9,} {rate:>11,.0f} {service:>14.1f} {max(-(-service // CORES), 2):>9.0f}"
            f" {database:>15.1f} {clusters:>9.0f} {rate * cost.wal_bytes / 1e6:>9.1f}"
            f" {rate * cost.stored_bytes * 86_400 / 1e9:>7.1f}"
        )


def main() -> None:
    """Print what was measured, then what follows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", default="1,2,4")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--runs", type=int, default=200)
    chosen = parser.parse_args()
    costs = [
        measure(int(count), batch, chosen)
        for batch in (1, 100)
        for count in chosen.replicas.split(",")
    ]
    show(costs)
    extrapolate(costs)
    sys.exit(0 if all(cost.clean for cost in costs) else 1)


if __name__ == "__main__":
    main()
