"""The seed document's table in full: 100 PPO runs of 10,000 updates each, trained side by side.

    python -m benchmarks.stability_long [--runs 100] [--updates 10000] [--folder F]

The smallest PPO that shows the fault, of all runs at once: parameters, samples and Adam's moments
have a first dimension of runs, and nothing passes between runs. The game is a market of four
drifting signals, the first of which says what to do. It falls quiet at random, once in 5,000
updates in the mean, which is the time to failure that the report names: for 200 updates nothing
moves and every action pays the same; then it opens again, and pays a thousand times as much for
ten updates. Gradients are not clipped, since the report's are not.

Every run's readings are judged by the default rules as the hook would judge them; what a halt
would have changed is read off the same run, since up to the halt it is the same. A run is *ruined*
where it is not finite, or chose rightly in less than 60 % of the last 100 updates' moves after it
had in 80 %; a quiet stretch, in which no move is right, counts as what was before it. Its
checkpoint, overwritten every 50 updates, is *lost* where it holds a ruined policy.

Results are kept a file a condition, so that a run that was cut off goes on with the next one.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from watchstep.core.updates import Action, Update
from watchstep.hook.judgement import Judgement
from watchstep.rules import AUTO, load
from watchstep.study.statistics import wilson

COPIES, STEPS, SIGNALS, HIDDEN = 16, 16, 4, 16
GAMMA, LAMBDA, CLIP, EPOCHS, RATE = 0.95, 0.95, 0.2, 4, 1e-3
QUIET_EVERY, QUIET_FOR, OPENING, OPENING_PAYS = 5000, 200, 10, 1000.0
SAVE_EVERY, LOOK_BACK, WELL, RUINED = 50, 100, 0.8, 0.6
EPSILON = 1e-8
CONDITIONS = {
    "report's old code": "(a - mean) / max(std, 1e-8)",
    "fixed code": "(a - mean) / (std + 1e-8)",
    "stale deviation": "(a - mean before) / (std before + 1e-8)",
}


class Net(NamedTuple):
    """Weights of all runs: (runs, in, out), biases (runs, 1, out)."""

    into: Tensor
    into_bias: Tensor
    policy: Tensor
    value: Tensor
    value_bias: Tensor

    def hidden(self, seen: Tensor) -> Tensor:
        return torch.tanh(torch.baddbmm(self.into_bias, seen, self.into))

    def answers(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of both actions and values, of observations (runs, n, signals)."""
        hidden = self.hidden(seen)
        values = torch.baddbmm(self.value_bias, hidden, self.value).squeeze(-1)
        return torch.log_softmax(torch.bmm(hidden, self.policy), dim=-1), values


def fresh(runs: int, draw: torch.Generator) -> Net:
    def normal(*shape: int) -> Tensor:
        return torch.randn(runs, *shape, generator=draw)

    return Net(
        normal(SIGNALS, HIDDEN) * 0.5,
        torch.zeros(runs, 1, HIDDEN),
        normal(HIDDEN, 2) * 0.01,
        normal(HIDDEN, 1) * 0.1,
        torch.zeros(runs, 1, 1),
    )


