"""A real service in a process of its own, and trainers that tell it their stories."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from watchstep.wire.text import number_to_json

READY_S = 60.0


@dataclass
class Running:
    """A service that answers."""

    url: str
    process: subprocess.Popen[str]
    data_dir: Path

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)
        assert self.process.stdout is not None
        self.process.stdout.close()


def serve(data_dir: Path, *options: str, env: Mapping[str, str] | None = None) -> Running:
    """Start a service and wait for its ready line."""
    data_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "watchstep_monitor", "serve", "--data-dir", str(data_dir)]
    if "--port" not in options:
        command += ["--port", "0"]
    with (data_dir / "service.log").open("w") as log:
        process = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **(env or {})},
        )
    assert process.stdout is not None
    late = threading.Timer(READY_S, process.kill)
    late.start()
    line = process.stdout.readline()
    late.cancel()
    assert line.startswith("watchstep ready "), (data_dir / "service.log").read_text()
    return Running(line.split()[2], process, data_dir)


@contextmanager
def serving(data_dir: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """A service for the length of a block; gives its address."""
    running = serve(data_dir, *options, env=env)
    try:
        yield running.url
    finally:
        running.stop()


@dataclass
class Trainer:
    """One attempt of one run, spoken for over HTTP.

    Attributes:
        began: Time of update 0 on the trainer's clock, epoch seconds.
        pace_s: Seconds an update.
    """

    client: httpx.Client
    run: str
    began: float = field(default_factory=lambda: time.time() - 3_600)
    pace_s: float = 1.5
    steps_an_update: int = 2_048
    attempt: int = 0
    seq: int = 0
    commands: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, **about: Any) -> Trainer:
        answer = self.client.put(f"/api/v1/runs/{self.run}", json=about)
        assert answer.status_code == 200, answer.text
        self.attempt = answer.json()["attempt"]
        return self

    def log(self, readings: Mapping[str, float], event: Mapping[str, Any] | None = None) -> None:
        """Note an update; `send` sends it."""
        self.seq += 1
        update: dict[str, Any] = {
            "seq": self.seq,
            "step": self.seq * self.steps_an_update,
            "time": self.began + self.seq * self.pace_s,
            "metrics": {name: number_to_json(value) for name, value in readings.items()},
        }
        if event is not None:
            update["event"] = event
        self.waiting.append(update)
        if len(self.waiting) >= 1_000:
            self.send()

    def send(self) -> None:
        if not self.waiting:
            return
        body = json.dumps({"attempt": self.attempt, "updates": self.waiting})
        headers = {"Content-Type": "application/json"}
        while True:
            path = f"/api/v1/runs/{self.run}/updates"
            answer = self.client.post(path, content=body, headers=headers)
            if answer.status_code not in {408, 429, 503}:
                break
            time.sleep(1)  # The service asks for it, as of any trainer.
        assert answer.status_code == 202, answer.text
        assert not answer.json()["rejected"], answer.text
        self.commands += answer.json()["commands"]
        self.waiting = []


def healthy_readings(at: int, chance: random.Random) -> dict[str, float]:
    """PPO that learns: what a trainer reports at update `at`."""
    learned = 1 - math.exp(-at / 220)
    return {
        "rollout/ep_rew_mean": -180 + 420 * learned + chance.gauss(0, 9),
        "train/policy_loss": -0.012 + chance.gauss(0, 0.006),
        "train/value_loss": 42 * math.exp(-at / 260) + 6 + abs(chance.gauss(0, 1.6)),
        "train/entropy_loss": -1.35 + 0.7 * learned + chance.gauss(0, 0.015),
        "train/approx_kl": abs(0.011 + chance.gauss(0, 0.003)),
        "train/clip_fraction": min(1.0, abs(0.11 + chance.gauss(0, 0.025))),
        "train/grad_norm": abs(0.62 + chance.gauss(0, 0.14)),
        "train/explained_variance": min(0.99, 0.35 + 0.6 * learned + chance.gauss(0, 0.02)),
        "train/advantages_norm_max_abs": 3.4 + abs(chance.gauss(0, 0.5)),
        "train/advantages_std_raw": 0.8 + abs(chance.gauss(0, 0.12)),
        "train/advantages_count": 2_048.0,
        "time/fps": 1_365 + chance.gauss(0, 30),
    }


def exploding_readings(at: int, burst: int, chance: random.Random) -> dict[str, float]:
    """The same, until stale statistics meet quiet updates at `burst`."""
    readings = healthy_readings(min(at, burst), chance)
    late = at - burst
    if -40 <= late < 0:
        readings["train/advantages_std_raw"] = 10 ** (-1 - (late + 40) / 9)
    if late < 0:
        return readings
    grown = 10.0 ** min(late, 12)
    readings |= {
        "train/advantages_std_raw": 1.8e-5,
        "train/advantages_norm_max_abs": 385.2 * grown,
        "train/policy_loss": -47.3 * grown,
        "train/grad_norm": 2_847.3 * grown,
        "train/approx_kl": 1.9 * grown,
        "train/clip_fraction": 0.97,
        "rollout/ep_rew_mean": readings["rollout/ep_rew_mean"] - 60 * late,
    }
    if late >= 5:
        gone = ("policy_loss", "value_loss", "grad_norm", "approx_kl", "entropy_loss")
        readings |= {f"train/{name}": math.nan for name in gone}
    return readings


def tell_healthy(trainer: Trainer, updates: int, seed: int = 0) -> None:
    chance = random.Random(seed)
    for _ in range(updates):
        trainer.log(healthy_readings(trainer.seq, chance))
    trainer.send()


def checkpoint_event(step: int) -> dict[str, Any]:
    return {
        "kind": "checkpoint",
        "path": f"ckpt/step-{step:08d}.pt",
        "step": step,
        "finite": True,
        "pinned": True,
        "sha256": f"{step:064x}",
    }


def tell_explosion(trainer: Trainer, burst: int = 320, after: int = 8, seed: int = 1) -> None:
    """A run that explodes at update `burst` and whose hook protects it."""
    chance = random.Random(seed)
    for at in range(1, burst + after):
        event = None
        if at % 80 == 0 and at < burst:
            event = checkpoint_event(at * trainer.steps_an_update)
        if at >= burst:
            event = {"kind": "guard", "verdict": "skip", "reason": "advantages beyond their bound"}
        trainer.log(exploding_readings(at, burst, chance), event)
        if at in {burst - 1, burst + 2}:
            trainer.send()
    trainer.send()


def tell_many(client: httpx.Client, runs: int, updates: int = 3) -> None:
    """A store full of small healthy runs of several projects."""
    chance = random.Random(7)
    for at in range(runs):
        project = ("trading", "robotics", "llm", "ablation")[at % 4]
        trainer = Trainer(client, f"sweep-{at:05d}", pace_s=0.5)
        trainer.begin(project=project, trainer="sb3", tags={"seed": str(at % 10), "lr": "3e-4"})
        for step in range(updates):
            trainer.log(healthy_readings(step * 40, chance))
        if at % 3:
            trainer.log({}, {"kind": "finished"})
        trainer.send()
