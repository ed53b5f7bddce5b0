"""What the disk promises: kills, damage, limits and disks that fail."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from sender.fake_service import black_hole, poll_until, status
from watchstep.core.updates import Update
from watchstep.sender import spool, spool_writer
from watchstep.sender.replay import replay
from watchstep.sender.session import sessions

TRAINER = Path(__file__).with_name("doomed_trainer.py")


def update(seq, *, event=None, **readings):
    return Update(seq, seq * 10, 1.7e9 + seq, readings or {"train/loss": seq + 0.5}, event)


def put_all(outbound, first, last):
    for seq in range(first, last + 1):
        outbound.put(update(seq))


def killed_trainer(directory, url="none", after=200):
    """The last number whose put returned, of a trainer killed with no warning."""
    command = [sys.executable, "-B", str(TRAINER), str(directory), url, "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as trainer:
        for _ in range(after):
            trainer.stdout.readline()
        trainer.send_signal(signal.SIGKILL)
        rest = trainer.stdout.read()
    whole = rest.rpartition(b"\n")[0].rpartition(b"\n")[2]
    return int(whole or after)


def segments(directory):
    return sorted(directory.rglob("0*.seg"))


@pytest.mark.parametrize("after", [1, 137, 1500])
def test_every_update_whose_put_returned_survives_a_kill(service, tmp_path, after):
    returned = killed_trainer(tmp_path, after=after)

    result = replay(tmp_path, url=service.url, token=None)

    assert result.failure is None
    # The kill may fall between the write and the line that reports it.
    assert service.seqs() in (list(range(1, returned + 1)), list(range(1, returned + 2)))
    assert service.faults == []
    assert service.updates()[0]["metrics"] == {"a": 0.1, "b1": 1.0}
    assert sessions(tmp_path) == []


def test_a_trainer_killed_while_it_sends_is_stored_once_in_the_end(service, tmp_path):
    returned = killed_trainer(tmp_path, service.url, after=3000)

    replay(tmp_path, url=service.url, token=None)

    assert service.seqs()[:returned] == list(range(1, returned + 1))
    assert service.faults == []
    assert list(service.attempts.values()) == [1]


def test_replaying_twice_sends_nothing_twice(service, outbound, tmp_path):
    dead = outbound(None)
    put_all(dead, 1, 10)
    dead.close()

    replay(tmp_path / "spool", url=service.url, token=None)
    again = replay(tmp_path / "spool", url=service.url, token=None)

    assert service.seqs() == list(range(1, 11))
    assert (again.sessions, again.updates) == (0, 0)


def test_a_replay_that_cannot_reach_the_service_says_so_and_keeps_everything(
    service, outbound, tmp_path
):
    dead = outbound(None)
    put_all(dead, 1, 10)
    dead.close()
    service.behaviour = status(401)

    failed = replay(tmp_path / "spool", url=service.url, token=None)
    service.behaviour = None
    replay(tmp_path / "spool", url=service.url, token=None)

    assert failed.failure == "HTTP 401"
    assert service.seqs() == list(range(1, 11))


def test_a_torn_last_record_costs_nothing_that_was_promised(service, outbound, tmp_path):
    dead = outbound(None)
    put_all(dead, 1, 10)
    dead.close()
    (segment,) = segments(tmp_path)
    os.truncate(segment, segment.stat().st_size - 7)

    replay(tmp_path / "spool", url=service.url, token=None)

    assert service.seqs() == list(range(1, 10))


@pytest.mark.parametrize("place", range(0, 2900, 61))
def test_a_flipped_byte_costs_only_the_record_it_is_in(service, outbound, tmp_path, place):
    dead = outbound(None)
    put_all(dead, 1, 60)
    dead.close()
    (segment,) = segments(tmp_path)
    bytes_ = bytearray(segment.read_bytes())
    bytes_[place] ^= 0xFF
    segment.write_bytes(bytes_)

    result = replay(tmp_path / "spool", url=service.url, token=None)

    assert service.seqs() == list(range(1, 61))
    replaced = [update["seq"] for update in service.updates() if "event" in update]
    assert len(replaced) <= 1
    assert sum(result.lost.values()) == len(replaced)


def test_a_page_of_zeros_costs_only_the_records_under_it(service, outbound, tmp_path):
    dead = outbound(None)
    put_all(dead, 1, 400)
    dead.close()
    (segment,) = segments(tmp_path)
    bytes_ = bytearray(segment.read_bytes())
    bytes_[:4096] = bytes(4096)
    segment.write_bytes(bytes_)

    result = replay(tmp_path / "spool", url=service.url, token=None)

    assert service.seqs() == list(range(1, 401))
    assert 0 < result.lost["spool_error"] <= 4096 // 48
    assert service.updates()[-1]["metrics"] == {"train/loss": 400.5}


def test_lost_names_and_header_are_found_in_their_second_place(service, outbound, tmp_path):
    dead = outbound(None)
    put_all(dead, 1, 10)
    dead.close()
    next((tmp_path / "spool").rglob("names")).write_bytes(b"")

    replay(tmp_path / "spool", url=service.url, token=None)

    assert service.seqs() == list(range(1, 11))


def test_a_live_session_is_left_alone(service, outbound, tmp_path):
    live = outbound(None)
    put_all(live, 1, 10)

    result = replay(tmp_path / "spool", url=service.url, token=None)

    assert (result.live, result.updates) == (1, 0)
    assert len(sessions(tmp_path / "spool")) == 1


def test_more_updates_than_memory_holds_come_from_disk(service, outbound):
    service.behaviour = status(500)
    trainer = outbound(service.url, queue_updates=50)
    put_all(trainer, 1, 3000)

    service.behaviour = None

    service.wait_for(lambda: len(service.seqs()) == 3000)
    assert service.faults == []
    assert all("event" not in update for update in service.updates())
    assert trainer.losses() == {}


def test_the_spool_stays_within_its_size_and_names_what_it_gave_up(service, outbound, tmp_path):
    limit = 128 * 1024
    trainer = outbound(None, spool_bytes=limit)
    for seq in range(1, 6001):
        trainer.put(update(seq, a=math.nan if seq == 700 else 1.0, b=float(seq)))
    size = sum(path.stat().st_size for path in (tmp_path / "spool").rglob("*.seg"))
    lost = trainer.losses()
    trainer.close()

    result = replay(tmp_path / "spool", url=service.url, token=None)

    assert size <= limit * 1.1
    assert service.seqs() == list(range(1, 6001))
    assert service.faults == []
    placeholders = [path["seq"] for path in service.updates() if "event" in path]
    assert lost == {"spool_full": len(placeholders)}
    assert sum(result.lost.values()) == len(placeholders)
    # The first update and the non-finite one are worth more than their age.
    assert not {1, 700, 6000} & set(placeholders)
    assert service.updates()[699]["metrics"]["a"] == "NaN"


def test_acknowledged_segments_are_deleted_while_training_goes_on(service, outbound, tmp_path):
    trainer = outbound(service.url, spool_bytes=256 * 1024)

    put_all(trainer, 1, 3000)
    assert trainer.flush(20)

    assert len(segments(tmp_path)) == 1
    assert trainer.losses() == {}


def test_without_a_disk_there_is_one_warning_and_memory_serves(service, outbound, tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.warns(RuntimeWarning, match="memory only") as seen:
        trainer = outbound(service.url, directory=tmp_path / "file" / "spool")
    put_all(trainer, 1, 100)

    assert len(seen) == 1
    assert trainer.flush(10)
    assert service.seqs() == list(range(1, 101))
    assert not trainer.stats().on_disk


def test_a_disk_that_fills_up_costs_one_warning_and_no_update(
    service, outbound, tmp_path, monkeypatch
):
    trainer = outbound(service.url)
    put_all(trainer, 1, 10)
    genuine = os.write

    def full(fd, data):
        return genuine(fd, data[: len(data) // 2])

    monkeypatch.setattr(spool.os, "write", full)
    with pytest.warns(RuntimeWarning, match="holds updates in memory") as seen:
        put_all(trainer, 11, 40)
    monkeypatch.undo()

    assert trainer.flush(10)
    assert len(seen) == 1
    assert service.seqs() == list(range(1, 41))
    assert trainer.losses() == {}


def test_a_file_size_limit_is_a_full_disk_and_training_goes_on(tmp_path):
    command = [sys.executable, "-B", str(TRAINER), str(tmp_path), "none", "20000"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as trainer:
        for _ in range(2000):
            line = trainer.stdout.readline()
        trainer.kill()
        complaint = trainer.stderr.read()

    assert line == "2000\n"
    assert complaint.count("RuntimeWarning") == 1
    assert max(path.stat().st_size for path in segments(tmp_path)) <= 20000


def test_the_spool_comes_back_after_a_full_disk_with_all_that_memory_held(
    service, outbound, tmp_path, monkeypatch
):
    monkeypatch.setattr(spool_writer, "_FIRST_PAUSE_S", 0.0)
    # A machine that others load writes slowly, and that is not what this is about.
    monkeypatch.setattr(spool_writer, "_PAUSE_SHARE", 0.0)
    trainer = outbound(None, mode="offline")
    put_all(trainer, 1, 10)
    genuine = os.write
    monkeypatch.setattr(spool.os, "write", lambda fd, data: genuine(fd, data[: len(data) // 2]))
    with pytest.warns(RuntimeWarning, match="holds updates in memory"):
        put_all(trainer, 11, 200)
    away = trainer.stats().on_disk
    monkeypatch.setattr(spool.os, "write", genuine)
    put_all(trainer, 201, 400)
    back = trainer.stats().on_disk
    trainer.close(0)
    replay(tmp_path / "spool", url=service.url, token=None)

    assert (away, back) == (False, True)
    assert trainer.losses() == {}
    assert service.seqs() == list(range(1, 401))


FULL_FOR_A_WHILE = """
import os, resource, sys, time, watchstep
watch = watchstep.init(run="r", directory=sys.argv[1], mode="offline", rules="pretrain")
outbound, number = watch._stream.outbound, 0
def log(times):
    global number
    for _ in range(times):
        number += 1
        watch.log({"train/loss": number + 0.5}, step=number)
        os.write(1, b"%d\\n" % number)
