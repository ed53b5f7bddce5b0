"""The demonstrations, run as a newcomer runs them."""

from __future__ import annotations

import subprocess
import sys

import pytest


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "watchstep", "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)


def test_the_main_job_runs_end_to_end_on_real_training() -> None:
    pytest.importorskip("stable_baselines3", reason="needs the extra sb3")

    run = _run("--no-wait")

    assert run.returncode == 0, run.stderr
    order = [
        "AdvantagesForeignDeviation",
        "AdvantagesVanishing",
        "bit-identical",
        "from the halt: critical, ",  # "explosion", or "halted" where that came in the same batch
        "genuine",
        "status                     halted",
        'watchstep_alert_firing{run="mountaincar-drifting",rule="AdvantagesBeyondBound",metric=""',
        "verified",
        "finished, attempt 2",
        "Nobody was called.",
    ]
    places = [run.stdout.replace("\n", " ").find(words) for words in order]
    assert -1 not in places, dict(zip(order, places, strict=True))
    assert places == sorted(places)


def test_the_seed_timeline_stays_critical_through_the_nan() -> None:
    run = _run("--replay-seed")

    assert run.returncode == 0, run.stderr
    through = run.stdout.split("still firing through the NaN:")[1].split("\n\n")[0]
    assert "AdvantagesExtreme" in through
    assert 'run="seed-timeline",project="demo",metric="train/policy_loss"} NaN' in run.stdout