@dataclass
class Adam:
    """Adam with PyTorch's defaults; every element is its own, so runs stay apart."""

    parameters: Net
    moments: list[Tensor] = field(init=False)
    squares: list[Tensor] = field(init=False)
    steps: int = 0

    def __post_init__(self) -> None:
        self.moments = [torch.zeros_like(each) for each in self.parameters]
        self.squares = [torch.zeros_like(each) for each in self.parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        self.steps += 1
        size = RATE / (1 - 0.9**self.steps)
        scale = math.sqrt(1 - 0.999**self.steps)
        for parameter, gradient, moment, square in zip(
            self.parameters, gradients, self.moments, self.squares, strict=True
        ):
            moment.lerp_(gradient, 0.1)
            square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            parameter.addcdiv_(moment, square.sqrt() / scale + EPSILON, value=-size)


class Market:
    """The game of all runs: observations (runs, copies, signals)."""

    def __init__(self, runs: int, draw: torch.Generator) -> None:
        self.draw = draw
        self.signals = torch.randn(runs, COPIES, SIGNALS, generator=draw)
        self.left = torch.zeros(runs, dtype=torch.long)
        """Updates left of a quiet stretch and of the opening after it."""

    def next_update(self) -> None:
        begins = torch.rand(self.left.shape, generator=self.draw) < 1 / QUIET_EVERY
        self.left = torch.where(
            self.left > 0, self.left - 1, torch.where(begins, QUIET_FOR + OPENING, 0)
        )

    def observed(self) -> Tensor:
        quiet = (self.left > OPENING)[:, None, None]
        return torch.where(quiet, torch.full_like(self.signals, 0.1), self.signals)

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Rewards, and whether the action was right, each (runs, copies)."""
        right = actions == (self.signals[..., 0] > 0).long()
        pays = torch.where(right, 1.0, -0.5) + 0.3 * torch.randn(right.shape, generator=self.draw)
        opening = (self.left > 0) & (self.left <= OPENING)
        pays = pays * torch.where(opening, OPENING_PAYS, 1.0)[:, None]
        rewards = torch.where((self.left > OPENING)[:, None], torch.ones_like(pays), pays)
        self.signals = 0.7 * self.signals + 0.7 * torch.randn(
            self.signals.shape, generator=self.draw
        )
        return rewards, right


class Batch(NamedTuple):
    """One rollout: (runs, steps x copies, ...)."""

    seen: Tensor
    actions: Tensor
    before: Tensor
    values: Tensor
    advantages: Tensor
    rewards: Tensor
    right: Tensor


@torch.no_grad()
def collect(net: Net, market: Market) -> Batch:
    rows: list[tuple[Tensor, ...]] = []
    for _ in range(STEPS):
        seen = market.observed()
        chances, values = net.answers(seen)
        # A policy of NaN is drawn from as if it knew nothing, so that the other runs go on.
        draws = torch.rand(values.shape, generator=market.draw)
        actions = (draws < torch.nan_to_num(chances[..., 1].exp(), nan=0.5)).long()
        rewards, right = market.step(actions)
        rows.append((seen, actions, chances, values, rewards, right))
    _, following = net.answers(market.observed())
    running, advantages = torch.zeros_like(following), []
    for _, _, _, values, rewards, _ in reversed(rows):
        running = rewards + GAMMA * following - values + GAMMA * LAMBDA * running
        advantages.append(running)
        following = values
    seen, actions, chances, values, rewards, right = (
        torch.cat(part, dim=1) for part in zip(*rows, strict=True)
    )
    taken = chances.gather(-1, actions[..., None]).squeeze(-1)
    whole = torch.cat(advantages[::-1], dim=1)
    return Batch(seen, actions, taken, values, whole, rewards, right)


class Standardiser:
    """Advantages (runs, n) by one of the ways of `CONDITIONS`."""

    def __init__(self, condition: str, runs: int) -> None:
        self.condition = condition
        self.before = torch.zeros(runs, 1), torch.ones(runs, 1)

    def __call__(self, raw: Tensor) -> Tensor:
        mean, std = raw.mean(1, keepdim=True), raw.std(1, keepdim=True)
        kept, self.before = self.before, (mean, std)
        if self.condition == "report's old code":
            return (raw - mean) / std.clamp(min=EPSILON)
        if self.condition == "fixed code":
            return (raw - mean) / (std + EPSILON)
        return (raw - kept[0]) / (kept[1] + EPSILON)


def train(net: Net, adam: Adam, batch: Batch, advantages: Tensor) -> dict[str, Tensor]:
    """The epochs of one update; the readings of the last, each (runs,)."""
    returns = batch.advantages + batch.values
    readings: dict[str, Tensor] = {}
    for _ in range(EPOCHS):
        chances, values = net.answers(batch.seen)
        taken = chances.gather(-1, batch.actions[..., None]).squeeze(-1)
        ratio = (taken - batch.before).exp()
        clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
        policy_loss = -torch.minimum(ratio * advantages, clipped * advantages).mean(1)
        value_loss = ((values - returns) ** 2).mean(1)
        entropy_loss = (chances.exp() * chances).sum(-1).mean(1)
        loss = policy_loss + 0.5 * value_loss + 0.01 * entropy_loss
        gradients = torch.autograd.grad(loss.sum(), net)
        norms = torch.stack([each.flatten(1).square().sum(1) for each in gradients]).sum(0).sqrt()
        adam.step(gradients)
        readings = {
            "train/loss": loss,
            "train/policy_gradient_loss": policy_loss,
            "train/value_loss": value_loss,
            "train/entropy_loss": entropy_loss,
            "train/approx_kl": ((ratio - 1) - (taken - batch.before)).mean(1),
            "train/clip_fraction": ((ratio - 1).abs() > CLIP).float().mean(1),
            "train/grad_norm": norms,
        }
    return readings


@dataclass
class Run:
    """What became of one run, in updates from 1; 0 stands for never.

    Attributes:
        failed: The first update of what it never came back from.
        lost: Whether the overwritten checkpoint holds a ruined policy at the end.
        halted: The first update at which a rule asked for a halt.
        warned: The first update with a warning or a critical alert.
        rule: What halted.
        quiets: How often the market fell quiet.
    """

    failed: int = 0
    finite: bool = True
    lost: bool = False
    halted: int = 0
    warned: int = 0
    rule: str = ""
    smallest_std: float = math.inf
    largest: float = 0.0
    quiets: int = 0


def experiment(condition: str, runs: int, updates: int, seed: int) -> list[Run]:
    draw = torch.Generator().manual_seed(seed)
    net = Net(*(each.requires_grad_() for each in fresh(runs, draw)))
    adam, market = Adam(net), Market(runs, draw)
    standardise = Standardiser(condition, runs)
    rules = load([AUTO])
    judges = [Judgement(rules, most=Action.HALT) for _ in range(runs)]
    outcomes = [Run() for _ in range(runs)]
    skill: list[Tensor] = []
    began = time.perf_counter()
    for update in range(1, updates + 1):
        quiet_before = market.left > 0
        market.next_update()
        batch = collect(net, market)
        advantages = standardise(batch.advantages)
        readings = train(net, adam, batch, advantages)
        readings |= {
            "rollout/ep_rew_mean": batch.rewards.mean(1) * STEPS,
            "train/advantages_mean_raw": batch.advantages.mean(1),
            "train/advantages_std_raw": batch.advantages.std(1),
            "train/advantages_norm_max_abs": advantages.abs().amax(1),
            "train/advantages_count": torch.full((runs,), float(COPIES * STEPS)),
            "train/advantages_norm_mean": advantages.mean(1),
        }
        now = batch.right.float().mean(1)
        skill.append(torch.where(market.left > OPENING, skill[-1], now) if skill else now)
        columns = {name: values.tolist() for name, values in readings.items()}
        begun = ((market.left > 0) & ~quiet_before).tolist()
        for at, run in enumerate(outcomes):
            row = {name: values[at] for name, values in columns.items()}
            run.quiets += begun[at]
            run.smallest_std = min(run.smallest_std, row["train/advantages_std_raw"])
            run.largest = max(run.largest, row["train/advantages_norm_max_abs"])
            _judge(run, judges[at], Update(update, update, float(update), row))
        if update % 500 == 0:
            print(f"{condition}: {update} updates, {time.perf_counter() - began:.0f} s", flush=True)
    _conclude(outcomes, net, torch.stack(skill))
    return outcomes


def _judge(run: Run, judge: Judgement, update: Update) -> None:
    if run.halted:
        return
    verdict, transitions = judge.update(update)
    if not run.warned and any(
        each.change == "firing" and each.severity != "info" for each in transitions
    ):
        run.warned = update.seq
    if verdict.action >= Action.HALT:
        run.halted, run.rule = update.seq, verdict.rules[0]


def _conclude(outcomes: list[Run], net: Net, skill: Tensor) -> None:
    """Say of every run whether, and from which update on, it was ruined for good."""
    smooth = skill.unfold(0, LOOK_BACK, 1).mean(-1) if len(skill) >= LOOK_BACK else skill
    for at, run in enumerate(outcomes):
        run.finite = all(bool(each[at].isfinite().all()) for each in net)
        mine = smooth[:, at].tolist()
        was_well = max(mine) >= WELL
        bad = [value < RUINED for value in mine]
        if was_well and bad[-1]:
            last_good = max(where for where, is_bad in enumerate(bad) if not is_bad)
            run.failed = last_good + LOOK_BACK // 2
        run.lost = bool(run.failed) and run.failed < len(skill) // SAVE_EVERY * SAVE_EVERY


def table(results: dict[str, list[Run]], updates: int) -> list[str]:
    head = (
        "standardising",
        "runs",
        "finished well",
        "ruined",
        "checkpoint lost",
        "quiet stretches",
        "updates to a failure, mean",
        "smallest raw std",
        "largest advantage, median of runs",
        "halted",
        "of ruined: halted before or within 20 updates",
        "of the others: halted",
        "halted by",
    )
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, runs in results.items():
        ruined = [run for run in runs if run.failed]
        others = [run for run in runs if not run.failed]
        lived = sum(run.failed or updates for run in runs)
        caught = [run for run in ruined if run.halted and run.halted <= run.failed + 20]
        halts = sorted({run.rule for run in runs if run.rule})
        cells = (
            name,
            len(runs),
            _share(len(others), len(runs)),
            _share(len(ruined), len(runs)),
            _share(sum(run.lost for run in runs), len(runs)),
            sum(run.quiets for run in runs),
            f"{lived / len(ruined):,.0f}" if ruined else f"none in {lived:,}",
            f"{min(run.smallest_std for run in runs):.2g}",
            f"{statistics.median(run.largest for run in runs):.3g}",
            sum(bool(run.halted) for run in runs),
            f"{len(caught)} of {len(ruined)}",
            f"{sum(bool(run.halted) for run in others)} of {len(others)}",
            ", ".join(halts) or "-",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _share(count: int, of: int) -> str:
    share = wilson(count, of)
    return f"{count} ({share.low:.0%} to {share.high:.0%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=20_261_130)
    parser.add_argument("--folder", type=Path, default=Path("stability-long"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[Run]] = {}
    for condition in CONDITIONS:
        kept = options.folder / f"{condition.replace(' ', '_')}.json"
        if not kept.exists():
            runs = experiment(condition, options.runs, options.updates, options.seed)
            kept.write_text(json.dumps([asdict(run) for run in runs]))
        entries: list[dict[str, Any]] = json.loads(kept.read_text())
        results[condition] = [Run(**entry) for entry in entries]
    print("\n".join(table(results, options.updates)))


if __name__ == "__main__":
    main()
