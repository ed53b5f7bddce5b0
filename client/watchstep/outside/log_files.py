"""Which files under the working folder are the command's logs, found while it writes them."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from watchstep.machine.processes import files_written, is_marked, processes
from watchstep.outside.growing import GrowingFile
from watchstep.outside.merging import Source
from watchstep.postmortem.readers.discovery import may_be_log

_DEEPEST = 6
_MOST_ENTRIES = 5_000
"""Of the working folder that one look takes in; a folder of data has millions."""

_MOST_FILES = 200
_LEAST_PAUSE_S = 1.0
_SHARE = 0.01
"""Of a core that may go into looking for files."""

_SHARE_OF_TIME = 0.1
"""Of the time. More than of a core: on a busy machine a look mostly waits for its turn."""

_SKIPPED = frozenset({"node_modules", "site-packages", "__pycache__", "venv", "env"})


class LogFiles:
    """The log files of one attempt; see `look`.

    A file counts that one of the command's processes holds open for writing, or that has changed
    since the command began and that no other process holds open. Where another watched training
    runs in the same folder, only the first kind does: nobody can tell whose the others are.

    Args:
        folder: The working folder.
        watched: Files and folders that the user named; whatever grows there counts.
        spool: Our own folder, which is none of it.
        mark: What the command's processes have as WATCHSTEP_OUTSIDE.
    """

    def __init__(self, folder: Path, watched: Sequence[Path], spool: Path, *, mark: str) -> None:
        self._folder = folder.resolve()
        self._watched = [path.resolve() for path in watched]
        self._spool = spool.resolve()
        self._mark = mark
        self._began = time.time()
        self._not_before = 0.0
        self._seen: set[Path] = set()
        self._ours = {_identity(os.fstat(number)) for number in (1, 2)}
        self._sizes = {path: state.st_size for path, state in self._changed_since(0.0)}
        self.files: list[tuple[GrowingFile, Source]] = []

    def due(self, now: float) -> bool:
        """Whether it is time to look again, on the monotonic clock."""
        return now >= self._not_before

    def look(self, pids: Collection[int]) -> None:
        """Look for further files of the command, whose processes these are."""
        began, used_s = time.monotonic(), time.thread_time()
        for pid in pids:
            for path in files_written(pid):
                if self._is_below(path):
                    self._take(path)
        changed = [path for path, _ in self._changed_since(self._began - 1.0)]
        fresh = [path for path in changed if path not in self._seen]
        theirs = self._of_others(pids) if fresh else None
        for path in fresh:
            named = any(path.is_relative_to(top) for top in self._watched)
            if named or (theirs is not None and path not in theirs):
                self._take(path)
        took_s, used_s = time.monotonic() - began, time.thread_time() - used_s
        pause_s = max(_LEAST_PAUSE_S, used_s / _SHARE, took_s / _SHARE_OF_TIME)
        self._not_before = began + pause_s

    def _of_others(self, pids: Collection[int]) -> set[Path] | None:
        """What other processes hold open for writing; None beside another watched training."""
        others = [each.pid for each in processes() if each.pid not in pids]
        if any(is_marked(pid, self._folder, "WATCHSTEP_OUTSIDE", self._mark) for pid in others):
            return None
        return {path for pid in others for path in files_written(pid)}

    def _is_below(self, path: Path) -> bool:
        return any(path.is_relative_to(top) for top in (self._folder, *self._watched))

    def _take(self, path: Path) -> None:
        if path in self._seen or len(self.files) >= _MOST_FILES:
            return
        try:
            state = path.stat()
        except OSError:
            return
        if not stat.S_ISREG(state.st_mode) or not state.st_size or not self._may_be_log(path):
            return
        self._seen.add(path)
        if _identity(state) in self._ours:
            return  # What we print goes there.
        file = GrowingFile(path)
        before = self._sizes.get(path, 0)
        if before and before <= state.st_size:
            # Earlier runs have written to it: what they said is not of this one.
            file.poll(until=before)
        self.files.append((file, Source(str(path), file.rank)))

    def _may_be_log(self, path: Path) -> bool:
        hidden = path.name.startswith(".") or path.is_relative_to(self._spool)
        return not hidden and may_be_log(path.name)

    def _changed_since(self, moment: float) -> Iterator[tuple[Path, os.stat_result]]:
        room = _MOST_ENTRIES
        for top in (self._folder, *self._watched):
            for path, state in _files_in(top):
                room -= 1
                if room < 0:
                    return
                if state.st_mtime >= moment and self._may_be_log(path):
                    yield path, state


def _files_in(top: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Regular files at and below a path, not too deep, hidden and library folders left out."""
    folders = [(top, 0)]
    while folders:
        folder, depth = folders.pop()
        try:
            entries = list(os.scandir(folder)) if folder.is_dir() else []
            if not entries and folder.is_file():
                yield folder, folder.stat()
        except OSError:
            continue
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    if depth < _DEEPEST and entry.name[0] != "." and entry.name not in _SKIPPED:
                        folders.append((Path(entry.path), depth + 1))
                elif entry.is_file(follow_symlinks=False):
                    yield Path(entry.path), entry.stat()
            except OSError:
                continue  # Gone meanwhile.


def _identity(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino
