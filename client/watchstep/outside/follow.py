"""`watchstep follow`: logs that grow, as live runs; one thread that looks again and again."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from watchstep.boundary import Boundary
from watchstep.errors import LogUnreadableError, say
from watchstep.hook.options import Options
from watchstep.machine.processes import Process, files_written, processes
from watchstep.outside.followed import FollowedRun
from watchstep.outside.growing import GrowingFile
from watchstep.outside.uplink import Uplink
from watchstep.postmortem.readers.discovery import (
    MERGED,
    folder_name_of,
    folders_below,
    may_be_log,
    run_name_of,
)
from watchstep.wire.names import legal_run_name

_TURN_S = 0.5
_TURN_SHARE = 0.3
"""Of the time that may go into looking at files; with thousands of them turns come later."""

_LONGEST_TURN_S = 5.0
_SCAN_LEAST_S = 2.0
_SCAN_SHARE = 0.02
"""Of the time that may go into looking for new files."""

_JUDGED_BYTES = 1 << 20
"""Of a file that are read to see whether it is a log."""

_HEARTBEAT_S = 20.0
"""Between signs of life of a run of which nothing new is said."""

_LOOK_S = 10.0
"""Between looks at the processes that write logs which have fallen silent."""

_FINAL_S = 30.0
"""How long the end of following waits for the service."""


@dataclass(frozen=True, slots=True)
class FollowSettings:
    """What the user asked for.

    Attributes:
        run_name: For the run of a single file; before the name of each of several.
        until_idle_s: End when nothing was added for so long; None follows for ever.
        once: Read what is there, and end.
    """

    paths: Sequence[Path]
    options: Options
    run_name: str | None = None
    rules: Sequence[str] | None = None
    until_idle_s: float | None = None
    once: bool = False


class Follower:
    """Follows files and folders until it is told to end."""

    def __init__(self, settings: FollowSettings) -> None:
        self._settings = settings
        options = settings.options
        self._state_folder = options.directory / "follow"
        self._state_folder.mkdir(parents=True, exist_ok=True)
        self._alone = options.url is None or options.mode == "offline"
        self._uplink = None if self._alone else Uplink(options)
        self._undecided: dict[Path, GrowingFile] = {}
        self._runs: dict[str, FollowedRun] = {}
        self._of_folder: dict[Path, list[FollowedRun]] = {}
        self._seen: set[Path] = set()
        self._names: set[str] = set()
        self._next_scan = self._next_look = 0.0
        self._spoken: dict[str, float] = {}
        self._stopping = threading.Event()
        # A log that cannot be read, or a full disk, leaves the others as they are.
        self._boundary = Boundary("watchstep follow")

    def follow(self) -> int:
        """Follow; the exit code: 0, or 3 where there was nothing to read."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stopping.set())
        grew = time.monotonic()
        while not self._stopping.is_set():
            now, used_s = time.monotonic(), time.process_time()
            if self._turn(now):
                grew = now
            until_idle_s = self._settings.until_idle_s
            if self._settings.once or (until_idle_s is not None and now - grew >= until_idle_s):
                self._finish()
                break
            took_s = time.process_time() - used_s
            self._stopping.wait(min(max(_TURN_S, took_s / _TURN_SHARE), _LONGEST_TURN_S))
        if self._uplink is not None:
            self._uplink.close()
        if self._runs:
            return 0
        self._say_why_nothing()
        return 3

    def _say_why_nothing(self) -> None:
        for path in self._settings.paths:
            if not path.exists():
                say(f"{path}: there is nothing")
            else:
                say(f"{path}: no training log {'in it' if path.is_dir() else 'in a known format'}")

    def _turn(self, now: float) -> bool:
        if now >= self._next_scan:
            self._scan()
            took_s = time.monotonic() - now
            self._next_scan = now + max(_SCAN_LEAST_S, took_s / _SCAN_SHARE)
        self._decide(now)
        if now >= self._next_look:
            self._look(now)
            took_s = time.monotonic() - now
            self._next_look = now + max(_LOOK_S, took_s / _SCAN_SHARE)
        grew = False
        for run in self._runs.values():
            with self._boundary:
                grew = run.poll(now) or grew
        self._send(now)
        return grew

    def _scan(self) -> None:
        for path in self._settings.paths:
            for file in _files(path):
                if file not in self._seen:
                    self._seen.add(file)
                    self._undecided[file] = GrowingFile(file, printed=file == path)

    def _look(self, now: float) -> None:
        """Look who writes the logs of runs that have fallen silent."""
        silent = [run for run in self._runs.values() if run.is_silent(now)]
        if not silent:
            return
        writers: dict[Path, list[Process]] = {}
        for process in processes():
            for path in files_written(process.pid):
                writers.setdefault(path, []).append(process)
        for run in silent:
            paths = {file.path.resolve() for file, _ in run.files}
            by_pid = {each.pid: each for path in paths for each in writers.get(path, ())}
            run.look(now, list(by_pid.values()))

    def _decide(self, now: float) -> None:
        """Give files that have shown what they are to their runs."""
        for path, file in list(self._undecided.items()):
            named = path in self._settings.paths
            if not file.size_bytes and not named:
                continue
            with self._boundary:
                rows, _ = file.poll(until=_JUDGED_BYTES)
                if file.is_log:
                    self._run_of(path, file.format).add(file, rows, now)
            if file.is_log or file.hopeless:
                del self._undecided[path]

    def _run_of(self, path: Path, format_name: str) -> FollowedRun:
        """The run that a file belongs to: logs of different formats in one folder are one run."""
        if path in self._settings.paths:
            return self._new_run(str(path.resolve()), run_name_of(path))
        runs = self._of_folder.setdefault(path.parent, [])
        for run in runs:
            formats = {file.format for file, _ in run.files}
            if format_name in MERGED or format_name not in formats:
                return run
        name = folder_name_of(path.parent)
        key = str(path.parent.resolve())
        if runs:
            name, key = f"{name}/{path.name}", str(path.resolve())
        runs.append(self._new_run(key, name))
        return runs[-1]

    def _new_run(self, key: str, name: str) -> FollowedRun:
        prefix = self._settings.run_name
        if prefix is not None:
            single = len(self._settings.paths) == 1 and self._settings.paths[0].is_file()
            name = prefix if single else f"{prefix}-{name}"
        name = legal_run_name(name)
        number = 1
        while (unique := name if number == 1 else f"{name[:120]}-{number}") in self._names:
            number += 1
        run = FollowedRun(key, unique, self._state_folder, self._settings.rules, alone=self._alone)
        self._names.add(run.name)
        self._runs[key] = run
        return run

    def _send(self, now: float) -> None:
        if self._uplink is None:
            return
        for key, run in self._runs.items():
            while run.unsent and self._uplink.due(time.monotonic()):
                part = run.unsent[0]
                bodies = [body.encode() for body in part.bodies]
                count = self._uplink.send(run.session(part), part.first_seq, bodies)
                if count is None:
                    break
                run.sent(count)
                self._spoken[key] = now
            silent = now - self._spoken.get(key, now) >= _HEARTBEAT_S
            if silent and not run.ended and not run.unsent and self._uplink.due(now):
                beat = run.heartbeat
                self._uplink.send(run.session(beat), beat.first_seq, [])
                self._spoken[key] = now

    def _finish(self) -> None:
        """Tell what is left, and wait a while for the service to have it."""
        for run in self._runs.values():
            with self._boundary:
                run.poll(time.monotonic(), closing=True)
        deadline = time.monotonic() + _FINAL_S
        while self._uplink is not None and any(run.unsent for run in self._runs.values()):
            self._send(time.monotonic())
            if time.monotonic() > deadline:
                say(f"not all could be sent ({self._uplink.failing}); start again to send it")
                return
            if self._uplink.failing:
                self._stopping.wait(_TURN_S)
        for run in self._runs.values():
            run.save()


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    try:
        for folder, names in folders_below(path):
            for name in names:
                if may_be_log(os.path.basename(name)) and not name.startswith("."):  # noqa: PTH119
                    yield folder / name
    except LogUnreadableError:
        return  # The folder is gone; it may come back.
