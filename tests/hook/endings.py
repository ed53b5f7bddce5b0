"""Ends trainings in every way there is: `python endings.py SERVICE`, in an empty folder.

Each ending is a forked process, so that torch is imported once. Their exit codes, as a shell
would see them, are in the file `codes` then.
"""

from __future__ import annotations

import faulthandler
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import watchstep

# Before the forks: each child would take seconds to import it by itself.
import watchstep.checkpoint
import watchstep.guard
import watchstep.hook
import watchstep.sender
from watchstep.rules.files import AUTO, load


class Training:
    """Six good updates, each with a checkpoint, that the service has heard of."""

    def __init__(self, url: str, name: str, options: dict[str, Any]) -> None:
        self.model = torch.nn.Linear(2, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.watch = watchstep.init(run=name, url=url, checkpoints=f"ckpt-{name}", **options)
        self.watch.guard(self.optimizer, skip_budget=2)
        for _ in range(6):
            self.update(0.5)
            self.watch.save({"model": self.model, "optimizer": self.optimizer})
        assert self.watch.flush(20)

    def update(self, loss: float, scale: float = 1.0) -> None:
        self.optimizer.zero_grad()
        (self.model(torch.ones(1, 2)).sum() * scale).backward()
        self.optimizer.step()
        self.watch.log({"train/loss": loss})


def finish(training: Training) -> None:
    training.watch.finish()


def exit_inside(training: Training) -> None:
    with training.watch:
        sys.exit(3)


def exit_elsewhere(_: Training) -> None:
    sys.exit(3)


def exception(_: Training) -> None:
    raise ValueError("no rows left")


def no_memory(_: Training) -> None:
    raise MemoryError("no room")


def interrupt(_: Training) -> None:
    # Ignored where tests are run in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


def not_finite(training: Training) -> None:
    training.update(math.nan)


def skips(training: Training) -> None:
    for _ in range(4):
        training.update(0.5, scale=math.nan)


def commanded(training: Training) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        training.update(0.5)
        time.sleep(0.02)


def terminated(training: Training) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    training.update(0.5)


def handled(training: Training) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.kill(os.getpid(), signal.SIGTERM)
    training.update(0.5)


def killed(_: Training) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crashed(_: Training) -> None:
    faulthandler._sigsegv()


HALT = {"on_critical": "halt"}
AT_ONCE = 4  # Most of them wait for the service, and for each other's turn.
ENDINGS: dict[str, tuple[str, Callable[[Training], None], dict[str, Any]]] = {
    "finish": ("`watch.finish()`, or the script's end", finish, {}),
    "exit-inside": ("`sys.exit(3)` inside `with watch:`", exit_inside, {}),
    "exit-elsewhere": ("`sys.exit(3)` elsewhere", exit_elsewhere, {}),
    "exception": ("an exception", exception, {}),
    "no-memory": ("out of memory, seen by Python or torch", no_memory, {}),
    "interrupt": ("Ctrl-C", interrupt, {}),
    "halt": ('a rule\'s halt, with `on_critical="halt"`', not_finite, HALT),
    "alert": ('a rule\'s demand to halt, with `"alert"`', not_finite, {}),
    "rollback": (
        'no rollback left, with `"rollback"`',
        not_finite,
        {"on_critical": "rollback", "max_rollbacks": 0},
    ),
    "skips": ("the guard's skip budget is spent", skips, {}),
    "commanded": ("a person's halt, from the page or API", commanded, {}),
    "terminated": ("SIGTERM, as a preemption sends it", terminated, {}),
    "unheard": ("SIGTERM, with `catch_sigterm=False`", terminated, {"catch_sigterm": False}),
    "handled": ("SIGTERM, with a handler of the script's that exits", handled, {}),
    "killed": ("`kill -9`, as the kernel's for memory", killed, {}),
    "crashed": ("a crash below Python", crashed, {}),
}


def main(url: str) -> None:
    torch.set_num_threads(1)
    # With its first optimizer torch imports its compiler, for two seconds of a core in each child.
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    load([AUTO])
    codes: dict[str, int] = {}
    children: dict[int, str] = {}
    for name, (_, end, options) in ENDINGS.items():
        child = os.fork()
        if child == 0:
            end(Training(url, name, options))
            return
        children[child] = name
        if len(children) == AT_ONCE:
            note_one(children, codes)
    while children:
        note_one(children, codes)
    Path("codes").write_text(json.dumps(codes))


def note_one(children: dict[int, str], codes: dict[str, int]) -> None:
    child, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    codes[children.pop(child)] = code if code >= 0 else 128 - code


if __name__ == "__main__":
    main(sys.argv[1])
