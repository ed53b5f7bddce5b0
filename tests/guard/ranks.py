"""Starts a few processes of one distributed training and gathers what they print."""

from __future__ import annotations

import json
import os
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

# Ranks are forked from a process that has torch, which takes seconds to import.
if PRELOADED:
    import torch._dynamo, torch.distributed.checkpoint, torch.distributed.fsdp
world = int(os.environ["WORLD_SIZE"])
# By a file of this run's own: a free port may be another's by the time it is used.
meeting = f"file://{os.getcwd()}/meeting-{os.getpid()}"
children = {}
for rank in range(world):
    pid = os.fork()
    if pid == 0:
        break
    children[pid] = rank
else:
    codes = {children[pid]: os.waitstatus_to_exitcode(status)
             for pid, status in (os.wait() for _ in range(world))}
    json.dump([codes[rank] for rank in range(world)], open("codes", "w"))
    os._exit(0)
os.environ["RANK"] = str(rank)
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)

def tell(**told):
    with open(f"told-{rank}", "w") as out:
        json.dump(told, out)

def watching(**given):
    given.setdefault("directory", f"spool-{rank}")
    return watchstep.init(run="ranks", **given)
"""


def run_ranks(folder: Path, world: int, program: str) -> list[tuple[int, dict[str, Any]]]:
    """Exit code of each rank, and what it told last."""
    script = folder / "rank.py"
    begin = BEGIN.replace("PRELOADED", str("fsdp" in program))
    script.write_text(begin + textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    told = [folder / f"told-{rank}" for rank in range(world)]
    assert all(path.exists() for path in told), done.stderr
    codes = json.loads((folder / "codes").read_text())
    return [(code, json.loads(path.read_text())) for code, path in zip(codes, told, strict=True)]
