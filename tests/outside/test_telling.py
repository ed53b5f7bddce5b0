"""What `watchstep run` tells of a command: readings, its end, and what only the outside sees."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outside.kit_outside import PATIENCE_S, environment, piped, python, started, until, wrapped
from sender.fake_service import FakeService
from watchstep.outside.log_files import LogFiles

Begin = Callable[..., "subprocess.Popen[bytes]"]
WAITS = """
import pathlib, time
def wait_for(name):
    while not pathlib.Path(name).exists():
        time.sleep(0.02)
"""
NANOGPT = """
for step in range(30):
    loss = float("nan") if step >= 20 else 3 / (step + 1)
    print(f"iter {step}: loss {loss:.4f}, time 12.30ms, mfu 1.20%", flush=True)
"""
HUGGING_FACE = """
for step in range(1, 31):
    loss = float("nan") if step >= 20 else 3 / step
    print({"loss": loss, "grad_norm": 1.0, "learning_rate": 1e-4, "epoch": step / 10}, flush=True)
"""
KERAS = """
import sys
for epoch in range(1, 31):
    loss = float("nan") if epoch >= 20 else 3 / epoch
    print(f"Epoch {epoch}/30", flush=True)
    print(f"10/10 - 1s - 53ms/step - loss: {loss:.4f} - val_loss: {loss:.4f}", flush=True)
"""


@pytest.fixture
def begin(service: FakeService, tmp_path: Path) -> Iterator[Begin]:
    """Starts a program under `watchstep run`, reporting to the service as run `r`."""
    with started(service, tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as start:
        yield lambda program, *options: start(wrapped(python(program), "--run", "r", *options))


def events(service: FakeService, attempt: int = 1) -> list[dict[str, Any]]:
    return [update["event"] for update in service.updates("r", attempt) if update.get("event")]


def last_event(service: FakeService, attempt: int = 1) -> dict[str, Any]:
    return events(service, attempt)[-1]


def losses(service: FakeService, name: str = "loss", attempt: int = 1) -> list[float]:
    return [
        float(update["metrics"][name])
        for update in service.updates("r", attempt)
        if name in update["metrics"]
    ]


@pytest.mark.parametrize("program", [NANOGPT, HUGGING_FACE, KERAS])
def test_a_nan_that_is_printed_is_told_while_the_command_still_runs(
    program: str, begin: Begin, service: FakeService, tmp_path: Path
) -> None:
    process = begin(WAITS + program + "wait_for('heard')")

    service.wait_for(lambda: any(map(math.isnan, losses(service))), PATIENCE_S)
    service.wait_for(lambda: len(losses(service)) == 30, PATIENCE_S)

    assert process.poll() is None
    (tmp_path / "heard").touch()
    assert process.wait(PATIENCE_S) == 0
    assert len(losses(service)) == 30
    assert last_event(service)["kind"] == "finished"


def test_where_the_service_does_not_answer_the_terminal_is_told(tmp_path: Path) -> None:
    program = "print('step 1: loss 2.0'); print('step 2: loss nan')"

    # Nobody listens there.
    done = piped(wrapped(python(program)), tmp_path, {"WATCHSTEP_URL": "http://127.0.0.1:1"})

    assert b"critical at step 2: LossNonFinite" in done.stderr


def test_a_crash_is_told_with_its_exception_and_the_last_lines(
    begin: Begin, service: FakeService
) -> None:
    program = """
print("iter 1: loss 2.5", flush=True)
def train(batch):
    raise ValueError("batch %d is empty" % batch)
train(7)
"""
    process = begin(program)

    assert process.wait(PATIENCE_S) == 1

    event = last_event(service)
    assert event["kind"] == "failed"
    assert event["error"] == "ValueError: batch 7 is empty (exit code 1)"
    assert event["exit_code"] == 1
    assert "iter 1: loss 2.5" in event["last_lines"]
    assert event["traceback"].startswith("Traceback (most recent call last)")


def test_a_command_that_is_killed_is_told_with_the_signal(
    begin: Begin, service: FakeService
) -> None:
    process = begin("import os\nprint('iter 1: loss 2.5', flush=True)\nos.kill(os.getpid(), 9)")

    assert process.wait(PATIENCE_S) == 137

    event = last_event(service)
    assert (event["kind"], event["signal"], event["exit_code"]) == ("failed", "SIGKILL", 137)


def test_a_run_that_reports_nothing_is_told_of_at_its_end(
    begin: Begin, service: FakeService
) -> None:
    process = begin("raise SystemExit(4)")

    assert process.wait(PATIENCE_S) == 4

    assert last_event(service)["error"] == "exit code 4"


def test_silence_without_any_use_of_the_cpu_is_told_as_a_hang(
    begin: Begin, service: FakeService, tmp_path: Path
) -> None:
    program = WAITS + "print('iter 1: loss 2.5', flush=True)\ntime.sleep(3000)"
    process = begin(program, "--hang-after", "3")

    service.wait_for(lambda: "hung" in str(events(service)), PATIENCE_S)

    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 130
    assert last_event(service)["kind"] == "halted"


def test_a_crashed_command_is_started_again_as_the_next_attempt(
    begin: Begin, service: FakeService, tmp_path: Path
) -> None:
    program = """
