"""Stories of what goes wrong under a service: killed, out of disk, locked out, handed junk.

`benchmarks/kills.py` tells the first two with 200 kills.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from service.http_kit import served, until, upd
from story.killing import killed_after_alerts, killed_under_load


def test_nothing_acknowledged_is_lost_or_doubled_by_kill_9(tmp_path: Path) -> None:
    told = killed_under_load(tmp_path, kills=2)

    assert told.acknowledged > 0
    assert told.stored >= told.acknowledged
    assert (told.lost, told.doubled, told.wrong) == (0, 0, 0)


def test_an_alert_is_delivered_although_the_service_was_killed_after_its_commit(
    tmp_path: Path,
) -> None:
    told = killed_after_alerts(tmp_path, kills=1, at_once=6)

    assert told.alerts == 6
    assert (told.lost, told.with_another_id) == (0, 0)


def test_every_acknowledgement_comes_after_a_sync(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace here")
    trace = tmp_path / "trace"
    with served(tmp_path) as running:
        calls = "trace=fsync,fdatasync,write,writev,sendto,sendmsg"
        command = [strace, "-f", "-p", str(running.process.pid), "-e", calls, "-s", "64"]
        with subprocess.Popen([*command, "-o", str(trace)], stderr=subprocess.PIPE) as tracer:
            assert tracer.stderr is not None
            if b"attached" not in tracer.stderr.readline():
                pytest.skip("processes cannot be traced here")
            for seq in range(1, 21):
                assert running.client.send("a", upd(seq, x=1.0)).status == 202
            tracer.terminate()

    synced = answered = 0
    for line in trace.read_text().splitlines():
        if re.search(r"(fsync|fdatasync)(\(| resumed).*= 0", line):
            synced += 1
        elif "202 Accepted" in line:
            answered += 1
            assert synced >= answered, line
    assert answered == 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_said_and_left_behind_without_a_restart(
    tmp_path: Path, small_disk: Path
) -> None:
    with served(tmp_path, "--data-dir", str(small_disk / "data")) as running:
        client, ballast = running.client, small_disk / "ballast"
        assert client.send("a", upd(1, x=1.0)).status == 202
        with suppress(OSError):
            ballast.write_bytes(bytes(8_000_000))
        wide = {f"m{n}": 0.1 * n for n in range(200)}
        sent, seq = None, 1
        while (sent is None or sent.status == 202) and seq < 3_000:
            batch = [upd(n, **wide) for n in range(seq + 1, seq + 31)]
            sent = client.send("a", *batch)
            seq += 30 if sent.status == 202 else 0
        assert sent is not None
        refused = sent

        ballast.unlink()
        again = until(lambda: (got := client.send("a", upd(seq + 1, x=2.0))).status == 202 and got)
        status = client.get("/runs/a").json

    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert again.json["last_seq"] == status["last_seq"] == seq + 1
    assert status["counts"] == {"updates": seq + 1, "lost": 0, "firing": 0, "pending": 0}


def test_a_database_that_another_program_locks_is_waited_for_and_then_refused(
    tmp_path: Path,
) -> None:
    import sqlite3

    with served(tmp_path, WATCHSTEP_STORE__BUSY_TIMEOUT_S="0.3") as running:
        client = running.client
        client.send("a", upd(1, x=1.0))
        other = sqlite3.connect(tmp_path / "data" / "watchstep.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        refused = client.send("a", upd(2, x=1.0))
        read = client.get("/runs/a")
        other.execute("ROLLBACK")
        other.close()
        again = client.send("a", upd(2, x=1.0))

    assert (refused.status, read.status, again.status) == (503, 200, 202)
    assert int(refused.headers["retry-after"]) >= 1
    assert again.json["accepted"] == 1


def damaged(path: Path) -> None:
    """Nonsense over the middle of a file."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.seek(size // 4)
        file.write(b"\xa5" * (size // 2))


def test_a_damaged_database_is_said_and_acknowledges_nothing(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        for seq in range(1, 40):
            running.client.send("a", upd(seq, x=1.0))
        assert running.stop() == 0
    damaged(tmp_path / "data" / "watchstep.db")

    with served(tmp_path) as running:
        client = running.client
        sent, read = client.send("a", upd(40, x=1.0)), client.get("/runs/a")
        scraped = client.ask("GET", "/metrics")

    assert (sent.status, read.status, scraped.status) == (503, 503, 200)
    assert "malformed" in (tmp_path / "log").read_text()
