"""What a mirror adds to a tracker's call, against a `watch.log` of the same 20 floats.

    python -m benchmarks.mirror_cost [--updates 20000]

The tracker is wandb's class of the mirror's table with a `log` that does nothing, so that its own
milliseconds do not hide what is added. Both are timed by turns of 200 in one process, without a
service; the figure is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

import watchstep
from benchmarks.log_cost import readings
from watchstep.integrations import mirror

TURN = 200


class Run:
    """As wandb's is used, and nothing else."""

    id, name, project, starting_step = "r1", "", "p", 0
    config: dict[str, object] = {}

    def log(self, data: dict[str, float], step: int | None = None) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


def timed(call: Callable[[dict[str, float]], object], updates: list[dict[str, float]]) -> list[int]:
    """Nanoseconds of each call."""
    took = []
    for update in updates:
        begun = time.perf_counter_ns()
        call(update)
        took.append(time.perf_counter_ns() - begun)
    return took


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=20_000)
    chosen = parser.parse_args()
    for key in [key for key in os.environ if key.startswith("WATCHSTEP_")]:
        del os.environ[key]
    generator = random.Random(0)
    plain = Run.log
    sys.modules["wandb"] = types.SimpleNamespace(Run=Run, run=None)  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as name:
        mirror("wandb", directory=Path(name) / "mirrored")
        watch = watchstep.init(run="direct", directory=Path(name) / "direct")
        run = Run()
        took: dict[str, list[int]] = {"watch.log": [], "mirrored": [], "nothing": []}
        for _ in range(chosen.updates // TURN):
            updates = [readings(generator) for _ in range(TURN)]
            took["watch.log"] += timed(watch.log, updates)
            took["mirrored"] += timed(run.log, updates)
            took["nothing"] += timed(lambda update: plain(run, update), updates)
        run.finish()
        watch.finish()
    middle = {kind: statistics.median(each) / 1000 for kind, each in took.items()}
    added = middle["mirrored"] - middle["nothing"]
    print(f"watch.log {middle['watch.log']:.1f} us, mirrored log adds {added:.1f} us")
    print(f"{added / middle['watch.log']:.2f}x")


if __name__ == "__main__":
    main()
