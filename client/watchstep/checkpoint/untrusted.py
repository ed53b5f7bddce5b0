"""Reading bytes that anybody may have written: nothing is executed, time and memory are bounded."""

from __future__ import annotations

import contextlib
import resource
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from watchstep.errors import CheckpointError

if TYPE_CHECKING:
    from watchstep.checkpoint.record import Finiteness

SECONDS = 60.0
BYTES_A_SECOND = 10 << 20
"""A tenth of what a slow disk reads: a file that takes longer than that is no file of weights."""
MEMORY_BYTES = 2 << 30
"""Besides what the file's size explains: torch's own threads and buffers."""
UNPACKED_TIMES = 16
UNPACKED_BYTES = 64 << 20
"""What a file is opened for: 16 times its size, and 64 MiB that a small one may have besides.
Weights compress by a few percent, zeros a thousandfold."""


def most_unpacked(size_bytes: int) -> int:
    """How many bytes a file of this size may unpack to."""
    return UNPACKED_TIMES * size_bytes + UNPACKED_BYTES


@contextlib.contextmanager
def refused(name: str | Path) -> Iterator[None]:
    """Make a `CheckpointError` of whatever a stranger's bytes make a parser stumble over.

    An `OSError` says nothing about the bytes, and an `ImportError` only what is not installed:
    these pass.
    """
    try:
        yield
    except (CheckpointError, OSError, ImportError):
        raise
    except Exception as error:
        first_line = "".join(str(error).strip().splitlines()[:1])[:200]
        # The text of a KeyError is the key alone.
        words = first_line if " " in first_line else f"{type(error).__name__} {first_line}".strip()
        raise CheckpointError(f"{name}: cannot be read safely: {words}") from error


def load_safely(source: IO[bytes] | Path, name: str) -> Any:
    """What `torch.save` wrote, on the CPU; refuses all but tensors and plain values."""
    import torch

    with refused(name):
        return torch.load(source, weights_only=True, map_location="cpu")


def check_finite(
    state: Any, name: str, unchecked: Sequence[str] = (), *, most_bytes: int | None = None
) -> int:
    """The number of tensors in a state, all of them finite.

    Raises:
        CheckpointError: Naming the first that is not, or the state claims more than `most_bytes`.
    """
    from watchstep.checkpoint.finite import inspect

    try:
        finiteness = inspect(state, unchecked, most_bytes=most_bytes)
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error
    refuse_nonfinite(finiteness, name)
    return finiteness.tensors


def refuse_nonfinite(finiteness: Finiteness, name: str) -> None:
    """Raise a `CheckpointError` that names the first tensor that is not finite, if there is one."""
    if finiteness.bad_tensor is not None:
        raise CheckpointError(
            f"{name}: {finiteness.bad_tensor} is not finite"
            f" ({finiteness.nonfinite:,} elements in all)"
        )


@contextlib.contextmanager
def bounded(path: Path) -> Iterator[None]:
    """End a block with an error when it takes more time or memory than the file's size explains.

    For a process of its own, such as a command: it sets a timer and a limit of the process.

    Raises:
        CheckpointError: After 60 s and one more for each 10 MiB.
        MemoryError: At 16 times the size, and 2 GiB, more than the process has now.
    """
    files = path.rglob("*") if path.is_dir() else [path]
    size_bytes = sum(part.stat().st_size for part in files if part.is_file())
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


def _data_bytes() -> int:
    """What the process has of the memory that the limit counts."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return int(status.partition("VmData:")[2].split()[0]) << 10