import pathlib, sys
first = not pathlib.Path("began").exists()
pathlib.Path("began").touch()
print("iter 1: loss", 2.5 if first else 1.5, flush=True)
sys.exit(1 if first else 0)
"""
    process = begin(program, "--restart", "3")

    assert process.wait(PATIENCE_S) == 0

    assert (losses(service), losses(service, attempt=2)) == ([2.5], [1.5])
    assert last_event(service)["kind"] == "failed"
    assert last_event(service, attempt=2)["kind"] == "finished"


def test_a_command_that_hangs_is_ended_and_started_again(
    begin: Begin, service: FakeService
) -> None:
    program = """
import pathlib, time
first = not pathlib.Path("began").exists()
pathlib.Path("began").touch()
print("iter 1: loss 2.5", flush=True)
if first:
    time.sleep(3000)
"""
    process = begin(program, "--restart", "1", "--hang-after", "3", "--grace", "5")

    assert process.wait(PATIENCE_S) == 0

    assert last_event(service)["error"] == "hung, and was ended"
    assert last_event(service, attempt=2)["kind"] == "finished"


def test_a_rule_that_asks_for_a_halt_stops_the_command_where_the_user_asked(
    begin: Begin, service: FakeService
) -> None:
    program = NANOGPT + "import time\ntime.sleep(3000)"
    process = begin(program, "--on-critical", "halt")

    assert process.wait(PATIENCE_S) == 76

    event = last_event(service)
    assert (event["kind"], event["rule"]) == ("halted", "LossNonFinite")


def test_a_halt_ends_what_ignores_every_request_and_all_that_came_of_it(
    begin: Begin, service: FakeService, tmp_path: Path
) -> None:
    program = """
import os, pathlib, signal, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    pathlib.Path("child").write_text(str(os.getpid()))
    time.sleep(3000)
while not pathlib.Path("child").exists():
    time.sleep(0.02)
print("iter 1: loss 2.0\\niter 2: loss nan", flush=True)
time.sleep(3000)
"""
    process = begin(program, "--on-critical", "halt", "--grace", "0.3")

    assert process.wait(PATIENCE_S) == 76

    child = int((tmp_path / "child").read_text())
    until(lambda: not Path(f"/proc/{child}").exists(), "the child's end")


def test_a_nan_alone_stops_nothing(begin: Begin, service: FakeService) -> None:
    process = begin(NANOGPT)

    assert process.wait(PATIENCE_S) == 0


def test_a_persons_halt_command_stops_a_command_that_prints_nothing_any_more(
    begin: Begin, service: FakeService
) -> None:
    process = begin("import time\nprint('iter 1: loss 2.5', flush=True)\ntime.sleep(3000)")
    service.wait_for(lambda: losses(service) == [2.5], PATIENCE_S)

    service.commands = [{"id": "c1", "kind": "halt", "reason": "enough", "attempt": 1}]

    assert process.wait(PATIENCE_S) == 76
    assert last_event(service)["reason"] == "enough"


def test_without_a_service_a_critical_alert_is_one_line_on_the_terminal(tmp_path: Path) -> None:
    done = piped(wrapped(python(NANOGPT)), tmp_path)

    assert done.stderr.decode() == "watchstep: critical at step 20: LossNonFinite: loss = nan\n"
    assert done.returncode == 0


def test_what_a_service_did_not_hear_stays_in_the_spool(tmp_path: Path) -> None:
    settings = {"WATCHSTEP_URL": "http://127.0.0.1:9"}

    done = piped(wrapped(python(NANOGPT), "--run", "r"), tmp_path, settings)

    assert done.returncode == 0
    service = FakeService()
    subprocess.run(
        [sys.executable, "-m", "watchstep", "replay", ".watchstep", "--url", service.url],
        cwd=tmp_path,
        env=environment(),
        timeout=PATIENCE_S,
        check=True,
        capture_output=True,
    )
    assert len(losses(service)) == 30
    assert last_event(service)["kind"] == "finished"
    service.stop()


HOOKED = """
import os, sys, time, watchstep
watch = watchstep.init()
for step in range(5):
    print(f"iter {step}: loss {step + 1.0}", flush=True)
    watch.log({"train/loss": step + 1.0}, step=step)
