"""What watchstep costs the training thread in one step: `log`, the guard, and both together.

    python benchmarks/step_cost.py

Prints the thread's own processor time in microseconds, medians over 1,500 steps of a tiny net,
where nothing hides the cost. The guard judges each optimizer step by the rules, and `log` judges
the update with the guard's readings in it, so that both together are more than their sum.
"""

from __future__ import annotations

import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Callable

import torch

import watchstep
from watchstep.core import engine_kind


def cpu_us(work: Callable[[], object], count: int = 1_500) -> float:
    for _ in range(count // 10):
        work()
    took_ns = []
    for _ in range(count):
        begun = time.thread_time_ns()
        work()
        took_ns.append(time.thread_time_ns() - begun)
    return statistics.median(took_ns) / 1e3


def main() -> None:
    torch.set_num_threads(1)
    net = torch.nn.Linear(16, 4)
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)

    def step() -> None:
        loss = net(torch.randn(32, 16)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    bare = cpu_us(step)
    watch = watchstep.init(run="cost", directory=tempfile.mkdtemp(), mode="offline")
    chance, updates = random.Random(1), itertools.count(1)

    def few() -> dict[str, float]:
        # One that does not fall would have rules fire at every update.
        loss = (1.0 + 0.1 * chance.random()) / next(updates) ** 0.5
        return {"train/loss": loss, "train/accuracy": 0.9}

    many = {f"train/metric{at}": float(at) for at in range(18)}
    alone = {
        "log of 2 floats": lambda: watch.log(few()),
        "log of 20 floats": lambda: watch.log(few() | many),
    }
    costs = {name: cpu_us(log) for name, log in alone.items()}
    watch.guard(optimizer)
    costs["guard"] = cpu_us(step) - bare

    def watched() -> None:
        step()
        watch.log(few())

    costs["guard and log of 2 floats"] = cpu_us(watched) - bare
    watch.finish()
    print(f"engine {engine_kind()}")
    print(f"{'the step itself':<28}{bare:8.0f} us")
    for name, cost in costs.items():
        print(f"{name:<28}{cost:8.0f} us")


if __name__ == "__main__":
    main()
