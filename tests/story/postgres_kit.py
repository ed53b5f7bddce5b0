"""A PostgreSQL of the test's own, which it may stop; and a receiver that remembers."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.http_kit import until

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


@dataclass
class Server:
    """One cluster on a free port.

    Attributes:
        settings: Of postgresql.conf, as on a command line.
        host: Address that it listens on.
    """

    folder: Path
    port: int
    settings: str = ""
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@{self.host}:{self.port}/postgres"

    def start(self) -> None:
        self._control("start", "-w", "-l", str(self.folder / "log"))

    def stop(self, mode: str) -> None:
        self._control("stop", "-w", "-m", mode)

    def promote(self) -> None:
        self._control("promote", "-w")

    def runs(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.host, self.port)) == 0

    def ask(self, statement: str) -> list[Any]:
        """The rows of one statement, outside of any transaction."""
        import psycopg

        # By its file, which is there in every network.
        target = f"host={self.folder} port={self.port} user=postgres dbname=postgres"
        with psycopg.connect(target, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _control(self, *words: str) -> None:
        options = f"-p {self.port} -k {self.folder} -h {self.host} {self.settings}"
        run_as_postgres("pg_ctl", "-D", str(self.folder / "data"), "-o", options, *words)


def run_as_postgres(program: str, *words: str) -> None:
    """As the user of that name, since the server refuses root."""
    user = {"user": "postgres"} if os.getuid() == 0 else {}
    subprocess.run(
        [str(BINARIES[0] / program), *words],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd="/",
        timeout=60,
        **user,  # type: ignore[arg-type]
    )


@contextmanager
def postgres_server(
    settings: str = "", disk_bytes: int | None = None, host: str = "127.0.0.1"
) -> Iterator[Server]:
    """A cluster that nobody else uses; skips where none can be made.

    Args:
        settings: Of postgresql.conf, as on a command line.
        disk_bytes: Size of a disk of its own in memory; None for a common folder.
        host: Address to listen on; its neighbours are let in.
    """
    with _folder(disk_bytes) as folder:
        run_as_postgres("initdb", "-D", str(folder / "data"), "-U", "postgres", "-A", "trust")
        with (folder / "data/pg_hba.conf").open("a") as allowed:
            allowed.write(f"host all all {host}/16 trust\n")
        with _started(folder, settings, host) as server:
            yield server


@contextmanager
def standby_of(primary: Server) -> Iterator[Server]:
    """A streaming standby, on which every commit of the primary waits from now on."""
    with _folder(None) as folder:
        place = ("-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres")
        data = str(folder / "data")
        run_as_postgres("pg_basebackup", "-D", data, "-R", "-X", "stream", "-c", "fast", *place)
        with _started(folder, "", "127.0.0.1") as server:
            primary.ask("ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (*)'")
            primary.ask("SELECT pg_reload_conf()")
            until(lambda: primary.ask("SELECT 1 FROM pg_stat_replication WHERE sync_state='sync'"))
            yield server


@contextmanager
def _started(folder: Path, settings: str, host: str) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind((host, 0))
        server = Server(folder, free.getsockname()[1], settings, host)
    try:
        server.start()
        yield server
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            server.stop("immediate")


@contextmanager
def _folder(disk_bytes: int | None) -> Iterator[Path]:
    if not BINARIES:
        pytest.skip("no PostgreSQL server is installed")
    folder = Path(tempfile.mkdtemp(prefix="ws-pg-"))
    mounted = False
    try:
        if disk_bytes is not None:
            options = ["-t", "tmpfs", "-o", f"size={disk_bytes}", "none", str(folder)]
            if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
                pytest.skip("mounting a small disk is not allowed here")
            mounted = True
        if os.getuid() == 0:
            try:
                shutil.chown(folder, pwd.getpwnam("postgres").pw_uid)
            except KeyError:
                pytest.skip("PostgreSQL refuses root, and there is no user postgres")
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Inbox:
    """What a receiver was sent, in order; it answers while `answers` is set."""

    host: str
    port: int = 0
    got: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/"

    def settings(self) -> dict[str, str]:
        return {
            "WATCHSTEP_RECEIVERS__OPS__KIND": "webhook",
            "WATCHSTEP_RECEIVERS__OPS__URL": self.url,
            "WATCHSTEP_NOTIFY__ALLOW_PRIVATE_CIDRS": f"{self.host}/32",
            "WATCHSTEP_NOTIFY__RATE_PER_MINUTE": "100000",
        }

    def ids(self) -> list[str]:
        return [webhook_id for webhook_id, _ in self.got]


@contextmanager
def inbox(host: str = "127.0.0.1") -> Iterator[Inbox]:
    """A receiver that takes everything."""
    inbox = Inbox(host)
    inbox.answers.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            inbox.got.append((self.headers["webhook-id"], body))
            inbox.answers.wait(30)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer((host, 0), Handler)
    inbox.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield inbox
    finally:
        inbox.answers.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
