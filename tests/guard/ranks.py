"""Starts a few processes of one distributed training and gathers what they report."""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

TIMEOUT_S = 120

SERVER = """
import json, math, os, sys
import torch, torch._dynamo, torch.distributed.checkpoint, torch.distributed.fsdp
import torch.distributed as dist
import watchstep, watchstep.checkpoint.shards, watchstep.guard.distributed, watchstep.hook
from torch.nn.parallel import DistributedDataParallel
from watchstep import TrainingHalted
from watchstep.guard import Guard, bit_hash
from watchstep.rules.files import AUTO, load

load([AUTO])  # The packs are read once, and not by each rank.
for line in sys.stdin:
    if os.fork() == 0:
        break
    os.wait()
    print("done", flush=True)
else:
    sys.exit()

request = json.loads(line)
os.environ.clear()
os.environ.update(request["environment"])
os.chdir(request["folder"])
output = os.open("output", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
for number, handle in enumerate([os.open(os.devnull, os.O_RDONLY), output, output]):
    os.dup2(handle, number)
world = request["world"]
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

def report(**fields):
    with open(f"report-{rank}", "w") as out:
        json.dump(fields, out)

def watching(**arguments):
    arguments.setdefault("directory", f"spool-{rank}")
    return watchstep.init(run="ranks", **arguments)

def steps_until_halted(watch, readings, before=lambda step: None):
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch.guard(optimizer, group=True)
    for step in range(6):
        optimizer.zero_grad()
        model(torch.ones(3, 4)).sum().backward()
        before(step)
        try:
            optimizer.step()
        except TrainingHalted as halted:
            report(step=step, why=str(halted))
            raise
        watch.log(readings(step), step=step)

exec(compile(request["program"], "rank.py", "exec"))
"""


def run_ranks(folder: Path, world: int, program: str) -> list[tuple[int, dict[str, Any]]]:
    """Exit code of each rank, and what it reported last."""
    environment = {**os.environ, "WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
    request = {
        "folder": str(folder), "world": world, "program": textwrap.dedent(program),
        "environment": environment,
    }  # fmt: skip
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    answered, _, _ = select.select([server.stdout], [], [], TIMEOUT_S)
    if not answered or not server.stdout.readline():
        os.killpg(server.pid, signal.SIGKILL)
        _server.cache_clear()
        raise TimeoutError((folder / "output").read_text())
    reports = [folder / f"report-{rank}" for rank in range(world)]
    assert all(path.exists() for path in reports), (folder / "output").read_text()
    codes = json.loads((folder / "codes").read_text())
    return [(code, json.loads(path.read_text())) for code, path in zip(codes, reports, strict=True)]


@functools.cache
def _server() -> subprocess.Popen[str]:
    """A process that has torch, which takes seconds to import, and of which ranks are forked."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    atexit.register(server.communicate)
    return server
