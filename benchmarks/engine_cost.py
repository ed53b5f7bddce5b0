"""What judging costs: microseconds an update and a rule, default pack, 25 metrics.

`python benchmarks/engine_cost.py`. Best of several repetitions, since the machine is shared;
an anchor loop of known work is timed beside it, so that machines can be compared.
"""

from __future__ import annotations

import argparse
import json
import random
import time
import tracemalloc
from collections.abc import Callable

from watchstep.core import engine_kind
from watchstep.core.engine import RuleSet, State, judge, step
from watchstep.core.rules import Rule
from watchstep.core.updates import Update
from watchstep.rules import load

PACKS = ("ppo", "generic")
HEALTHY = {
    "train/policy_loss": 0.01,
    "train/value_loss": 0.3,
    "train/loss": 0.2,
    "train/entropy_loss": -1.0,
    "train/approx_kl": 0.01,
    "train/clip_fraction": 0.1,
    "train/clip_range": 0.2,
    "train/grad_norm": 0.5,
    "train/grad_norm_max": 0.9,
    "train/explained_variance": 0.5,
    "train/learning_rate": 3e-4,
    "train/advantages_std_raw": 0.5,
    "train/advantages_mean_raw": 0.01,
    "train/advantages_norm_max_abs": 3.0,
    "train/advantages_count": 2048.0,
    "train/advantages_epsilon": 1e-8,
    "train/std": 1.0,
    "rollout/ep_rew_mean": 100.0,
    "rollout/ep_len_mean": 200.0,
    "time/fps": 500.0,
    "time/time_elapsed": 3.0,
    "train/n_updates": 10.0,
    "guard/nonfinite_gradients": 0.0,
    "guard/skipped": 0.0,
    "checkpoint/nonfinite_tensors": 0.0,
}
FIXED = {"train/advantages_count", "train/clip_range", "train/advantages_epsilon"}


def updates(count: int) -> list[Update]:
    """A healthy stream of 25 metrics with a tenth of noise on each."""
    chance = random.Random(11)
    stream = []
    for number in range(1, count + 1):
        readings = {
            name: value if name in FIXED else value * (1.0 + 0.1 * chance.random())
            for name, value in HEALTHY.items()
        }
        stream.append(Update(number, number, float(number), readings))
    return stream


def best(work: Callable[[], None], repetitions: int) -> float:
    """Shortest of several runs, in seconds of processor time."""
    times = []
    for _ in range(repetitions):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def folded(rules: RuleSet, stream: list[Update]) -> Callable[[], None]:
    def work() -> None:
        state = State(rules)
        for update in stream:
            state, _ = step(rules, state, update)
            judge(rules, state)

    return work


def anchor() -> None:
    """Ten thousand additions and one list access each, about half a millisecond of CPython."""
    numbers, total = [1.0] * 10, 0.0
    for at in range(10_000):
        total += numbers[at % 10]


def windows() -> RuleSet:
    """25 rules of one window each, to show that their length does not matter."""
    kinds = ("spike(m{0}, {1}) > 9", "zscore(m{0}, {1}) > 9", "max(m{0}, {1}) > 9")
    return RuleSet(
        [Rule(f"R{at}", kinds[at % 3].format(at, 50 if at < 12 else 5000)) for at in range(25)]
    )


ROLES = ("loss", "grad_norm", "reward", "kl")
FAMILIES = {
    "loss": (
        "growth(metric, 5) > 1",
        "growth(metric, 5) > 2",
        "level(metric, 5) > 1e6",
        "nonfinite_reports(metric, 5) >= 3",
        "stuck(metric, 20)",
    ),
    "grad_norm": (
        "growth(metric, 20) > 2",
        "spike(metric, 50) > 100",
        "count(nonfinite(metric), 5) >= 3",
        "level(metric, 20) < 1e-7",
    ),
    "reward": (
        "level(metric, 20) < 0.3 * before(metric, 20)",
        "metric < lowest(metric, 10) - 5 * std(metric, 50)",
        "stuck(metric, 50)",
    ),
    "kl": ("level(metric, 20) > 0.5", "growth(metric, 20) > 1.5", "stuck(metric, 10)"),
}
"""What rules for a role look at: 15 rules, so 150 instances over 10 metrics of each role."""


def roles_set() -> RuleSet:
    rules = [
        Rule(f"{role}{at}", expr, each=(role,))
        for role, exprs in FAMILIES.items()
        for at, expr in enumerate(exprs)
    ]
    return RuleSet(rules, roles={f"m{at}": ROLES[at % 4] for at in range(40)})


def roles_stream(count: int, seed: int) -> list[Update]:
    """Forty metrics with a tenth of noise."""
    chance = random.Random(seed)
    return [
        Update(n, n, float(n), {f"m{at}": 0.1 + 0.01 * chance.random() for at in range(40)})
        for n in range(1, count + 1)
    ]


def bytes_a_run(rules: RuleSet, runs: int = 100) -> int:
    """What one more run takes in memory after 200 updates, its own numbers included."""
    _folded_run(rules, roles_stream(200, 0))
    tracemalloc.start()
    states = [_folded_run(rules, roles_stream(200, seed)) for seed in range(runs)]
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size_bytes // len(states)


def _folded_run(rules: RuleSet, stream: list[Update]) -> State:
    state = State(rules)
    for update in stream:
        state, _ = step(rules, state, update)
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=4000)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    stream, rules = updates(chosen.updates), load(PACKS)
    seconds = best(folded(rules, stream), chosen.repetitions)
    per_update = seconds / len(stream) * 1e6
    began = time.process_time()
    fresh = load(PACKS)
    loading = time.process_time() - began
    began = time.process_time()
    # As at a run's first update.
    fresh.expanded(HEALTHY, fresh.family_for(HEALTHY))
    compiling = time.process_time() - began
    long = windows()
    few = [
        Update(n, n, float(n), {f"m{m}": random.Random(n * m).random() for m in range(25)})
        for n in range(1, 1001)
    ]
    roles, forty = roles_set(), roles_stream(chosen.updates // 4, 1)
    state = _folded_run(roles, forty[:1])
    figures = {
        "engine": engine_kind(),
        "rules": len(rules.rules),
        "windows": len(rules.program.windows),
        "metrics": len(HEALTHY),
        "us_per_update": round(per_update, 2),
        "us_per_rule": round(per_update / len(rules.rules), 3),
        "us_per_rule_of_one_window": round(
            best(folded(long, few), chosen.repetitions) / len(few) / 25 * 1e6, 3
        ),
        "instances_over_40_metrics": len(state.rules.instances),
        "us_per_update_of_those": round(
            best(folded(roles, forty), chosen.repetitions) / len(forty) * 1e6, 2
        ),
        "bytes_a_run_of_those": bytes_a_run(roles),
        "ms_to_load": round(loading * 1e3, 1),
        "ms_to_expand_for_a_run": round(compiling * 1e3, 1),
        "ms_anchor": round(best(anchor, chosen.repetitions) * 1e3, 3),
    }
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:<28} {figure}")


if __name__ == "__main__":
    main()
