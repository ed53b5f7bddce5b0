"""SIGTERM before the end is a preemption, and the process ends as it would have without us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

import watchstep
from hook.kit_hook import updates_of
from watchstep.postmortem.readers import open_logs
from watchstep.wire.text import event_to_json

BEGIN = """
import math, os, signal, subprocess, sys, threading, time
import watchstep
watch = watchstep.init(run="r", directory="spool", mode="offline", **OPTIONS)
for step in range(5):
    watch.log({"train/loss": 1.0}, step=step)
"""


def ended(folder: Path, program: str, options: str = "{}", **environment: str) -> int:
    script = BEGIN.replace("**OPTIONS", f"**{options}") + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr or "KeyboardInterrupt" in done.stderr, done.stderr
    return done.returncode


def events(folder: Path) -> list[dict[str, Any]]:
    logs = open_logs([folder / "spool"])
    return [dict(update.event) for log in logs for update in log.updates if update.event]


def last(folder: Path) -> dict[str, Any]:
    return events(folder)[-1]


@pytest.mark.parametrize(
    "place",
    [
        "time.sleep(30)",
        "threading.Lock().acquire() and threading.Event().wait()",
        "while True: watch.log({'train/loss': 1.0})",
        # As a device that hangs: inside `log`, which holds the stream's lock.
        "watch.log({'x': type('Hangs', (), {'__float__': lambda self: time.sleep(30)})()})",
        # Inside a C call that runs no Python handler.
        "import ctypes; ctypes.CDLL(None).sleep(30); ctypes.CDLL(None).sleep(30)",
    ],
)
def test_a_sigterm_that_nobody_handles_is_told_and_kills_as_ever(
    place: str, tmp_path: Path
) -> None:
    begun = time.monotonic()
    code = ended(
        tmp_path,
        f"""
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        {place}
        """,
    )

    assert code == -signal.SIGTERM
    assert last(tmp_path)["kind"] == "preempted"
    assert last(tmp_path)["signal"] == "SIGTERM"
    assert time.monotonic() - begun < 25


def test_a_sigterm_is_told_while_the_watchdog_looks_whether_the_trainer_moves(
    tmp_path: Path,
) -> None:
    # That look takes four seconds, of which the signal has two: `timeout 65` ended a loop that
    # had waited for its data for just 30 s, and nobody was told.
    code = ended(
        tmp_path,
        """
        from watchstep.hook import progress, stacks, watchdog
        progress.LEAST_S = progress.MEDIANS = progress.LONGEST = watchdog._LOOK_S = 0.1
        stacks._APART_S = 1.0
        watch.log({"train/loss": 1.0})
        threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        threading.Event().wait()
        """,
    )

    assert code == -signal.SIGTERM
    assert last(tmp_path)["kind"] == "preempted"


def test_a_handler_of_the_user_s_stays_and_its_exit_is_a_preemption(tmp_path: Path) -> None:
    code = ended(
        tmp_path,
        """
        def save_and_leave(number, frame):
            print("saving")
            sys.exit(0)
        signal.signal(signal.SIGTERM, save_and_leave)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
        """,
    )

    assert code == 0
    assert last(tmp_path)["kind"] == "preempted"


def test_a_handler_that_was_there_before_is_never_replaced(tmp_path: Path) -> None:
    script = """
import os, signal, time
import watchstep
got = []
signal.signal(signal.SIGTERM, lambda *_: got.append(1))
watch = watchstep.init(run="r", directory="spool", mode="offline")
before = signal.getsignal(signal.SIGTERM)
watch.log({"train/loss": 1.0})
assert signal.getsignal(signal.SIGTERM) is before
os.kill(os.getpid(), signal.SIGTERM)
assert got == [1]
time.sleep(0.3)
watch.finish()
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, timeout=60, check=True)

    assert last(tmp_path)["kind"] == "preempted"


