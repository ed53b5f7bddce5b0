"""The standard library's HTTP connection, with one deadline for a whole exchange.

Imported by the thread that uses it: the library's client takes 30 ms of a trainer's start.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

# A slow reader is noticed at each of these.
_CHUNK_BYTES = 64 * 1024


def exchanged(
    connection: http.client.HTTPConnection,
    request: tuple[str, str, bytes, dict[str, str]],
    deadline: float,
) -> http.client.HTTPResponse:
    """Connect if need be, send a request (method, path, body, headers), read the answer's head."""
    method, path, body, headers = request
    # Also reads the proxy's answer to CONNECT.
    connection.response_class = partial(_TimedResponse, deadline)  # type: ignore[assignment]  # it is only called
    if connection.sock is None:
        connection.connect()
    arm(connection.sock, deadline)
    headers = {**headers, "Content-Length": str(len(body))}
    connection.request(method, path, _chunks(connection.sock, body, deadline), headers)
    return connection.getresponse()


def arm(sock: socket.socket, deadline: float) -> None:
    """Let a socket block until the deadline.

    Raises:
        TimeoutError: It is over.
    """
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the answer took too long")
    sock.settimeout(left_s)


def _chunks(sock: socket.socket, body: bytes, deadline: float) -> Iterator[bytes]:
    for begin in range(0, len(body), _CHUNK_BYTES):
        arm(sock, deadline)
        yield body[begin : begin + _CHUNK_BYTES]


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, deadline: float, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock, deadline))


class _TimedReader(io.RawIOBase):
    """A socket's reader, which holds the socket open until the answer is read."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        arm(self._sock, self._deadline)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
