"""Healthy runs on a fast clock: how many are called stalled, and how soon a true hang is told.

    python benchmarks/false_stalls.py [--runs 50] [--scale 30] [--together 8]

Each run is a process with the real hook and its watchdog, whose limits and sleeps are `--scale`
times shorter: first an update that compiles for up to eight minutes, then a quarter of an hour
of updates with evaluations (marked, or unmarked and at work), saves and later compilations of
mixed length, and in the end a hang in the loop or inside a marked evaluation. A false stall is a
warning or worse before that. Times are on the runs' own clock. Exits 1 if there is a false
stall, or a hang that nobody was told of.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import watchstep
from watchstep.core.updates import Update
from watchstep.hook import progress, stacks, watchdog

HEALTHY_S = 900.0
LONGEST_COMPILATION_S = 480.0
LONGEST_MARKED_S = 240.0
LONGEST_UNMARKED_S = 4.0 * progress.LEAST_S
"""Work that nobody marked is told after five times the least limit."""


class Run:
    """One training; all seconds are of its own clock, `scale` times as fast as the wall's."""

    def __init__(self, seed: int, scale: float, folder: str) -> None:
        self.chance = random.Random(seed)
        self.scale = scale
        self.events: list[Mapping[str, Any]] = []
        self.heard = threading.Event()
        self.step = self.evaluations = self.saves = 0
        self.watch = watchstep.init(
            run=f"stalls-{seed}",
            directory=folder,
            terminal=False,
            rules="pretrain",
            first_update_s=progress.FIRST_S / scale,
        )
        self.progress = self.watch._progress  # noqa: SLF001 - the limits, to compare with
        outbound = self.watch._stream.outbound  # noqa: SLF001 - what is told, as it is told
        assert outbound is not None
        put = outbound.put

        def listening(update: Update) -> None:
            put(update)
            if update.event is not None and update.event["kind"] == "hung":
                self.events.append(update.event)
                self.heard.set()

        outbound.put = listening  # type: ignore[method-assign]

    def stands(self, seconds: float) -> None:
        time.sleep(seconds / self.scale)

    def works(self, seconds: float) -> None:
        end = time.monotonic() + seconds / self.scale
        while time.monotonic() < end:
            self._loads()
            self._computes()
            self._measures()
            self._computes()

    def update(self, seconds: float) -> None:
        self.stands(seconds)
        self.watch.log({"train/loss": 1.0 + self.chance.random()}, step=self.step)
        self.step += 1

    def healthy(self) -> None:
        usual_s = 10 ** self.chance.uniform(-1, 1.3)
        evaluation_s = usual_s * self.chance.uniform(2, 200)
        marked = self.chance.random() < 0.5
        every = self.chance.randint(20, 60)
        with self.watch.pause("compiling"):
            self.stands(self.chance.uniform(0, LONGEST_COMPILATION_S))
        end = time.monotonic() + HEALTHY_S / self.scale
        while time.monotonic() < end:
            self.update(usual_s * self.chance.lognormvariate(0, 0.4))
            if self.step % every == 0:
                self._evaluates(evaluation_s * self.chance.uniform(0.7, 1.4), marked=marked)
            if self.step % (2 * every + 1) == 0:
                self.saves += 1
                with self.watch.pause("saving"):
                    self.stands(self.chance.uniform(0.1, 60))

    def hangs(self) -> tuple[str, float, float]:
        """Where it hung, how long until somebody was told, and the limit."""
        self.heard.clear()
        begun = time.monotonic()
        if self.chance.random() < 0.5 and self.evaluations >= 3:
            with self.watch.pause("evaluating"):
                limit_s = self.progress.silence(begun).late_s
                self.heard.wait(10 * limit_s)
            place = "evaluation"
        else:
            limit_s = self.progress.silence(begun).late_s
            self.heard.wait(10 * limit_s)
            place = "loop"
        return place, (time.monotonic() - begun) * self.scale, limit_s * self.scale

    def _evaluates(self, seconds: float, *, marked: bool) -> None:
        self.evaluations += 1
        if marked:
            with self.watch.pause("evaluating"):
                self.works(min(seconds, LONGEST_MARKED_S))
        else:
            self.works(min(seconds, LONGEST_UNMARKED_S))

    def _loads(self) -> None:
        self.stands(0.05)

    def _computes(self) -> None:
        self.stands(0.05)

    def _measures(self) -> None:
        json.dumps([self.chance.random() for _ in range(100)])
        self.stands(0.05)


def one_run(seed: int, scale: float) -> dict[str, Any]:
    """Run one training to its hang; called in a process of its own."""
    for module, names in (
        (progress, ("LEAST_S", "PHASE_LEAST_S")),
        (watchdog, ("_LOOK_S", "_SOONEST_S", "_STOLEN_S")),
        (stacks, ("_APART_S",)),
    ):
        for name in names:
            setattr(module, name, getattr(module, name) / scale)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(seed, scale, folder)
        run.healthy()
        false = list(run.events)
        place, took_s, limit_s = run.hangs()
        run.watch.finish()
    return {
        "seed": seed,
        "updates": run.step,
        "evaluations": run.evaluations,
        "saves": run.saves,
        "false": [{**event, "stacks": ""} for event in false],
        "told": len(run.events) > len(false),
        "place": place,
        "limits": took_s / limit_s,
    }


def main() -> int:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--scale", type=float, default=30.0)
    parser.add_argument("--together", type=int, default=8)
    parser.add_argument("--seed", type=int, help="one run, in this process")
    chosen = parser.parse_args()
    if chosen.seed is not None:
        print(json.dumps(one_run(chosen.seed, chosen.scale)))
        return 0

    def in_process(seed: int) -> dict[str, Any]:
        command = [sys.executable, __file__, "--seed", str(seed), "--scale", str(chosen.scale)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    with ThreadPoolExecutor(chosen.together) as pool:
        results = list(pool.map(in_process, range(chosen.runs)))
    false = [event for result in results for event in result["false"]]
    for event in false:
        print(f"false: {event}")
    for kind in ("updates", "evaluations", "saves"):
        print(f"{kind:30} {sum(result[kind] for result in results)}")
    print(
        f"{'runs with a false stall':30} {sum(bool(r['false']) for r in results)} of {len(results)}"
    )
    for place in ("loop", "evaluation"):
        hung = [result for result in results if result["place"] == place]
        limits = [result["limits"] for result in hung if result["told"]]
        if hung:
            print(
                f"{f'hangs told in the {place}':30} {len(limits)} of {len(hung)}, after"
                f" {statistics.median(limits):.2f} limits (most {max(limits):.2f})"
            )
    return 1 if false or not all(result["told"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
