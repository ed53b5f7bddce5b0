"""More connections and requests than usual: who is served, and what the others are told."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

from service.http_kit import Client, served, until

SLOW = b"POST /api/v1/runs/a/updates HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
QUICK = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect(stack: ExitStack, client: Client, request: bytes) -> socket.socket:
    made = stack.enter_context(socket.create_connection(("127.0.0.1", client.port), timeout=10))
    made.sendall(request)
    return made


def test_trainers_that_only_keep_their_connection_open_crowd_nobody_out(tmp_path: Path) -> None:
    with ExitStack() as stack:
        running = stack.enter_context(served(tmp_path, WATCHSTEP_LIMITS__CONCURRENCY="3"))
        for _ in range(20):
            idle = connect(stack, running.client, QUICK)
            assert answered(idle)

        assert running.client.get("/runs").status == 200


def test_a_crowd_of_requests_is_asked_to_come_back_and_the_service_stays_alive(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        running = stack.enter_context(served(tmp_path, WATCHSTEP_LIMITS__CONCURRENCY="3"))
        waiting = [connect(stack, running.client, SLOW) for _ in range(3)]

        crowded = until(lambda: (a := running.client.get("/runs")).status == 429 and a)
        lives = running.client.ask("GET", "/healthz")
        for each in waiting:
            each.close()
        until(lambda: running.client.get("/runs").status == 200)

    assert "retry-after" in crowded.headers
    assert crowded.headers["content-type"] == "application/problem+json"
    assert lives.status == 200


def answered(connection: socket.socket) -> bool:
    """Whether the whole answer to QUICK came."""
    got = b""
    while not got.endswith(b'{"status":"ok"}') and (part := connection.recv(4096)):
        got += part
    return got.startswith(b"HTTP/1.1 200")
