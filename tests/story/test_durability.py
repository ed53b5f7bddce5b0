"""Stories of what goes wrong under a service: killed, out of disk, locked out, handed junk."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from service.http_kit import Answer, Client, served, until, upd
from story.killing import killed_after_alerts, killed_under_load

pytestmark = pytest.mark.long

COUNTING = """
groups:
  - name: counting
    rules:
      - alert: HighFourTimes
        expr: x > 5
        for: 4 updates
        labels: {severity: warning}
        annotations: {summary: "High four times in a row."}
"""


def test_nothing_acknowledged_is_lost_or_doubled_by_kill_9(tmp_path: Path) -> None:
    loads = killed_under_load(tmp_path, kills=2)

    assert loads.acknowledged > 0
    assert loads.stored >= loads.acknowledged
    assert (loads.lost, loads.doubled, loads.wrong) == (0, 0, 0)


def test_an_alert_is_delivered_although_the_service_was_killed_after_its_commit(
    tmp_path: Path,
) -> None:
    loads = killed_after_alerts(tmp_path, kills=1, at_once=6)

    assert loads.alerts == 6
    assert (loads.lost, loads.with_another_id) == (0, 0)


def test_a_message_is_not_sent_again_when_the_kill_comes_a_second_after_the_answer(
    tmp_path: Path,
) -> None:
    loads = killed_after_alerts(tmp_path, kills=2, at_once=5, after_answer_s=1.0)

    assert loads.alerts == 10
    assert (loads.lost, loads.repeated) == (0, 0)


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

    assert unsynced_answers(trace.read_text()) == (20, [])


def unsynced_answers(trace: str) -> tuple[int, list[str]]:
    """How many 202 there are, and those without a finished sync since the one before.

    One request is under way at a time, so no answer may lean on another's sync.
    """
    answered, bare, is_synced = 0, [], False
    for line in trace.splitlines():
        if re.search(r"(fsync|fdatasync)(\(| resumed).*= 0", line):
            is_synced = True
        elif "202 Accepted" in line:
            answered += 1
            if not is_synced:
                bare.append(line)
            is_synced = False
    return answered, bare


def test_an_acknowledgement_without_a_sync_of_its_own_would_be_seen() -> None:
    sync, answer = "7 fdatasync(12) = 0", '7 sendto(9, "HTTP/1.1 202 Accepted..."..., 300) = 300'
    under_way = ["7 fdatasync(12 <unfinished ...>", answer, "7 <... fdatasync resumed>) = 0"]

    assert unsynced_answers(f"{sync}\n{sync}\n{answer}\n{sync}\n{answer}") == (2, [])
    assert unsynced_answers(f"{sync}\n{sync}\n{answer}\n{answer}") == (2, [answer])
    assert unsynced_answers("\n".join(under_way)) == (1, [answer])


def test_a_rule_that_counts_breaches_fires_at_its_update_although_each_is_followed_by_a_kill(
    tmp_path: Path,
) -> None:
    (tmp_path / "rules.yaml").write_text(COUNTING)
    firing: list[list[int]] = []
    for seq in range(1, 7):
        with served(tmp_path) as running:
            assert running.client.send("a", upd(seq, x=0.0 if seq == 1 else 9.0)).status == 202
            alerts = running.client.get("/alerts?state=firing&run=a").json["items"]
            firing.append([alert["first_update"] for alert in alerts])
            running.kill()

    # It fires with the fourth breach, update 5, and says that it began with the first.
    assert firing == [[], [], [], [], [2], [2]]


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


def test_a_disk_that_is_nearly_full_is_not_ready_and_a_full_one_makes_no_run_stalled(
    tmp_path: Path, small_disk: Path
) -> None:
    settings = {"WATCHSTEP_STALL__TIMEOUT_S": "0.6", "WATCHSTEP_STALL__CHECK_INTERVAL_S": "0.1"}
    with served(tmp_path, "--data-dir", str(small_disk / "data"), **settings) as running:
        client, ballast = running.client, small_disk / "ballast"
        before = client.ask("GET", "/readyz")
        ballast.write_bytes(bytes(3_000_000))
        nearly = client.ask("GET", "/readyz")
        commits = client.send("a", upd(1, x=1.0))
        with suppress(OSError), ballast.open("ab") as more:
            while True:
                more.write(bytes(4096))
                more.flush()
        wide = {f"m{n}": 0.1 * n for n in range(200)}
        refused = until(lambda: filled(client, wide))
        full = client.ask("GET", "/readyz")
        began = time.monotonic()
        seen = set()
        while time.monotonic() - began < 2.0:
            seen.add(client.get("/runs/a").json["status"])
            filled(client, wide)
        ballast.unlink()
        again = until(lambda: client.ask("GET", "/readyz").status == 200)

    assert (before.status, nearly.status, commits.status) == (200, 503, 202)
    assert "the disk is full" in nearly.json["detail"]
    assert (refused.status, full.status, again) == (503, 503, True)
    assert "cannot commit" in full.json["detail"]
    assert seen == {"running"}
    assert log_lines(tmp_path, "the store cannot commit") == 1
    assert log_lines(tmp_path, "the clock's work waits") == 1


def filled(client: Client, wide: dict[str, float]) -> Answer | None:
    """A batch of large updates; the answer if it is refused."""
    last = client.get("/runs/a").json["last_seq"]
    sent = client.send("a", *[upd(n, **wide) for n in range(last + 1, last + 31)])
    return None if sent.status == 202 else sent


def log_lines(folder: Path, event: str) -> int:
    return (folder / "log").read_text().count(f'"event": "{event}"')


def test_a_database_moved_away_under_the_service_takes_no_more_updates_until_it_is_back(
    tmp_path: Path,
) -> None:
    with served(tmp_path) as running:
        client, data, away = running.client, tmp_path / "data", tmp_path / "away"
        client.send("a", upd(1, x=1.0))
        data.rename(away)
        refused, ready = client.send("a", upd(2, x=1.0)), client.ask("GET", "/readyz")
        made_anew = data.exists()
        away.rename(data)
        again = client.send("a", upd(2, x=1.0))
        ready_again = client.ask("GET", "/readyz")
        (data / "watchstep.db-wal").rename(tmp_path / "wal")
        without_log = client.send("a", upd(3, x=1.0))
        (tmp_path / "wal").rename(data / "watchstep.db-wal")
    with served(tmp_path) as running:
        status = running.client.get("/runs/a").json

    assert (refused.status, ready.status, made_anew) == (503, 503, False)
    assert "gone from its folder" in ready.json["detail"]
    assert (again.status, ready_again.status, without_log.status) == (202, 200, 503)
    assert status["last_seq"] == status["counts"]["updates"] == 2


def test_another_file_in_the_databases_place_is_not_written_to(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        client, path = running.client, tmp_path / "data" / "watchstep.db"
        client.send("a", upd(1, x=1.0))
        path.rename(tmp_path / "first.db")
        path.write_bytes(b"")
        refused, ready = client.send("a", upd(2, x=1.0)), client.ask("GET", "/readyz")
        size = path.stat().st_size
        (tmp_path / "first.db").rename(path)
        again = client.send("a", upd(2, x=1.0))

    assert (refused.status, size, again.status) == (503, 0, 202)
    assert "another file" in ready.json["detail"]


def test_a_database_that_becomes_read_only_is_said_and_left_behind_without_a_restart(
    tmp_path: Path,
) -> None:
    with served(tmp_path) as running:
        client = running.client
        client.send("a", upd(1, x=1.0))
        with read_only([*(tmp_path / "data").iterdir()]):
            refused, ready = client.send("a", upd(2, x=1.0)), client.ask("GET", "/readyz")
            read, begun = client.get("/runs/a"), client.ask("PUT", "/api/v1/runs/b", {})
            scraped = client.ask("GET", "/metrics")
        again, ready_again = client.send("a", upd(2, x=1.0)), client.ask("GET", "/readyz")

        assert running.process.poll() is None
    assert (refused.status, begun.status, ready.status) == (503, 503, 503)
    assert "read-only" in ready.json["detail"]
    assert (read.status, scraped.status) == (200, 200)
    assert (again.status, again.json["last_seq"], ready_again.status) == (202, 2, 200)


@contextmanager
def read_only(files: list[Path]) -> Iterator[None]:
    """Files that nobody, root included, may write: as after a file system's error."""
    names = [str(file) for file in files]
    command = shutil.which("chattr")
    if command is None or subprocess.run([command, "+i", *names], check=False).returncode:
        pytest.skip("files cannot be made immutable here")
    try:
        yield
    finally:
        subprocess.run([command, "-i", *names], check=True)


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


def damaged(path: Path, table: str) -> None:
    """Nonsense over the first page of a table."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        (page,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)
        ).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


def test_a_damaged_database_is_said_and_acknowledges_nothing(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        for seq in range(1, 40):
            running.client.send("a", upd(seq, x=1.0))
        assert running.stop() == 0
    damaged(tmp_path / "data" / "watchstep.db", "runs")

    with served(tmp_path) as running:
        client = running.client
        sent, read = client.send("a", upd(40, x=1.0)), client.get("/runs/a")
        scraped = client.ask("GET", "/metrics")

    assert (sent.status, read.status, scraped.status) == (503, 503, 200)
    assert "malformed" in (tmp_path / "log").read_text()
