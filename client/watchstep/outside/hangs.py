"""Telling a command that hangs from one that is busy: by its output, its files and its CPU."""

from __future__ import annotations

import shutil
import subprocess
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from watchstep.machine.processes import Process, command_line, reads_input, waits_in

LEAST_S = 600.0
"""Silence below which nothing is called a hang: checkpoints and evaluations take minutes."""

TIMES_MEDIAN = 10.0
"""Silence, in median gaps between signs of progress, from which it may be a hang."""

BUSY_TIMES = 5.0
"""How much longer one is waited for that uses the CPU, which computes or spins in a collective:
with no rhythm of its own until it is told at all, with one until it is critical."""

TIMES_LONGEST = 2.0
"""Silence, in the longest gap so far, below which a rhythm is not broken: an evaluation."""

_IDLE_SHARE = 0.02
"""Of one core: a process that only waits, with threads that look at the clock, uses less."""

_GAPS = 64
_FEW_GAPS = 3
"""Below which no gap is usual: one of them is the loading of a model."""

_MOST_STACKS_BYTES = 8_000
_DUMPED = 3
_DUMP_S = 10.0


@dataclass
class HangWatch:
    """Keeps the time since the last sign of life of one attempt. All times are monotonic.

    Attributes:
        least_s: See `LEAST_S`.
        progress_seen: Whether there was any.
    """

    began: float
    least_s: float = LEAST_S
    progress_seen: bool = False
    _last: float = field(init=False)
    _first: float = field(init=False)
    _longest: float = 0.0
    _reported: str = ""
    _gaps: deque[float] = field(default_factory=lambda: deque(maxlen=_GAPS))
    _cpu: dict[int, float] = field(default_factory=dict)
    _looked: float = field(init=False)
    _busy: float = field(init=False)

    def __post_init__(self) -> None:
        self._last = self._first = self._looked = self._busy = self.began

    def progressed(self, now: float) -> None:
        if now - self._last > 1.0:
            # Lines that belong together say nothing about the rhythm.
            self._gaps.append(now - self._last)
        if self.progress_seen:
            self._longest = max(self._longest, now - self._last)
        else:
            self._first = now
        self._last = now
        self._reported, self.progress_seen = "", True

    def slept(self, seconds: float) -> None:
        """We ourselves were stopped for so long, and the command perhaps with us."""
        self._last += seconds
        self._first += seconds
        self._looked += seconds
        self._busy += seconds

    def look(self, now: float, processes: Sequence[Process]) -> None:
        """Note whether the command's processes have used the CPU since the last look."""
        cpu = {process.pid: process.cpu_s for process in processes}
        used_s = sum(max(used - self._cpu.get(pid, 0.0), 0.0) for pid, used in cpu.items())
        if self._cpu and used_s > _IDLE_SHARE * (now - self._looked):
            self._busy = now
        self._cpu, self._looked = cpu, now

    def limit_s(self) -> float:
        if len(self._gaps) < _FEW_GAPS:
            return max(self.least_s, TIMES_LONGEST * max(self._gaps, default=0.0))
        return max(self.least_s, TIMES_MEDIAN * median(self._gaps))

    def hung(self, now: float) -> dict[str, Any] | None:
        """The first fields of a hang's event; None where there is none, or it was told.

        One hang is told once as a warning at most, and once as critical.
        """
        since_s = now - self._last
        moving = now - self._busy < since_s / 2
        severity = self._severity(since_s, moving=moving)
        if severity in ("", self._reported) or self._reported == "critical":
            return None
        self._reported = severity
        return {
            "kind": "hung",
            "severity": severity,
            "since_s": round(since_s, 1),
            "moving": moving,
            "phase": "",
            "seen": self._seen(moving=moving),
        }

    def _severity(self, since_s: float, *, moving: bool) -> str:
        """How sure a hang is; "" where silence is ordinary."""
        limit_s = self.limit_s()
        if since_s < limit_s:
            return ""
        if not moving:
            # Where the CPU could not be looked at, nobody knows that nothing moves.
            return "critical" if self._cpu else "warning"
        much_later = since_s >= BUSY_TIMES * limit_s
        if self._breaks_rhythm(since_s):
            return "critical" if much_later else "warning"
        return "warning" if much_later else ""

    def _breaks_rhythm(self, since_s: float) -> bool:
        """Whether it has spoken for half as long as it is silent, and never paused nearly so."""
        spoke_s = self._last - self._first
        return 2.0 * spoke_s >= since_s >= TIMES_LONGEST * self._longest

    def _seen(self, *, moving: bool) -> str:
        if moving:
            return "no output and no change of a file, while the CPU is used"
        if self._cpu:
            return "no output, no change of a file and no use of the CPU"
        return "no output and no change of a file"


def stacks(processes: Sequence[Process]) -> tuple[str, str]:
    """Where processes stand, as text, and the innermost line of the first main thread.

    Python's stacks by `py-spy dump`, where that is installed and allowed; else what the kernel
    shows of each, and its function that the first one waits in.
    """
    spy = shutil.which("py-spy")
    python = [process for process in processes if "python" in process.name][:_DUMPED]
    texts = [text for process in python if spy and (text := _dumped(spy, process.pid))]
    innermost = _innermost(texts[0]) if texts else ""
    # What stands behind a pipe, as `tee` does, always waits for its input.
    if any(reads_input(process.pid) for process in python[:1]):
        innermost = f"a read of its standard input, as by input() {innermost}".rstrip()
    if not innermost and processes and (place := waits_in((python or processes)[0].pid)):
        innermost = f"the kernel's {place}"
    texts += [
        f"{process.pid} {process.state} {waits_in(process.pid)} {command_line(process.pid)[:160]}"
        for process in processes
    ]
    return "\n".join(texts)[:_MOST_STACKS_BYTES], innermost


def _dumped(spy: str, pid: int) -> str:
    try:
        done = subprocess.run(
            [spy, "dump", "--nonblocking", "--pid", str(pid)],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_DUMP_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


def _innermost(dump: str) -> str:
    """The first frame of the main thread, `function (file:line)`."""
    lines = dump.splitlines()
    begins = [at for at, line in enumerate(lines) if "MainThread" in line]
    at = begins[0] + 1 if begins else len(lines)
    return lines[at].strip() if at < len(lines) else ""
