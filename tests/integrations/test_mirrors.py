"""Each tracker as it is, offline, with nothing but a mirror added: what it holds is judged."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
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


def started(
    command: Sequence[str], folder: Path, settings: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def under_run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return started([sys.executable, "-m", "watchstep", "run", *arguments], folder, settings)


def run(folder: Path, program: str, **settings: str) -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(textwrap.dedent(program))
    words = {
        name: value.replace("trackio", str(folder / "trackio")) for name, value in WORDS.items()
    }
    return started([sys.executable, "train.py"], folder, {**words, **settings})


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


@pytest.mark.parametrize("most", [1_000, pytest.param(STEPS, marks=pytest.mark.long)])
@pytest.mark.parametrize("library", sorted(PROGRAMS))
def test_no_reading_is_lost_against_the_trackers_own_file(
    library: str, most: int, tmp_path: Path
) -> None:
    needs(library)
    steps = min(most, SLOW.get(library, STEPS))
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
    if library == "mlflow":
        (stored,) = open_logs([tmp_path / "own.db"])
        assert readings_of(stored.updates) == held(tmp_path, library)
    if library != "swanlab":
        assert [value for *_, value in readings] == pytest.approx(
            [value for *_, value in held(tmp_path, library)], rel=1e-6
        )


FOREIGN = """
    import wandb
    run = wandb.init(project="trials", mode="offline", id="abc123")
    for step in range(60):
        wandb.log({"train/loss": float("nan") if step >= 40 else 1.0, "train/grad_norm": 1.0})
    wandb.finish()
