"""The seed document's own timeline, updates 1095 to 1100, through the real service."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import watchstep
from watchstep.demo.receiver import Receiver
from watchstep.demo.service import Service
from watchstep.demo.telling import Teller

RUN = "seed-timeline"

TIMELINE: dict[int, dict[str, float]] = {
    1095: {
        "train/advantages_std_raw": 0.0008,
        "train/advantages_norm_max_abs": 4.2,
        "train/policy_loss": -0.003,
        "train/value_loss": 0.12,
        "train/explained_variance": 0.75,
    },
    1098: {
        "train/advantages_std_raw": 0.00005,
        "train/advantages_norm_max_abs": 8.5,
        "train/policy_loss": -0.02,
        "train/value_loss": 0.35,
        "train/explained_variance": 0.68,
    },
    1099: {
        "train/advantages_std_raw": 0.000018,
        "train/advantages_norm_max_abs": 385.2,
        "train/policy_loss": -47.3,
        "train/value_loss": 156.8,
        "train/clip_fraction": 0.98,
        "train/entropy_loss": -12.5,
        "train/grad_norm": 2847.3,
        "train/explained_variance": -3.2,
    },
    1100: {
        "train/advantages_std_raw": math.nan,
        "train/advantages_norm_max_abs": math.nan,
        "train/policy_loss": math.nan,
        "train/value_loss": math.nan,
        "train/explained_variance": math.nan,
        "rollout/ep_rew_mean": -850.3,
    },
}
"""The document's "real example (reconstructed)", number by number. It has no 1096 and 1097."""

CORRECTIONS = (
    (
        "A largest |z| of 385.2 from statistics of the same batch needs N >= 148,227 values;"
        " with fewer it proves that the deviation came from other data."
    ),
    (
        "A policy loss of -47.3 is impossible for standardised advantages: the clipped"
        " surrogate's mean lies within the clip range."
    ),
    (
        "An entropy loss of -12.5 is no collapse: Stable-Baselines3 logs minus the entropy, and"
        " collapse is a rise to 0."
    ),
    (
        "A raw deviation below 1e-4 is no alarm by itself: 157 healthy updates had one, none with"
        " a largest |z| above 7.2."
    ),
)


def replay(teller: Teller) -> None:
    """Send the timeline as a trainer would, and tell what came of it."""
    teller.chapter("The seed document's timeline, replayed")
    with tempfile.TemporaryDirectory(prefix="watchstep-seed-") as name:
        folder = Path(name)
        with Receiver() as receiver, Service(folder, receiver) as service:
            with watchstep.init(
                run=RUN,
                project="demo",
                url=service.url,
                directory=folder / "spool",
                rules=["ppo-seed", "ppo", "generic"],
            ) as watch:
                _updates(teller, watch)
            messages = receiver.wait_for(RUN, 10, severity="critical")
            run = service.get(f"/runs/{RUN}")
            teller.chapter("What the service made of it")
            teller.fact("status", run["status"])
            signed = all(message.genuine for message in messages)
            teller.fact("messages", f"{len(messages)}, genuinely signed: {signed}")
            for line in service.text("/metrics").splitlines():
                if line.startswith("watchstep_run_reading{") and "NaN" in line:
                    teller.say(f"  {line}", style="dim")
    teller.chapter("What of it cannot have happened")
    for sentence in CORRECTIONS:
        teller.say(f"- {sentence}")


def _updates(teller: Teller, watch: watchstep.Watch) -> None:
    for number, readings in TIMELINE.items():
        before = len(watch.transitions)
        verdict = watch.log(readings, step=number)
        teller.update(number, readings)
        for transition in list(watch.transitions)[before:]:
            teller.transition(transition)
        if not math.isfinite(readings["train/policy_loss"]):
            firing = ", ".join(verdict.firing)
            teller.say(f"      still firing through the NaN: {firing}", style="red")
