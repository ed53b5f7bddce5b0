"""`%load_ext watchstep`: a cell that trains is watched by what it prints, and a halt ends the cell.

    %load_ext watchstep
    %watchstep run=mnist on_critical=halt

Each cell that prints readings is one attempt of the run. A cell whose code watches by itself, by
`watchstep.init`, is left alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from watchstep.boundary import Boundary
from watchstep.errors import TrainingHalted, say
from watchstep.hook.failure import failed_event
from watchstep.hook.options import Options, from_environment
from watchstep.hook.watch import is_watched
from watchstep.outside.endings import survived
from watchstep.outside.growing import CONSOLE_RANK
from watchstep.outside.last_lines import LastLines
from watchstep.outside.merging import Merger, Source
from watchstep.outside.run_stream import RunStream
from watchstep.postmortem.readers.logs import Row
from watchstep.postmortem.readers.stream import ConsoleReader
from watchstep.rules import load


class CellWatch:
    """Watches one cell at a time.

    Attributes:
        options: As a hook's; `configure` sets them.
    """

    def __init__(self) -> None:
        self.options: Options
        self.configure("")
        self._cell: _Cell | None = None

    def configure(self, line: str) -> None:
        """`%watchstep run=NAME on_critical=halt project=NAME url=URL rules=PACK`."""
        words = dict(word.partition("=")[::2] for word in line.split())
        self.options, complaints = from_environment({"trainer": "notebook", **words})
        for complaint in complaints:
            say(complaint)

    def begin(self, *_: Any) -> None:
        """A cell begins to run."""
        self._cell = _Cell(self.options)

    def end(self, result: Any = None) -> None:
        """It has ended; the error that ended it is in `result`."""
        cell, self._cell = self._cell, None
        if cell is not None:
            cell.end(getattr(result, "error_in_exec", None))


class _Cell:
    """What one cell prints, read on its way to the notebook."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._streams = (sys.stdout, sys.stderr)
        self._boundary = Boundary()
        self._merger = Merger(load(()).canonical, settle_s=0.0, wait_s=0.0)
        self._run = RunStream(options, on_halt=self._on_halt)
        self._lines = LastLines()
        self._halt: str | None = None
        self._ended = False
        self._readers = [(ConsoleReader(), Source(name, CONSOLE_RANK)) for name in ("out", "err")]
        sys.stdout = _Heard(sys.stdout, lambda text: self._hear(text, 0))
        sys.stderr = _Heard(sys.stderr, lambda text: self._hear(text, 1))

    def end(self, error: BaseException | None) -> None:
        """Put the streams back, and tell how the cell ended, if it has trained."""
        sys.stdout, sys.stderr = self._streams
        for reader, source in self._readers:
            self._boundary.survive(self._tell, reader.close(), source)
        if not self._run.begun:
            return
        event: dict[str, Any] = {"kind": "finished"}
        if isinstance(error, TrainingHalted):
            event = {"kind": "halted", "rule": error.rule or "", "reason": self._halt or ""}
        elif isinstance(error, KeyboardInterrupt):
            event = {"kind": "halted", "reason": "interrupted by a person"}
        elif error is not None:
            event = failed_event(error, self._lines.texts())
        self._boundary.survive(self._run.end, event)

    def _hear(self, text: str, of: int) -> None:
        """Read what was printed.

        Raises:
            TrainingHalted: A rule or a person asks for a halt; out of the cell's own `print`.
        """
        data = text.encode("utf-8", "replace")
        self._lines.feed(data, of)
        reader, source = self._readers[of]
        self._boundary.survive(self._tell, reader.feed(data), source)
        if self._halt is not None and not self._ended and not is_watched():
            # Once: what is printed of the error itself comes this way too.
            self._ended = True
            rule, _, _ = self._halt.partition(": ")
            raise TrainingHalted(f"watchstep halted this cell: {self._halt}", rule=rule)

    def _tell(self, rows: Sequence[Row], source: Source) -> None:
        if is_watched():
            return
        for row in rows:
            row.event = None if row.event is None else survived(row.event)
        now = time.monotonic()
        self._merger.add(source, [row for row in rows if row.readings or row.event], now)
        for update in self._merger.ready(now):
            if update.readings or self._run.begun:
                self._run.put(update)

    def _on_halt(self, reason: str) -> None:
        if self._options.on_critical == "halt" or reason.startswith("halted by command"):
            self._halt = self._halt or reason


class _Heard:
    """A stream that passes on what is written to it, and lets it be heard."""

    def __init__(self, stream: Any, heard: Callable[[str], None]) -> None:
        self._stream = stream
        self._heard = heard

    def write(self, text: str) -> int:
        written: int = self._stream.write(text)
        self._heard(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def load_extension(shell: Any) -> None:
    """Begin to watch the cells of an IPython shell."""
    cells = CellWatch()
    shell.events.register("pre_run_cell", cells.begin)
    shell.events.register("post_run_cell", cells.end)
    shell.register_magic_function(cells.configure, "line", "watchstep")
