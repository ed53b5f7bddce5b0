"""A process and all that came of it, read from /proc; empty where there is no /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_WRITES = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True, slots=True)
class Process:
    """One process as the kernel shows it.

    Attributes:
        state: One letter, such as "R", "S", "D" (waits for a disk or a device), "Z" (has ended).
        cpu_s: Processor seconds used so far, those of its ended children excluded.
        memory_bytes: What of it is in memory now; shared pages count in each process.
        exit_status: As `os.waitpid` gives it; of a process in state "Z" only, else 0.
    """

    pid: int
    parent: int
    name: str
    state: str
    cpu_s: float
    memory_bytes: int
    exit_status: int = 0


def descendants(root: int) -> list[Process]:
    """All processes below `root`, parents before their children; `root` itself is left out."""
    children: dict[int, list[Process]] = {}
    for process in processes():
        children.setdefault(process.parent, []).append(process)
    tree: list[Process] = []
    waiting = [root]
    while waiting:
        below = children.pop(waiting.pop(0), [])
        tree += below
        waiting += [process.pid for process in below]
    return tree


def memory_of(root: int, *, with_root: bool) -> int:
    """Bytes of memory that all processes below `root` have, and it itself if asked for."""
    own = _read(root) if with_root else None
    tree = descendants(root) if own is None else [own, *descendants(root)]
    return sum(process.memory_bytes for process in tree)


def command_line(pid: int) -> str:
    """A process's command line; "" where it is gone or not ours to see."""
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return raw.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")


def waits_in(pid: int) -> str:
    """The kernel's function that a process sleeps in; "" where it runs, or nobody says."""
    try:
        name = (_PROC / str(pid) / "wchan").read_text()
    except OSError:
        return ""
    return "" if name == "0" else name


def reads_input(pid: int) -> bool:
    """Whether a process waits in a read of its standard input; False where nobody says."""
    try:
        call = (_PROC / str(pid) / "syscall").read_text().split()
    except OSError:
        return False
    # The number of `read`, on x86-64 and on 64-bit ARM.
    return call[:2] in (["0", "0x0"], ["63", "0x0"])


def files_written(pid: int) -> Iterator[Path]:
    """The regular files that a process holds open for writing."""
    try:
        descriptors = list((_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        try:
            target = descriptor.readlink()
            if target.is_absolute() and _is_written(pid, descriptor.name):
                yield target
        except OSError:
            continue  # Closed meanwhile.


def is_marked(pid: int, folder: Path, name: str, own: str) -> bool:
    """Whether a process works in a folder, with another value than `own` in its environment."""
    place = _PROC / str(pid)
    try:
        if (place / "cwd").readlink() != folder:
            return False
        entries = (place / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    values = [entry for entry in entries if entry.startswith(f"{name}=".encode())]
    return any(value != f"{name}={own}".encode() for value in values)


def _is_written(pid: int, descriptor: str) -> bool:
    text = (_PROC / str(pid) / "fdinfo" / descriptor).read_text()
    flags = next(line.split()[1] for line in text.splitlines() if line.startswith("flags:"))
    return bool(int(flags, 8) & _WRITES)


def processes() -> Iterator[Process]:
    """Every process there is."""
    try:
        names = os.listdir(_PROC)  # noqa: PTH208 - a Path for each process would double the cost
    except OSError:
        return
    for name in names:
        if name.isdecimal() and (process := _read(int(name))) is not None:
            yield process


def _read(pid: int) -> Process | None:
    """One process from its `stat`, whose fields proc(5) numbers from 1; None where it is gone."""
    try:
        raw = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name stands in parentheses and may hold any character, these included.
    name, _, rest = raw.partition(b"(")[2].rpartition(b")")
    fields = rest.split()
    return Process(
        pid=pid,
        parent=int(fields[1]),
        name=name.decode("utf-8", "replace"),
        state=fields[0].decode("ascii"),
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS,
        memory_bytes=int(fields[21]) * _PAGE_BYTES,
        exit_status=int(fields[49]) if fields[0] == b"Z" else 0,
    )
