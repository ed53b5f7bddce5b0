"""Hears of the signals that preempt a job, and lets them do what they would have done."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

_SLURM = (signal.SIGUSR1, signal.SIGUSR2)
"""What `sbatch --signal` mostly sends; unhandled, each ends the process as SIGTERM does."""
_RECENT_S = 300.0
# Longer than telling takes, see `run_end`.
_PATIENCE_S = 2.0
_PACKAGE = str(Path(__file__).parents[1])


class Termination:
    """Notes SIGTERM, and under Slurm its warning signals. For the main thread only.

    Where nobody handles such a signal, our handler does, which only notes it: the watchdog's
    thread learns of it at once by the wake-up fd, also while the main thread is inside a C
    call, tells it and calls `go_on`. Where somebody handles it, theirs stays, and it is noted
    that it came.

    Attributes:
        name: Of the signal that came last, such as "SIGTERM"; "" for none.
        rank: Of the other process that it came to; None where it came to this one.
    """

    def __init__(self) -> None:
        self.name = ""
        self.rank: int | None = None
        self._came_s = 0.0
        self._pid = os.getpid()
        self._ours: list[signal.Signals] = []
        self._number: signal.Signals | None = None
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None
        self._wakes = False
        self._watched = [signal.SIGTERM, *(_SLURM if "SLURM_JOB_ID" in os.environ else ())]

    def install(self) -> None:
        """Begin to hear. Twice is harmless; in another thread only `wake` is heard."""
        if self._reader is not None:
            return
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.settimeout(0.0)
        if threading.current_thread() is not threading.main_thread():
            return
        before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._wakes = before == -1
        if not self._wakes:
            # An event loop's, which needs it for signals of its own.
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        for number in self._watched:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._note)
                self._ours.append(number)

    def wait(self, wait_s: float) -> bool:
        """Sleep at most so long; whether a signal came that nobody else handles."""
        reader = self._reader
        if reader is None:
            time.sleep(wait_s)
            return False
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile
            select.select([reader], [], [], 0.0 if self.pending else wait_s)
        self._read()
        return self.pending

    def is_recent(self) -> bool:
        """Whether a signal came so lately that it explains the end of the run."""
        self._read()
        return bool(self.name) and time.monotonic() - self._came_s < _RECENT_S

    def event(self) -> dict[str, Any]:
        event = {"kind": "preempted", "signal": self.name, "where": where_it_runs()}
        return event if self.rank is None else {**event, "rank": self.rank}

    def forward(self, name: str, rank: int) -> None:
        """In another thread: a signal that nobody handles came to another rank of this training.

        This one would wait for it in the next collective, so it ends too.
        """
        number = signal.Signals[name]
        if number in self._ours and self._number is None:
            self.name, self.rank, self._came_s = name, rank, time.monotonic()
            self._number = number
            self.wake()

    def wake(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.send(b"\0")

    def go_on(self) -> None:
        """Let the signal do what it would have done. From any thread."""
        number = self._number or signal.SIGTERM
        import ctypes

        # Python sets handlers in the main thread only, which may be inside a C call.
        restore = ctypes.CDLL(None).signal
        restore.argtypes, restore.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
        restore(int(number), None)
        os.kill(os.getpid(), number)

    def stop(self) -> None:
        """Put everything back, unless somebody else has taken its place."""
        ours, self._ours = self._ours, []
        with contextlib.suppress(ValueError):  # not the main thread
            for number in ours:
                if signal.getsignal(number) == self._note:
                    signal.signal(number, signal.SIG_DFL)
            self._give_wakeup_back()

    @property
    def pending(self) -> bool:
        return self._number is not None

    def close(self) -> None:
        """Close what `wait` waits for, once nothing is written to it any more."""
        if self._wakes:
            # Ended outside the main thread, so the interpreter still writes to it.
            return
        for end in (self._reader, self._writer):
            if end is not None:
                end.close()

    def forget_in_child(self) -> None:
        """After a fork: a signal to the child is none to its parent, whose socket this is."""
        self.stop()
        self.close()

    def _give_wakeup_back(self) -> None:
        if self._wakes and self._writer is not None:
            present = signal.set_wakeup_fd(-1)
            if present not in (-1, self._writer.fileno()):
                signal.set_wakeup_fd(present, warn_on_full_buffer=False)
            self._wakes = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number not in self._ours or os.getpid() != self._pid:
            # The watch has ended, or this is a child of ours: nobody is left to tell.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if self._writer is not None:
            # Twice where the wake-up fd is ours; once where an event loop has it.
            with contextlib.suppress(OSError):
                self._writer.send(bytes([number]))
        if signal.getsignal(number) != self._note:
            # Somebody has a handler around ours, and decides what becomes of the process.
            return
        if not _is_ours(frame):
            # Without us nothing of the program would run any more. Inside `log` a lock is held
            # that the other thread needs.
            time.sleep(_PATIENCE_S)
            self.go_on()

    def _read(self) -> None:
        if self._reader is not None:
            with contextlib.suppress(OSError):  # nothing there, or closed
                for number in self._reader.recv(64):
                    self._heard(number)

    def _heard(self, number: int) -> None:
        if number in self._watched:
            heard = signal.Signals(number)
            self.name, self._came_s = heard.name, time.monotonic()
            if heard in self._ours and signal.getsignal(heard) == self._note:
                self._number = heard


def _is_ours(frame: FrameType | None) -> bool:
    """Whether the hook is at work in the frames of a thread."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(_PACKAGE):
            return True
        frame = frame.f_back
    return False


def where_it_runs() -> str:
    """What sends such signals here, as far as the environment says."""
    if "SLURM_JOB_ID" in os.environ:
        return f"slurm job {os.environ['SLURM_JOB_ID'][:40]}"
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return f"kubernetes pod {os.environ.get('HOSTNAME', '')[:80]}"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun, which also ends the other ranks so when one has failed"
    return socket.gethostname()[:80]