"""


@pytest.mark.parametrize(
    ("end", "code", "kind"),
    [
        ("watch.finish()", 0, "finished"),
        ("raise ValueError('x')", 1, "failed"),
        ("watch.flush(); os.kill(os.getpid(), 9)", 137, "failed"),
    ],
)
def test_a_hook_inside_speaks_for_the_run_and_the_outside_adds_only_its_end(
    begin: Begin, service: FakeService, end: str, code: int, kind: str
) -> None:
    process = begin(HOOKED + end)

    assert process.wait(PATIENCE_S) == code

    assert list(service.stored) == [("r", 1)]
    assert losses(service, "train/loss") == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert losses(service, "loss") == []
    (ending,) = service.others["r", 1, "outside"].values()
    assert (ending["seq"], ending["event"]["kind"]) == (1, kind)
    assert service.faults == []


def test_a_hook_that_calls_its_run_otherwise_is_found_all_the_same(
    begin: Begin, service: FakeService
) -> None:
    process = begin(HOOKED.replace("init()", "init(run='mine')") + "os.kill(os.getpid(), 9)")

    assert process.wait(PATIENCE_S) == 137

    assert list(service.stored) == [("mine", 1)]
    assert [update["step"] for update in service.updates("mine") if update["metrics"]][-1] == 4
    (ending,) = service.others["mine", 1, "outside"].values()
    assert ending["event"]["signal"] == "SIGKILL"


def test_a_service_from_before_sources_is_not_sent_what_it_would_refuse(
    begin: Begin, service: FakeService, tmp_path: Path
) -> None:
    service.knows_sources = False
    process = begin(HOOKED + "os.kill(os.getpid(), 9)")

    assert process.wait(PATIENCE_S) == 137

    assert (service.faults, service.others) == ([], {})
    assert losses(service, "train/loss") == [1.0, 2.0, 3.0, 4.0, 5.0]

    service.knows_sources = True
    command = [sys.executable, "-m", "watchstep", "replay", ".watchstep", "--url", service.url]
    subprocess.run(command, cwd=tmp_path, env=environment(), timeout=PATIENCE_S, check=True)
    assert [key[2] for key in service.others] == ["outside"]


def test_a_command_that_is_started_again_is_told_the_hooks_pin(
    begin: Begin, service: FakeService, tmp_path: Path
) -> None:
    program = """
import os, pathlib, torch, watchstep
first = not pathlib.Path("began").exists()
pathlib.Path("began").touch()
if not first:
    pathlib.Path("pin").write_text(os.environ.get("WATCHSTEP_RESUME_FROM", ""))
    raise SystemExit(0)
watch = watchstep.init(checkpoints="ckpt")
for step in range(4):
    watch.log({"train/loss": 1.0}, step=step)
    watch.save({"model": torch.nn.Linear(1, 1)}, step=step)
os.kill(os.getpid(), 9)
"""
    process = begin(program, "--restart", "1")

    assert process.wait(PATIENCE_S) == 0

    pin = Path((tmp_path / "pin").read_text())
    assert pin.parent == tmp_path / "ckpt" / "pinned"
    assert pin.exists()


@pytest.mark.parametrize(
    ("opening", "row"),
    [
        ('write("metrics.csv", "step,train/loss\\n")', 'write("metrics.csv", f"{s},{loss(s)}\\n")'),
        ("pass", 'write("log.jsonl", json.dumps({"step": s, "train/loss": loss(s)}) + "\\n")'),
        (
            "pass",
            'rows.append({"step": s, "loss": loss(s)}); rewrite("trainer_state.json", rows)',
        ),
    ],
)
def test_log_files_that_the_command_writes_are_read_as_they_grow(
    begin: Begin, service: FakeService, tmp_path: Path, opening: str, row: str
) -> None:
    program = f"""
import json, os
rows = []
def loss(s):
    return float("nan") if s == 9 else 5.0 / (s + 1)
def write(name, text):
    with open(name, "a") as file:
        file.write(text)
def rewrite(name, rows):
    with open("new", "w") as file:
        json.dump({{"log_history": rows}}, file, indent=2)
    os.replace("new", name)
{opening}
for s in range(10):
    {row}
wait_for("heard")
"""
    name = "train/loss" if "train/loss" in opening + row else "loss"
    process = begin(WAITS + program)

    service.wait_for(lambda: len(losses(service, name)) == 10, PATIENCE_S)

    assert process.poll() is None
    assert math.isnan(losses(service, name)[-1])
    (tmp_path / "heard").touch()
    assert process.wait(PATIENCE_S) == 0
    assert len(losses(service, name)) == 10


def test_what_two_sources_tell_of_a_step_is_one_update(begin: Begin, service: FakeService) -> None:
    program = """
