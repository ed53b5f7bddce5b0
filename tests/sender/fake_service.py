"""A service on a real socket that keeps what it is sent, and misbehaves when told to."""

from __future__ import annotations

import gzip
import http.server
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sender.rows import decode_rows
from watchstep.wire.rows import ROWS_TYPE
from watchstep.wire.text import encode_update

Behaviour = Callable[["_Handler"], bool]
"""Deals with a request by itself and says whether it did."""

PROBLEM = "application/problem+json"


class FakeService:
    """Keeps (run, attempt, seq) as the real one does, and remembers every request.

    Attributes:
        stored: (run, attempt) to {seq: update} of the training, in the order in which they came.
        others: The same of other sources, by (run, attempt, source).
        knows_sources: Whether it is of a version that does.
        attempts: (run, session) to attempt.
        faults: What was done against the protocol: out of order, or another body for a seq.
    """

    def __init__(self) -> None:
        self.stored: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
        self.others: dict[tuple[str, int, str], dict[int, dict[str, Any]]] = {}
        self.knows_sources = True
        self.attempts: dict[tuple[str, str], int] = {}
        self.faults: list[str] = []
        self.requests: list[tuple[str, str, dict[str, str], dict[str, Any]]] = []
        self.begun: list[dict[str, Any]] = []
        self.commands: list[dict[str, Any]] = []
        self.behaviour: Behaviour | None = None
        self.takes_rows = False
        self.changed = threading.Condition()
        self.released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.service = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def speak_tls(self, certificate: Path, key: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def stop(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, claim: Callable[[], bool], timeout_s: float = 10.0) -> None:
        with self.changed:
            assert self.changed.wait_for(claim, timeout_s), "the service waited in vain"

    def seqs(self, run: str = "r", attempt: int = 1) -> list[int]:
        return list(self.stored.get((run, attempt), {}))

    def updates(self, run: str = "r", attempt: int = 1) -> list[dict[str, Any]]:
        return list(self.stored.get((run, attempt), {}).values())

    def begin(self, run: str, announcement: dict[str, Any]) -> dict[str, Any]:
        self.begun.append(announcement)
        key = (run, announcement["session"])
        if key not in self.attempts:
            self.attempts[key] = 1 + max(
                (number for (name, _), number in self.attempts.items() if name == run), default=0
            )
        attempt = self.attempts[key]
        updates = self.stored.setdefault((run, attempt), {})
        answer = {"run": run, "attempt": attempt, "last_seq": max(updates, default=0), "rules": []}
        if self.knows_sources:
            answer["last_seqs"] = {
                source: max(stored)
                for (name, number, source), stored in self.others.items()
                if (name, number) == (run, attempt)
            }
        return {**answer, "accepts": [ROWS_TYPE]} if self.takes_rows else answer

    def accept(self, run: str, batch: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        source = next((update["source"] for update in batch["updates"] if "source" in update), None)
        if source is None:
            updates = self.stored.setdefault((run, batch["attempt"]), {})
        else:
            assert self.knows_sources, "an update with a field that it does not know"
            updates = self.others.setdefault((run, batch["attempt"], source), {})
        accepted = duplicates = 0
        for update in batch["updates"]:
            seq = update["seq"]
            if seq in updates:
                duplicates += 1
                if updates[seq] != update:
                    return 409, {"title": "another body", "last_seq": max(updates)}
                continue
            if seq != max(updates, default=0) + 1:
                self.faults.append(f"{seq} after {max(updates, default=0)}")
            updates[seq] = update
            accepted += 1
        commands, self.commands = self.commands, []
        return 202, {
            "accepted": accepted,
            "duplicates": duplicates,
            "rejected": [],
            "last_seq": max(updates, default=0),
            "commands": commands,
        }


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    service: FakeService

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what these tests are about."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: Any) -> None:
        """Not to the terminal."""

    def do_PUT(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def answer(
        self, status: int, document: Any, kind: str = "application/json", **more: str
    ) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    @property
    def document(self) -> dict[str, Any]:
        return self.server.service.requests[-1][3]

    def _serve(self) -> None:
        service = self.server.service
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        document = _told(body, self.headers["Content-Type"])
        with service.changed:
            service.requests.append((self.command, self.path, dict(self.headers), document))
            service.changed.notify_all()
        if service.behaviour is not None and service.behaviour(self):
            return
        run = self.path.split("/")[4]
        with service.changed:
            if self.command == "PUT":
                status, answer = 200, service.begin(run, document)
            else:
                status, answer = service.accept(run, document)
            service.changed.notify_all()
        self.answer(status, answer)


def _told(body: bytes, kind: str) -> dict[str, Any]:
    if kind != ROWS_TYPE:
        return json.loads(body)
    attempt, updates = decode_rows(body)
    return {
        "attempt": attempt,
        "updates": [json.loads(encode_update(update)) for update in updates],
    }


def status(code: int, document: Any = b"no", kind: str = "text/plain", **headers: str) -> Behaviour:
    """Answers everything with one status."""

    def behave(handler: _Handler) -> bool:
        handler.answer(code, document, kind, **headers)
        return True

    return behave


def black_hole(handler: _Handler) -> bool:
    """Never answers."""
    handler.server.service.released.wait()
    handler.close_connection = True
    return True


def reset(handler: _Handler) -> bool:
    """Breaks the connection with a reset."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True
    return True


def drip(handler: _Handler) -> bool:
    """Answers a byte at a time, for ever."""
    handler.close_connection = True
    while not handler.server.service.released.wait(0.02):
        try:
            handler.connection.sendall(b"H")
        except OSError:
            break
    return True


def lost_answer(handler: _Handler) -> bool:
    """Stores the updates and breaks the connection instead of answering."""
    if handler.command == "PUT":
        return False
    service = handler.server.service
    service.accept(handler.path.split("/")[4], handler.document)
    service.behaviour = None
    return reset(handler)


def poll_until(claim: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """For what another process or thread does and nobody signals."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not claim():
        assert time.monotonic() < deadline, "it never came true"
        pause.wait(0.01)
