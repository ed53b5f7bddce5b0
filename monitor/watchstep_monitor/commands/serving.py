"""Runs the service under uvicorn: the socket, the ready line, signals, a clean end."""

from __future__ import annotations

import asyncio
import errno
import gc
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from watchstep.core import engine_kind
from watchstep.errors import RuleError, SettingsError
from watchstep_monitor.app import Service, running
from watchstep_monitor.http.connections import files_for, watching
from watchstep_monitor.service.logs import configure
from watchstep_monitor.settings import Settings

log = logging.getLogger(__name__)

GRACE_S = 5
"""Seconds that requests under way get after SIGTERM; Kubernetes kills after 30."""

COLLECTED_AFTER = (10_000, 20, 50)
"""Allocations, and collections of the generation before, between two of each generation.

Under `benchmarks/ingest_flat.py` with 10,000 runs in memory, Python's own 700, 10, 10 took 6 % of
the processor and stopped everything for up to 0.6 s at a time (by `gc.callbacks`); these take
3 % and stop it for 0.06 s.
"""

KEEP_ALIVE_S = 75
"""Above the 60 s of common proxies, so that they close idle connections first."""


def serve_until_stopped(settings: Settings) -> None:
    """Listen, print the ready line, and serve until SIGTERM or SIGINT.

    Raises:
        SettingsError: The port is in use, the address is public without tokens, or the store
            cannot be opened.
        RuleError: A rule file is wrong.
    """
    configure(settings.log.level, settings.log.format)
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        raise SettingsError("PROMETHEUS_MULTIPROC_DIR: unset it, this service is one process")
    log.info("the rule engine is ready", extra={"engine": engine_kind()})
    with _listening(settings) as listener:
        host, port = listener.getsockname()[:2]
        base_url = _address(host, port)
        links = address_for_links(host, port)
        with running(settings, links) as service, _reload_on_hangup(service):
            collect_seldom()
            server = _Server(_uvicorn_config(settings, service), service, base_url)
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(server.serve(sockets=[listener]))


def collect_seldom() -> None:
    """Tune the garbage collector for a process that keeps much and makes few cycles.

    What is there by now (modules, rules, routes) stays until the end, so it is never looked at
    again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)


class _Server(uvicorn.Server):
    """Says when it is ready, and ends open event streams when it is told to stop."""

    def __init__(self, config: uvicorn.Config, service: Service, base_url: str) -> None:
        super().__init__(config)
        self._service = service
        self._base_url = base_url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(f"watchstep ready {self._base_url}", flush=True)  # noqa: T201 - the contract

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals to stop, without the base class' habit of dying of them after all.

        The store is closed after the server, and the exit code of a clean end is 0.
        """
        stops = (signal.SIGINT, signal.SIGTERM)
        before = {sig: signal.signal(sig, self.handle_exit) for sig in stops}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Streams never end by themselves, and the server waits for them before anything else.
        self._service.stopping.set()
        super().handle_exit(sig, frame)


def _uvicorn_config(settings: Settings, service: Service) -> uvicorn.Config:
    return uvicorn.Config(
        service.asgi,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        http=watching(  # type: ignore[arg-type]
            settings.limits.head_read_s, files_for(settings.limits.connections)
        ),
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )


def address_for_links(host: str, port: int) -> str:
    """Where people may find what listens there; public_url knows better.

    "Every address" is none that a browser can open: there it is the machine's name.
    """
    return _address(socket.gethostname() if is_any(host) else host, port)


def is_any(host: str) -> bool:
    """Whether a host to listen on means every address of this machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    place = f"{settings.host}:{settings.port}"
    try:
        addresses = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError:
        raise SettingsError(f"host {settings.host}: no such address") from None
    family, kind, protocol, _, address = addresses[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"port {settings.port}: {place} is in use") from None
        raise SettingsError(f"{place}: {(error.strerror or 'cannot listen').lower()}") from None
    try:
        yield listener
    finally:
        listener.close()


@contextmanager
def _reload_on_hangup(service: Service) -> Iterator[None]:
    def reload(_: int, __: FrameType | None) -> None:
        try:
            service.run_service.reload()
        except RuleError as error:
            log.warning("the rules stay as they were", extra={"reason": str(error)})

    before = signal.signal(signal.SIGHUP, reload)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop
