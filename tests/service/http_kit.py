"""The real service as a process, and a client that is as small as the standard library's."""

from __future__ import annotations

import http.client
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service.kit import RULES
from watchstep_monitor.service.tokens import new_token
from watchstep_monitor.store.offline_tokens import tokens_of
from watchstep_monitor.store.opening import StoreOptions

READY_S = 60.0
ANSWER_S = 120.0
"""A post-mortem takes seconds of a core, and other tests may want the same core."""


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body, parse_constant=_refuse)


def _refuse(token: str) -> None:
    raise AssertionError(f"a bare {token} was written")


class Client:
    """One connection per request, so that no test depends on another's."""

    def __init__(self, port: int, token: str = "", host: str = "127.0.0.1") -> None:
        self.port = port
        self.token = token
        self.host = host

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A request; dicts and lists are sent as JSON, bytes as they are."""
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ANSWER_S)
        try:
            connection.request(method, path, raw, sent)
            reply = connection.getresponse()
            return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", "/api/v1" + path)

    def post(self, path: str, body: object, **headers: str) -> Answer:
        return self.ask("POST", "/api/v1" + path, body, headers)

    def send(self, run: str, *updates: Mapping[str, Any], attempt: int = 1) -> Answer:
        return self.post(f"/runs/{run}/updates", {"attempt": attempt, "updates": list(updates)})


def upd(seq: int, **readings: object) -> dict[str, Any]:
    named = {name.replace("__", "/"): value for name, value in readings.items()}
    return {"seq": seq, "step": seq * 10, "time": 1_700_000_000.5 + seq, "metrics": named}


def made_token(
    store: StoreOptions, name: str, scopes: Sequence[str], projects: Sequence[str] = ()
) -> str:
    """A token in a store, as `watchstep token create` makes it."""
    secret, token = new_token(name, scopes, projects, datetime.now(UTC))
    with tokens_of(store) as tokens:
        assert tokens.create(token)
    return secret


@dataclass
class Running:
    process: subprocess.Popen[str]
    client: Client
    folder: Path

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def environment(**settings: str) -> dict[str, str]:
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("WATCHSTEP_")
    }
    return {**environ, **settings}


@contextmanager
def served(folder: Path, *options: str, token: str = "", **settings: str) -> Iterator[Running]:
    """`watchstep serve` in a process of its own, ready."""
    folder.mkdir(parents=True, exist_ok=True)
    rules = folder / "rules.yaml"
    if not rules.exists():
        rules.write_text(RULES)
    command = [sys.executable, "-m", "watchstep_monitor", "serve", "--port", "0"]
    command += ["--data-dir", str(folder / "data"), "--rules", str(rules), *options]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(**settings),
            cwd=folder,
        )
    try:
        line = _first_line(process)
        assert line.startswith("watchstep ready http://"), (line, (folder / "log").read_text())
        yield Running(process, Client(int(line.rsplit(":", 1)[1]), token), folder)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(READY_S), "the service did not become ready"
    return process.stdout.readline().strip()


def until(condition: Any, seconds: float = 15.0) -> Any:
    """Poll another process until something holds; its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def accepts(port: int) -> bool:
    """Whether anybody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def raw_exchange(port: int, request: bytes) -> bytes:
    """Bytes to the socket, everything that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)
