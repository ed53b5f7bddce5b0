"""The fleet's benchmarks at a small size: they run, they count, and nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.http_kit import environment
from service.kit import postgres_database

pytestmark = pytest.mark.long

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def bench(script: str, *options: str) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *options]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_small_fleet_with_bursts_and_stragglers_loses_nothing(database: str) -> None:
    small = ("--runs", "100", "--seconds", "4", "--every", "1", "--connections", "20", "--json")
    if database == "sqlite":
        document = json.loads(bench("fleet_load.py", *small))
    else:
        with postgres_database() as url:
            document = json.loads(bench("fleet_load.py", *small, "--database-url", url))

    assert document["verdict"]["acknowledged"] == document["verdict"]["stored"] >= 200
    assert document["clean"]
    assert set(document["statuses"]) == {"202"}


def test_trainers_that_come_back_all_at_once_are_served_without_a_storm_of_retries() -> None:
    small = ("--trainers", "300", "--spooled", "30", "--outage", "3", "--json")

    document = json.loads(bench("fleet_storm.py", *small))

    assert document["clean"]
    assert document["updates"] == 300 * 30
    assert document["requests_while_away"] > 300
    answered = {
        key: count for key, count in document["statuses_after"].items() if not key.endswith("Error")
    }
    assert sum(answered.values()) <= 3 * document["needed_requests"]
    assert document["without_retry_after"] == 0


def test_the_capacity_model_prints_costs_and_what_follows_from_them() -> None:
    # Where no cluster can be made there is nothing to measure either.
    from story.postgres_kit import BINARIES

    if not BINARIES:
        pytest.skip("no PostgreSQL server is installed")

    shown = bench("fleet_capacity.py", "--replicas", "1", "--seconds", "2", "--runs", "20")

    costs = [line.split() for line in shown.splitlines() if line.split()[:1] == ["1"]]
    assert [cost[1] for cost in costs] == ["1", "100"]
    assert all(float(cost[4].replace(",", "")) > 0 for cost in costs), "the services' cost"
    assert all(float(cost[5].replace(",", "")) > 0 for cost in costs), "the database's cost"
    assert all(float(cost[6].replace(",", "")) > 20 * 8 for cost in costs), "its log"
    assert "saturate first" in shown
    assert "1,000,000" in shown
    assert "NOT CLEAN" not in shown
