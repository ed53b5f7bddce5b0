"""A look at a stranger's file costs a bounded time and memory, whatever is in it."""

from __future__ import annotations

import contextlib
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from watchstep.checkpoint.reading import UNPACKED_TIMES
from watchstep.errors import CheckpointError

SECONDS = 60.0
BYTES_A_SECOND = 10 << 20
"""A tenth of what a slow disk reads: a file that takes longer than that is no file of weights."""
MEMORY_BYTES = 2 << 30
"""Besides what the file's size explains: torch's own threads and buffers."""


@contextlib.contextmanager
def bounded(path: Path) -> Iterator[None]:
    """End a block with an error when it takes more time or memory than the file's size explains.

    For a process of its own, such as a command: it sets a timer and a limit of the process.

    Raises:
        CheckpointError: After 60 s and one more for each 10 MiB.
        MemoryError: At 16 times the size, and 2 GiB, more than the process has now.
    """
    size_bytes = _size(path)
    with _timer(path, SECONDS + size_bytes / BYTES_A_SECOND):
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = _data_bytes() + UNPACKED_TIMES * size_bytes + MEMORY_BYTES
        if soft in (-1, resource.RLIM_INFINITY) or most < soft:
            resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextlib.contextmanager
def _timer(path: Path, seconds: float) -> Iterator[None]:
    # Python takes handlers of signals in the main thread only.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(_number: int, _frame: Any) -> None:
        raise CheckpointError(f"{path}: not done within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())


def _data_bytes() -> int:
    """What the process has of the memory that the limit counts."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return int(status.partition("VmData:")[2].split()[0]) << 10
