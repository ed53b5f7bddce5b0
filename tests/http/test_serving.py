"""The service as a process: how it starts, refuses to, dies and comes back."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
from pathlib import Path

from service.http_kit import Client, environment, served, until, upd


def refused(folder: Path, *options: str, **settings: str) -> str:
    """What `watchstep serve` says on stderr when it exits with 2."""
    done = subprocess.run(
        [sys.executable, "-m", "watchstep_monitor", "serve", "--port", "0", *options],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(**settings),
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_sigterm_ends_it_cleanly_even_with_an_event_stream_open(tmp_path: Path) -> None:
    with (
        served(tmp_path) as running,
        socket.create_connection(("127.0.0.1", running.client.port)) as stream,
    ):
        stream.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in stream.recv(4096)

        code = running.stop()

    assert code == 0
    assert not (tmp_path / "data" / "watchstep.db-wal").exists()


def test_nothing_acknowledged_is_lost_or_doubled_by_kill_9(tmp_path: Path) -> None:
    chance = random.Random(7)
    acknowledged = 0
    for _ in range(4):
        with served(tmp_path) as running:
            client = running.client
            stop = threading.Timer(chance.uniform(0.2, 0.6), running.process.kill)
            stop.start()
            try:
                while True:
                    batch = [upd(acknowledged + n, x=float(n)) for n in range(1, 21)]
                    if client.send("a", *batch).status != 202:
                        break
                    acknowledged += 20
            except (OSError, ValueError):
                stop.join()
            # What was cut off in flight may be there or not; sending again settles it.

    with served(tmp_path) as running:
        status = running.client.get("/runs/a").json
        replayed = running.client.send("a", upd(status["last_seq"] + 1, x=1.0)).json
        points = running.client.get("/runs/a/series?metric=x&points=10000").json["points"]

    seqs = [point["seq"] for point in points]
    assert acknowledged > 0
    assert status["last_seq"] >= acknowledged
    assert seqs == list(range(1, replayed["last_seq"] + 1))
    assert status["counts"]["lost"] == 0


def test_an_alert_is_delivered_after_a_kill_between_commit_and_delivery(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    settings = {
        "WATCHSTEP_RECEIVERS__OPS__KIND": "webhook",
        "WATCHSTEP_RECEIVERS__OPS__URL": f"http://127.0.0.1:{port}/",
        "WATCHSTEP_NOTIFY__ALLOW_PRIVATE_CIDRS": "127.0.0.0/8",
        "WATCHSTEP_NOTIFY__RETRY_BASE_S": "0.05",
        "WATCHSTEP_NOTIFY__RETRY_MAX_S": "0.2",
    }
    with served(tmp_path, **settings) as running:
        running.client.send("a", upd(1, train__loss="NaN"))
        running.kill()

    with socket.create_server(("127.0.0.1", port)) as listener, served(tmp_path, **settings):
        listener.settimeout(20)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            head = connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    assert head.startswith(b"POST / HTTP/1.1")


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        assert f"port {port}" in refused(tmp_path, "--port", str(port))


def test_a_folder_in_use_is_one_line(tmp_path: Path) -> None:
    with served(tmp_path):
        assert "another watchstep process" in refused(tmp_path, "--data-dir", "data")


def test_wrong_settings_are_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "watchstep.yaml").write_text("alerts:\n  group_wait: 3\n")
    assert "alerts.group_wait_s" in refused(tmp_path)
    (tmp_path / "watchstep.yaml").write_text("port: 1\nport: 2\n")
    assert "watchstep.yaml:2" in refused(tmp_path)
    (tmp_path / "watchstep.yaml").unlink()

    assert "stall.timeout_s" in refused(tmp_path, WATCHSTEP_STALL__TIMEOUT_S="soon")
    assert "nowhere.yaml" in refused(tmp_path, "--rules", "nowhere.yaml")
    assert "--workers" in refused(tmp_path, "--workers", "2")


def test_without_tokens_it_does_not_listen_to_others(tmp_path: Path) -> None:
    assert "token" in refused(tmp_path, "--host", "0.0.0.0")


def token(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "watchstep_monitor", "token", *arguments, "--data-dir", "data"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(),
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_tokens_open_what_their_scopes_and_projects_say(tmp_path: Path) -> None:
    trainer = token(tmp_path, "create", "trainer", "--scope", "ingest", "--project", "mine")
    reader = token(tmp_path, "create", "reader", "--scope", "read", "--project", "theirs")
    boss = token(tmp_path, "create", "boss", "--scope", "admin")

    with served(tmp_path, "--host", "0.0.0.0") as running:
        port = running.client.port
        clients = {
            name: Client(port, secret)
            for name, secret in (
                ("none", ""),
                ("bad", "wst_x"),
                ("trainer", trainer),
                ("reader", reader),
                ("boss", boss),
            )
        }
        sent = {name: one.send("a", upd(1, x=1.0)).status for name, one in clients.items()}
        read = {name: one.get("/runs/a").status for name, one in clients.items()}
        probes = [clients["none"].ask("GET", path).status for path in ("/healthz", "/metrics")]
        token(tmp_path, "revoke", "boss")
        revoked = clients["boss"].get("/runs").status

    assert sent == {"none": 401, "bad": 401, "trainer": 202, "reader": 403, "boss": 202}
    assert read == {"none": 401, "bad": 401, "trainer": 403, "reader": 404, "boss": 200}
    assert probes == [200, 401]
    assert revoked == 401
    assert trainer not in (tmp_path / "data" / "tokens.json").read_text()
    assert boss not in (tmp_path / "log").read_text()


def test_a_silent_run_is_stalled_and_a_word_from_it_ends_that(tmp_path: Path) -> None:
    settings = {"WATCHSTEP_STALL__TIMEOUT_S": "0.5", "WATCHSTEP_STALL__CHECK_INTERVAL_S": "0.1"}
    with served(tmp_path, **settings) as running:
        client = running.client
        client.send("a", upd(1, x=1.0))

        until(lambda: client.get("/runs/a").json["status"] == "stalled")
        until(lambda: client.get("/alerts?state=firing&run=a").json["items"])
        listed = client.get("/runs?status=stalled").json["items"]
        client.send("a", upd(2, x=1.0))

        assert [run["run"] for run in listed] == ["a"]
        assert client.get("/alerts?state=firing&run=a").json["items"] == []


def test_hostile_bytes_get_an_answer_below_500(tmp_path: Path) -> None:
    random_bytes = random.Random(11)
    with served(tmp_path) as running:
        for _ in range(300):
            body = random_bytes.choice(
                [
                    random_bytes.randbytes(random_bytes.randrange(200)),
                    bytes(random_bytes.choices(b'{}[]":,0123456789.eE-+ntf\\u"', k=60)),
                    b'{"attempt":1,"updates":[{"seq":1,"step":1,"time":1,"metrics":{"a":'
                    + bytes(random_bytes.choices(b"0123456789.eE-+NaIfity", k=8))
                    + b"}}]}",
                ]
            )
            assert running.client.post("/runs/f/updates", body).status < 500
        assert running.client.ask("GET", "/metrics").status == 200
