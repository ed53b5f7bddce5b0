"""The main job on real training: a fault, its early signs, the proof, the halt, the way back."""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import watchstep
from watchstep.demo.receiver import Receiver
from watchstep.demo.service import Service
from watchstep.demo.telling import Teller
from watchstep.errors import TrainingHalted, WatchstepError
from watchstep.hook import Watch

if TYPE_CHECKING:
    from stable_baselines3 import PPO

OPENS_AT_UPDATE = 15
UPDATES = 40
SEED = 0


@dataclass
class Halt:
    """What was seen when training stopped."""

    error: TrainingHalted
    before: str
    after: str
    at: float


class StoryError(WatchstepError):
    """The story did not go as it must; the demonstration has failed."""


def tell(teller: Teller, *, wait: bool) -> None:
    """Run the whole story.

    Args:
        wait: Leave the service running at the end until Enter is pressed.

    Raises:
        StoryError: Something that must happen did not.
    """
    import torch

    torch.set_num_threads(1)
    logging.getLogger("watchstep.guard").setLevel(logging.CRITICAL)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="watchstep-demo-") as name:
        folder = Path(name)
        with Receiver() as receiver, Service(folder, receiver) as service:
            _opening(teller, service, receiver)
            halt, agent = _faulty_training(teller, service, folder)
            _proof(teller, halt)
            _alert(teller, receiver, halt)
            _state(teller, service)
            _way_back(teller, service, folder, agent)
            _healthy_training(teller, service, receiver, folder)
            _closing(teller, service, time.monotonic() - begun, wait=wait)


def _opening(teller: Teller, service: Service, receiver: Receiver) -> None:
    teller.chapter("watchstep: a real run goes wrong, and is caught")
    teller.say(
        "A PPO agent of Stable-Baselines3 learns MountainCar-v0. One line of its code is wrong:"
        " it divides advantages by a running deviation instead of the batch's own."
    )
    teller.fact("service", service.url)
    teller.fact("webhook receiver", receiver.url)


def _faulty_training(teller: Teller, service: Service, folder: Path) -> tuple[Halt, PPO]:
    from watchstep.demo.agent import ROLLOUT, faulty_agent, make_env

    teller.chapter("1  Training, with the fault")
    agent = faulty_agent(make_env(OPENS_AT_UPDATE * ROLLOUT, SEED), SEED)
    watch = _watch("mountaincar-drifting", service, folder)
    hashes = {"before": ""}
    try:
        _learn(agent, watch, teller, hashes)
    except TrainingHalted as error:
        from watchstep.guard import bit_hash

        after = bit_hash(agent.policy, agent.policy.optimizer)
        return Halt(error, hashes["before"], after, time.time()), agent
    raise StoryError("the faulty run was not halted")


def _learn(
    agent: Any, watch: Watch, teller: Teller, hashes: dict[str, str], *, every: int = 1
) -> None:
    from watchstep.demo.agent import ROLLOUT
    from watchstep.demo.narrator import Narrator
    from watchstep.integrations.sb3 import WatchstepCallback

    callback = WatchstepCallback(watch)
    agent.learn(
        UPDATES * ROLLOUT - agent.num_timesteps,
        callback=[callback, Narrator(callback, teller, hashes, every)],
        reset_num_timesteps=False,
    )


def _watch(run: str, service: Service, folder: Path) -> Watch:
    return watchstep.init(
        run=run,
        project="demo",
        url=service.url,
        directory=folder / "spool",
        checkpoints=folder / "checkpoints" / run,
        on_critical="halt",
        tags={"env": "MountainCar-v0", "algorithm": "PPO"},
        trainer="stable-baselines3",
    )


def _proof(teller: Teller, halt: Halt) -> None:
    teller.chapter("2  The proof, and the step that did not happen")
    teller.say(
        "No value standardised with its own batch's mean and deviation can exceed sqrt(N - 1)."
        " This one does, so its deviation came from other data: a proof, not a threshold."
    )
    teller.fact("weights + Adam before", halt.before[:48])
    teller.fact("weights + Adam after", halt.after[:48])
    if halt.before != halt.after:
        raise StoryError("the poisoned step reached the weights")
    teller.fact("", "bit-identical: optimizer.step() was stopped before it touched them", "green")
    teller.fact("exit code", f"{halt.error.exit_code}, where nobody catches the exception")