"""


def test_a_wandb_program_that_goes_nan_is_told_of_with_one_variable_set(tmp_path: Path) -> None:
    needs("wandb")
    with served(tmp_path / "service", "--rules", "generic") as running:
        (tmp_path / "train.py").write_text(textwrap.dedent(FOREIGN))
        url = f"http://127.0.0.1:{running.client.port}"
        words = {"WATCHSTEP_MIRROR": "wandb", "WATCHSTEP_URL": url, "WANDB_SILENT": "true"}
        done = under_run(tmp_path, "--run", "r1", "--", sys.executable, "train.py", **words)

        alerts = until(lambda: running.client.get("/alerts?run=r1").json["items"])
        detail = running.client.get("/runs/r1").json

    assert done.returncode == 0, done.stderr
    assert any(alert["metric"] == "train/loss" for alert in alerts)
    assert (detail["status"], detail["health"], detail["step"]) == ("finished", "diverged", 59)
    assert detail["trainer"].startswith("mirrored from wandb")
    assert detail["counts"]["lost"] == 0


def test_importing_watchstep_is_enough_where_the_variable_is_set(tmp_path: Path) -> None:
    needs("wandb")

    done = run(tmp_path, "import watchstep\n" + textwrap.dedent(FOREIGN), WATCHSTEP_MIRROR="wandb")

    assert done.returncode == 0, done.stderr
    name, readings = spooled(tmp_path)
    assert name == "abc123"
    assert len(readings) == 120


def test_a_halt_comes_out_of_the_trackers_call_and_the_tracker_has_the_reading(
    tmp_path: Path,
) -> None:
    needs("wandb")
    head = "import watchstep\nwatchstep.integrations.mirror('wandb', on_critical='halt')\n"

    done = run(tmp_path, head + textwrap.dedent(FOREIGN))

    assert done.returncode == 76, done.stderr
    _, judged = spooled(tmp_path)
    (log,) = open_logs([tmp_path / "wandb"])
    written = readings_of(log.updates)
    assert judged[-1][0] == written[-1][0] == 40
    assert len(written) == len(judged) == 82


def test_two_runs_of_a_tracker_are_two_runs_and_an_error_ends_one_as_failed(
    tmp_path: Path,
) -> None:
    needs("mlflow")
    program = """
        import watchstep.integrations
        watchstep.integrations.mirror("mlflow")
        import mlflow
        for name in ("first", "second"):
            try:
                with mlflow.start_run(run_name=name):
                    mlflow.log_metric("loss", 1.0, step=1)
                    mlflow.log_metric("loss", 0.5, step=2)
                    mlflow.log_metric("system/cpu", 0.5, step=77)
                    if name == "second":
                        raise ValueError("no more data")
            except ValueError:
                pass
    """

    done = run(tmp_path, program)

    assert done.returncode == 0, done.stderr
    logs = {
        log.run.rpartition("-")[0]: list(log.updates)
        for log in open_logs([tmp_path / ".watchstep"])
    }
    assert set(logs) == {"first", "second"}
    kinds = {
        name: [update.event["kind"] for update in updates if update.event]
        for name, updates in logs.items()
    }
    assert kinds["first"][-1] == "finished"
    assert kinds["second"][-1] == "failed"


def test_the_machines_own_sitecustomize_runs_too(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("print('own')")
    words = {"WATCHSTEP_MIRROR": "wandb", "PYTHONPATH": str(own)}
    program = "import sys; print('watchstep' in sys.modules, any('startup' in p for p in sys.path))"

    done = under_run(tmp_path, "--", sys.executable, "-W", "ignore", "-c", program, **words)

    # Once in our own process, before the mirror is of concern, and once in the command's.
    assert done.stdout.splitlines()[-2:] == ["own", "True False"], done.stderr


@pytest.mark.parametrize(
    ("library", "content", "word"),
    [
        ("nonsense", None, "and no 'nonsense'"),
        ("swanlab", None, "not installed"),
        ("wandb", "class Run: pass", "this version of it has no Run.log"),
        ("wandb", "def init(): pass", "this version of it has no Run"),
    ],
)
def test_what_cannot_be_mirrored_costs_a_word(
    library: str, content: str | None, word: str, tmp_path: Path
) -> None:
    if content is None and library in PROGRAMS and find_spec(library):
        pytest.skip(f"{library} is installed")
    if content is not None:
        (tmp_path / f"{library}.py").write_text(content)
    program = f"""
        import watchstep.integrations
        watchstep.integrations.mirror({library!r})
        {f"import {library}" if content else ""}
        print("trained")
    """

    done = run(tmp_path, program)

    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert done.stderr.count("UserWarning") == 1
    assert word in done.stderr


class Logged:
    """A watch as the mirror sees it."""

    def __init__(self) -> None:
        self.updates: list[tuple[int, dict[str, Any]]] = []

    def log(self, readings: Mapping[str, Any], step: int) -> None:
        self.updates.append((step, dict(readings)))


def test_an_update_is_what_was_logged_at_one_step() -> None:
    watch = Logged()
    mirrored = mirrors.MirroredRun(watch)

    mirrored.add({"a": 1.0}, 5, done=False)
    mirrored.add({"b": 2.0}, 5, done=False)
    mirrored.add({"a": 3.0}, 6, done=False)
    mirrored.add({"a": 4.0}, 6, done=False)
    mirrored.add({"a": 5.0}, None, done=True)
    mirrored.add({"a": 6.0}, None, done=True)

    assert watch.updates == [
        (5, {"a": 1.0, "b": 2.0}),
        (6, {"a": 3.0}),
        (6, {"a": 4.0}),
        (7, {"a": 5.0}),
        (8, {"a": 6.0}),
    ]


def test_names_that_are_logged_without_steps_make_updates_when_they_come_again() -> None:
    watch = Logged()
    mirrored = mirrors.MirroredRun(watch)

    for loss in (3.0, 2.0, 1.0):
        mirrored.add({"loss": loss}, None, done=False)
        mirrored.add({"reward": -loss}, None, done=False)
    mirrored.judge()

    assert watch.updates == [
        (step, {"loss": loss, "reward": -loss}) for step, loss in enumerate((3.0, 2.0, 1.0))
    ]


def test_what_waits_for_its_commit_is_one_update_with_the_last_value_of_each_name() -> None:
    watch = Logged()
    mirrored = mirrors.MirroredRun(watch, first_step=3)

    mirrored.add({"a": 1.0}, None, done=False, replaces=True)
    mirrored.add({"a": 2.0, "b": 1.0}, None, done=True, replaces=True)
    mirrored.add({"a": 3.0}, 9, done=False, replaces=True)
    mirrored.add({"b": 4.0}, None, done=True, replaces=True)
    mirrored.add({"a": 5.0}, None, done=True, replaces=True)

    assert watch.updates == [(3, {"a": 2.0, "b": 1.0}), (9, {"a": 3.0, "b": 4.0}), (10, {"a": 5.0})]


def test_only_numbers_are_readings() -> None:
    class Image:
        pass

    class Array:
        def __init__(self, *shape: int) -> None:
            self.shape = shape

        def __float__(self) -> float:
            return 1.0

    scalar, single, many = Array(), Array(1, 1), Array(3)
    values = {
        "loss": math.nan, "whole": 3, "nested": {"inner": 1.0, "text": "x"}, "image": Image(),
        "text": "1.0", "nothing": None, "scalar": scalar, "single": single, "many": many,
    }  # fmt: skip

    kept = mirrors._numbers(values)

    assert list(kept) == ["loss", "whole", "nested/inner", "scalar", "single"]
