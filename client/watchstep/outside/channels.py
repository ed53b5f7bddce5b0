"""What the command prints, on its way to where it would have gone: byte for byte.

Where standard output is a terminal the command gets a terminal too, so that progress bars and
colours are as ever; else a pipe. Where output and error go to the same place they share one
channel, which keeps their order.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import termios
import threading
from collections.abc import Callable

OUTPUT, ERROR = 1, 2
_CHUNK_BYTES = 1 << 16
_LOOK_MS = 500
"""How often a channel on which nothing comes looks whether it is to end."""

_NO_SIZE = struct.pack("HHHH", 0, 0, 0, 0)


class Channel:
    """Carries one stream of the command to one of ours, in a thread of its own.

    Attributes:
        descriptor: What the command is given as its output.
        replaces: Which of the command's descriptors it stands for.
    """

    def __init__(self, replaces: tuple[int, ...], heard: Callable[[bytes, int], None]) -> None:
        self.replaces = replaces
        self._target = replaces[0]
        self._heard = heard
        self._stopping = False
        self._closed = False
        self._is_terminal = os.isatty(self._target)
        if self._is_terminal:
            self._source, self.descriptor = os.openpty()
            _pass_unchanged(self._target, self.descriptor)
            self.resize()
        else:
            self._source, self.descriptor = os.pipe()
        self._thread = threading.Thread(target=self._carry, name="watchstep-output", daemon=True)

    def start(self) -> None:
        os.close(self.descriptor)
        self._thread.start()

    def resize(self) -> None:
        if self._is_terminal:
            with contextlib.suppress(OSError):
                size = fcntl.ioctl(self._target, termios.TIOCGWINSZ, _NO_SIZE)
                fcntl.ioctl(self._source, termios.TIOCSWINSZ, size)

    def finish(self, timeout_s: float) -> bool:
        """Wait until all has been carried; False where somebody still holds the other end."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def hand_over(self) -> None:
        """Leave what others still print to a `cat` that outlives us."""
        self._stopping = True
        self._thread.join()
        if not self._closed:
            actions = [
                (os.POSIX_SPAWN_DUP2, self._source, 0),
                (os.POSIX_SPAWN_DUP2, self._target, OUTPUT),
                # It says so when a terminal is closed.
                (os.POSIX_SPAWN_OPEN, ERROR, os.devnull, os.O_WRONLY, 0),
            ]
            os.posix_spawnp("cat", ["cat"], os.environ, file_actions=actions, setsigmask=[])

    def _carry(self) -> None:
        ready = select.poll()
        ready.register(self._source, select.POLLIN)
        while not self._stopping:
            if not ready.poll(_LOOK_MS):
                continue
            try:
                data = os.read(self._source, _CHUNK_BYTES)
            except OSError:
                data = b""  # A terminal that nobody holds any more says EIO.
            if not data or not _written(self._target, data):
                # Where nobody reads any more, the command is to learn it at its next write.
                os.close(self._source)
                self._closed = True
                return
            self._heard(data, self._target)


def open_channels(heard: Callable[[bytes, int], None]) -> list[Channel]:
    """A channel for each place that output goes to.

    Args:
        heard: Called in a channel's thread with what it carried and the descriptor it stands for.
    """
    groups = [(OUTPUT, ERROR)] if _same_place(OUTPUT, ERROR) else [(OUTPUT,), (ERROR,)]
    return [Channel(group, heard) for group in groups]


def hold_standard_streams() -> None:
    """Open /dev/null for each standard stream that is closed, lest a pipe takes its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= ERROR:
        pass
    os.close(descriptor)


def _pass_unchanged(real: int, ours: int) -> None:
    """Set a terminal as the real one, but for changes to output: those the real one makes."""
    attributes = termios.tcgetattr(real)
    attributes[1] &= ~termios.OPOST
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(ours, termios.TCSANOW, attributes)


def _same_place(left: int, right: int) -> bool:
    first, second = os.fstat(left), os.fstat(right)
    return (first.st_dev, first.st_ino, first.st_rdev) == (
        second.st_dev,
        second.st_ino,
        second.st_rdev,
    )


def _written(target: int, data: bytes) -> bool:
    """Write all of it, however long that takes; False where nobody reads any more."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(target, view) :]
        except BlockingIOError:
            ready = select.poll()
            ready.register(target, select.POLLOUT)
            ready.poll()
        except OSError:
            return False
    return True
