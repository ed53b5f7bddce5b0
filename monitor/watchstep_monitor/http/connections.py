"""Connections: those whose request does not come are cut before they cost more than a socket."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from watchstep_monitor.http.problems import ProblemError

log = logging.getLogger(__name__)

SPARE_FILES = 256
"""Open files for everything that is no caller: database, receivers, logs."""

HEAD_BYTES = 65_536
"""Bytes of a request line and headers: eight times what common servers take."""


PROBES = ("/healthz", "/readyz", "/metrics")
"""Answered however crowded it is: a probe that fails gets the service killed for its popularity."""

CROWDED_RETRY_S = 1


class SlowClientGuard(HttpToolsProtocol):
    """Uvicorn's protocol, which by itself waits for headers forever and takes any number of them.

    Of 1,000 connections with half a head it keeps 1,000, and a head of 200 MB it holds in memory;
    with this none is left after `head_read_s`, and the head is cut within 2 MB.

    Attributes:
        head_read_s: Seconds for the whole head of a request to arrive; set by `watching`.
        most_connections: More at a time are answered 429; set by `watching`.
    """

    head_read_s = 10.0
    most_connections = 1_000

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._head_bytes = 0
        self._is_in_head = False
        self._head_timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Let a client that only stopped sending have its answer; the base class hangs up."""
        waits = (
            self.cycle is not None and not self.cycle.more_body and not self.cycle.response_started
        )
        if waits:
            self.cycle.keep_alive = False
        return waits

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_in_head:
            # Nearly every head comes in one piece, and needs no timer.
            self._await_head()
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._cut()

    def on_message_begin(self) -> None:
        self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_is_here()
        if len(self.connections) <= self.most_connections or self._is_probe():
            super().on_headers_complete()
            return
        # Uvicorn's own refusal is no problem document and does not say when to come back.
        served, self.app = self.app, _crowded().response()
        super().on_headers_complete()
        self.app = served

    def _is_probe(self) -> bool:
        return self.url.partition(b"?")[0].decode("latin-1") in PROBES

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(self.head_read_s, self._cut)

    def _head_is_here(self) -> None:
        self._is_in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cut(self) -> None:
        # No answer: whoever trickles bytes would trickle the reading of it too.
        self.transport.abort()


def watching(head_read_s: float, most_connections: int) -> Callable[..., Any]:
    """The protocol with its limits, as `uvicorn.Config` takes it."""
    limits = {"head_read_s": head_read_s, "most_connections": most_connections}
    return type("SlowClientGuard", (SlowClientGuard,), limits)


def files_for(connections: int) -> int:
    """Raise this process' limit on open files as far as may be; how many connections then fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    fitting = max(soft - SPARE_FILES, 1)
    log.warning("fewer connections fit than are allowed", extra={"fit": fitting})
    return fitting


def _crowded() -> ProblemError:
    return ProblemError(
        429,
        "The service has as many connections as it may have.",
        headers={"Retry-After": str(CROWDED_RETRY_S), "Connection": "close"},
    )
