"""Many short PPO runs with real faults, with and without watchstep: what is finished and lost.

    python -m benchmarks.stability_experiment [--runs 6] [--folder F]

The seed document's table "100 runs to 10,000 updates", done: each condition is trained `--runs`
times without watchstep, with `on_critical="halt"` and with "rollback". Without it a checkpoint is
overwritten every 5 updates, as is common. Results are kept a line a run in the folder, so that
a run of this script that was cut off, or one with more runs, goes on where it stopped.
About 10 minutes on two cores as it stands.

Counts come with the 95 % interval of the share that they stand for. A run is *finished* if it made
all its updates and its parameters are finite; *lost* updates are those after the newest checkpoint
that is finite, up to where the run ended; a halted run loses few of them, and says so at once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import math
import shutil
import statistics
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import set_random_seed

import watchstep
from benchmarks.judgement.trainers.hooked_ppo import FaultyPPO
from benchmarks.stability_faults import N_ENVS, N_STEPS, Saboteur, World, environments, frozen
from watchstep.checkpoint import all_finite
from watchstep.errors import CheckpointError, TrainingHalted
from watchstep.integrations.sb3 import WatchstepCallback
from watchstep.postmortem.readers import open_logs
from watchstep.study.statistics import wilson

UPDATES, FAULT_AT, SAVE_EVERY = 36, 20, 5
MODES = ("without", "halt", "rollback")


@dataclass(frozen=True)
class Condition:
    """What is wrong in a run; see `stability_faults` for the words."""

    name: str
    env: str
    standardise: str = "own"
    world: str = ""
    model: str = ""
    size: float = 1.0
    at: int = FAULT_AT
    settings: dict[str, Any] = field(default_factory=dict)


FADING: dict[str, Any] = {"gamma": 0.0, "gae_lambda": 0.0}
"""Advantages are then what the critic misses of a constant reward: soon, next to nothing."""
CONDITIONS = (
    Condition("healthy", "cartpole"),
    Condition(
        "nothing moves, seed's old code",
        "market",
        "seed_document",
        "nothing_moves",
        size=1e-4,
        at=1,
        settings=FADING,
    ),
    Condition(
        "nothing moves, fixed code",
        "market",
        "own",
        "nothing_moves",
        size=1e-4,
        at=1,
        settings=FADING,
    ),
    Condition(
        "market opens, stale deviation",
        "market",
        "previous",
        "regime",
        size=1e3,
        settings={"max_grad_norm": 1e9},
    ),
    Condition(
        "market opens, fixed code",
        "market",
        "own",
        "regime",
        size=1e3,
        settings={"max_grad_norm": 1e9},
    ),
    Condition("one NaN reward", "cartpole", world="reward_nan"),
    Condition(
        "one absurd reward, unclipped",
        "cartpole",
        world="reward_spike",
        size=1e10,
        settings={"max_grad_norm": 1e12},
    ),
    Condition("learning rate leaps to 1", "cartpole", model="rate"),
    Condition("parameter turns NaN", "cartpole", model="parameter", size=math.nan),
)


COLUMNS = (
    "condition",
    "watchstep",
    "runs",
    "finished",
    "of these frozen",
    "diverged or died",
    "halted",
    "rollbacks",
    "checkpoint lost",
    "updates lost a run",
    "median reward at the end",
    "smallest raw std",
    "largest advantage",
    "ended by",
)


EXPECTED = {
    "nothing moves, seed's old code": "within 1e-8 to 1e-4 advantages of 385, then NaN, always",
    "nothing moves, fixed code": "never above 10",
    "market opens, stale deviation": "not foreseen",
    "market opens, fixed code": "never diverges",
    "one absurd reward, unclipped": "an explosion is the end of a run",
}


class Overwriter(BaseCallback):
    """Saves to one file every few updates, as many trainers do.

    Attributes:
        saved_at: Update of the last save, 0 before any.
        finite: Whether what was saved last is finite.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.updates, self.saved_at, self.finite = path, 0, 0, True

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self.updates += 1
        done = self.updates - 1
        if done and done % SAVE_EVERY == 0:
            state = {
                "policy": self.model.policy.state_dict(),
                "optimizer": self.model.policy.optimizer.state_dict(),
            }
            torch.save(state, self.path)
            self.saved_at, self.finite = done, all_finite(state["policy"])


def outcome(condition: Condition, mode: str, seed: int, here: Path) -> dict[str, Any]:
    """Train one run and say what became of it."""
    set_random_seed(seed)
    world = World(condition.world, condition.at, condition.size)
    saboteur = Saboteur(world, condition.model, condition.at, condition.size)
    made = environments(condition.env, world, seed)
    settings = {"n_steps": N_STEPS, "batch_size": 64, "n_epochs": 3, "gamma": 0.95}
    model = FaultyPPO(
        "MlpPolicy", made, seed=seed, device="cpu", **{**settings, **condition.settings}
    )
    model.standardise = condition.standardise
    train = _without if mode == "without" else _watched
    failure = train(model, saboteur, mode, here)
    failure["finite"] = all_finite(model.policy.state_dict())
    failure["end"] = min(max(world.update, 1), UPDATES)
    failure["frozen"] = frozen(saboteur.moves, condition.at)
    failure["reward"] = _typical_reward(model)
    failure["smallest_std"], failure["largest"] = model.smallest_std, model.largest
    return failure


def _typical_reward(model: FaultyPPO) -> float:
    """Median of the last 20 episodes, which one absurd reward does not move."""
    episodes = list(model.ep_info_buffer or ())[-20:]
    return statistics.median(each["r"] for each in episodes) if episodes else math.nan


