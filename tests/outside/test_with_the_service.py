"""`watchstep run` and the real service: what people are shown and told."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outside.kit_outside import PATIENCE_S, environment, piped, python, until, wrapped
from service.http_kit import Client, served

NAN = """
import pathlib, time
for step in range(12):
    print(f"step {step}: loss {'nan' if step > 9 else 2.0 / (step + 1)}", flush=True)
while not pathlib.Path("heard").exists():
    time.sleep(0.02)
"""
HOOK = """
import os, watchstep
with watchstep.init() as watch:
    for step in range(5):
        watch.log({"train/loss": step + 1.0}, step=step)
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(tmp_path_factory.mktemp("service"), "--rules", "generic") as running:
        yield running.client


@pytest.fixture
def run(client: Client, tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    def start(name: str, program: str, *options: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            wrapped(python(program), "--run", name, *options),
            cwd=tmp_path,
            env=environment(WATCHSTEP_URL=f"http://127.0.0.1:{client.port}"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    return start


def firing(client: Client, name: str) -> set[str]:
    alerts = client.get(f"/alerts?run={name}").json["items"]
    return {alert["rule"] for alert in alerts if alert["state"] == "firing"}


def status(client: Client, name: str) -> Any:
    return client.get(f"/runs/{name}").json["status"]


def test_a_nan_that_is_printed_fires_an_alert_while_the_command_runs(
    run: Any, client: Client, tmp_path: Path
) -> None:
    process = run("nan", NAN)

    until(lambda: "LossNonFinite" in firing(client, "nan"), "the alert")

    assert process.poll() is None
    (tmp_path / "heard").touch()
    assert process.wait(PATIENCE_S) == 0


def test_a_crash_is_an_alert_and_a_failed_run(run: Any, client: Client) -> None:
    process = run("crash", "print('step 1: loss 2.0', flush=True)\nraise ValueError('empty')")

    assert process.wait(PATIENCE_S) == 1

    assert status(client, "crash") == "failed"
    assert "TrainerFailed" in firing(client, "crash")
    assert client.get("/runs/crash").json["attempt"] == 1


RESUMED = """
for step in range(40):
    print(f"step {step}: loss {4.0 - step / 20:.3f}", flush=True)
print("Resuming training from out/ckpt.pt", flush=True)
for step in range(30, 60):
    print(f"step {step}: loss {3.9 - step / 90:.3f}", flush=True)
"""


def test_a_command_that_begins_training_again_is_the_next_attempt_of_the_run(
    client: Client, tmp_path: Path
) -> None:
    done = piped(
        wrapped(python(RESUMED), "--run", "resumed"),
        tmp_path,
        {"WATCHSTEP_URL": f"http://127.0.0.1:{client.port}"},
    )

    ended = client.get("/runs/resumed").json
    assert (ended["attempt"], ended["status"], ended["step"]) == (2, "finished", 59)
    # It is no rival of itself.
    assert done.stderr == b""


def test_a_process_that_dies_after_its_hook_has_told_the_end_has_failed(
    run: Any, client: Client
) -> None:
    process = run("late", HOOK + "os.kill(os.getpid(), 11)")

    assert process.wait(PATIENCE_S) == 139

    run_told = client.get("/runs/late").json
    assert (run_told["status"], run_told["attempt"], run_told["step"]) == ("failed", 1, 4)


def test_a_hook_that_ends_well_is_left_alone(run: Any, client: Client) -> None:
    process = run("well", HOOK)

    assert process.wait(PATIENCE_S) == 0

    run_told = client.get("/runs/well").json
    assert (run_told["status"], run_told["attempt"], run_told["last_seq"]) == ("finished", 1, 6)
