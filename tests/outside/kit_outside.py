"""Commands run bare and under `watchstep run`, through pipes, files and terminals."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sender.fake_service import FakeService

PATIENCE_S = 60.0
WATCHSTEP = [sys.executable, "-m", "watchstep"]


def environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WATCHSTEP_")}
    return {**kept, **settings}


def wrapped(command: Sequence[str], *options: str) -> list[str]:
    return [*WATCHSTEP, "run", *options, "--", *command]


def python(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-u", "-c", program, *arguments]


def until(claim: Callable[[], object], what: str = "it") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def piped(
    command: Sequence[str], folder: Path, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(**(settings or {})),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE_S,
        check=False,
    )


@contextmanager
def started(
    service: FakeService, folder: Path, **how: Any
) -> Iterator[Callable[[Sequence[str]], subprocess.Popen[bytes]]]:
    """Starts commands in a folder that report to the service; none of them outlives the block."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(command: Sequence[str]) -> subprocess.Popen[bytes]:
        settings = environment(WATCHSTEP_URL=service.url)
        processes.append(subprocess.Popen(command, cwd=folder, env=settings, **how))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait(PATIENCE_S)


@dataclass
class Terminal:
    """A process with a terminal of its own, and what it has printed there."""

    pid: int
    master: int
    printed: bytes = b""
    status: int | None = None

    def read_until(self, text: bytes) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.printed:
            assert time.monotonic() < deadline, f"{text!r} not in {self.printed!r}"
            if not self._read(0.1) and self._ended():
                break
        assert text in self.printed

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def end(self) -> int:
        """All that is printed to the end; the exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._ended() or self._read(0.05):
            assert time.monotonic() < deadline, self.printed
            self._read(0.1)
        os.close(self.master)
        assert self.status is not None
        return os.waitstatus_to_exitcode(self.status)

    def _ended(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is not None

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self.master], [], [], timeout_s)[0]:
            return False
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:
            return False
        self.printed += data
        return bool(data)


def on_terminal(command: Sequence[str], folder: Path, **settings: str) -> Terminal:
    """Start a command as the leader of a session on a new terminal."""
    made = environment(**settings)
    pid, master = pty.fork()
    if pid == 0:
        try:
            os.chdir(folder)
            os.execvpe(command[0], list(command), made)
        finally:
            os._exit(125)
    return Terminal(pid, master)
