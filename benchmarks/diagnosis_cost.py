"""What one diagnosis costs: 300 updates of 25 metrics, at an edge of an incident.

    python benchmarks/diagnosis_cost.py

Processor time of `diagnose` and `story`, the least of 15 calls. Neither runs while a run is
healthy.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from log_cost import readings

from watchstep.core.diagnosis import diagnose
from watchstep.core.stages import story
from watchstep.core.updates import Update
from watchstep.rules import load


def least_s(call: Callable[[], object], times: int) -> float:
    """Seconds of processor time, of the fastest of so many calls."""
    took = []
    for _ in range(times):
        begun = time.process_time()
        call()
        took.append(time.process_time() - begun)
    return min(took)


def main() -> None:
    """Print both."""
    rules = load(["ppo", "generic"])
    generator = random.Random(0)
    extra = {f"my/metric_{number}": 1.0 for number in range(5)}
    history = [Update(at, at, float(at), readings(generator) | extra) for at in range(1, 301)]
    print(f"diagnose {least_s(lambda: diagnose(rules, history, []), 15) * 1e3:.2f} ms")
    print(f"story    {least_s(lambda: story(rules, [], history), 15) * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
