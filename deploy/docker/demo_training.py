"""Real training with a real fault, reported to the service that the environment names.

Stable-Baselines3's PPO learns MountainCar-v0 with advantages divided by a deviation that belongs
to other data. After about 15 updates the hook proves it and halts the run: exit code 76. Set
`WATCHSTEP_DEMO_FAULT=none` to see a healthy run end with 0.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

import watchstep
from watchstep.demo.agent import ROLLOUT, faulty_agent, healthy_agent, make_env
from watchstep.errors import TrainingHalted
from watchstep.integrations.sb3 import WatchstepCallback

UPDATES = 40
OPENS_AT_UPDATE = 15
SEED = 0


def main() -> int:
    """Train; returns the process' exit code."""
    torch.set_num_threads(1)
    faulty = os.environ.get("WATCHSTEP_DEMO_FAULT", "drift") != "none"
    make_agent = faulty_agent if faulty else healthy_agent
    agent = make_agent(make_env(OPENS_AT_UPDATE * ROLLOUT, SEED), SEED)
    with watchstep.init(
        project="demo",
        token=_token(),
        checkpoints=Path(os.environ.get("WATCHSTEP_DIR", ".")) / "checkpoints",
        on_critical="halt",
        tags={"env": "MountainCar-v0", "algorithm": "PPO"},
        trainer="stable-baselines3",
    ) as watch:
        try:
            agent.learn(UPDATES * ROLLOUT, callback=WatchstepCallback(watch))
        except TrainingHalted as halt:
            # Its reason was printed where it was raised.
            return halt.exit_code
    return 0


def _token() -> str | None:
    """The bearer token from the file that `WATCHSTEP_TOKEN_FILE` names.

    None, if it names none, leaves `WATCHSTEP_TOKEN` in charge.
    """
    named = os.environ.get("WATCHSTEP_TOKEN_FILE")
    return Path(named).read_text("utf-8").strip() if named else None


if __name__ == "__main__":
    sys.exit(main())