def _alert(teller: Teller, receiver: Receiver, halt: Halt) -> None:
    teller.chapter("3  Somebody was told")
    messages = receiver.wait_for("mountaincar-drifting", 15, severity="critical")
    if not messages or messages[-1].severity != "critical":
        raise StoryError("no critical message arrived")
    if not all(message.genuine for message in messages):
        raise StoryError("a message's signature is wrong")
    for number, message in enumerate(messages, start=1):
        details = message.body["watchstep"]
        when = f"{(message.arrived - halt.at) * 1000:+.0f} ms from the halt"
        state = details["status"] if details["status"] == "halted" else details["stage"]
        teller.say(f"message {number}, {when}: {message.severity}, {state}", style="bold")
        for alert in message.body["alerts"]:
            teller.fact(alert["labels"]["alertname"], alert["annotations"].get("summary", ""))
        teller.fact("diagnosis", details["diagnosis"] or "not enough evidence yet")
    teller.fact("signatures", "genuine (Standard Webhooks)", "green")


def _state(teller: Teller, service: Service) -> None:
    teller.chapter("4  The state, for people and machines")
    run = service.get("/runs/mountaincar-drifting")
    if run["status"] != "halted":
        raise StoryError(f"the run's status is {run['status']}, not halted")
    teller.say("GET /api/v1/runs/mountaincar-drifting", style="bold")
    for name in ("status", "attempt", "step", "last_seq"):
        teller.fact(name, str(run[name]))
    teller.say("GET /metrics", style="bold")
    prefixes = ("watchstep_alert_firing{", "watchstep_run_status{", "watchstep_run_step{")
    for line in service.text("/metrics").splitlines():
        if (
            line.startswith(prefixes)
            and "mountaincar-drifting" in line
            and not line.endswith(" 0.0")
        ):
            teller.say(f"  {line}", style="dim")


def _way_back(teller: Teller, service: Service, folder: Path, agent: PPO) -> None:
    from watchstep.checkpoint import verify
    from watchstep.demo.agent import healthy_agent

    teller.chapter("5  The way back: the last good checkpoint, and the fault removed")
    watch = _watch("mountaincar-drifting", service, folder)
    fixed = healthy_agent(agent.get_env(), SEED)  # type: ignore[arg-type]
    restored = watch.restore({"policy": fixed.policy, "optimizer": fixed.policy.optimizer})
    assert restored is not None
    verify(restored.path)
    teller.fact(
        "restored", f"{restored.path.name}, step {restored.step}, after update {restored.update}"
    )
    teller.fact("sha256", restored.sha256[:48])
    teller.fact("verified", "intact, complete, every number finite, no alert open", "green")
    fixed.num_timesteps = restored.step
    with watch:
        _learn(fixed, watch, teller, {}, every=5)
        serious = _serious(watch)
    run = service.get("/runs/mountaincar-drifting")
    teller.fact("status", f"{run['status']}, attempt {run['attempt']}, step {run['step']}")
    if run["status"] != "finished" or serious:
        raise StoryError(f"the resumed run is {run['status']} and fires {serious}")


def _healthy_training(teller: Teller, service: Service, receiver: Receiver, folder: Path) -> None:
    from watchstep.demo.agent import ROLLOUT, healthy_agent, make_env

    teller.chapter("6  A healthy run of the same agent")
    agent = healthy_agent(make_env(OPENS_AT_UPDATE * ROLLOUT, SEED + 1), SEED + 1)
    with _watch("mountaincar-healthy", service, folder) as watch:
        _learn(agent, watch, teller, {}, every=5)
        serious = _serious(watch)
    messages = receiver.wait_for("mountaincar-healthy", 0)
    run = service.get("/runs/mountaincar-healthy")
    if serious or messages or run["status"] != "finished":
        raise StoryError(f"the healthy run is {run['status']} and fires {serious}")
    teller.say(
        "Its advantages shrank just as far, and came back just as large. Nobody was called.",
        style="green",
    )


def _serious(watch: Watch) -> list[str]:
    return sorted(
        {t.rule for t in watch.transitions if t.change == "firing" and t.severity != "info"}
    )


def _closing(teller: Teller, service: Service, took_s: float, *, wait: bool) -> None:
    teller.chapter(f"Done in {took_s:.0f} s")
    teller.say("Next: six lines in your own loop (README.md), and `watchstep serve`.")
    if wait:
        teller.say(f"The service is still running: open {service.url} and press Enter to end it.")
        input()