def _without(model: FaultyPPO, saboteur: Saboteur, mode: str, here: Path) -> dict[str, Any]:
    del mode
    keeper = Overwriter(here / "latest.pt")
    how = "made all updates"
    try:
        model.learn(N_ENVS * N_STEPS * UPDATES, callback=[saboteur, keeper])
    except (ValueError, FloatingPointError) as error:
        how = f"died: {type(error).__name__}"
    return {"how": how, "kept": keeper.saved_at if keeper.finite else None, "rollbacks": 0}


def _watched(model: FaultyPPO, saboteur: Saboteur, mode: str, here: Path) -> dict[str, Any]:
    how = "made all updates"
    watch = watchstep.init(
        run="stability",
        directory=here / "spool",
        checkpoints=here / "checkpoints",
        mode="offline",
        on_critical=mode,
        capture_text=False,
    )
    hook = WatchstepCallback(watch)
    try:
        with watch:
            model.learn(N_ENVS * N_STEPS * UPDATES, callback=[saboteur, hook])
    except TrainingHalted as halt:
        how = f"halted: {halt.rule or 'command'}"
    except (ValueError, FloatingPointError) as error:
        how = f"died: {type(error).__name__}"
    return {"how": how, "kept": _newest(watch), "rollbacks": _rollbacks(here)}


def _rollbacks(here: Path) -> int:
    updates = (update for log in open_logs([here / "spool"]) for update in log.updates)
    reasons = ((update.event or {}).get("reason", "") for update in updates)
    return sum(str(reason).startswith("rolled back") for reason in reasons)


def _newest(watch: Any) -> int | None:
    """Update of the newest good checkpoint, else of the newest finite one, or None."""
    steps = [each.step for each in watch.keeper.list() if each.finite]
    # Nothing was ever good where the fault was there from the start and seen at once.
    with contextlib.suppress(CheckpointError):
        steps = [watch.restore().step]
    return max(steps) // (N_ENVS * N_STEPS) if steps else None


def table(results: Sequence[dict[str, Any]]) -> list[str]:
    """One line a condition and mode, as Markdown."""
    lines = [
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    for condition in CONDITIONS:
        for mode in MODES:
            mine = [
                each
                for each in results
                if each["condition"] == condition.name and each["mode"] == mode
            ]
            if mine:
                lines.append(_line(condition.name, mode, mine))
    return lines


def _line(name: str, mode: str, mine: Sequence[dict[str, Any]]) -> str:
    halted = [each for each in mine if each["how"].startswith("halted")]
    finished = [each for each in mine if each["finite"] and each["how"] == "made all updates"]
    bad = len(mine) - len(finished) - len(halted)
    lost = [each["end"] - (each["kept"] or 0) for each in mine if each not in finished]
    mean = f"{sum(lost) / len(lost):.0f}" if lost else "-"
    ways = sorted({each["how"] for each in mine if each not in finished})
    cells = (
        name,
        mode,
        len(mine),
        _share(len(finished), len(mine)),
        sum(each["frozen"] for each in finished),
        bad,
        len(halted),
        sum(each["rollbacks"] for each in mine),
        _share(sum(each["kept"] is None for each in mine), len(mine)),
        mean,
        f"{statistics.median(each['reward'] for each in mine):.3g}",
        f"{min(each['smallest_std'] for each in mine):.2g}",
        f"{max(each['largest'] for each in mine):.3g}",
        ", ".join(ways) or "-",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _share(count: int, of: int) -> str:
    """A count with Wilson's 95 % interval of the share that it stands for."""
    likely = wilson(count, of)
    return f"{count} ({likely.low:.0%} to {likely.high:.0%})"


def findings(results: Sequence[dict[str, Any]]) -> list[str]:
    """What the seed document expects, beside what these runs did without watchstep."""
    lines = ["", "The seed document expects; found here, without watchstep:"]
    for name, expected in EXPECTED.items():
        mine = [each for each in results if each["condition"] == name and each["mode"] == "without"]
        finished = [each for each in mine if each["finite"] and each["how"] == "made all updates"]
        if mine:
            lines.append(
                f"- {name}: {expected}; found: {len(finished)} of {len(mine)} finished,"
                f" {sum(each['frozen'] for each in finished)} of them frozen,"
                f" {sum(each['kept'] is None for each in mine)} checkpoints lost,"
                f" raw deviation down to {min(each['smallest_std'] for each in mine):.2g},"
                f" largest advantage {max(each['largest'] for each in mine):.3g}"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    default = Path(tempfile.gettempdir()) / "watchstep-stability"
    parser.add_argument("--folder", type=Path, default=default)
    parser.add_argument("--runs", type=int, default=6, help="of each condition and mode")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    kept = options.folder / "results.jsonl"
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    results = [json.loads(line) for line in lines]
    done = {(each["condition"], each["mode"], each["seed"]) for each in results}
    for seed, condition, mode in itertools.product(range(options.runs), CONDITIONS, MODES):
        if (condition.name, mode, seed) not in done:
            results.append(_recorded(condition, mode, seed, kept))
    mine = [each for each in results if each["seed"] < options.runs]
    print("\n".join([*table(mine), *findings(mine)]))


def _recorded(condition: Condition, mode: str, seed: int, kept: Path) -> dict[str, Any]:
    here = kept.parent / "training"
    # Left over from a run of this script that was cut off.
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            figures = outcome(condition, mode, seed, here)
    finally:
        shutil.rmtree(here, ignore_errors=True)
    result = {"condition": condition.name, "mode": mode, "seed": seed, **figures}
    with kept.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(result) + "\n")
    return result


if __name__ == "__main__":
    main()