def test_a_signal_to_a_child_process_is_none_to_its_parent(tmp_path: Path) -> None:
    code = ended(
        tmp_path,
        """
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(3)
        time.sleep(0.2)
        os.kill(child, signal.SIGTERM)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
        time.sleep(0.5)
        watch.log({"train/loss": 1.0}, step=5)
        watch.finish()
        """,
    )

    assert code == 0
    assert last(tmp_path)["kind"] == "finished"


def test_under_slurm_its_warning_signal_is_a_preemption(tmp_path: Path) -> None:
    program = """
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(30)
    """

    code = ended(tmp_path, program, SLURM_JOB_ID="77", SLURM_PROCID="0")

    assert code == -signal.SIGUSR1
    assert last(tmp_path) == {"kind": "preempted", "signal": "SIGUSR1", "where": "slurm job 77"}


def test_who_wants_none_of_it_gets_none(tmp_path: Path) -> None:
    program = """
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    """

    assert ended(tmp_path, program, "{'catch_sigterm': False}") == -signal.SIGTERM
    assert "preempted" not in [event["kind"] for event in events(tmp_path)]


def test_a_person_s_interrupt_is_a_halt(tmp_path: Path) -> None:
    ended(
        tmp_path,
        """
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)
        """,
    )

    assert last(tmp_path) == {
        "kind": "halted",
        "rule": "",
        "reason": "stopped by a person (Ctrl-C)",
    }


def test_after_the_end_everything_is_as_it_was(make: Any) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)

    watch = make()
    watch.log({"train/loss": 1.0})
    during = signal.getsignal(signal.SIGTERM)
    watch.finish()

    assert (signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)) == before
    assert during != before[0]


def test_an_event_loop_keeps_its_signals(make: Any) -> None:
    import asyncio

    async def train() -> str:
        loop = asyncio.get_running_loop()
        arrived = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, arrived.set_result, "arrived")
        watch = make()
        watch.log({"train/loss": 1.0})
        os.kill(os.getpid(), signal.SIGUSR1)
        result: str = await asyncio.wait_for(arrived, 30)
        watch.finish()
        return result

    assert asyncio.run(train()) == "arrived"


def failed(make: Any, error: BaseException) -> dict[str, Any]:
    watch: watchstep.Watch = make(mode="offline")
    sent = updates_of(watch)
    watch._stream.events.captured.hear("warning", "token=abcdefgh low on memory")
    watch.finish(error)
    written: dict[str, Any] = json.loads(event_to_json(sent[-1].event))
    return written


def test_a_failure_says_what_where_and_who(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", "--api-key", "s3cret", "--lr=1"])
    monkeypatch.setenv("RANK", "0")

    def deep(left: int) -> None:
        if not left:
            raise ValueError("no rows left in postgresql://me:geheim@db/x")
        deep(left - 1)

    with pytest.raises(ValueError, match="no rows") as caught:
        deep(60)
    event = failed(make, caught.value)

    assert list(event)[:2] == ["kind", "error"]
    assert event["error"].startswith("ValueError: no rows left")
    assert 5 <= len(event["traceback"].splitlines()) <= 20
    assert event["traceback"].splitlines()[-1].startswith("ValueError")
    assert event["command"] == "python train.py --api-key *** --lr=1"
    assert event["rank"] == "0"
    assert event["pid"] == os.getpid()
    assert event["host"]
    assert event["last_lines"] == ["token=*** low on memory"]
    assert "geheim" not in str(event)
    assert "s3cret" not in str(event)
    assert "oom" not in event


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), "host"),
        (OSError(12, "Cannot allocate memory"), "host"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "host"),
        (OutOfMemoryError("Tried to allocate 2 GiB"), "device"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), "device"),
        (ValueError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate"), "device"),
    ],
)
def test_out_of_memory_is_called_that(error: Exception, memory: str, make: Any) -> None:
    assert failed(make, error)["oom"] == memory