log(50)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (outbound._spool.size_bytes + 20, most))
log(300)
assert not outbound.stats().on_disk
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
while not outbound.stats().on_disk:
    log(1)
    time.sleep(0.01)
log(100)
os.write(1, b"back\\n")
log(1_000_000)
"""


def test_a_trainer_killed_after_its_disk_was_full_for_a_while_has_lost_nothing(service, tmp_path):
    command = [sys.executable, "-B", "-c", FULL_FOR_A_WHILE, str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as trainer:
        for line in trainer.stdout:
            if line == "back\n":
                break
        newest = trainer.stdout.readline()
        trainer.kill()
        newest += trainer.stdout.read()
        complaint = trainer.stderr.read()
    returned = int(newest[: newest.rindex("\n")].rpartition("\n")[2])

    replay(tmp_path, url=service.url, token=None)

    assert complaint.count("holds updates in memory and tries again") == 1
    assert service.seqs() in (list(range(1, returned + 1)), list(range(1, returned + 2)))
    losses = [update["metrics"]["train/loss"] for update in service.updates()]
    assert losses == [seq + 0.5 for seq in service.seqs()]


def test_what_memory_cannot_hold_while_the_disk_is_full_is_counted(outbound, monkeypatch):
    trainer = outbound(None, mode="offline", queue_updates=50)
    put_all(trainer, 1, 10)
    monkeypatch.setattr(spool.os, "write", lambda *_: 0)
    with pytest.warns(RuntimeWarning, match="holds updates in memory"):
        put_all(trainer, 11, 110)

    assert trainer.losses() == {"spool_error": 50}


def test_waiting_for_other_threads_is_no_slow_disk(outbound, monkeypatch):
    now = [0.0]

    def switched(fd, data):
        now[0] += 0.08
        return len(data)

    trainer = outbound(None, mode="offline")
    trainer.put(update(1))
    monkeypatch.setattr(spool.os, "write", switched)
    monkeypatch.setattr(spool.time, "monotonic", lambda: now[0])
    # Sixteen busy threads of 5 ms each.
    monkeypatch.setattr(spool, "_gil_wait_s", lambda: 0.04)
    put_all(trainer, 2, 30)

    assert trainer.stats().on_disk
    assert trainer.losses() == {}


def test_a_disk_that_hangs_is_left_after_the_first_second(outbound, monkeypatch):
    now = [0.0]

    def slow(fd, data):
        now[0] += 1.5
        return len(data)

    trainer = outbound(None)
    trainer.put(update(1))
    monkeypatch.setattr(spool.os, "write", slow)
    monkeypatch.setattr(spool.time, "monotonic", lambda: now[0])
    with pytest.warns(RuntimeWarning, match="holds updates in memory"):
        put_all(trainer, 2, 5)

    assert now == [1.5]


def test_three_slow_writes_in_a_row_are_enough_but_single_ones_are_not(outbound, monkeypatch):
    clock = {"now": 0.0, "next": 0.0}

    def timed(fd, data):
        clock["now"] += clock["next"]
        return len(data)

    trainer = outbound(None)
    trainer.put(update(1))
    monkeypatch.setattr(spool.os, "write", timed)
    monkeypatch.setattr(spool.time, "monotonic", lambda: clock["now"])
    for seq in range(2, 22):
        clock["next"] = 0.05 if seq % 3 else 0.0
        trainer.put(update(seq))
    patient = trainer.stats().on_disk
    clock["next"] = 0.05
    with pytest.warns(RuntimeWarning, match="holds updates in memory"):
        put_all(trainer, 22, 25)

    assert patient
    assert not trainer.stats().on_disk


@pytest.mark.filterwarnings("ignore:watchstep cannot write its spool")
def test_with_neither_disk_nor_service_the_oldest_routine_updates_go_first(
    service, outbound, tmp_path
):
    (tmp_path / "file").write_text("in the way")
    service.behaviour = status(500)
    trainer = outbound(service.url, directory=tmp_path / "file", queue_updates=100)
    for seq in range(1, 1001):
        event = {"kind": "log", "level": "info", "text": "x"} if seq == 300 else None
        trainer.put(update(seq, event=event, a=math.inf if seq == 200 else 1.0))
    poll_until(lambda: trainer.stats().http_failures >= 1)
    waiting = trainer.losses()

    service.behaviour = None
    assert trainer.flush(10)

    texts = [update["event"]["text"] for update in service.updates() if "event" in update]
    placeholders = texts.count("update dropped by the trainer: queue_full")
    assert service.seqs() == list(range(1, 1001))
    assert service.faults == []
    assert trainer.losses() == {"queue_full": placeholders} == dict(waiting)
    assert service.updates()[0]["metrics"] == {"a": 1.0}
    assert service.updates()[199]["metrics"] == {"a": "Infinity"}
    assert service.updates()[299]["event"]["text"] == "x"
    assert service.updates()[-1]["metrics"] == {"a": 1.0}


def test_an_update_that_cannot_be_written_leaves_a_named_hole(service, outbound):
    trainer = outbound(service.url)
    trainer.put(update(1))
    trainer.put(Update(2, 2, 1.0, {"not a name!": 1.0}))
    trainer.put(Update(3, 3, 1.0, {"a": "text"}))
    trainer.put(update(4))
    trainer.put(Update(5, 5, 1.0, {}, {"kind": "nonsense"}))

    assert trainer.flush(10)

    assert service.seqs() == [1, 2, 3, 4, 5]
    assert trainer.losses() == {"unencodable": 3}
    assert trainer.stats().internal_errors == 0


def test_warnings_turned_into_errors_do_not_reach_training(outbound, tmp_path):
    (tmp_path / "file").write_text("in the way")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer = outbound(None, directory=tmp_path / "file")
        trainer.put(update(1))

    assert trainer.losses() == {"spool_error": 1}


def test_a_forked_child_says_nothing_and_the_parent_goes_on(service, outbound, tmp_path):
    trainer = outbound(service.url)
    put_all(trainer, 1, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        trainer.put(update(99))
        fine = trainer.flush(0.1) in (True, False) and trainer.stats() is not None
        trainer.close()
        os._exit(0 if fine else 1)
    _, code = os.waitpid(child, 0)

    put_all(trainer, 6, 10)

    assert code == 0
    assert trainer.flush(10)
    assert service.seqs() == list(range(1, 11))
    trainer.close()
    assert sessions(tmp_path / "spool") == []


def test_a_child_forked_in_the_middle_of_an_answer_does_not_wait_for_its_end(service, outbound):
    def half(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"{")
        return black_hole(handler)

    service.behaviour = half
    trainer = outbound(service.url)
    trainer.put(update(1))
    transport = trainer._loop._transport
    # The answer's head is read, so its body is what the sender's thread waits for.
    poll_until(lambda: getattr(transport._connection, "_HTTPConnection__response", None))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(0)
    try:
        poll_until(lambda: os.waitpid(child, os.WNOHANG)[0] == child)
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise


def test_a_child_that_outlives_its_parent_does_not_keep_the_session_locked(service, tmp_path):
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from watchstep.core.updates import Update\n"
        "from watchstep.sender import Outbound, OutboundConfig\n"
        "trainer = Outbound(OutboundConfig(run='r', directory=Path(sys.argv[1])))\n"
        "trainer.put(Update(1, 1, 1.0, {'a': 1.0}))\n"
        "if os.fork():\n"
        "    os._exit(0)\n"
        "os.write(1, b'child\\n')\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as trainer:
        assert trainer.stdout.readline() == b"child\n"
        trainer.wait()

        result = replay(tmp_path, url=service.url, token=None)

    assert result.sessions == 1
    assert service.seqs() == [1]


def test_an_interpreter_that_exits_sends_what_it_has_within_its_budget(service, tmp_path):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from watchstep.core.updates import Update\n"
        "from watchstep.sender import Outbound, OutboundConfig\n"
        "place = Path(sys.argv[1])\n"
        "trainer = Outbound(OutboundConfig(run='r', url=sys.argv[2], directory=place))\n"
        "for seq in range(1, 101):\n"
        "    trainer.put(Update(seq, seq, 1.0, {'a': 1.0}))\n"
        "sys.exit(7)\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), service.url],
        capture_output=True,
        timeout=20,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (7, b"")
    assert service.seqs() == list(range(1, 101))
    assert sessions(tmp_path) == []
