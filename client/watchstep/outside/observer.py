"""What becomes of all that a command shows: the thread that reads, judges and tells."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchstep.boundary import Boundary
from watchstep.errors import say
from watchstep.hook.options import Options
from watchstep.machine.processes import Process, descendants
from watchstep.machine.sampler import Sampler
from watchstep.outside.channels import ERROR
from watchstep.outside.endings import survived
from watchstep.outside.growing import CONSOLE_RANK
from watchstep.outside.hangs import HangWatch, stacks
from watchstep.outside.inner_hook import InnerHook
from watchstep.outside.last_lines import LastLines
from watchstep.outside.log_files import LogFiles
from watchstep.outside.merging import Merger, Source
from watchstep.outside.run_stream import RunStream
from watchstep.postmortem.readers.logs import Row
from watchstep.postmortem.readers.stream import ConsoleReader
from watchstep.rules import load

_TURN_S = 0.5
_QUICK_TURN_S = 0.2
"""While something waits to be told."""

_SETTLE_S = 0.3
"""Silence after which a block or table of the console counts as whole."""

_LOOK_S = 2.0
"""Between looks at the command's processes."""

_ASLEEP_S = 5.0
"""A turn that comes this late: we were stopped, or the machine slept."""

_MOST_WAITING_BYTES = 8 << 20
"""Output that waits to be read; what a command prints faster is passed on, and not read."""

_TURN_BYTES = 256 << 10
"""Read before what it says is told; the rest waits for the next turn."""

_LAST_READ_S = 60.0
"""How long what still waits is read once the command has ended; 8 MB of noise may take minutes."""


@dataclass(frozen=True, slots=True)
class Watching:
    """What the observer is told once.

    Attributes:
        watched: Files and folders to read besides the working folder.
        hang_s: Silence below which nothing is called a hang.
    """

    options: Options
    watched: Sequence[Path]
    hang_s: float


