"""What a checked, hashed and synced save costs, against writing the same bytes.

    python benchmarks/checkpoint_cost.py [--megabytes 400]

Prints one JSON object of ratios from interleaved rounds of one process. `save` is the
keeper's whole synchronous save, `raw` one write and fsync of as many bytes, `torch_save`
torch's own save without fsync, `stall` how long an asynchronous save holds the trainer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from watchstep.checkpoint import CheckpointKeeper


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def raw_write(path: Path, block: memoryview) -> None:
    with path.open("wb", buffering=0) as stream:
        rest = block
        while rest:
            rest = rest[stream.write(rest) :]
        os.fsync(stream.fileno())


def measure(
    directory: Path, state: dict[str, object], block: memoryview, number: int
) -> dict[str, float]:
    """One round; each begins with another contender, for a disk may be fast at first only."""
    keeper = CheckpointKeeper(directory / "sync", keep=1)
    background = CheckpointKeeper(directory / "async", keep=1, asynchronous=True)
    background.save(state, step=1)
    background.flush()
    contenders: list[tuple[str, Callable[[], object]]] = [
        ("raw", lambda: raw_write(directory / "raw", block)),
        ("save", lambda: keeper.save(state, step=1)),
        ("torch_save", lambda: torch.save(state, directory / "plain")),
        ("stall", lambda: background.save(state, step=2)),
    ]
    took: dict[str, float] = {}
    for place in range(len(contenders)):
        name, work = contenders[(place + number) % len(contenders)]
        os.sync()
        took[name] = seconds(work)
        background.flush()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--directory", type=Path, default=None)
    options = parser.parse_args()
    tensors = {f"layer.{i}": torch.randn(1_000_000) for i in range(options.megabytes // 4)}
    state: dict[str, object] = {"model": tensors}
    size_bytes = sum(tensor.nbytes for tensor in tensors.values())
    block = memoryview(torch.randint(0, 255, (size_bytes,), dtype=torch.uint8).numpy())
    rounds = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=options.directory) as directory:
            rounds.append(measure(Path(directory), state, block, number))
    median = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    print(
        json.dumps(
            {
                "megabytes": options.megabytes,
                "save_over_raw": round(median["save"] / median["raw"], 3),
                "best_save_over_best_raw": round(
                    min(r["save"] for r in rounds) / min(r["raw"] for r in rounds), 3
                ),
                "stall_over_torch_save": round(median["stall"] / median["torch_save"], 3),
                **{f"{name}_s": round(value, 3) for name, value in median.items()},
                "rounds": [{n: round(v, 3) for n, v in r.items()} for r in rounds],
            }
        )
    )


if __name__ == "__main__":
    main()
