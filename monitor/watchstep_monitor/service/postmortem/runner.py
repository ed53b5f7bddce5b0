"""Post-mortems on request: of logs that people send, and of runs in the store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watchstep.wire.text import encode_update
from watchstep_monitor.service.errors import InvalidError, OverCapError
from watchstep_monitor.service.run_state.records import RunRecord
from watchstep_monitor.settings.schema import LimitSettings

if TYPE_CHECKING:
    from watchstep_monitor.store.sql_store import SqlStore

log = logging.getLogger(__name__)

PROCESS = ("-I", "-m", "watchstep_monitor.service.postmortem.child_process")
RETRY_S = 5
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be examined.

    Attributes:
        path: The log, alone in its folder.
        shown: What the log is called in the report, for its path says nothing to anyone.
        run: The run whose stored updates the log holds; "" for a log that someone sent.
        tags: Of that run, by which rules are chosen.
        rules: Packs and files that judged it; empty to choose by what the log tells.
        processor_s: Seconds of a processor after which the process is ended.
    """

    path: str
    shown: str
    run: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    processor_s: int = 60


class Postmortems:
    """Makes them, a few at a time, each in a process of its own; for one event loop.

    A log lies in a temporary folder of its own until its report is made, and is only ever read.
    """

    def __init__(self, store: SqlStore, limits: LimitSettings) -> None:
        self.limits = limits
        self._store = store
        self._busy = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Path]:
        """A turn to make one, with an empty folder for its log.

        Raises:
            OverCapError: As many as may be are being made.
        """
        if self._busy >= self.limits.postmortems:
            raise OverCapError(
                "as many post-mortems as may be are being made", retry_after_s=RETRY_S
            )
        self._busy += 1
        try:
            with tempfile.TemporaryDirectory(prefix="watchstep-postmortem-") as folder:
                yield Path(folder)
        finally:
            self._busy -= 1

    async def of_log(self, path: Path, shown: str) -> dict[str, Any]:
        """The report on a log that someone sent; see `examining.report`.

        Raises:
            InvalidError: It is no log that is known, or took too much to read.
        """
        return await self._examined(Job(str(path), shown, processor_s=self._seconds()))

    async def of_run(
        self, folder: Path, record: RunRecord, rules: tuple[str, ...]
    ) -> dict[str, Any]:
        """The report on a run in the store, from all of its stored updates, by these rules.

        Raises:
            InvalidError: It has none, or took too long.
        """
        path = folder / "updates.jsonl"
        count = await asyncio.to_thread(self._write, path, record.run)
        if count == 0:
            raise InvalidError("the run has no update to examine", loc=("run",), kind="empty")
        tags = dict(record.tags)
        job = Job(str(path), record.run, record.run, tags, rules, self._seconds())
        return await self._examined(job)

    def _seconds(self) -> int:
        return max(1, round(self.limits.postmortem_s))

    def _write(self, path: Path, run: str) -> int:
        count = 0
        with path.open("wb") as lines:
            for line in _lines(self._store, run):
                lines.write(line)
                count += 1
        return count

    async def _examined(self, job: Job) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *PROCESS,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=Path(job.path).parent,
            # None of the service's own environment, which may hold secrets.
            env={"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"},
        )
        try:
            async with asyncio.timeout(2 * self.limits.postmortem_s):
                answer, complaint = await process.communicate(json.dumps(asdict(job)).encode())
        except TimeoutError:
            answer, complaint = b"", b"timeout"
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if process.returncode != 0 or not answer:
            log.warning(
                "post-mortem failed",
                extra={
                    "code": process.returncode,
                    "last": complaint[-300:].decode("utf-8", "replace"),
                },
            )
            if process.returncode == 1 and b"MemoryError" not in complaint:
                raise InvalidError(
                    "the log could not be examined; the service's own log says why",
                    loc=("body",),
                    kind="failed",
                )
            raise InvalidError(
                "examining the log took too long or too much memory", loc=("body",), kind="too_much"
            )
        report: dict[str, Any] = json.loads(answer)
        if "refused" in report:
            raise InvalidError(str(report["refused"]), loc=("body",), kind="no_log")
        return report


def _lines(store: SqlStore, run: str) -> Iterator[bytes]:
    for update in store.updates(run):
        yield encode_update(update)[:-1] + b',"attempt":%d}\n' % update.attempt


def file_name(sent_name: str) -> str:
    """A name for a file that someone sent: never a path, never hidden, never long."""
    name = _UNSAFE.sub("_", sent_name.replace("\\", "/").rpartition("/")[2]).lstrip(".")
    return name[-_LONGEST_NAME:] or "log"
