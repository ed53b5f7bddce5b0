"""Damage a kept checkpoint in many ways, and see whether each is found.

    python benchmarks/checkpoint_damage.py [--flips 1000] [--truncations 300] [--pages 300]

A file of three blocks, written as large ones are. Single bits are flipped, the end is cut off,
and pages of 4 KiB are zeroed, one at a time and at random places. Prints one JSON object with
what was not found; exits 1 if anything was not.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from watchstep.checkpoint import CheckpointKeeper, verify
from watchstep.errors import CheckpointError

PAGE = 4096


def flipped(body: bytes, place: int) -> bytes:
    at = place // 8
    return body[:at] + bytes([body[at] ^ 1 << place % 8]) + body[at + 1 :]


def truncated(body: bytes, place: int) -> bytes:
    return body[:place]


def zeroed(body: bytes, place: int) -> bytes:
    rest = body[place + PAGE :]
    return body[:place] + bytes(len(body) - place - len(rest)) + rest


def missed(path: Path, spoil: Callable[[bytes, int], bytes], places: Iterable[int]) -> list[int]:
    """The places whose damage was not found."""
    body = path.read_bytes()
    overlooked = []
    for place in places:
        path.write_bytes(spoil(body, place))
        try:
            verify(path)
        except CheckpointError:
            continue
        overlooked.append(place)
    path.write_bytes(body)
    verify(path)
    return overlooked


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=1_000)
    parser.add_argument("--truncations", type=int, default=300)
    parser.add_argument("--pages", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as directory:
        state = {"model": {"w": torch.randn(2_500_000)}}
        saved = CheckpointKeeper(directory).save(state, step=1)
        assert saved is not None
        size = saved.size_bytes
        # Of pages that are not zeros already; random floats have none.
        pages = range(PAGE, size - 2 * PAGE, PAGE)
        tried = {
            "flips": (flipped, chance.sample(range(size * 8), options.flips)),
            "truncations": (truncated, chance.sample(range(size), options.truncations)),
            "zeroed_pages": (zeroed, chance.sample(pages, options.pages)),
        }
        counts: dict[str, object] = {"size_bytes": size}
        overlooked = 0
        for name, (spoil, places) in tried.items():
            lost = missed(saved.path, spoil, places)
            overlooked += len(lost)
            counts[name] = {"tried": len(places), "missed": lost}
    print(json.dumps(counts))
    return 1 if overlooked else 0


if __name__ == "__main__":
    sys.exit(main())
