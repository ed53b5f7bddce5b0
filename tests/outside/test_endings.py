"""What is made of an exit status, of the last lines, and of silence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from outside.kit_outside import until
from watchstep.machine.processes import Process, descendants, waits_in
from watchstep.outside import endings
from watchstep.outside.endings import Ending, memory_kills
from watchstep.outside.hangs import HangWatch, stacks
from watchstep.outside.last_lines import LastLines, traceback_end
from watchstep.wire.text import event_to_json

KILLED, CRASHED = int(signal.SIGKILL), int(signal.SIGSEGV) | 0x80
ELASTIC = """
============================================================
train.py FAILED
------------------------------------------------------------
Failures:
  <NO_OTHER_FAILURES>
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-01-01_12:00:00
  host      : node-3
  rank      : 5 (local_rank: 1)
  exitcode  : -9 (pid: 4711)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 4711
============================================================
"""
"""As torch.distributed.elastic prints it, torch 2.10."""


def test_a_process_killed_for_memory_is_told_so() -> None:
    event = Ending(KILLED, killed_for_memory=1).event()

    assert event["error"] == "killed by SIGKILL, out of memory"
    assert (event["oom"], event["exit_code"]) == ("host", 137)


def test_a_shell_whose_command_was_killed_says_by_which_signal() -> None:
    assert Ending(137 << 8).event()["error"] == "exit code 137, SIGKILL"


def test_a_device_out_of_memory_is_told_so() -> None:
    lines = [
        "Traceback (most recent call last):",
        '  File "train.py", line 3, in <module>',
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    ]

    event = Ending(256, lines=lines).event()

    assert event["oom"] == "device"
    assert event["error"].startswith("torch.OutOfMemoryError: CUDA out of memory.")


def test_an_allocator_of_the_machine_that_fails_is_told_so() -> None:
    lines = [
        "Traceback (most recent call last):",
        '  File "train.py", line 3, in <module>',
        "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 400 GB.",
    ]

    assert Ending(256, lines=lines).event()["oom"] == "host"


def test_a_core_dump_is_told() -> None:
    event = Ending(CRASHED).event()

    assert (event["signal"], event["core_dumped"], event["exit_code"]) == ("SIGSEGV", True, 139)


def test_the_rank_that_died_first_is_named() -> None:
    event = Ending(256, lines=ELASTIC.splitlines()).event()

    assert event["rank"] == 5
    assert event["error"] == "rank 5 died first: killed by SIGKILL"
    assert event["ended_by"] == "kill"


def test_the_exception_of_the_rank_that_died_first_is_told_among_many_others() -> None:
    console = LastLines()
    for rank in (5, 1, 2, 3, 4):
        error = "ValueError: bad batch" if rank == 5 else "RuntimeError: Connection closed by peer"
        lines = ("Traceback (most recent call last):", *('  File "a.py"',) * 20, error)
        console.feed("".join(f"[rank{rank}]: {line}\n" for line in lines).encode())
    console.feed(ELASTIC.replace("-9", "1").encode())

    event = Ending(256, lines=console.lines()).event()

    assert event["error"] == "ValueError: bad batch (rank 5 died first: exit code 1)"
    assert event["traceback"].endswith("ValueError: bad batch")
    assert event["ended_by"] == "exception"
    assert len(event["last_lines"]) <= 50


def test_a_run_that_a_scheduler_ended_was_preempted_and_one_that_a_person_ended_halted() -> None:
    assert Ending(15, signals=[signal.SIGTERM]).event()["kind"] == "preempted"
    assert Ending(0, signals=[signal.SIGTERM]).event()["kind"] == "preempted"
    assert Ending(2, signals=[signal.SIGINT]).event()["kind"] == "halted"


def test_only_what_failed_by_itself_is_started_again() -> None:
    assert Ending(256).crashed
    assert Ending(0, hung=True).crashed
    assert not Ending(0).crashed
    assert not Ending(15, signals=[signal.SIGTERM]).crashed


@pytest.mark.parametrize(
    ("cgroup", "file", "text"),
    [
        ("0::/job_7", "job_7/memory.events", "low 0\nhigh 3\nmax 9\noom 2\noom_kill 2\n"),
        ("0::/../job_7", "memory.events", "oom_kill 2\n"),
        ("4:memory:/job_7", "memory/job_7/memory.oom_control", "under_oom 0\noom_kill 2\n"),
    ],
)
def test_the_kernels_count_is_read_from_either_version_of_control_groups(
    cgroup: str, file: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    (tmp_path / "cgroup").write_text(cgroup + "\n")
    monkeypatch.setattr(endings, "_CGROUP", tmp_path)
    monkeypatch.setattr(endings, "_OWN_CGROUP", tmp_path / "cgroup")

    assert memory_kills() == 2


def test_the_last_lines_are_as_they_were_seen() -> None:
    lines = LastLines()
    lines.feed(b"\x1b[32mepoch 1\x1b[0m\r\n 10%|#   |\r 20%|##  |")
    lines.feed(b"\r 30%|### |")

    assert lines.texts() == ["epoch 1", " 30%|### |"]


def test_a_secret_in_the_last_lines_is_hidden() -> None:
    lines = LastLines()
    lines.feed(b"login with --password=hunter22 done\n")

    event = {"kind": "failed", "last_lines": lines.texts()}
    assert b"hunter22" not in event_to_json(event)


def test_the_last_lines_fit_into_an_event() -> None:
    lines = LastLines()
    lines.feed(b"".join(b"%d " % number + b"x" * 10_000 + b"\n" for number in range(200)))

    texts = lines.texts()
    assert texts[-1].startswith("199 ")
    assert sum(map(len, texts)) < 8_000


def test_what_another_stream_prints_hides_no_traceback() -> None:
    raised = ["Traceback (most recent call last):", "  a", "AssertionError"]
    lines = [*raised[:2], "Overriding: device = cpu", raised[2], *["bar"] * 200]

    event = Ending(1 << 8, lines=lines, error_lines=raised).event()

    assert event["error"] == "AssertionError (exit code 1)"
    assert "traceback" not in Ending(KILLED, lines=lines, error_lines=raised).event()


def test_of_several_tracebacks_the_last_one_counts() -> None:
    lines = [
        *("Traceback (most recent call last):", "  a", "KeyError: 'x'", "", "During handling:", ""),
        *("Traceback (most recent call last):", "  b", "mylib.errors.Broken: no", "the shell says"),
    ]

    assert traceback_end(lines)[1:] == ["  b", "mylib.errors.Broken: no"]


@pytest.mark.parametrize(
    ("status", "lines", "ended_by"),
    [
        (1 << 8, ["Traceback (most recent call last):", "  a", "KeyError: 'x'"], "exception"),
        (3 << 8, ["bye"], "exit"),
        (9, [], "kill"),
        (137 << 8, [], "kill"),
        (11, [], "signal"),
        (139 << 8, [], "signal"),
        (255 << 8, [], "exit"),
        (127 << 8, ["sh: 1: trainer: not found"], "start"),
    ],
)
def test_an_end_tells_what_a_person_has_to_look_for(
    status: int, lines: list[str], ended_by: str
) -> None:
    assert Ending(status, lines=lines).event()["ended_by"] == ended_by


def process(cpu_s: float) -> Process:
    return Process(7, 1, "python", "S", cpu_s, 0)


def test_silence_is_a_hang_after_ten_times_the_usual_gap() -> None:
    watch = HangWatch(0.0, least_s=60.0)
    for moment in range(0, 1_001, 100):
        watch.progressed(float(moment))

    assert watch.hung(1_990.0) is None
    assert watch.hung(2_010.0) == {
        "kind": "hung",
        "severity": "warning",
        "since_s": 1_010.0,
        "moving": False,
        "phase": "",
        "seen": "no output and no change of a file",
    }
    assert watch.hung(2_020.0) is None


def test_the_pause_in_which_a_model_was_loaded_is_no_rhythm() -> None:
    watch = HangWatch(0.0, least_s=60.0)
    watch.progressed(50.0)
    watch.progressed(50.1)

    assert watch.hung(140.0) is None
    assert watch.hung(151.0) is not None


def test_a_command_that_computes_is_waited_for_longer_and_told_as_moving() -> None:
    watch = HangWatch(0.0, least_s=60.0)
    reports = []
    for turn in range(1, 200):
        watch.look(turn * 2.0, [process(turn * 1.9)])
        event = watch.hung(turn * 2.0)
        reports += [(turn * 2.0, event["severity"], event["seen"])] if event else []

    seen = "no output and no change of a file, while the CPU is used"
    assert reports == [(300.0, "warning", seen)]


def test_a_command_in_which_nothing_moves_is_critical_and_told_as_it_was_seen() -> None:
    watch = HangWatch(0.0, least_s=60.0)
    watch.look(0.0, [process(1.0)])
    watch.look(70.0, [process(1.0)])

    event = watch.hung(70.0)

    assert event is not None
    assert event["severity"] == "critical"
    assert event["seen"] == "no output, no change of a file and no use of the CPU"


def test_time_for_which_we_were_stopped_ourselves_does_not_count() -> None:
    watch = HangWatch(0.0, least_s=60.0)

    watch.slept(3_600.0)

    assert watch.hung(3_650.0) is None


def test_a_command_that_a_scheduler_signalled_alone_was_preempted() -> None:
    assert Ending(15).event()["kind"] == "preempted"
    assert Ending(143 << 8).event()["kind"] == "preempted"


def test_a_tensor_that_an_exception_prints_does_not_hide_the_exception() -> None:
    lines = LastLines()
    rows = b"        [nan, nan, -1.5000e+00],\n" * 300
    lines.feed(b"step 7: loss nan\nTraceback (most recent call last):\n")
    lines.feed(b'  File "train.py", line 3, in <module>\n    sample(logits)\n')
    lines.feed(b"ValueError: invalid values: tensor([[nan, nan, nan],\n" + rows)
    lines.feed(b"        [nan, nan, nan]], grad_fn=<SubBackward0>)\n")

    texts = lines.texts()

    assert len(texts) == 9
    assert traceback_end(texts)[-1].startswith("ValueError: invalid values: tensor([[nan")
    assert texts[-1].endswith("grad_fn=<SubBackward0>)")


@pytest.mark.parametrize("program", ["input()", "import sys; sys.stdin.readline()"])
def test_a_command_that_asks_a_question_is_said_to_wait_for_its_input(program: str) -> None:
    shell = ["sh", "-c", f"{sys.executable} -c '{program}' | tee /dev/null"]
    child = subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        until(lambda: "standard input, as by input()" in stacks(descendants(child.pid))[1])
    finally:
        child.communicate(b"y\n")


def test_a_command_that_sleeps_before_a_pipe_is_not_said_to_wait_for_its_input() -> None:
    program = "import time; print(1, flush=True); time.sleep(60)"
    shell = ["sh", "-c", f"{sys.executable} -c '{program}' | tee /dev/stderr"]
    child = subprocess.Popen(shell, stderr=subprocess.PIPE, start_new_session=True)
    assert child.stderr is not None
    child.stderr.readline()
    sleeper = next(process for process in descendants(child.pid) if "python" in process.name)
    until(lambda: waits_in(sleeper.pid) != "" or not Path("/proc/self/wchan").exists())
    text, place = stacks(descendants(child.pid))
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()

    assert "standard input" not in place
    assert place.startswith("the kernel's ") or f"{sleeper.pid} S  " in text


def spins_after_speaking(for_s: int, every_s: int, until_s: int) -> list[tuple[float, str]]:
    """When a command is told that spoke for so long, and then only used the CPU."""
    watch = HangWatch(0.0, least_s=60.0)
    reports = []
    for now in range(0, until_s, 2):
        watch.look(float(now), [process(now * 0.9)])
        if now <= for_s and now % every_s == 0:
            watch.progressed(float(now))
        event = watch.hung(float(now))
        reports += [(now - for_s, event["severity"])] if event else []
    return reports


def test_a_command_that_spoke_steadily_and_spins_is_told_at_the_limit_and_critical_at_five() -> (
    None
):
    assert spins_after_speaking(1_000, 4, 2_000) == [(60, "warning"), (300, "critical")]


def test_a_command_that_has_hardly_spoken_may_compute_for_longer() -> None:
    assert spins_after_speaking(20, 4, 1_000) == [(300, "warning")]


def test_silence_that_is_no_longer_than_earlier_ones_breaks_no_rhythm() -> None:
    watch = HangWatch(0.0, least_s=60.0)
    reports = []
    for now in range(0, 2_000, 2):
        watch.look(float(now), [process(now * 0.9)])
        # An evaluation of 100 s after each 200 s of training.
        if now % 300 <= 200:
            watch.progressed(float(now))
        reports += [now] if watch.hung(float(now)) else []

    assert reports == [260]
