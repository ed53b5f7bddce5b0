"""Replicas whose machines are an hour wrong, one fast and one slow, beside one that is right."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.http_kit import Running, until, upd
from service.kit import postgres_database
from story.postgres_kit import inbox
from story.replica_kit import Trainer, leaders, progress, replicas, tally, to_any, training

pytestmark = pytest.mark.long

FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
HOUR_S = 3_600
# Far from the hour that would be wrong, and far from what a slow machine takes.
WRONG_S = 900
RUNS = 4


def wrong(seconds: int) -> dict[str, str]:
    """The environment of a process whose wall clock differs by so much."""
    if not FAKETIME:
        pytest.skip("libfaketime is not installed")
    return {
        "LD_PRELOAD": str(FAKETIME[0]),
        "FAKETIME": f"{seconds:+d}s",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def seconds_from_now(moment: str) -> float:
    return abs((datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds())


def test_replicas_an_hour_apart_agree_on_the_time(tmp_path: Path) -> None:
    with (
        postgres_database() as url,
        inbox() as received,
        replicas(tmp_path / "right", 1, url, **received.settings()) as (right,),
        replicas(tmp_path / "fast", 1, url, **received.settings(), **wrong(HOUR_S)) as (fast,),
        replicas(tmp_path / "slow", 1, url, **received.settings(), **wrong(-HOUR_S)) as (slow,),
    ):
        running = [right, fast, slow]
        trainers = [
            Trainer(f"run-{at}", to_any([service.client for service in running], at))
            for at in range(RUNS)
        ]
        with training(trainers):
            # Under libfaketime a replica was 2 to 8 times slower; a second off as well as an hour.
            progress(trainers, 750, 150)
        totals = tally(right.client, trainers, received)
        # An order that expires after ten minutes, given on one and taken on the other.
        fast.client.post("/runs/run-0/commands", {"kind": "halt"})
        taken = slow.client.send("run-0", upd(trainers[0].acknowledged + 50, x=1.0))
        heard = [seconds_from_now(heard_of(trainer, slow)) for trainer in trainers]
        sent = slow.client.get("/deliveries").json["items"]
        alerts = {alert["rule"] for alert in right.client.get("/alerts").json["items"]}

    assert totals.clean(), totals
    assert totals.messages_repeated == 0
    assert [command["kind"] for command in taken.json["commands"]] == ["halt"]
    assert max(heard) < WRONG_S
    assert max(seconds_from_now(delivery["created_at"]) for delivery in sent) < WRONG_S
    assert "GradHigh" in alerts
    assert not {"RunLost", "RunStalled"} & alerts, "nobody was silent"
    for replica in (fast, slow):
        assert "clock differs" in (replica.folder / "log").read_text()
    assert "clock differs" not in (right.folder / "log").read_text()


def test_a_silence_is_seen_in_time_whoever_is_wrong(tmp_path: Path) -> None:
    short = {"WATCHSTEP_STALL__TIMEOUT_S": "3"}
    with (
        postgres_database() as url,
        replicas(tmp_path / "slow", 1, url, **short, **wrong(-HOUR_S)) as (slow,),
    ):
        until(lambda: leaders([slow]))
        with replicas(tmp_path / "fast", 1, url, **short, **wrong(HOUR_S)) as (fast,):
            fast.client.send("a", upd(1, train__grad_norm=1.0))
            begun = time.monotonic()
            until(lambda: slow.client.get("/alerts?run=a&state=firing").json["items"], 20)
            took_s = time.monotonic() - begun

    assert 2.5 < took_s < 10


def heard_of(trainer: Trainer, at: Running) -> str:
    return at.client.get(f"/runs/{trainer.run}").json["last_update_at"]