import json, time
with open("log.jsonl", "a", buffering=1) as file:
    for step in range(8):
        print(f"step {step}: loss {1 / (step + 1):.2f}", flush=True)
        file.write(json.dumps({"step": step, "loss": 1 / (step + 1), "grad_norm": 2.0}) + "\\n")
        time.sleep(0.3)
"""
    process = begin(program)

    assert process.wait(PATIENCE_S) == 0

    updates = [update for update in service.updates("r") if "loss" in update["metrics"]]
    assert [update["step"] for update in updates] == list(range(8))


def test_what_a_file_held_before_is_not_of_this_run(
    begin: Begin, service: FakeService, tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text("step,loss\n1,5.0\n2,4.0\n")

    process = begin("open('log.csv', 'a').write('3,3.0\\n')")

    assert process.wait(PATIENCE_S) == 0
    assert losses(service) == [3.0]


def test_a_machine_too_busy_for_a_look_does_not_put_off_the_next_one_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = LogFiles(tmp_path, [], tmp_path / "spool", mark="m")
    turns = iter([100.0, 100.5])
    monkeypatch.setattr("watchstep.outside.log_files.time.monotonic", lambda: next(turns))

    files.look([])

    assert files.due(105.0)


def test_two_trainings_in_one_folder_each_tell_their_own_file(
    begin: Begin, service: FakeService
) -> None:
    program = """
import time
with open("%s.csv", "w", buffering=1) as file:
    file.write("step,loss\\n")
    for step in range(50):
        file.write(f"{step},%s\\n")
        time.sleep(0.1)
"""
    processes = [begin(program % ("first", 1.5)), begin(program % ("second", 2.5), "--run", "s")]

    assert [process.wait(PATIENCE_S) for process in processes] == [0, 0]
    for run, value in (("r", 1.5), ("s", 2.5)):
        values = {update["metrics"].get("loss") for update in service.updates(run)}
        assert values - {None} == {value}


def test_last_words_are_waited_for_where_the_service_answers_late(
    begin: Begin, service: FakeService, tmp_path: Path
) -> None:
    def late(handler: Any) -> bool:
        # Longer than a trainer's hook would wait, and once with a refusal.
        if not any((each.get("event") or {}).get("kind") == "failed" for each in batch(handler)):
            return False
        service.behaviour = None
        service.released.wait(1.8)
        handler.answer(503, b"busy", "text/plain")
        return True

    def batch(handler: Any) -> list[dict[str, Any]]:
        return handler.document.get("updates", [])

    process = begin(WAITS + "print('iter 1: loss 2.5', flush=True)\nwait_for('heard')\nx")
    service.wait_for(lambda: losses(service) == [2.5], PATIENCE_S)
    service.behaviour = late
    (tmp_path / "heard").touch()

    assert process.wait(PATIENCE_S) == 1

    assert last_event(service)["kind"] == "failed"


def test_a_spool_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where a folder should be")

    done = piped(
        wrapped(python("print('step 1: loss 2.0')")),
        tmp_path,
        {"WATCHSTEP_DIR": str(tmp_path / "spool")},
    )

    assert (done.returncode, done.stdout) == (0, b"step 1: loss 2.0\n")
    assert done.stderr.startswith(b"watchstep has no spool")
    assert b"threading.py" not in done.stderr


def test_last_words_that_nobody_heard_are_said_to_be_in_the_spool(tmp_path: Path) -> None:
    settings = {"WATCHSTEP_URL": "http://127.0.0.1:9"}

    done = piped(wrapped(python("print('iter 1: loss 2.5')"), "--run", "r"), tmp_path, settings)

    last = done.stderr.decode().splitlines()[-1]
    assert "the end among them" in last
    assert "`watchstep replay .watchstep` sends them" in last


@pytest.mark.parametrize(("word", "code"), [("no-such-trainer", 127), ("./plain.txt", 126)])
def test_a_command_that_cannot_be_started_is_a_failed_run(
    word: str, code: int, service: FakeService, tmp_path: Path
) -> None:
    (tmp_path / "plain.txt").write_text("no program")

    done = piped(wrapped([word], "--run", "r"), tmp_path, {"WATCHSTEP_URL": service.url})

    assert done.returncode == code
    event = last_event(service)
    assert (event["kind"], event["exit_code"]) == ("failed", code)
    assert event["error"].startswith(word)


def test_a_loss_lost_at_a_resume_within_one_command_is_measured_by_what_it_was(
    tmp_path: Path,
) -> None:
    program = """
for step in range(1, 61): print(f"step {step} | train_loss {2.0 / step:.4f}")
print("Resuming from checkpoint at step 60")
for step in range(61, 81): print(f"step {step} | train_loss 3.{step}")
"""
    done = piped(wrapped(python(program), "--run", "r"), tmp_path, {"WATCHSTEP_MODE": "offline"})

    assert b"LossForgotten" in done.stderr
