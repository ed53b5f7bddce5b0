"""Kill a saver at random moments, and restore after every kill.

One process imports torch and forks a saver for each round; the saver prints each step whose
`save` returned, and is killed with SIGKILL at a moment that has nothing to do with where the
save is. After each kill the newest checkpoint must be finite, bit-exact, and no older than
the last save that returned. A save is three blocks, so that it goes the way of large ones:
blocks that are hashed and written by threads of their own, past the page cache.

    python benchmarks/checkpoint_kills.py --kills 500

Prints one JSON object; exits 1 if a restore failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from watchstep.checkpoint import CheckpointKeeper
from watchstep.errors import CheckpointError


def weights(step: int, elements: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(elements, generator=generator)


def save_for_ever(directory: Path, first: int, elements: int, report: int) -> None:
    keeper = CheckpointKeeper(directory, keep=2)
    for step in range(first, first + 1_000_000):
        keeper.save({"model": {"w": weights(step, elements)}}, step=step)
        os.write(report, f"{step}\n".encode())


def start_saver(directory: Path, first: int, elements: int) -> tuple[int, int]:
    """Process id of a saver, and the pipe it reports on."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        save_for_ever(directory, first, elements, writing)
    finally:
        os._exit(1)


def kill_after(pid: int, reading: int, delay_s: float) -> list[int]:
    """Kill a saver some time after its first report; the steps whose save returned."""
    select.select([reading], [], [], 60.0)
    time.sleep(delay_s)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with os.fdopen(reading, "rb") as stream:
        return [int(line) for line in stream.read().split(b"\n")[:-1]]


def restored_step(directory: Path, elements: int) -> int:
    target: dict[str, torch.Tensor] = {}
    restored = CheckpointKeeper(directory).restore({"model": target})
    if not torch.equal(target["w"], weights(restored.step, elements)):
        raise CheckpointError(f"step {restored.step} came back with other bits")
    return restored.step


def seconds_of_a_save(directory: Path, elements: int) -> float:
    keeper = CheckpointKeeper(directory, keep=1)
    state = {"model": {"w": weights(0, elements)}}
    begun = time.perf_counter()
    for _ in range(5):
        keeper.save(state, step=0)
    return (time.perf_counter() - begun) / 5


def run(directory: Path, kills: int, elements: int, seed: int) -> dict[str, object]:
    chance, last = random.Random(seed), 0
    longest_s = 2 * seconds_of_a_save(directory, elements)
    failures: list[str] = []
    unfinished = returned_steps = ahead = 0
    for number in range(kills):
        pid, reading = start_saver(directory, last + 1, elements)
        returned = kill_after(pid, reading, chance.uniform(0.0, longest_s))
        unfinished += any(path.name.startswith(".saving-") for path in directory.iterdir())
        returned_steps += len(returned)
        newest = max([last, *returned])
        try:
            last = restored_step(directory, elements)
        except CheckpointError as error:
            failures.append(f"kill {number}: {error}")
            continue
        ahead += last > newest
        if last < newest:
            failures.append(f"kill {number}: restored {last}, but the save of {newest} returned")
    litter = [path.name for path in directory.iterdir() if path.name.startswith(".")]
    return {
        "kills": kills,
        "killed_with_a_file_unfinished": unfinished,
        "durable_before_it_returned": ahead,
        "saves_that_returned": returned_steps,
        "failures": failures,
        "litter": litter,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--elements", type=int, default=2_500_000, help="float32 numbers in a save")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    # Forking is safe only while torch has no threads of its own.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        counts = run(Path(directory), options.kills, options.elements, options.seed)
    print(json.dumps(counts))
    return 1 if counts["failures"] or counts["litter"] else 0


if __name__ == "__main__":
    sys.exit(main())
