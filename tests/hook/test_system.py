"""`init(system=True)`: readings of the machine come with the updates."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from watchstep.postmortem.readers import open_logs


def machine(folder: Path) -> dict[str, float]:
    return {
        name: value
        for log in open_logs([folder])
        for update in log.updates
        for name, value in update.readings.items()
        if name.startswith("system/")
    }


def test_the_machine_s_readings_ride_on_updates(make: Any, tmp_path: Path) -> None:
    watch = make(system=True, mode="offline", checkpoints=tmp_path / "not" / "there" / "yet")
    watch.log({"train/loss": 1.0})
    deadline = time.monotonic() + 30

    while not machine(tmp_path / "spool") and time.monotonic() < deadline:
        watch.log({"train/loss": 1.0})
        time.sleep(0.02)

    seen = machine(tmp_path / "spool")
    assert seen["system/process_memory_bytes"] > 5e6
    assert seen["system/disk_free_bytes"] > 0
    assert watch.errors == {}


def test_without_it_nothing_of_the_machine_is_told(make: Any, tmp_path: Path) -> None:
    watch = make(mode="offline")

    for _ in range(5):
        watch.log({"train/loss": 1.0})

    assert machine(tmp_path / "spool") == {}


def test_the_rules_for_machines_judge_beside_the_packs_that_were_named(make: Any) -> None:
    with_machine = make(system=True, rules="pretrain", mode="offline")
    without = make(rules="pretrain", mode="offline", run="other")

    assert "DiskRunsOut" in with_machine._stream.judgement.rules.index
    assert "DiskRunsOut" not in without._stream.judgement.rules.index


def test_under_watchstep_run_the_hook_tells_of_the_machine(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHSTEP_OUTSIDE", str(tmp_path / "mark"))

    assert make(mode="offline").options.system
