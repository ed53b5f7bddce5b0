"""The service as a process: how it starts, refuses to, dies and comes back."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from service.http_kit import Client, environment, made_token, served, until, upd
from watchstep_monitor.store.opening import StoreOptions


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
    data = StoreOptions(tmp_path / "data")
    reader = made_token(data, "reader", ["read"], ["theirs"])
    boss = made_token(data, "boss", ["admin"])

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
        sent = {name: client.send("a", upd(1, x=1.0)).status for name, client in clients.items()}
        read = {name: client.get("/runs/a").status for name, client in clients.items()}
        probes = [clients["none"].ask("GET", path).status for path in ("/healthz", "/metrics")]
        token(tmp_path, "revoke", "boss")
        until(lambda: clients["boss"].get("/runs").status == 401)
        late = made_token(data, "late", ["read"])
        until(lambda: Client(port, late).get("/runs").status == 200)
        listed = json.loads(token(tmp_path, "list", "--json"))["items"]

    assert sent == {"none": 401, "bad": 401, "trainer": 202, "reader": 403, "boss": 202}
    assert read == {"none": 401, "bad": 401, "trainer": 403, "reader": 404, "boss": 200}
    assert probes == [200, 401]
    states = {each["name"]: each["state"] for each in listed}
    used = {each["name"] for each in listed if each["used_on"] is not None}
    assert states == {"boss": "revoked", "late": "good", "reader": "good", "trainer": "good"}
    assert used >= {"boss", "reader", "trainer"}
    stored = b"".join(each.read_bytes() for each in (tmp_path / "data").iterdir())
    assert hashlib.sha256(trainer.encode()).hexdigest().encode() in stored
    assert trainer.encode() not in stored
    assert boss not in (tmp_path / "log").read_text()


def test_a_silent_run_is_lost_and_a_word_from_it_ends_that(tmp_path: Path) -> None:
    settings = {"WATCHSTEP_STALL__TIMEOUT_S": "0.5", "WATCHSTEP_STALL__CHECK_INTERVAL_S": "0.1"}
    with served(tmp_path, **settings) as running:
        client = running.client
        client.send("a", upd(1, x=1.0))

        until(lambda: client.get("/runs/a").json["status"] == "lost")
        until(lambda: client.get("/alerts?state=firing&run=a").json["items"])
        listed = client.get("/runs?status=lost").json["items"]
        client.send("a", upd(2, x=1.0))

        assert [run["run"] for run in listed] == ["a"]
        assert client.get("/alerts?state=firing&run=a").json["items"] == []


def test_over_its_connections_it_says_when_to_come_back_and_answers_probes(tmp_path: Path) -> None:
    with served(tmp_path, WATCHSTEP_LIMITS__CONNECTIONS="3") as running, ExitStack() as held:
        for _ in range(3):
            held.enter_context(socket.create_connection(("127.0.0.1", running.client.port)))
        crowded = until(lambda: (got := running.client.get("/runs")).status != 200 and got)
        probes = [running.client.ask("GET", path).status for path in ("/healthz", "/metrics")]
        held.close()
        again = until(lambda: running.client.get("/runs").status == 200)

    assert crowded.status == 429
    assert int(crowded.headers["retry-after"]) >= 1
    assert crowded.headers["content-type"] == "application/problem+json"
    assert (probes, again) == ([200, 200], True)


def test_large_answers_are_packed_for_who_takes_it_and_streams_and_small_ones_never(
    client: Client,
) -> None:
    client.send("packed", *[upd(n, train__loss=n / 7) for n in range(1, 400)])
    path = "/api/v1/runs/packed/series?metric=train/loss"

    packed = client.ask("GET", path, headers={"Accept-Encoding": "gzip"})
    plain = client.ask("GET", path)
    small = client.ask("GET", "/healthz", headers={"Accept-Encoding": "gzip"})
    stream = socket.create_connection(("127.0.0.1", client.port), timeout=20)
    stream.sendall(
        b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n"
    )
    head = stream.recv(4_096)
    stream.close()

    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) * 4 < len(plain.body)
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in small.headers
    assert b"text/event-stream" in head
    assert b"content-encoding" not in head.lower()
