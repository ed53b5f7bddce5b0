"""Starts a few processes of one distributed training and gathers what they print."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

BEGIN = """
import json, math, os, sys
import torch
import torch.distributed as dist
import watchstep
from watchstep import TrainingHalted
from watchstep.guard import bit_hash

rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
torch.set_num_threads(1)
dist.init_process_group("gloo")

def tell(**told):
    print(json.dumps(told), flush=True)

def watching(**given):
    given.setdefault("directory", f"spool-{rank}")
    return watchstep.init(run="ranks", **given)
"""


def run_ranks(folder: Path, world: int, program: str) -> list[tuple[int, dict[str, Any]]]:
    """Exit code and the last line of JSON of each rank."""
    script = folder / "rank.py"
    script.write_text(BEGIN + textwrap.dedent(program))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    base = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script)],
            env={**base, "RANK": str(rank), "WORLD_SIZE": str(world)},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    found = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert out, err
        found.append((process.returncode, json.loads(out.splitlines()[-1])))
    return found
