"""`watchstep follow`: logs that grow are live runs, told once however often the follower dies."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outside.kit_outside import PATIENCE_S, WATCHSTEP, piped, started, until
from sender.fake_service import FakeService
from watchstep.hook.options import Options
from watchstep.outside.follow import Follower, FollowSettings
from watchstep.outside.followed import FollowedRun
from watchstep.postmortem.readers import open_logs

LOGS = Path(__file__).parents[1] / "postmortem" / "logs"
Follow = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def follow(service: FakeService, tmp_path: Path) -> Iterator[Follow]:
    """Starts `watchstep follow` in a folder of its own, reporting to the service."""
    with started(service, tmp_path) as start:
        yield lambda *arguments: start([*WATCHSTEP, "follow", *map(str, arguments)])


def two_rows(log: Path, text: str, follow: Follow, service: FakeService) -> Path:
    """A log that is followed as run `r`, and whose two rows have arrived."""
    log.write_text(text)
    follow("--run", "r", log)
    service.wait_for(lambda: len(told(service, "r")) == 2, PATIENCE_S)
    return log


def told(service: FakeService, run: str, attempt: int = 1) -> list[tuple[int, dict[str, Any]]]:
    """Step and readings of every update that has readings."""
    updates = service.updates(run, attempt)
    return [(update["step"], update["metrics"]) for update in updates if update["metrics"]]


def kinds(service: FakeService, run: str) -> list[str]:
    return [update["event"]["kind"] for update in service.updates(run) if update.get("event")]


def as_sent(readings: dict[str, float]) -> dict[str, Any]:
    words = {math.inf: "Infinity", -math.inf: "-Infinity"}
    return {
        name: "NaN" if math.isnan(value) else words.get(value, value)
        for name, value in readings.items()
    }


def test_of_more_metrics_than_an_update_holds_those_that_rules_look_at_are_told(
    follow: Follow, service: FakeService, tmp_path: Path
) -> None:
    names = [f"probe/{number}" for number in range(300)]
    rows = [",".join(["step", *names, "train/loss"])]
    rows += [",".join([str(step), *["1.0"] * 300, "0.5"]) for step in range(20)]
    (tmp_path / "progress.csv").write_text("\n".join([*rows, ""]))

    assert follow("--once", "--run", "wide", tmp_path / "progress.csv").wait(PATIENCE_S) == 0

    last = told(service, "wide")[-1][1]
    assert len(last) == 256
    assert "train/loss" in last


@pytest.mark.parametrize(
    "log",
    [
        "filed/llamafactory.jsonl",
        "filed/lightning_csv.csv",
        "filed/keras_csv.log",
        "filed/mmdet_json.json",
        "filed/spinup.txt",
        "iss_rslrl96/log.txt",
        "nanogpt/main.log.gz",
    ],
)
def test_once_reads_what_the_postmortem_reads(
    log: str, follow: Follow, service: FakeService
) -> None:
    path = LOGS / log

    assert follow("--once", "--run", "r", path).wait(PATIENCE_S) == 0

    (read,) = open_logs([path])
    expected = [
        (update.step, as_sent(dict(update.readings))) for update in read.updates if update.readings
    ]
    assert [pair for attempt in (1, 2, 3) for pair in told(service, "r", attempt)] == expected


def test_what_is_written_is_told_while_it_is_written(
    follow: Follow, service: FakeService, tmp_path: Path
) -> None:
    log = tmp_path / "train.log"
    log.write_text("")
    follow("--run", "r", log)

    with log.open("a") as file:
        for step in range(5):
            file.write(f"step {step}: loss {1 / (step + 1):.3f}\n")
            file.flush()
            service.wait_for(lambda: len(told(service, "r")) == step + 1, PATIENCE_S)  # noqa: B023

    assert [step for step, _ in told(service, "r")] == [0, 1, 2, 3, 4]


def test_new_runs_in_a_folder_appear_by_themselves(
    follow: Follow, service: FakeService, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    follow(runs)

    for name in ("seed1", "seed2"):
        (runs / name).mkdir()
        (runs / name / "progress.csv").write_text("step,train/loss\n1,2.0\n2,1.5\n")
        service.wait_for(lambda: len(told(service, name)) == 2, PATIENCE_S)  # noqa: B023

    assert set(service.stored) == {("seed1", 1), ("seed2", 1)}


def test_the_words_of_a_failure_end_the_run_only_where_nothing_comes_after_them(
    follow: Follow, service: FakeService, tmp_path: Path
) -> None:
    failure = "Traceback (most recent call last):\n  File 'a.py'\nValueError: empty\n"
    (tmp_path / "caught.log").write_text(f"step 1: loss 2.0\n{failure}step 2: loss 1.0\n")
    (tmp_path / "ended.log").write_text(f"step 1: loss 2.0\nstep 2: loss 1.0\n{failure}")

    assert follow("--once", tmp_path / "caught.log", tmp_path / "ended.log").wait(PATIENCE_S) == 0

    assert kinds(service, "caught") == ["started", "log", "finished"]
    assert kinds(service, "ended") == ["started", "failed"]


def test_a_log_that_was_replaced_is_read_from_its_beginning(
    follow: Follow, service: FakeService, tmp_path: Path
) -> None:
    log = two_rows(
        tmp_path / "log.jsonl",
        '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n',
        follow,
        service,
    )

    log.rename(tmp_path / "log.jsonl.1")
    log.write_text('{"step": 3, "loss": 1.2}\n')

    service.wait_for(lambda: len(told(service, "r")) == 3, PATIENCE_S)
    assert told(service, "r")[-1] == (3, {"loss": 1.2})


def test_a_logger_that_writes_its_file_anew_tells_nothing_twice(
    follow: Follow, service: FakeService, tmp_path: Path
) -> None:
    log = two_rows(tmp_path / "metrics.csv", "step,train/loss\n1,2.0\n2,1.5\n", follow, service)

    new = tmp_path / "new"
    new.write_text("step,train/loss,val_loss\n1,2.0,\n2,1.5,\n3,1.2,1.4\n")
    new.rename(log)

    service.wait_for(lambda: len(told(service, "r")) >= 3, PATIENCE_S)
    assert [step for step, _ in told(service, "r")] == [1, 2, 3]


def test_following_ends_when_nothing_is_added_any_more_and_so_does_its_run(
    follow: Follow, service: FakeService, tmp_path: Path
) -> None:
    (tmp_path / "sac7.log").write_text("step 1: loss 2.0\nstep 2: loss 1.5\n")

    assert follow("--until-idle", "2", tmp_path / "sac7.log").wait(PATIENCE_S) == 0

    assert len(told(service, "sac7")) == 2
    # What nobody follows any more would be called lost.
    assert kinds(service, "sac7")[-1] == "finished"


def test_a_folder_without_any_log_is_told_by_the_exit_code(follow: Follow, tmp_path: Path) -> None:
    assert follow("--once", tmp_path).wait(PATIENCE_S) == 3


def test_without_a_service_critical_alerts_are_lines_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "sac7.log").write_text("step 1: loss 2.0\nstep 2: loss nan\n")

    done = piped([*WATCHSTEP, "follow", "--once", "sac7.log"], tmp_path)

    assert b"watchstep: sac7: LossNonFinite at step 2: loss = nan\n" in done.stderr


def test_without_a_service_a_follower_that_is_started_again_says_nothing_twice(
    tmp_path: Path,
) -> None:
    log = tmp_path / "sac7.log"
    log.write_text("".join(f"step {step}: loss {2.0 / step}\n" for step in range(1, 9)))
    piped([*WATCHSTEP, "follow", "--once", "sac7.log"], tmp_path)
    with log.open("a") as file:
        file.write("".join(f"step {step}: loss nan\n" for step in range(9, 12)))
    first = piped([*WATCHSTEP, "follow", "--once", "sac7.log"], tmp_path)
    with log.open("a") as file:
        file.write("".join(f"step {step}: loss nan\n" for step in range(12, 15)))

    again = piped([*WATCHSTEP, "follow", "--once", "sac7.log"], tmp_path)

    assert first.stderr == b"watchstep: sac7: LossNonFinite at step 9: loss = nan\n"
    assert again.stderr == b""


def test_a_follower_that_is_killed_again_and_again_tells_everything_once(
    follow: Follow, service: FakeService, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("")
    chance = random.Random(7)
    rows = 0
    for _ in range(12):
        process = follow("--run", "r", log)
        for _ in range(25):
            with log.open("a") as file:
                file.write(json.dumps({"step": rows, "loss": 1.0 + rows}) + "\n")
            rows += 1
            time.sleep(chance.uniform(0.0, 0.12))
        process.kill()
        process.wait(PATIENCE_S)

    follow("--run", "r", log)
    service.wait_for(lambda: len(told(service, "r")) >= rows, PATIENCE_S)

    assert told(service, "r") == [(row, {"loss": 1.0 + row}) for row in range(rows)]
    assert service.faults == []
    assert list(service.stored) == [("r", 1)]


def test_what_a_service_did_not_hear_is_sent_when_it_is_there(
    follow: Follow, service: FakeService, tmp_path: Path
) -> None:
    log = tmp_path / "train.log"
    log.write_text("step 1: loss 2.0\nstep 2: loss 1.5\n")
    service.behaviour = lambda handler: handler.answer(503, {}) is None
    follow("--run", "r", log)
    until(lambda: len(service.requests) > 2, "requests")

    service.behaviour = None

    service.wait_for(lambda: len(told(service, "r")) == 2, PATIENCE_S)


def test_what_a_log_gained_while_it_was_first_looked_at_is_told_although_the_follower_dies_then(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.jsonl"
    write_rows(log, range(10))
    options = Options(run="r", url=service.url, directory=tmp_path / "spool")
    settings = FollowSettings([log], options, run_name="r", once=True)
    dying = Follower(settings)
    decide = dying._decide

    def decide_while_it_grows(*arguments: float) -> None:
        decide(*arguments)
        write_rows(log, range(10, 12))

    monkeypatch.setattr(dying, "_decide", decide_while_it_grows)
    dying._turn(time.monotonic())
    let_go(dying)
    Follower(settings).follow()

    assert [step for step, _ in told(service, "r")] == list(range(12))


def test_a_log_whose_reading_fails_leaves_the_others_followed(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bad", "good"):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "log.jsonl", range(10))
    options = Options(run="r", url=service.url, directory=tmp_path / "spool")
    poll = FollowedRun.poll

    def fail_in_one(run: FollowedRun, now: float, *, closing: bool = False) -> bool:
        if run.name == "bad":
            raise ValueError("a row that nobody foresaw")
        return poll(run, now, closing=closing)

    monkeypatch.setattr(FollowedRun, "poll", fail_in_one)
    with pytest.warns(UserWarning, match="goes on after ValueError: a row that nobody foresaw"):
        Follower(FollowSettings([tmp_path / "bad", tmp_path / "good"], options, once=True)).follow()

    assert [step for step, _ in told(service, "good")] == list(range(10))


def let_go(follower: Follower) -> None:
    """Its connection, which a process that dies does not keep."""
    assert follower._uplink is not None
    follower._uplink.close()


def write_rows(log: Path, steps: range) -> None:
    with log.open("a") as file:
        file.writelines(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in steps)


def test_a_row_that_tensorboard_has_half_written_is_told_whole_by_the_next_follower(
    service: FakeService, tmp_path: Path
) -> None:
    summaries = pytest.importorskip("torch.utils.tensorboard")
    options = Options(run="r", url=service.url, directory=tmp_path / "spool")
    settings = FollowSettings([tmp_path], options, once=True)
    writer = summaries.SummaryWriter(tmp_path / "tb", flush_secs=1000)
    for step in range(3):
        writer.add_scalar("train/loss", 1.0, step)
        writer.add_scalar("train/grad_norm", 2.0, step)
    writer.flush()
    dying = Follower(settings)
    now = time.monotonic()
    for later_s in (0.0, 2.0, 4.0):
        dying._turn(now + later_s)
    writer.add_scalar("train/loss", 7.0, 3)
    writer.flush()
    dying._turn(now + 6.0)
    let_go(dying)

    writer.add_scalar("train/grad_norm", 8.0, 3)
    writer.close()
    Follower(settings).follow()

    (run,) = {name for name, _ in service.stored}
    assert told(service, run)[-1] == (3, {"train/loss": 7.0, "train/grad_norm": 8.0})


def test_what_is_missing_or_no_log_is_said(tmp_path: Path) -> None:
    (tmp_path / "junk.bin").write_bytes(bytes(range(256)) * 20)

    done = subprocess.run(
        [*WATCHSTEP, "follow", "--once", tmp_path / "none.log", tmp_path / "junk.bin"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert done.returncode == 3
    assert "none.log: there is nothing" in done.stderr
    assert "junk.bin: no training log" in done.stderr


def test_a_followed_run_says_on_which_host_and_as_whom(
    follow: Follow, service: FakeService, tmp_path: Path
) -> None:
    two_rows(tmp_path / "a.log", "step 1 loss: 0.5\nstep 2 loss: 0.4\n", follow, service)

    assert service.begun[0]["config"]["environment"].keys() >= {"host", "user"}


def hang_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str) -> tuple[str, str]:
    """Severity and words of the hang of a log that one process wrote, and holds open or not."""
    log = tmp_path / "train.log"
    program = (
        f"import sys, time\nlog = open({str(log)!r}, 'w')\n"
        f"print('step 1: loss 2.0\\nstep 2: loss 1.9', file=log, flush=True)\n{writer}"
    )
    printed: list[str] = []
    monkeypatch.setattr("watchstep.outside.followed.say", printed.append)
    events: list[Any] = []
    put = FollowedRun._put
    monkeypatch.setattr(
        FollowedRun, "_put", lambda run, *what: (events.append(what[1]), put(run, *what))[1]
    )
    options = Options(run="r", directory=tmp_path / "spool")
    follower = Follower(FollowSettings([log], options, run_name="r"))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        began = time.monotonic()
        for later_s in range(0, 1_300, 20):
            follower._turn(began + later_s)
        process.kill()
    (hang,) = [event for event in events if event and event["kind"] == "hung"]
    assert printed == [f"r: {hang['seen']} for {hang['since_s']:.0f} s"]
    return hang["severity"], hang["seen"]


def test_a_log_whose_writer_stands_still_is_critical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    severity, seen = hang_told(tmp_path, monkeypatch, "print(flush=True)\ntime.sleep(600)")

    assert severity == "critical"
    assert seen == ("nothing new in the log, and the process that writes it does not use the CPU")


def test_a_log_that_nobody_holds_open_may_have_ended_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    severity, seen = hang_told(
        tmp_path, monkeypatch, "log.close()\nprint(flush=True)\ntime.sleep(600)"
    )

    assert severity == "warning"
    assert seen.endswith("and no process of this machine has it open for writing")
