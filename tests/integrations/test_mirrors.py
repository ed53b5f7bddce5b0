"""Each tracker as it is, offline, with nothing but a mirror added: what it holds is judged."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from service.http_kit import environment, served, until
from watchstep.integrations import mirrors
from watchstep.postmortem.readers import open_logs

STEPS = 10_000

# Each program logs as people do, and then says what its tracker holds, by the tracker's own word.
LOOP = """
import json, math, random
random.seed(7)
def values(step):
    return 2.0 / (1 + step) + 0.01 * random.random(), float(step % 7)
def own(rows):
    with open("own.json", "w") as file:
        json.dump([[int(step), name, float(value)] for step, name, value in rows], file)
"""
PROGRAMS = {
    "wandb": """
        import wandb
        wandb.init(project="trials", mode="offline", config={"lr": 0.1}, name="a name")
        for step in range(STEPS):
            loss, reward = values(step)
            wandb.log({"train/loss": loss, "note": "text", "train": {"reward": reward}})
        wandb.finish()
    """,
    "mlflow": """
        import mlflow
        from mlflow.tracking import MlflowClient
        with mlflow.start_run() as run:
            for step in range(STEPS):
                loss, reward = values(step)
                mlflow.log_metrics({"train/loss": loss, "train/reward": reward}, step=step)
        own(
            (point.step, name, point.value)
            for name in ("train/loss", "train/reward")
            for point in MlflowClient().get_metric_history(run.info.run_id, name)
        )
    """,
    "trackio": """
        import trackio
        from trackio.sqlite_storage import SQLiteStorage
        run = trackio.init(project="trials", name="a-name", embed=False)
        for step in range(STEPS):
            loss, reward = values(step)
            trackio.log({"train/loss": loss, "train/reward": reward})
        trackio.finish()
        own(
            (row["step"], name, row[name])
            for row in SQLiteStorage.get_logs("trials", "a-name", max_points=None)
            for name in ("train/loss", "train/reward")
        )
    """,
    "tensorboard": """
        from torch.utils.tensorboard import SummaryWriter
        writer = SummaryWriter("events/a-name")
        for step in range(STEPS):
            loss, reward = values(step)
            writer.add_scalar("train/loss", loss, step)
            writer.add_scalar("train/reward", reward, step)
        writer.close()
    """,
    "aim": """
        import aim
        run = aim.Run(repo=".", experiment="trials", system_tracking_interval=None)
        for step in range(STEPS):
            loss, reward = values(step)
            run.track(loss, name="loss", step=step, context={"subset": "train"})
            run.track(reward, name="reward", step=step, context={"subset": "train"})
        own(
            (step, f"train/{metric.name}", value)
            for metric in run.metrics()
            for step, value in metric.dataframe()[["step", "value"]].itertuples(index=False)
        )
        run.close()
    """,
    "swanlab": """
        import swanlab
        run = swanlab.init(project="trials", mode="local", logdir="logs")
        rows = []
        for step in range(STEPS):
            loss, reward = values(step)
            swanlab.log({"train/loss": loss, "train/reward": reward})
        swanlab.finish()
    """,
}
# A tracker writes each of many steps by itself to a database or a file.
SLOW = {"mlflow": 200, "aim": 2_000}
WORDS = {
    "WANDB_SILENT": "true",
    "MLFLOW_TRACKING_URI": "sqlite:///own.db",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "TRACKIO_DIR": "trackio",
    "TRACKIO_SHOW_DASHBOARD": "false",
    "HF_HUB_OFFLINE": "1",
}
PACKAGES = {"tensorboard": ("torch", "tensorboard")}


def needs(library: str) -> None:
    if not all(find_spec(package) for package in PACKAGES.get(library, (library,))):
        pytest.skip(f"needs {library}")


def run(folder: Path, program: str, **settings: str) -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(textwrap.dedent(program))
    words = {
        name: value.replace("trackio", str(folder / "trackio")) for name, value in WORDS.items()
    }
    return subprocess.run(
        [sys.executable, "train.py"],
        cwd=folder,
        env=environment(**{**words, **settings}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def spooled(folder: Path) -> tuple[str, list[tuple[int, str, float]]]:
    """Name of the only run in the spool, and step, name and value of all its readings."""
    (log,) = open_logs([folder / ".watchstep"])
    return log.run, readings_of(log.updates)


def readings_of(updates: Any) -> list[tuple[int, str, float]]:
    return sorted(
        (update.step, name, value)
        for update in updates
        for name, value in update.readings.items()
        if not name.startswith("watchstep/")
    )


def held(folder: Path, library: str) -> list[tuple[int, str, float]]:
    """What the tracker's own files hold."""
    if (folder / "own.json").exists():
        return sorted(map(tuple, json.loads((folder / "own.json").read_text())))
    logs = open_logs([folder / {"wandb": "wandb", "tensorboard": "events"}[library]])
    rows = [row for log in logs for row in readings_of(log.updates)]
    return sorted(rows)


@pytest.mark.parametrize("library", sorted(PROGRAMS))
def test_no_reading_is_lost_against_the_trackers_own_file(library: str, tmp_path: Path) -> None:
    needs(library)
    steps = SLOW.get(library, STEPS)
    head = f"STEPS = {steps}\n{LOOP}\nimport watchstep.integrations\n"
    program = textwrap.dedent(PROGRAMS[library])

    done = run(tmp_path, f"{head}watchstep.integrations.mirror({library!r})\n{program}")

    assert done.returncode == 0, done.stderr
    assert "goes on after" not in done.stderr
    name, readings = spooled(tmp_path)
    assert len(readings) == 2 * steps
    assert [(step, metric) for step, metric, _ in readings] == [
        (step, f"train/{metric}") for step in range(steps) for metric in ("loss", "reward")
    ]
    assert name
    if library != "swanlab":
        assert [value for *_, value in readings] == pytest.approx(
            [value for *_, value in held(tmp_path, library)], rel=1e-6
        )
