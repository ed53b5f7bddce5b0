"""How a command ended, as the event that tells of it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchstep.core.error_texts import memory_of
from watchstep.outside.last_lines import newest, traceback_end

_ROOT_CAUSE = re.compile(
    r"Root Cause.*?rank\s*:\s*(?P<rank>\d+).*?exitcode\s*:\s*(?P<code>-?\d+)", re.DOTALL
)
"""What torch.distributed.elastic prints of the rank that died first."""

ENDS = frozenset({"finished", "failed", "halted", "preempted"})
"""Kinds of event that end a run."""

_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known of a command's end.

    Attributes:
        lines: What is kept of the console; the newest of them are told.
        error_lines: The same of standard error alone, where it is not the console's only stream.
        signals: Signals that were sent to us from outside before.
        killed_for_memory: How many processes of our control group the kernel killed meanwhile.
        hung: Whether it was ended because it hung.
    """

    status: int
    lines: Sequence[str] = ()
    error_lines: Sequence[str] = ()
    signals: Sequence[signal.Signals] = ()
    killed_for_memory: int = 0
    hung: bool = False

    @property
    def exit_code(self) -> int:
        """What a shell makes of it: the code itself, or 128 and the signal's number."""
        return self._code if self._code >= 0 else 128 - self._code

    @property
    def _code(self) -> int:
        """The code itself, or the signal's number below zero."""
        return os.waitstatus_to_exitcode(self.status)

    @property
    def signal(self) -> str:
        return _signal_name(os.WTERMSIG(self.status)) if os.WIFSIGNALED(self.status) else ""

    @property
    def crashed(self) -> bool:
        """Whether it failed by itself, and may be started again."""
        return self.hung or (self.exit_code != 0 and not self.signals)

    def event(self) -> dict[str, Any]:
        ending = self._told_by_a_signal()
        if ending is not None:
            return {**ending, "exit_code": self.exit_code}
        if self.exit_code == 0 and not self.hung:
            return {"kind": "finished", "exit_code": 0}
        return self._failed()

    def _told_by_a_signal(self) -> dict[str, Any] | None:
        """The end of a run that somebody ended: a person by Ctrl-C, or a scheduler."""
        if signal.SIGINT in self.signals:
            return {"kind": "halted", "reason": "interrupted by a person (SIGINT)"}
        # A scheduler may signal the command alone; a shell leaves with the code that says so.
        if signal.SIGTERM in self.signals or self.exit_code == 128 + signal.SIGTERM:
            return {"kind": "preempted", "signal": "SIGTERM"}
        return None

    def _failed(self) -> dict[str, Any]:
        lines = newest(self.lines)
        cause = _ROOT_CAUSE.search("\n".join(lines))
        # With torchrun it is the first rank's end that counts, not the launcher's own.
        code = self._code if cause is None else int(cause["code"])
        traceback = self._raised(lines) if cause is None else self._of_rank(cause["rank"], code)
        event: dict[str, Any] = {"kind": "failed", "error": self._error(cause, traceback)}
        event["exit_code"] = self.exit_code
        event["ended_by"] = self._ended_by(code, traceback)
        if self.signal:
            event["signal"] = self.signal
        if os.WIFSIGNALED(self.status) and os.WCOREDUMP(self.status):
            event["core_dumped"] = True
        if memory := self._out_of_memory(event["error"], lines):
            event["oom"] = memory
        if cause is not None:
            event["rank"] = int(cause["rank"])
        if traceback:
            event["traceback"] = "\n".join(traceback)
        event["last_lines"] = lines
        return event

    def _raised(self, newest_lines: Sequence[str]) -> Sequence[str]:
        """How the last traceback ended; of a process that left by itself however far above."""
        if self._code < 0 or self.hung:
            return traceback_end(newest_lines)
        return traceback_end(self.error_lines) or traceback_end(self.lines)

    def _of_rank(self, rank: str, code: int) -> Sequence[str]:
        """The traceback of the rank that died first: its own, or one that names no rank."""
        if code < 0:
            return ()
        tag = f"[rank{rank}]: "
        own = [line[len(tag) :] for line in self.lines if line.startswith(tag)]
        return traceback_end(own) or traceback_end(
            [line for line in self.lines if not line.startswith("[rank")]
        )

    def _ended_by(self, code: int, traceback: Sequence[str]) -> str:
        """What a person has to look for; each has its advice in the service's messages."""
        if self.hung:
            return "hang"
        if traceback:
            return "exception"
        if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
            return "kill"
        if code < 0 or code - 128 in set(signal.Signals):
            return "signal"
        return "start" if code in (126, 127) else "exit"

    def _error(self, cause: re.Match[str] | None, traceback: Sequence[str]) -> str:
        """One line: the exception, or what killed it, and the code that it left with."""
        left = _left_with(self._code)
        if cause is not None:
            left = f"rank {cause['rank']} died first: {_left_with(int(cause['code']))}"
        if self.hung:
            left = "hung, and was ended"
        if self.killed_for_memory:
            left += ", out of memory"
        if traceback and not self.hung:  # Of a hang it is how we ended it.
            return f"{traceback[-1].strip()} ({left})"
        return left

    def _out_of_memory(self, error: str, lines: Sequence[str]) -> str:
        if self.killed_for_memory:
            return "host"
        # A launcher's own error may stand below that of the process which died.
        in_lines = memory_of("\n".join(lines))
        return memory_of(error) or (in_lines if in_lines == "device" else "")


def memory_kills() -> int:
    """How often the kernel has killed in our control group for want of memory; 0 if unknown."""
    for path, key in _counters():
        try:
            text = path.read_text()
        except OSError:
            continue
        counts = dict(line.split()[:2] for line in text.splitlines() if " " in line)
        if counts.get(key, "").isdecimal():
            return int(counts[key])
    return 0


def _counters() -> list[tuple[Path, str]]:
    """The files that may hold the count: of version 2 of control groups, then of version 1."""
    try:
        lines = _OWN_CGROUP.read_text().splitlines()
    except OSError:
        return []
    places: list[tuple[Path, str]] = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        below = place.lstrip("/")
        if not controllers:
            # In a container the group is mounted at the root, whatever its name outside.
            places += [(root / "memory.events", "oom_kill") for root in (_CGROUP / below, _CGROUP)]
        elif "memory" in controllers.split(","):
            roots = (_CGROUP / "memory" / below, _CGROUP / "memory")
            places += [(root / "memory.oom_control", "oom_kill") for root in roots]
    return places


def _left_with(code: int) -> str:
    if code < 0:
        return f"killed by {_signal_name(-code)}"
    # What a shell leaves with for a command of its that a signal ended.
    return f"exit code {code}" + (f", {_signal_name(code - 128)}" if code > 128 else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def survived(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a word of an end is worth while the process goes on: a line of the log, or nothing.

    A traceback that was printed and caught ends nothing, and "Training finished" comes before
    the last evaluation: how a command ended, its exit tells.
    """
    kind = event.get("kind")
    if kind == "finished":
        return None
    if kind in ("failed", "halted", "preempted"):
        text = str(event.get("error") or event.get("reason") or kind)
        return {"kind": "log", "level": "error", "text": text}
    return dict(event)