class Observer:
    """Reads one attempt's console and files, and speaks for the run.

    Args:
        on_halt: Called with the reason where a rule or a person asks for a halt; any thread.

    Attributes:
        last_lines: Of the console, both streams together.
        error_lines: Of standard error alone: in a traceback no line of another stream stands.
        hung: Whether the command hangs: told, and nothing has moved since.
        outliving: What is to be told of processes that outlive the command; "" for none.
    """

    def __init__(self, watching: Watching, on_halt: Callable[[str], None]) -> None:
        options = watching.options
        self._options = options
        self._queue: queue.SimpleQueue[tuple[bytes, int]] = queue.SimpleQueue()
        self._queued = threading.Lock()
        self._waiting_bytes = self._unread_bytes = 0
        self._cut: set[int] = set()
        self._read_until = math.inf
        self._consoles: dict[int, tuple[ConsoleReader, Source]] = {}
        names = load(())
        self._merger = Merger(names.canonical, names.role)
        self._hook = InnerHook(options)
        self._files = LogFiles(
            Path.cwd(), watching.watched, options.directory, mark=str(self._hook.mark)
        )
        sampler = Sampler(Path.cwd())
        self._sampler = sampler
        self._stream = RunStream(options, on_halt=on_halt, sampler=sampler)
        self._hang = HangWatch(time.monotonic(), watching.hang_s)
        self._processes: list[Process] = []
        self._looked = self._turned = self._printed = time.monotonic()
        self._settled = True
        self._ending = threading.Event()
        # Whatever fails here, the command and its output go on.
        self._boundary = Boundary("watchstep")
        self._thread = threading.Thread(target=self._run, name="watchstep-observer", daemon=True)
        self.last_lines, self.error_lines = LastLines(), LastLines()
        self.hung = False
        self.outliving = ""

    def start(self) -> None:
        self._sampler.start()
        self._thread.start()

    def heard(self, data: bytes, of: int) -> None:
        """Take what was printed; called in a channel's thread."""
        with self._queued:
            self.last_lines.feed(data, of)
            if of == ERROR:
                self.error_lines.feed(data)
            readable = self._readable(data, of)
            self._unread_bytes += len(data) - len(readable)
            self._waiting_bytes += len(readable)
        if readable:
            self._queue.put((readable, of))

    def _readable(self, data: bytes, of: int) -> bytes:
        """What there is room for: whole lines, since half of one may be read as another number."""
        if self._waiting_bytes >= _MOST_WAITING_BYTES:
            data = b"" if of in self._cut else data[: data.rfind(b"\n") + 1]
            self._cut.add(of)
        elif of in self._cut:
            _, line_feed, data = data.partition(b"\n")
            if line_feed:
                self._cut.discard(of)
        return data

    def finish(self) -> None:
        """Read to the end of all that was printed and written."""
        self._read_until = time.monotonic() + _LAST_READ_S
        self._ending.set()
        self._queue.put((b"", 0))
        self._thread.join()
        self._sampler.stop()
        if self._unread_bytes:
            say(f"{self._unread_bytes:,} bytes of output came too fast to be read")

    def tell_end(self, event: dict[str, Any]) -> None:
        if self.outliving:
            event = {**event, "outliving": self.outliving}
        hooked = self._hook.look()
        self._boundary.survive(self._stream.end, None if hooked else event)
        self._boundary.survive(self._hook.end, event)

    @property
    def hook(self) -> InnerHook:
        return self._hook

    def _run(self) -> None:
        while not self._ending.is_set():
            waits = self._merger.waits or not self._settled
            chunks = self._taken(_QUICK_TURN_S if waits else _TURN_S)
            self._boundary.survive(self._turn, chunks)
        while chunks := self._taken(0.0):
            self._boundary.survive(self._turn, chunks)
        self._boundary.survive(self._close)

    def _taken(self, timeout_s: float) -> list[tuple[bytes, int]]:
        """Output for one turn: not all that waits, since what it says is told after the turn."""
        chunks: list[tuple[bytes, int]] = []
        room = _TURN_BYTES
        try:
            chunks.append(
                self._queue.get(timeout=timeout_s) if timeout_s else self._queue.get_nowait()
            )
            while (room := room - len(chunks[-1][0])) > 0:
                chunks.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        read = sum(len(data) for data, _ in chunks)
        late = time.monotonic() > self._read_until
        with self._queued:
            self._waiting_bytes -= read
            self._unread_bytes += read if late else 0
        return [(b"", 0)] if late and chunks else chunks

    def _turn(self, chunks: list[tuple[bytes, int]]) -> None:
        now = time.monotonic()
        if now - self._turned > _ASLEEP_S:
            self._hang.slept(now - self._turned)
        self._turned = now
        if now - self._looked >= _LOOK_S:
            self._look(now)
        self._read_console(chunks, now)
        self._read_files(now)
        self._speak(now)
        self._check_hang(now)

    def _look(self, now: float) -> None:
        self._looked = now
        self._processes = descendants(os.getpid())
        self._hang.look(now, self._processes)

    def _read_console(self, chunks: list[tuple[bytes, int]], now: float) -> None:
        for data, of in chunks:
            if data:
                console, source = self._console(of)
                self._add(source, console.feed(data), now)
                self._moved(now)
                self._printed, self._settled = now, False
        if not self._settled and now - self._printed >= _SETTLE_S:
            self._settled = True
            for console, source in self._consoles.values():
                self._add(source, console.settle(), now)

    def _console(self, of: int) -> tuple[ConsoleReader, Source]:
        if of not in self._consoles:
            self._consoles[of] = (ConsoleReader(), Source(f"console {of}", CONSOLE_RANK))
        return self._consoles[of]

    def _read_files(self, now: float) -> None:
        if self._files.due(now):
            pids = {process.pid for process in self._processes}
            self._files.look(pids)
        for file, source in self._files.files:
            if file.hopeless:
                continue
            rows, grown = file.poll()
            source.rank = file.rank
            if grown:
                self._moved(now)
            else:
                rows = [*rows, *file.settle()]
            self._add(source, rows, now)

    def _moved(self, now: float) -> None:
        self._hang.progressed(now)
        self.hung = False

    def _add(self, source: Source, rows: Sequence[Row], now: float) -> None:
        for row in rows:
            row.event = None if row.event is None else survived(row.event)
        self._merger.add(source, [row for row in rows if row.readings or row.event], now)

    def _speak(self, now: float) -> None:
        """Tell what is complete, unless a hook inside speaks for the run."""
        for update in self._merger.ready(now):
            if self._hook.look():
                continue
            if not self._stream.begun:
                if not update.readings:
                    continue  # What was said before the first reading is in the last lines.
                self._stream.begin()
            self._stream.put(update)

    def _check_hang(self, now: float) -> None:
        event = self._hang.hung(now)
        if event is None:
            return
        self.hung = event["severity"] == "critical" or not event["moving"]
        if self._hook.look():
            return  # It tells of a hang itself.
        text, innermost = stacks(self._processes)
        event.update(stacks=text, innermost=innermost)
        self._stream.tell(event)
        place = f"; it is in {innermost}" if innermost else ""
        self._stream.alert(f"{event['seen']} for {event['since_s']:.0f} s{place}")

    def _close(self) -> None:
        """Read what was written last, and let nothing wait."""
        now = time.monotonic()
        self._files.look({process.pid for process in self._processes})
        for console, source in self._consoles.values():
            self._add(source, console.close(), now)
        for file, source in self._files.files:
            if not file.hopeless:
                rows, _ = file.poll()
                self._add(source, [*rows, *file.close()], now)
        self._speak(float("inf"))
