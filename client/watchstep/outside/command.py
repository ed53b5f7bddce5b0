"""The command as a process: started, signalled, stopped, and seen to its end.

It stays in our process group, so that Ctrl-C, Ctrl-Z and `fg` reach it from the terminal as
they would have without us.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from watchstep.errors import WatchstepError
from watchstep.machine.processes import Process, descendants
from watchstep.outside.channels import Channel

PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""Signals that are meant for the training although they are sent to us."""

_SET_CHILD_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2): processes whose parent has died become our children."""

_LADDER = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
_LAST_WAIT_S = 10.0
"""For the kernel to clear away what was killed; a process in a broken driver never goes."""


class CannotStartError(WatchstepError):
    """The command cannot be started.

    Attributes:
        exit_code: What a shell would exit with: 127 for not found, 126 for not executable.
    """

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


@dataclass
class Command:
    """One start of the command.

    Attributes:
        signals: Those that came from outside while it ran, in order, each once.
        status: As `os.waitpid` gives it; None while it runs.
    """

    pid: int
    signals: list[signal.Signals] = field(default_factory=list)
    status: int | None = None

    def signal_all(self, number: signal.Signals) -> None:
        for process in self.living():
            _kill(process.pid, number)

    def living(self) -> list[Process]:
        """The command's processes that have not ended; the command alone without /proc."""
        tree = [process for process in descendants(os.getpid()) if process.state != "Z"]
        if not tree and self.status is None:
            return [Process(self.pid, os.getpid(), "", "", 0.0, 0)]
        return tree

    def reap(self) -> bool:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            if pid == self.pid:
                self.status = status
        return self.status is not None


def take_signals() -> frozenset[signal.Signals]:
    """Block what the main loop waits for, in this thread and all that it starts.

    Signals that were ignored when we were started (`nohup`) stay ignored.
    """
    heard = {number for number in PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN}
    heard |= {signal.SIGCHLD, signal.SIGWINCH}
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    return frozenset(heard)


def start(
    words: Sequence[str], environment: Mapping[str, str], channels: Sequence[Channel]
) -> Command:
    """Start the command with its output going into the channels.

    Raises:
        CannotStartError: It is not there, or cannot be executed.
    """
    _become_subreaper()
    try:
        try:
            pid = _spawn(words, environment, channels)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # A script without its first line, which a shell would run itself.
            pid = _spawn(["/bin/sh", *words], environment, channels)
    except OSError as error:
        missing = error.errno == errno.ENOENT
        reason = "not found" if missing else error.strerror or str(error)
        raise CannotStartError(f"{words[0]}: {reason}", 127 if missing else 126) from error
    for channel in channels:
        channel.start()
    return Command(pid)


def wait(
    command: Command,
    heard: frozenset[signal.Signals],
    timeout_s: float,
    resize: Callable[[], None],
) -> bool:
    """Deal with the next signal, if one comes in time; whether the command has ended."""
    info = signal.sigtimedwait(heard, timeout_s)
    if info is None:
        return command.reap()
    number = signal.Signals(info.si_signo)
    if number is signal.SIGWINCH:
        resize()
        _kill(command.pid, number)
    elif number is not signal.SIGCHLD:
        if number not in command.signals:
            command.signals.append(number)
        # What the terminal itself sends, it sends to the command as well.
        if info.si_code <= 0:
            _kill(command.pid, number)
    return command.reap()


def stop(command: Command, grace_s: float, pump: Callable[[float], bool]) -> None:
    """End the command: SIGINT, then SIGTERM, then SIGKILL, to it and all that came of it.

    Args:
        command: It may have ended, and left processes behind.
        grace_s: How long each but the last is given.
        pump: Waits up to so many seconds, and says whether the command has ended.
    """
    for number in _LADDER:
        command.signal_all(number)
        if number is signal.SIGINT and command.status is None:
            # A process stopped by Ctrl-Z hears nothing before it goes on.
            command.signal_all(signal.SIGCONT)
        patience_s = _LAST_WAIT_S if number is signal.SIGKILL else grace_s
        deadline = time.monotonic() + patience_s
        while command.status is None or command.living():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            pump(min(left_s, 0.2))
        else:
            return


def _spawn(
    words: Sequence[str], environment: Mapping[str, str], channels: Sequence[Channel]
) -> int:
    actions = [
        (os.POSIX_SPAWN_DUP2, channel.descriptor, replaced)
        for channel in channels
        for replaced in channel.replaces
    ]
    # Python ignores these two, which the command would inherit.
    return os.posix_spawnp(
        words[0],
        list(words),
        dict(environment),
        file_actions=actions,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
    )


def _become_subreaper() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
