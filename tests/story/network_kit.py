"""Machines of a test's own: network namespaces around a router that loses packets when told to.

The namespaces have no names, so that they are gone with the last process or file that holds
them, however the test ends.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000
HERE = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """Places, each with an address, all one hop from the same router.

    What is cut off is cut off without a word: packets go into the router and never come out, no
    connection is reset, no address is unreachable.
    """

    def __init__(self, router: int, places: dict[str, int]) -> None:
        self._router = router
        self._places = places

    def address(self, place: str) -> str:
        """Where the others find it."""
        return f"10.213.{list(self._places).index(place) + 1}.2"

    @contextmanager
    def inside(self, place: str) -> Iterator[None]:
        """Have this thread, and all threads and processes that it starts, live in a place."""
        with _inside(self._places[place]):
            yield

    def cut(self, near: str, far: str) -> None:
        """Lose every packet between two places from now on."""
        self._rule("add", near, far)

    def mend(self, near: str, far: str) -> None:
        """Carry them again."""
        self._rule("del", near, far)

    def _rule(self, verb: str, near: str, far: str) -> None:
        with _inside(self._router):
            for source, target in ((near, far), (far, near)):
                pair = ("from", self.address(source), "to", self.address(target))
                _ip("rule", verb, *pair, "blackhole")


@contextmanager
def network(*places: str) -> Iterator[Network]:
    """A network of these places; skips where namespaces cannot be made."""
    with ExitStack() as stack:
        try:
            router, *made = [stack.enter_context(_namespace()) for _ in range(len(places) + 1)]
            with _inside(router):
                Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
                for at, namespace in enumerate(made, 1):
                    _link(at, namespace)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"network namespaces cannot be made here: {error}")
        yield Network(router, dict(zip(places, made, strict=True)))


def _link(at: int, namespace: int) -> None:
    """A cable from the router, where this is called, to a place, and the place's way out."""
    peer = f"/proc/{os.getpid()}/fd/{namespace}"
    _ip("link", "add", f"to{at}", "type", "veth", "peer", "name", "out", "netns", peer)
    _ip("address", "add", f"10.213.{at}.1/24", "dev", f"to{at}")
    _ip("link", "set", f"to{at}", "up")
    with _inside(namespace):
        _ip("address", "add", f"10.213.{at}.2/24", "dev", "out")
        _ip("link", "set", "out", "up")
        _ip("route", "add", "default", "via", f"10.213.{at}.1")


@contextmanager
def _namespace() -> Iterator[int]:
    """A new one with its own loopback, as an open file."""
    # A thread enters it, and no other has to find its way back.
    with ThreadPoolExecutor(1) as pool:
        namespace = pool.submit(_made).result()
    try:
        yield namespace
    finally:
        os.close(namespace)


def _made() -> int:
    _checked(_libc.unshare(CLONE_NEWNET))
    _ip("link", "set", "lo", "up")
    return os.open(HERE, os.O_RDONLY)


@contextmanager
def _inside(namespace: int) -> Iterator[None]:
    before = os.open(HERE, os.O_RDONLY)
    try:
        _checked(_libc.setns(namespace, CLONE_NEWNET))
        try:
            yield
        finally:
            _checked(_libc.setns(before, CLONE_NEWNET))
    finally:
        os.close(before)


def _checked(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)
